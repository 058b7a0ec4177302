//! Programs that are run, and what they say when they fail.

use std::{
    ffi::OsStr,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::model::first_line;

/// What is read of a program's words, in bytes: the last ones.
const MAX_WORDS: u64 = 8 << 10;
/// What is shown of them, in lines.
const MAX_LINES: usize = 10;
/// What is shown of a line, in characters.
const MAX_LINE: usize = 300;

/// Runs a program to its end.
///
/// # Errors
/// How it failed, with its last words.
pub async fn run(program: &Path, arguments: &[&OsStr], within: Duration) -> Result<(), String> {
    let name = program.display();
    let failed = |error: io::Error| format!("cannot run {name}: {error}");
    let mut words = tempfile::tempfile().map_err(failed)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(words.try_clone().map_err(failed)?)
        .stderr(words.try_clone().map_err(failed)?)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let status = match timeout(within, child.wait()).await {
        Ok(status) => status.map_err(failed)?,
        Err(_) => {
            let words = last_words(&mut words).map_err(failed)?;
            return Err(format!("{name} did not end within {} s{words}", within.as_secs()));
        }
    };
    if status.success() {
        return Ok(());
    }
    Err(format!("{name} failed ({status}){}", last_words(&mut words).map_err(failed)?))
}

/// The last lines of a file, each on a line of its own.
fn last_words(file: &mut (impl Read + Seek)) -> io::Result<String> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_WORDS)))?;
    let mut bytes = Vec::new();
    file.take(MAX_WORDS).read_to_end(&mut bytes)?;
    let lines = bytes.split(|byte| *byte == b'\n').map(first_line);
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(MAX_LINES)..];
    let shown = last.iter().map(|line| line.chars().take(MAX_LINE).collect::<String>());
    Ok(shown.map(|line| format!("\n  {line}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, within: Duration) -> Result<(), String> {
        run(Path::new("/bin/sh"), &["-c".as_ref(), script.as_ref()], within).await
    }

    #[tokio::test]
    async fn a_program_that_fails_is_named_with_its_last_lines() {
        assert_eq!(sh("exit 0", Duration::from_secs(20)).await, Ok(()));
        let script =
            "for n in $(seq 30); do echo line $n; done; printf '\\033[31mbad\\n' >&2; exit 3";
        let error = sh(script, Duration::from_secs(20)).await.unwrap_err();
        assert!(error.starts_with("/bin/sh failed (exit status: 3)\n  line 22\n"), "{error}");
        assert!(error.ends_with("\n  line 30\n  bad"), "{error}");
        let error = run(Path::new("/nonexistent"), &[], Duration::from_secs(20)).await;
        assert!(error.unwrap_err().contains("cannot run /nonexistent"));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_left() {
        let error = sh("echo so far; exec sleep 60", Duration::from_millis(300)).await.unwrap_err();
        assert!(error.contains("did not end within 0 s"), "{error}");
    }
}
