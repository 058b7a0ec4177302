//! How much memory a service has had at most.

use std::{fs::File, io::Write as _, os::unix::fs::FileExt as _, path::Path};

use super::leading_number;

/// The most memory that a cgroup has had since a moment: `memory.peak` of cgroup2, as its own descriptor
/// sees it (Linux 6.12 and later).
///
/// The kernel counts everything that is charged to the cgroup, the page cache of the files that it reads
/// and writes included: more than the programs need, up to what there is.
#[derive(Debug)]
pub struct PeakMemory(File);

impl PeakMemory {
    /// Begins to look at a cgroup's `memory.peak`; none if there is no such file, if it may not be written
    /// to, and on an older kernel.
    #[must_use]
    pub fn since_now(file: &Path) -> Option<Self> {
        let mut file = File::options().read(true).write(true).open(file).ok()?;
        // Any word makes reads through this descriptor begin with what is used now.
        file.write_all(b"reset\n").ok()?;
        Some(Self(file))
    }

    /// The most since then, in MiB; none if the cgroup is gone.
    #[must_use]
    pub fn mib(&self) -> Option<u32> {
        let mut text = [0; 32];
        let read = self.0.read_at(&mut text, 0).ok()?;
        u32::try_from(leading_number(&text[..read])?.div_ceil(1 << 20)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_peak_is_read_anew_and_what_is_not_there_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.peak");
        assert!(PeakMemory::since_now(&path).is_none());
        fs::write(&path, "0\n").unwrap();
        let peak = PeakMemory::since_now(&path).unwrap();
        fs::write(&path, "734003201\n").unwrap();
        assert_eq!(peak.mib(), Some(701));
        fs::write(&path, "max\n").unwrap();
        assert_eq!(peak.mib(), None);
    }
}
