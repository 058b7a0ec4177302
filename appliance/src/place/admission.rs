//! Whether a node starts another build: by heat, memory and pressure. Pure but for the memory that
//! a gate has of being closed, so that it does not open and close with every degree.

use std::fmt::Write as _;

/// When a node starts nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Degrees Celsius below the last passive trip point; it goes on at twice as many below.
    pub heat_margin_c: u32,
    /// Share of the last 10 s in which some task waited for memory, in percent; it goes on at half
    /// of that. 100 is never.
    pub max_memory_pressure_percent: u32,
    /// Memory that must be available, in MiB, if a build runs already.
    pub min_memory_mib: u64,
}

impl Limits {
    /// Whether there is too little memory for another build beside one.
    #[must_use]
    pub fn is_short(&self, load: &Load) -> bool {
        load.available_mib.is_some_and(|available| available < self.min_memory_mib)
    }
}

/// How a machine is, as far as it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Temperature of the zone that is closest to slowing the machine down as far as it can, in
    /// thousandths of a degree Celsius.
    pub temperature_mc: Option<i32>,
    /// Where that zone does.
    pub passive_mc: Option<i32>,
    /// Share of the last 10 s in which some task waited for memory, in basis points.
    pub memory_pressure_bp: Option<u32>,
    /// Memory that new work could have without swapping, in MiB.
    pub available_mib: Option<u64>,
    /// Builds that run.
    pub builds: u32,
}

/// What is closed. A machine that tells nothing of something is never closed for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    hot: bool,
    pressed: bool,
}

impl Gates {
    /// Why nothing is started now; `None` if builds may start. The words stay the same as long as
    /// the reason does, whatever the figures.
    pub fn closed(&mut self, limits: &Limits, load: &Load) -> Option<String> {
        let margin_mc = i32::try_from(limits.heat_margin_c * 1000).unwrap_or(i32::MAX);
        let from_mc = load.passive_mc.map(|passive| passive.saturating_sub(margin_mc));
        let below_mc = from_mc.map(|from| from.saturating_sub(margin_mc));
        let threshold_mc = if self.hot { below_mc } else { from_mc };
        self.hot = load.temperature_mc.zip(threshold_mc).is_some_and(|(now, limit)| now >= limit);

        let most_bp = limits.max_memory_pressure_percent * 100;
        let threshold_bp = if self.pressed { most_bp / 2 } else { most_bp };
        let pressure_bp = load.memory_pressure_bp.filter(|_| most_bp < 10_000);
        self.pressed = pressure_bp.is_some_and(|now| now > threshold_bp);

        let short = load.builds > 0 && limits.is_short(load);
        let mut words = Vec::new();
        if let (true, Some(from_mc), Some(below_mc)) = (self.hot, from_mc, below_mc) {
            let mut text = format!("too hot, {} °C or more", from_mc / 1000);
            let _ = write!(text, "; it goes on below {} °C", below_mc / 1000);
            words.push(text + " (admission.heat_margin_c)");
        }
        if self.pressed {
            words.push(format!(
                "tasks wait for memory more than {} % of the time \
                 (admission.max_memory_pressure_percent)",
                limits.max_memory_pressure_percent
            ));
        }
        if short {
            words.push(format!(
                "less than {} MiB of memory are available beside the builds that run \
                 (admission.min_memory_mib)",
                limits.min_memory_mib
            ));
        }
        (!words.is_empty()).then(|| words.join(", and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { heat_margin_c: 5, max_memory_pressure_percent: 20, min_memory_mib: 256 };

    fn heat(temperature_c: i32) -> Load {
        Load {
            temperature_mc: Some(temperature_c * 1000),
            passive_mc: Some(85_000),
            ..Load::default()
        }
    }

    fn pressure(percent: u32) -> Load {
        Load { memory_pressure_bp: Some(percent * 100), ..Load::default() }
    }

    #[test]
    fn a_machine_that_tells_nothing_is_never_closed() {
        assert_eq!(Gates::default().closed(&LIMITS, &Load::default()), None);
        let without_trip = Load { passive_mc: None, ..heat(120) };
        assert_eq!(Gates::default().closed(&LIMITS, &without_trip), None);
    }

    #[test]
    fn heat_closes_near_the_trip_point_and_opens_well_below_it() {
        let mut gates = Gates::default();
        let mut closed = |temperature_c| gates.closed(&LIMITS, &heat(temperature_c));
        assert_eq!(closed(79), None);
        let words = closed(80).unwrap();
        assert!(words.contains("80 °C") && words.contains("below 75 °C"), "{words}");
        // As long as it is the same trouble it is said in the same words.
        assert_eq!(closed(84).as_ref(), Some(&words));
        assert_eq!(closed(75).as_ref(), Some(&words));
        assert_eq!(closed(74), None);
        assert_eq!(closed(79), None);
    }

    #[test]
    fn memory_pressure_closes_and_opens_at_half() {
        let mut gates = Gates::default();
        let mut closed = |percent| gates.closed(&LIMITS, &pressure(percent)).is_some();
        assert_eq!(
            [20, 21, 15, 11, 10, 15].map(&mut closed),
            [false, true, true, true, false, false]
        );
        let never = Limits { max_memory_pressure_percent: 100, ..LIMITS };
        assert_eq!(Gates::default().closed(&never, &pressure(100)), None);
    }

    #[test]
    fn a_first_build_starts_however_little_memory_there_is() {
        let load = |builds| Load { available_mib: Some(100), builds, ..Load::default() };
        assert_eq!(Gates::default().closed(&LIMITS, &load(0)), None);
        assert!(Gates::default().closed(&LIMITS, &load(1)).is_some_and(|w| w.contains("256 MiB")));
    }

    #[test]
    fn several_reasons_are_all_told() {
        let load = Load { memory_pressure_bp: Some(9_000), ..heat(90) };
        let words = Gates::default().closed(&LIMITS, &load).unwrap();
        assert!(words.contains("too hot") && words.contains("wait for memory"), "{words}");
    }
}
