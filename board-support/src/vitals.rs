//! Heat, clock rate and pressure.

/// How much of the time tasks waited for something, averaged over 10 s, from the kernel's pressure
/// stall information (`Documentation/accounting/psi.rst`), in basis points: 10,000 is all of the
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some task waited.
    pub some_avg10_bp: u32,
    /// Every task waited. Kernels before 5.13 do not say so of the CPU.
    pub full_avg10_bp: u32,
}

impl Pressure {
    /// Reads `/proc/pressure/cpu`, `memory` or `io`: a line for `some`, and one for `full`.
    #[must_use]
    pub fn parse(file: &[u8]) -> Option<Self> {
        let avg10 = |kind: &[u8]| {
            file.split(|byte| *byte == b'\n')
                .find_map(|line| line.strip_prefix(kind)?.strip_prefix(b" avg10="))
        };
        Some(Self {
            some_avg10_bp: avg10(b"some").and_then(basis_points)?,
            full_avg10_bp: avg10(b"full").map_or(Some(0), basis_points)?,
        })
    }
}

/// A percentage with two decimals, which the kernel always prints, in basis points.
fn basis_points(text: &[u8]) -> Option<u32> {
    let point = text.iter().position(|byte| *byte == b'.')?;
    let (whole, hundredths) = (&text[..point], text.get(point + 1..point + 3)?);
    number(whole)?.checked_mul(100)?.checked_add(number(hundredths)?)
}

/// Digits and nothing else.
fn number(text: &[u8]) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// A thermal zone's `temp` or one of its `trip_point_*_temp`, in thousandths of a degree Celsius
/// (`Documentation/ABI/testing/sysfs-class-thermal`). What no working board can have is a broken
/// sensor's, or a trip point that is switched off.
#[must_use]
pub fn temperature_mc(file: &[u8]) -> Option<i32> {
    let value: i32 = core::str::from_utf8(file).ok()?.trim().parse().ok()?;
    (-60_000..=200_000).contains(&value).then_some(value)
}

/// The temperature from which on a zone slows the machine down as far as it can, in thousandths of a degree:
/// the highest of its `passive` trip points, which are given as `trip_point_*_type` and
/// `trip_point_*_temp`. Device trees often have several: below the last one a board works at a lower clock
/// rate, and after it come `hot` and `critical`. None on boards that rely on a fan (`active`), or on switching themselves
/// off (`critical`).
#[must_use]
pub fn last_passive_mc<'a>(trips: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Option<i32> {
    let passive = trips.into_iter().filter(|(kind, _)| kind.trim_ascii() == b"passive");
    // A point at or below 0 °C would never be left: it stands for none.
    passive.filter_map(|(_, temp)| temperature_mc(temp)).filter(|temp| *temp > 0).max()
}

/// A `scaling_cur_freq` or `cpuinfo_max_freq` of cpufreq, in kHz, as MHz
/// (`Documentation/admin-guide/pm/cpufreq.rst`).
#[must_use]
pub fn clock_mhz(file: &[u8]) -> Option<u32> {
    number(file.trim_ascii()).map(|khz| khz / 1000).filter(|mhz| *mhz > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pressure_is_read_in_basis_points() {
        let text = b"some avg10=1.23 avg60=0.50 avg300=0.10 total=123456\n\
            full avg10=100.00 avg60=0.00 avg300=0.00 total=1\n";
        let expected = Pressure { some_avg10_bp: 123, full_avg10_bp: 10_000 };
        assert_eq!(Pressure::parse(text), Some(expected));
        let cpu = Pressure::parse(b"some avg10=7.50 avg60=0.50 avg300=0.10 total=123456\n");
        assert_eq!(cpu, Some(Pressure { some_avg10_bp: 750, full_avg10_bp: 0 }));
        for bad in
            [&b""[..], b"some avg10=\nfull avg10=1", b"full avg10=1.00\n", b"some avg10=-1.00"]
        {
            assert_eq!(Pressure::parse(bad), None);
        }
    }

    #[test]
    fn temperatures_are_those_of_working_sensors() {
        assert_eq!(temperature_mc(b"48312\n"), Some(48_312));
        assert_eq!(temperature_mc(b"-5000\n"), Some(-5_000));
        for bad in [&b""[..], b"hot\n", b"-274000\n", b"2147483647\n", b"99999999999\n", b"\xff"] {
            assert_eq!(temperature_mc(bad), None);
        }
    }

    #[test]
    fn the_highest_passive_trip_point_is_the_last() {
        let rk3399: [(&[u8], &[u8]); 3] =
            [(b"passive\n", b"70000\n"), (b"passive\n", b"75000\n"), (b"critical\n", b"95000\n")];
        assert_eq!(last_passive_mc(rk3399), Some(75_000));
        assert_eq!(last_passive_mc(rk3399.into_iter().skip(2)), None);
        let off: [(&[u8], &[u8]); 2] = [(b"passive\n", b"-274000\n"), (b"passive\n", b"0\n")];
        assert_eq!(last_passive_mc(off), None);
    }

    #[test]
    fn clock_rates_are_read_in_mhz() {
        assert_eq!(clock_mhz(b"1500000\n"), Some(1_500));
        for bad in [&b""[..], b"0\n", b"<unknown>\n", b"-1\n", b"99999999999\n"] {
            assert_eq!(clock_mhz(bad), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_possible_values(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            number in "[-0-9.]{0,30}",
        ) {
            for bytes in [bytes.as_slice(), number.as_bytes()] {
                prop_assert!(temperature_mc(bytes).is_none_or(|mc| (-60_000..=200_000).contains(&mc)));
                prop_assert!(clock_mhz(bytes).is_none_or(|mhz| mhz > 0));
                prop_assert!(last_passive_mc([(&b"passive"[..], bytes)]).is_none_or(|mc| mc > 0));
                let _ = Pressure::parse(bytes);
                let line = [b"some avg10=", bytes, b"\nfull avg10=", bytes].concat();
                let _ = Pressure::parse(&line);
            }
        }
    }
}
