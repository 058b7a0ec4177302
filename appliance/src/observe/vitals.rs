//! What changes while the daemon runs: heat, memory, disk. Read when asked for, never polled here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use board_support::vitals::{Pressure, last_passive_mc};

use super::{ObserveError, failed, machine::mem_mib, read};

/// What tasks wait for, by the kernel's names for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A CPU to run on.
    Cpu,
    /// Memory to be reclaimed, or to come back from swap.
    Memory,
    /// A disk.
    Io,
}

impl Resource {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// How hot a machine is, and how hot it may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heat {
    /// Temperature of the zone that is closest to slowing the machine down as far as it can, in
    /// thousandths of a degree Celsius.
    pub temperature_mc: i32,
    /// Where that zone does: its last passive trip point. None if no zone has one; then the temperature is
    /// the hottest zone's.
    pub passive_mc: Option<i32>,
}

impl Heat {
    /// How much hotter it may become before it is slowed down as far as it can, in thousandths of a
    /// degree; less than zero if it is now, and none if it never is.
    #[must_use]
    pub fn margin_mc(self) -> Option<i32> {
        self.passive_mc.map(|passive_mc| passive_mc.saturating_sub(self.temperature_mc))
    }
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
    zones(root).map(|heat| heat.temperature_mc).max()
}

/// The thermal zone with the least margin to its last passive trip point; without any that has one,
/// the hottest; `None` without sensors.
#[must_use]
pub fn heat(root: &Path) -> Option<Heat> {
    // None is the least of all margins, yet such a zone is the last to look at.
    zones(root).min_by_key(|heat| (heat.margin_mc().unwrap_or(i32::MAX), -heat.temperature_mc))
}

/// Thermal zones whose sensor works. A zone that is switched off refuses to be read.
fn zones(root: &Path) -> impl Iterator<Item = Heat> {
    entries(&root.join("sys/class/thermal"), "thermal_zone").filter_map(|zone| {
        let temp = read(&zone.join("temp")).ok()?;
        let temperature_mc = board_support::vitals::temperature_mc(&temp)?;
        Some(Heat { temperature_mc, passive_mc: passive_mc(&zone) })
    })
}

/// The last trip point at which a zone slows something down. Where the kernel tells that of any, others do
/// not count: device trees have points that nothing is bound to.
fn passive_mc(zone: &Path) -> Option<i32> {
    let trips: Vec<_> = entries(zone, "trip_point_").filter_map(|file| trip(&file)).collect();
    let last = |effect: Effect| {
        let trips = trips.iter().filter(|trip| trip.effect == effect);
        last_passive_mc(trips.map(|trip| (trip.kind.as_slice(), trip.temp.as_slice())))
    };
    last(Effect::Slows).or_else(|| last(Effect::Unknown))
}

/// A trip point, as its files are.
struct Trip {
    kind: Vec<u8>,
    temp: Vec<u8>,
    effect: Effect,
}

/// What happens at a trip point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// No cooling device is bound to it.
    Unknown,
    /// Fans start, and nothing else. Device trees of boards with a fan give such points the type `passive`,
    /// too, which should be `active`.
    Fans,
    /// Something is slowed down.
    Slows,
}

/// A trip point, given its `trip_point_*_type`.
fn trip(file: &Path) -> Option<Trip> {
    let name = file.file_name()?.to_str()?.strip_suffix("_type")?;
    let index = name.strip_prefix("trip_point_")?;
    let temp = file.with_file_name(format!("{name}_temp"));
    let effect = effect(file.parent()?, index);
    Some(Trip { kind: read(file).ok()?, temp: read(&temp).ok()?, effect })
}

