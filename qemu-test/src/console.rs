//! A machine's serial console: read all the time, written to a file with the time since power-on, and
//! waited for.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use roost_lab::now;

/// Lines that are kept for looking at.
const KEPT: usize = 4096;

/// Lines that an error shows.
const SHOWN: usize = 40;

/// A line that no console in its right mind exceeds; what is longer is cut into several.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// Why a machine did not say what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It went on and did not say it.
    #[error("the machine did not say \"{text}\" within {timeout_s} s; its last words:\n{last}")]
    TimedOut {
        /// What was waited for.
        text: String,
        /// How long, in seconds.
        timeout_s: u64,
        /// The end of what it said.
        last: String,
    },
    /// Its console is closed: QEMU has ended.
    #[error("the machine ended before it said \"{text}\"; its last words:\n{last}")]
    Ended {
        /// What was waited for.
        text: String,
        /// The end of what it said.
        last: String,
    },
}

/// A console that is being read. Reading ends with the machine.
pub struct Console {
    said: Arc<Said>,
    reader: Option<JoinHandle<()>>,
}

struct Said {
    state: Mutex<State>,
    changed: Condvar,
    since: Instant,
}

#[derive(Default)]
struct State {
    /// Whole lines, without control characters; the last of so many.
    lines: Vec<Line>,
    /// Lines that were dropped from the front.
    dropped: usize,
    /// What has no end yet: a prompt.
    rest: Vec<u8>,
    ended: bool,
}

struct Line {
    at: Duration,
    text: String,
}

impl Said {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// Reads a machine's console from now on, which is when its power came, into a file. What comes is
    /// also copied to `echo`, as it is.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn read(
        stream: UnixStream,
        log: &Path,
        echo: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let said =
            Arc::new(Said { state: Mutex::default(), changed: Condvar::new(), since: now() });
        let for_reader = Arc::clone(&said);
        let reader = std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || for_reader.listen(stream, log, echo))?;
        Ok(Self { said, reader: Some(reader) })
    }

    /// Waits until the machine has said a text, from its start on; gives when that was, since power-on.
    ///
    /// # Errors
    ///
    /// [`ConsoleError`], with the end of what it said.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<Duration, ConsoleError> {
        let mut looked_at = 0;
        let mut found = None;
        let (state, _) = self
            .said
            .changed
            .wait_timeout_while(self.said.state(), timeout, |state| {
                let from = looked_at - looked_at.min(state.dropped);
                let whole = state.lines.iter().skip(from).find(|line| line.text.contains(text));
                found = whole.map(|line| line.at).or_else(|| {
                    let rest = clean(&state.rest);
                    (rest.contains(text)).then(|| self.said.since.elapsed())
                });
                looked_at = state.dropped + state.lines.len();
                found.is_none() && !state.ended
            })
            .unwrap_or_else(PoisonError::into_inner);
        let (text, last) = (text.to_owned(), tail(&state));
        match (found, state.ended) {
            (Some(at), _) => Ok(at),
            (None, true) => Err(ConsoleError::Ended { text, last }),
            (None, false) => {
                Err(ConsoleError::TimedOut { text, timeout_s: timeout.as_secs(), last })
            }
        }
    }

    /// How long ago the power came.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.said.since.elapsed()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The machine has been ended, and with it its side of the stream.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Said {
    /// Until the machine ends.
    fn listen(&self, mut stream: UnixStream, mut log: fs::File, mut echo: impl Write) {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut part) {
            // Whoever looks on may leave, and a full disk is no reason to stop the machine.
            let _ = echo.write_all(&part[..length]).and_then(|()| echo.flush());
            let lines = self.take(&part[..length]);
            let _ = log.write_all(lines.as_bytes());
        }
        let mut state = self.state();
        state.ended = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Takes what was said; gives the lines that have come to an end, with their times.
    fn take(&self, bytes: &[u8]) -> String {
        let at = self.since.elapsed();
        let mut written = String::new();
        let mut state = self.state();
        for byte in bytes {
            if *byte != b'\n' {
                state.rest.push(*byte);
                if state.rest.len() < MAX_LINE_BYTES {
                    continue;
                }
            }
            let text = clean(&std::mem::take(&mut state.rest));
            if text.is_empty() {
                continue;
            }
            written += &format!("[{:8.3}] {text}\n", at.as_secs_f64());
            state.lines.push(Line { at, text });
        }
        if state.lines.len() > 2 * KEPT {
            let dropped = state.lines.len() - KEPT;
            state.lines.drain(..dropped);
            state.dropped += dropped;
        }
        drop(state);
        self.changed.notify_all();
        written
    }
}

