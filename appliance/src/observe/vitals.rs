//! What changes while the daemon runs: heat, memory, disk. Read when asked for, never polled here.

use std::{fs, path::Path};

use super::{ObserveError, failed, leading_number, machine::mem_mib, read};

/// How much of the time tasks waited for memory, from the kernel's pressure stall information
/// (`Documentation/accounting/psi.rst`), in basis points: 10,000 is all of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPressure {
    /// Some task waited, averaged over 10 s.
    pub some_avg10_bp: u32,
    /// Every task waited, averaged over 10 s.
    pub full_avg10_bp: u32,
}

/// A file system's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process could still write, in bytes.
    pub free_bytes: u64,
    /// All of it, in bytes.
    pub total_bytes: u64,
}

/// The hottest thermal zone in thousandths of a degree Celsius; `None` without sensors.
#[must_use]
pub fn temperature_mc(root: &Path) -> Option<i32> {
    let zones = fs::read_dir(root.join("sys/class/thermal")).ok()?;
    zones
        .filter_map(Result::ok)
        .filter(|zone| zone.file_name().to_string_lossy().starts_with("thermal_zone"))
        // A zone that is switched off refuses to be read.
        .filter_map(|zone| parse_temperature_mc(&read(&zone.path().join("temp")).ok()?))
        .max()
}

/// Memory pressure; `None` on a kernel without pressure stall information.
#[must_use]
pub fn memory_pressure(root: &Path) -> Option<MemoryPressure> {
    parse_pressure(&read(&root.join("proc/pressure/memory")).ok()?)
}

/// Memory that new work could have without swapping, in MiB.
///
/// # Errors
///
/// [`ObserveError`] if the kernel does not tell.
pub fn available_mib(root: &Path) -> Result<u64, ObserveError> {
    let path = root.join("proc/meminfo");
    mem_mib(&read(&path)?, "MemAvailable")
        .ok_or(ObserveError::Content { path, what: "the memory available" })
}

/// The space of the file system that `path` is on.
///
/// # Errors
///
/// [`ObserveError::File`] if `path` is not there.
pub fn space(path: &Path) -> Result<Space, ObserveError> {
    let stat = rustix::fs::statvfs(path).map_err(|error| failed("look at", path)(error.into()))?;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// Thousandths of a degree; what no working board can have is a broken sensor's.
fn parse_temperature_mc(text: &[u8]) -> Option<i32> {
    let value: i32 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    (-60_000..=200_000).contains(&value).then_some(value)
}

/// `some avg10=1.23 avg60=…` and the same for `full`.
fn parse_pressure(text: &[u8]) -> Option<MemoryPressure> {
    let avg10 = |kind: &[u8]| {
        text.split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(b" avg10="))
            .and_then(parse_percent_bp)
    };
    Some(MemoryPressure { some_avg10_bp: avg10(b"some")?, full_avg10_bp: avg10(b"full")? })
}

/// A percentage with two decimals, which the kernel always prints, in basis points.
fn parse_percent_bp(text: &[u8]) -> Option<u32> {
    let point = text.iter().position(|byte| *byte == b'.')?;
    let (whole, hundredths) = (&text[..point], text.get(point + 1..point + 3)?);
    let (whole, hundredths) = (leading_number(whole)?, leading_number(hundredths)?);
    u32::try_from(whole.checked_mul(100)?.checked_add(hundredths)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hottest_working_zone_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(temperature_mc(root.path()), None);
        for (zone, text) in [
            ("thermal_zone0", "48312\n"),
            ("thermal_zone1", "61200\n"),
            ("thermal_zone2", "-274000\n"),
            ("thermal_zone3", "hot\n"),
            ("cooling_device0", "99999\n"),
        ] {
            let dir = root.path().join("sys/class/thermal").join(zone);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("temp"), text).unwrap();
        }
        fs::create_dir(root.path().join("sys/class/thermal/thermal_zone4")).unwrap();
        assert_eq!(temperature_mc(root.path()), Some(61_200));
    }

    #[test]
    fn pressure_is_read_in_basis_points() {
        let text = b"some avg10=1.23 avg60=0.50 avg300=0.10 total=123456\n\
            full avg10=100.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(
            parse_pressure(text),
            Some(MemoryPressure { some_avg10_bp: 123, full_avg10_bp: 10_000 })
        );
        assert_eq!(parse_pressure(b""), None);
        assert_eq!(parse_pressure(b"some avg10=\nfull avg10=1"), None);
        assert_eq!(memory_pressure(Path::new("/no/such/root")), None);
    }

    #[test]
    fn disk_and_memory_of_this_machine_can_be_had() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
        assert!(available_mib(Path::new("/")).unwrap() > 0);
        let error = super::space(Path::new("/no/such/path")).unwrap_err();
        assert!(error.to_string().contains("/no/such/path"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), number in "[0-9.]{0,30}") {
            let _ = parse_temperature_mc(&bytes);
            let _ = parse_pressure(&bytes);
            let _ = parse_pressure(format!("some avg10={number}\nfull avg10={number}").as_bytes());
        }
    }
}
