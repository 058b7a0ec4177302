//! Numbers as people read them.

/// A duration: its two largest units.
#[must_use]
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{minutes} min {:02} s", seconds % 60),
        3600..=86_399 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A duration that is not known well, in seconds: its largest unit, or two where that says too little.
#[must_use]
pub(crate) fn roughly(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{:.0} s", seconds.max(1.0)),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => {
            let minutes = seconds / 60.0;
            format!("{:.0} h {:02.0} min", (minutes / 60.0).floor(), (minutes % 60.0).floor())
        }
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

/// The time from one moment to another, both in seconds since 1970; a clock that was set back in
/// between makes it nothing.
#[must_use]
pub(crate) fn between(from_s: u64, to_s: u64) -> String {
    duration(to_s.saturating_sub(from_s))
}

/// A temperature given in thousandths of a degree Celsius, to the nearest degree.
#[must_use]
pub(crate) fn temperature(millidegrees: i32) -> String {
    let sign = millidegrees.signum();
    format!("{} °C", millidegrees.saturating_add(500 * sign) / 1000)
}

/// Memory given in MiB.
#[must_use]
pub(crate) fn memory(mib: u64) -> String {
    match mib {
        0..=1023 => format!("{mib} MiB"),
        _ => format!("{}.{} GiB", mib / 1024, mib % 1024 * 10 / 1024),
    }
}

/// A count with its word: `1 job`, `2 jobs`.
#[must_use]
pub(crate) fn count(number: u32, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {word}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 00 s"),
            (3599, "59 min 59 s"),
            (3600, "1 h 00 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(between(10, 4), "0 s", "a clock set back");
    }

    #[test]
    fn what_is_not_known_well_is_told_roughly() {
        for (seconds, text) in [
            (0.0, "1 s"),
            (89.4, "89 s"),
            (170.0, "3 min"),
            (7_380.0, "2 h 03 min"),
            (260_000.0, "3 d"),
            (f64::INFINITY, "inf d"),
        ] {
            assert_eq!(roughly(seconds), text);
        }
    }

    #[test]
    fn other_numbers_are_rounded() {
        assert_eq!(temperature(51_499), "51 °C");
        assert_eq!(temperature(51_500), "52 °C");
        assert_eq!(temperature(-1_600), "-2 °C");
        assert_eq!(temperature(i32::MAX), "2147483 °C");
        assert_eq!(memory(512), "512 MiB");
        assert_eq!(memory(16_000), "15.6 GiB");
        assert_eq!(count(1, "job"), "1 job");
        assert_eq!(count(0, "job"), "0 jobs");
    }
}
