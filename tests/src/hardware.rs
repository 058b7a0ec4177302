//! Facts about a host's hardware that a test makes up.

use crate::{Host, Result};

/// Files on a file system in memory are written as they are. Others are the kernel's: a copy that
/// can be written is mounted over one that is there, and a folder that can be written over where
/// one is missing. A class of devices is always replaced as a whole: none of the machine's are in
/// it then. The new text is laid over the old one: no reader sees an empty file.
const WRITE: &str = r#"
    file=$1 place=$1
    until [ -e "$place" ]; do place=$(dirname "$place"); done
    if [ "$(stat -f -c %T "$place")" != tmpfs ]; then
        case $file in /sys/class/*/*) place=$(echo "$file" | cut -d / -f 1-4) ;; esac
        if [ -d "$place" ]; then
            mount -t tmpfs -o mode=755 hardware "$place"
        else
            copy=/run/lab/hardware$file
            mkdir -p "$(dirname "$copy")"
            touch "$copy"
            mount --bind "$copy" "$file"
        fi
    fi
    mkdir -p "$(dirname "$file")"
    cat 1<>"$file"
    truncate -s "$2" "$file"
"#;

impl Host {
    /// Has a file in `/proc` or `/sys` say something else, such as `/proc/pressure/memory` or
    /// `/sys/class/thermal/thermal_zone0/temp`, until the host's power goes. May be called again
    /// for the same file: who has it open reads the new text. What is written for one device of a
    /// class hides all real devices of that class.
    ///
    /// # Errors
    ///
    /// As [`crate::Command::run`], and [`crate::Error::Failed`]: such a file cannot be made there.
    pub fn write_hardware(&self, path: &str, content: &str) -> Result<()> {
        let len = content.len().to_string();
        let command = self.command(["sh", "-euc", WRITE, "write", path, &len]).stdin(content);
        command.run()?.ok().map(drop)
    }
}
