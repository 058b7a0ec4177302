//! Systems that the kernel gives to an interpreter (binfmt_misc).

use std::{fs, path::Path};

use board_support::binfmt::{self, Entry};

use super::read;

/// A system whose programs an interpreter runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulated {
    /// The system.
    pub system: String,
    /// The interpreter's path, such as `/usr/bin/qemu-riscv64`.
    pub interpreter: String,
    /// The entry's name in `/proc/sys/fs/binfmt_misc`.
    pub entry: String,
    /// Whether the interpreter was opened when the entry was made (flag `F`), so that it is there in
    /// a build's sandbox, too.
    pub fixed: bool,
    /// Whether the CPU executes the system as well: the kernel asks binfmt_misc first, so it does
    /// not come to that.
    pub shadows_native: bool,
}

/// What is emulated here, with `/proc` below `root`: nothing if binfmt_misc is not mounted or is
/// switched off. Ordered by the names of the entries.
pub(super) fn emulated(root: &Path) -> Vec<Emulated> {
    let folder = root.join("proc/sys/fs/binfmt_misc");
    let status = read(&folder.join("status")).unwrap_or_default();
    if binfmt::status(&String::from_utf8_lossy(&status)) != Some(true) {
        return Vec::new();
    }
    let mut names: Vec<_> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "status" && name != "register")
        .collect();
    names.sort_unstable();
    names
        .iter()
        .flat_map(|name| of_entry(name, &read(&folder.join(name)).unwrap_or_default()))
        .collect()
}

fn of_entry(name: &str, file: &[u8]) -> Vec<Emulated> {
    let Some(entry) = Entry::parse(file).filter(|entry| entry.enabled) else { return Vec::new() };
    let emulated = |system: &&str| Emulated {
        system: (*system).to_owned(),
        interpreter: entry.interpreter.to_owned(),
        entry: name.to_owned(),
        fixed: entry.flags.contains('F'),
        shadows_native: false,
    };
    entry.systems().iter().map(emulated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RISCV64: &str = "enabled\ninterpreter /usr/bin/qemu-riscv64\nflags: OCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200f300\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    fn root(status: &str, entries: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/sys/fs/binfmt_misc");
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("status", status), ("register", "")].iter().chain(entries) {
            fs::write(folder.join(name), text).unwrap();
        }
        root
    }

    #[test]
    fn enabled_entries_for_programs_are_found() {
        let off = RISCV64.replace("enabled", "disabled");
        let entries = [
            ("qemu-riscv64", RISCV64),
            ("off", &off),
            ("broken", "enabled\ninterpreter /q\nmagic 7f4\n"),
            ("jar", "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n"),
        ];
        let found = emulated(root("enabled\n", &entries).path());
        let riscv64 = Emulated {
            system: "riscv64-linux".into(),
            interpreter: "/usr/bin/qemu-riscv64".into(),
            entry: "qemu-riscv64".into(),
            fixed: true,
            shadows_native: false,
        };
        assert_eq!(found, [riscv64]);
    }

    #[test]
    fn nothing_is_emulated_where_binfmt_misc_is_switched_off_or_absent() {
        assert_eq!(emulated(root("disabled\n", &[("qemu-riscv64", RISCV64)]).path()), []);
        assert_eq!(emulated(Path::new("/no/such/root")), []);
    }
}
