//! Moments as places on an axis, and lengths of time in words.

use std::ops::Range;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Distances between two marks of an axis that are easy to read, in milliseconds.
const STEPS: [u64; 27] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    20 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
];

/// A time axis of so many columns, or other units of length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    from_ms: u64,
    length_ms: u64,
    units: u64,
}

impl Scale {
    /// An axis of `units` from one moment to another, which is taken as later.
    pub(super) fn new(from_ms: u64, to_ms: u64, units: u64) -> Self {
        Self { from_ms, length_ms: to_ms.saturating_sub(from_ms).max(1), units }
    }

    /// In units times the axis' milliseconds: what is finer than a unit is not lost.
    fn fine(&self, at_ms: u64) -> u128 {
        let since_ms = at_ms.saturating_sub(self.from_ms).min(self.length_ms);
        u128::from(since_ms) * u128::from(self.units)
    }

    /// Where a moment is, in whole units from the beginning; what is outside is at the edge.
    pub(super) fn place(&self, at_ms: u64) -> u64 {
        u64::try_from(self.fine(at_ms) / u128::from(self.length_ms)).unwrap_or(self.units)
    }

    /// The units that a time reaches into, each with how much of it that is; at least one, however
    /// short the time is.
    pub(super) fn units(&self, time: Range<u64>) -> impl Iterator<Item = (usize, u128)> {
        let length = u128::from(self.length_ms);
        let (start, end) = (self.fine(time.start), self.fine(time.end));
        let edge = u128::from(self.units.saturating_sub(1));
        let first = (start / length).min(edge);
        let last = (end.saturating_sub(1) / length).clamp(first, edge);
        (first..=last).map(move |unit| {
            let part = end.min((unit + 1) * length).saturating_sub(start.max(unit * length));
            (usize::try_from(unit).unwrap_or_default(), part)
        })
    }

    /// At most `most` marks and the one at the beginning: where they are, and the time since the
    /// beginning in words.
    pub(super) fn marks(&self, most: u64) -> Vec<(u64, String)> {
        let fits = |step: &u64| self.length_ms / step <= most;
        let days = (0..14).flat_map(|zeros| [1, 2, 5].map(|n| n * 10_u64.pow(zeros)));
        let days = days.filter_map(|n| DAY.checked_mul(n));
        let step_ms = STEPS.into_iter().chain(days).find(fits).unwrap_or(u64::MAX);
        let marks = (0..=self.length_ms / step_ms).map(|n| n * step_ms);
        marks.map(|ms| (self.place(self.from_ms.saturating_add(ms)), label(ms))).collect()
    }
}

/// A round length of time: what is nothing is left out.
fn label(ms: u64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")];
    let Some(largest) = units.iter().position(|(unit, _)| ms >= *unit) else {
        return if ms == 0 { "0".to_owned() } else { format!("{ms} ms") };
    };
    if ms < MINUTE && ms % SECOND > 0 {
        let fraction = format!("{:03}", ms % SECOND);
        return format!("{}.{} s", ms / SECOND, fraction.trim_end_matches('0'));
    }
    let (mut rest, mut words) = (ms, Vec::new());
    for (unit, word) in units.iter().skip(largest).take(2) {
        if rest >= *unit {
            words.push(format!("{} {word}", rest / unit));
        }
        rest %= unit;
    }
    words.join(" ")
}

/// A length of time given in milliseconds: its two largest units, and tenths of a second if it is less
/// than a minute.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..MINUTE => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        MINUTE..HOUR => format!("{} min {:02} s", ms / MINUTE, ms % MINUTE / SECOND),
        HOUR..DAY => format!("{} h {:02} min", ms / HOUR, ms % HOUR / MINUTE),
        DAY.. => format!("{} d {} h", ms / DAY, ms % DAY / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_no_more_than_fit() {
        for (length_ms, most, expected) in [
            (0, 5, "0|1 ms"),
            (3, 5, "0|1 ms|2 ms|3 ms"),
            (2_600, 6, "0|500 ms|1 s|1.5 s|2 s|2.5 s"),
            (95_000, 5, "0|20 s|40 s|1 min|1 min 20 s"),
            (750_000, 7, "0|2 min|4 min|6 min|8 min|10 min|12 min"),
            (9_000_000, 5, "0|30 min|1 h|1 h 30 min|2 h|2 h 30 min"),
            (40 * DAY, 4, "0|10 d|20 d|30 d|40 d"),
        ] {
            let marks = Scale::new(7, 7 + length_ms, 100).marks(most);
            let labels: Vec<&str> = marks.iter().map(|(_, label)| label.as_str()).collect();
            assert_eq!(labels.join("|"), expected, "{length_ms} ms");
        }
        let all = Scale::new(0, u64::MAX, 80).marks(6);
        assert!((2..=7).contains(&all.len()), "{all:?}");
    }

    #[test]
    fn a_time_reaches_into_columns_by_its_share_of_them() {
        let scale = Scale::new(100, 140, 4);
        let units = |time: Range<u64>| scale.units(time).collect::<Vec<_>>();
        assert_eq!(units(105..120), [(0, 20), (1, 40)]);
        assert_eq!(units(120..121), [(2, 4)]);
        assert_eq!(units(120..120), [(2, 0)], "the shortest one is seen");
        assert_eq!(units(0..1000), [(0, 40), (1, 40), (2, 40), (3, 40)]);
        assert_eq!(units(140..140), [(3, 0)], "at the end, too");
    }

    #[test]
    fn durations_show_two_units_or_tenths() {
        for (ms, text) in [
            (0, "0.0 s"),
            (12_340, "12.3 s"),
            (65_000, "1 min 05 s"),
            (5_400_000, "1 h 30 min"),
            (2 * DAY + HOUR, "2 d 1 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