/// What a line looks like in the end: without colours, and what was written over.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let shown = text.rsplit('\r').next().unwrap_or_default();
    strip_ansi_escapes::strip_str(shown).trim_end().to_owned()
}

fn tail(state: &State) -> String {
    let from = state.lines.len().saturating_sub(SHOWN);
    let mut text: String = state.lines[from..]
        .iter()
        .map(|line| format!("[{:8.3}] {}\n", line.at.as_secs_f64(), line.text))
        .collect();
    text += &clean(&state.rest);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A console, the machine's side of it, and its file.
    fn console() -> (Console, UnixStream, std::path::PathBuf, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = folder.path().join("console.log");
        (Console::read(ours, &log, io::sink()).unwrap(), theirs, log, folder)
    }

    #[test]
    fn what_was_said_before_and_what_comes_later_is_found_prompts_too() {
        let (console, mut machine, _, _folder) = console();
        machine.write_all(b"booting\nlog").unwrap();
        console.wait_for("booting", LONG).unwrap();
        machine.write_all(b"in: ").unwrap();
        console.wait_for("login:", LONG).unwrap();
        console.wait_for("booting", LONG).unwrap();
        drop(machine);
    }

    #[test]
    fn a_machine_that_ends_first_is_quoted() {
        let (console, mut machine, _, _folder) = console();
        machine.write_all(b"Kernel panic\n").unwrap();
        machine.shutdown(Shutdown::Both).unwrap();
        let error = console.wait_for("login:", LONG).unwrap_err();
        assert!(
            matches!(&error, ConsoleError::Ended { last, .. } if last.ends_with("Kernel panic")),
            "{error}"
        );
    }

    #[test]
    fn a_machine_that_says_something_else_is_quoted_in_time() {
        let (console, mut machine, _, _folder) = console();
        machine.write_all(b"hung\n").unwrap();
        console.wait_for("hung", LONG).unwrap();
        let error = console.wait_for("login:", Duration::ZERO).unwrap_err();
        assert!(
            matches!(&error, ConsoleError::TimedOut { last, .. } if last.ends_with("hung")),
            "{error}"
        );
        drop(machine);
    }

    #[test]
    fn the_file_has_clean_lines_with_times() {
        let (console, mut machine, log, _folder) = console();
        machine.write_all(b"\x1b[32m  OK  \x1b[0m ready\r\n*\r**\rdone\r\n\r\n").unwrap();
        drop(machine);
        assert!(matches!(console.wait_for("nothing", LONG), Err(ConsoleError::Ended { .. })));
        drop(console);
        let text = fs::read_to_string(log).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once("] ").unwrap().1).collect();
        assert_eq!(lines, ["  OK   ready", "done"], "{text}");
        assert!(text.starts_with("[   0.0"), "{text}");
    }

    #[test]
    fn memory_is_bounded() {
        let (console, mut machine, _, _folder) = console();
        machine.write_all(&vec![b'.'; 3 * MAX_LINE_BYTES]).unwrap();
        machine.write_all("\nx".repeat(3 * KEPT).as_bytes()).unwrap();
        machine.write_all(b"\nlast\n").unwrap();
        console.wait_for("last", LONG).unwrap();
        let state = console.said.state();
        assert!(state.lines.len() <= 2 * KEPT && state.rest.len() < MAX_LINE_BYTES);
        assert!(state.lines.iter().all(|line| line.text.len() <= MAX_LINE_BYTES));
        drop(state);
        drop(machine);
    }
}