/// What a trip point does, by the cooling devices that are bound to it.
fn effect(zone: &Path, index: &str) -> Effect {
    let bound = entries(zone, "cdev").filter_map(|file| {
        let device = file.file_name()?.to_str()?.strip_suffix("_trip_point")?;
        let at = read(&file).ok()?;
        let kind = read(&zone.join(device).join("type")).ok()?;
        (at.trim_ascii() == index.as_bytes()).then(|| kind.windows(3).any(|word| word == b"fan"))
    });
    bound.fold(Effect::Unknown, |effect, fan| match (effect, fan) {
        (Effect::Slows, _) | (_, false) => Effect::Slows,
        (Effect::Unknown | Effect::Fans, true) => Effect::Fans,
    })
}

/// The paths in a folder whose names begin with `prefix`; none if there is no such folder.
fn entries(folder: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    let named = move |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(named)
        .map(|entry| entry.path())
}

/// How long tasks wait for something; `None` on a kernel without pressure stall information.
#[must_use]
pub fn pressure(root: &Path, resource: Resource) -> Option<Pressure> {
    Pressure::parse(&read(&root.join("proc/pressure").join(resource.name())).ok()?)
}

/// Memory pressure; see [`pressure`].
#[must_use]
pub fn memory_pressure(root: &Path) -> Option<Pressure> {
    pressure(root, Resource::Memory)
}

/// The clock rate of the fastest CPU now, and the most it could have, in MHz; `None` without
/// cpufreq.
#[must_use]
pub fn clock_mhz(root: &Path) -> Option<(u32, u32)> {
    let policies = entries(&root.join("sys/devices/system/cpu/cpufreq"), "policy");
    let rate =
        |policy: &Path, name| board_support::vitals::clock_mhz(&read(&policy.join(name)).ok()?);
    policies
        .filter_map(|policy| {
            Some((rate(&policy, "scaling_cur_freq")?, rate(&policy, "cpuinfo_max_freq")?))
        })
        .max()
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

#[cfg(test)]
mod tests {
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

    /// Writes files below a root.
    fn put(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_zone_closest_to_its_trip_point_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(heat(root.path()), None);
        let zone = |n: u32, file: &str| format!("sys/class/thermal/thermal_zone{n}/{file}");
        put(root.path(), &[(&zone(0, "temp"), "80000\n"), (&zone(1, "temp"), "60000\n")]);
        let hottest = Heat { temperature_mc: 80_000, passive_mc: None };
        assert_eq!(heat(root.path()), Some(hottest));
        assert_eq!(hottest.margin_mc(), None);
        put(
            root.path(),
            &[
                (&zone(0, "trip_point_0_type"), "critical\n"),
                (&zone(0, "trip_point_0_temp"), "81000\n"),
                (&zone(1, "trip_point_0_type"), "critical\n"),
                (&zone(1, "trip_point_0_temp"), "95000\n"),
                (&zone(1, "trip_point_1_type"), "passive\n"),
                (&zone(1, "trip_point_1_temp"), "75000\n"),
                (&zone(1, "trip_point_2_type"), "passive\n"),
                (&zone(1, "trip_point_2_temp"), "70000\n"),
                (&zone(1, "trip_point_3_type"), "passive\n"),
                (&zone(2, "temp"), "78000\n"),
                (&zone(2, "trip_point_0_type"), "passive\n"),
                (&zone(2, "trip_point_0_temp"), "85000\n"),
            ],
        );
        let closest = Heat { temperature_mc: 78_000, passive_mc: Some(85_000) };
        assert_eq!(heat(root.path()), Some(closest));
        assert_eq!(closest.margin_mc(), Some(7_000));
        put(root.path(), &[(&zone(1, "temp"), "76000\n")]);
        let above = Heat { temperature_mc: 76_000, passive_mc: Some(75_000) };
        assert_eq!(heat(root.path()), Some(above));
        assert_eq!(above.margin_mc(), Some(-1_000));
    }

    #[test]
    fn a_trip_point_that_starts_a_fan_slows_nothing_down() {
        let root = tempfile::tempdir().unwrap();
        let zone = |file: &str| format!("sys/class/thermal/thermal_zone0/{file}");
        put(
            root.path(),
            &[
                (&zone("temp"), "48000\n"),
                (&zone("trip_point_0_type"), "passive\n"),
                (&zone("trip_point_0_temp"), "50000\n"),
                (&zone("trip_point_1_type"), "passive\n"),
                (&zone("trip_point_1_temp"), "85000\n"),
                (&zone("cdev0/type"), "pwm-fan\n"),
                (&zone("cdev0_trip_point"), "0\n"),
                (&zone("cdev1/type"), "cpufreq-cpu0\n"),
                (&zone("cdev1_trip_point"), "1\n"),
                (&zone("cdev2/type"), "pwm-fan\n"),
                (&zone("cdev2_trip_point"), "1\n"),
            ],
        );
        assert_eq!(heat(root.path()).and_then(|heat| heat.passive_mc), Some(85_000));
        put(root.path(), &[(&zone("cdev1_trip_point"), "0\n")]);
        assert_eq!(heat(root.path()).and_then(|heat| heat.passive_mc), Some(50_000));
    }

    #[test]
    fn the_last_trip_point_that_slows_something_down_counts() {
        let root = tempfile::tempdir().unwrap();
        let zone = |file: &str| format!("sys/class/thermal/thermal_zone0/{file}");
        // Two that the CPU is slowed down at, as of RK3399, and one that belongs to nothing.
        put(
            root.path(),
            &[
                (&zone("temp"), "64000\n"),
                (&zone("trip_point_0_type"), "passive\n"),
                (&zone("trip_point_0_temp"), "70000\n"),
                (&zone("trip_point_1_type"), "passive\n"),
                (&zone("trip_point_1_temp"), "85000\n"),
                (&zone("trip_point_2_type"), "passive\n"),
                (&zone("trip_point_2_temp"), "93000\n"),
                (&zone("trip_point_3_type"), "critical\n"),
                (&zone("trip_point_3_temp"), "95000\n"),
            ],
        );
        let last_mc = || heat(root.path()).and_then(|heat| heat.passive_mc);
        assert_eq!(last_mc(), Some(93_000), "while nothing tells what they do");
        for (device, at) in [("cdev0", "0\n"), ("cdev1", "1\n")] {
            let (kind, point) = (format!("{device}/type"), format!("{device}_trip_point"));
            put(root.path(), &[(&zone(&kind), "cpufreq-cpu0\n"), (&zone(&point), at)]);
        }
        assert_eq!(last_mc(), Some(85_000));
    }

    #[test]
    fn pressure_and_clock_rates_are_found() {
        let root = tempfile::tempdir().unwrap();
        let none: Option<Pressure> = None;
        assert_eq!(memory_pressure(root.path()), none);
        assert_eq!(clock_mhz(root.path()), None);
        let cpufreq = "sys/devices/system/cpu/cpufreq";
        put(
            root.path(),
            &[
                ("proc/pressure/cpu", "some avg10=7.50 avg60=0.50 avg300=0.10 total=1\n"),
                ("proc/pressure/io", "nothing\n"),
                (&format!("{cpufreq}/policy0/scaling_cur_freq"), "408000\n"),
                (&format!("{cpufreq}/policy0/cpuinfo_max_freq"), "1800000\n"),
                (&format!("{cpufreq}/policy4/scaling_cur_freq"), "1200000\n"),
                (&format!("{cpufreq}/policy4/cpuinfo_max_freq"), "2400000\n"),
            ],
        );
        let cpu = Pressure { some_avg10_bp: 750, full_avg10_bp: 0 };
        assert_eq!(pressure(root.path(), Resource::Cpu), Some(cpu));
        assert_eq!(pressure(root.path(), Resource::Io), None);
        assert_eq!(clock_mhz(root.path()), Some((1_200, 2_400)));
    }

    #[test]
    fn disk_and_memory_of_this_machine_can_be_had() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
        assert!(available_mib(Path::new("/")).unwrap() > 0);
        let error = super::space(Path::new("/no/such/path")).unwrap_err();
        assert!(error.to_string().contains("/no/such/path"), "{error}");
    }
}
