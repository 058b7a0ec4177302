//! The QEMU Machine Protocol (docs/interop/qmp-spec of QEMU): one JSON object a line, over QEMU's standard
//! output.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::machine::{CARD, DISK};

/// How long QEMU may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer that is read.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// Answers and events that may come before the answer.
const MAX_EVENTS: usize = 10_000;

/// Why QEMU did not do something.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// It cannot be talked to.
    #[error("QEMU does not answer to {command}: {source}")]
    Io {
        /// What was asked for.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It refused.
    #[error("QEMU refused {command}: {why}")]
    Refused {
        /// What was asked for.
        command: String,
        /// What it said.
        why: String,
    },
    /// It said something else.
    #[error("QEMU's answer to {command} makes no sense: {answer}")]
    Odd {
        /// What was asked for.
        command: String,
        /// What it said.
        answer: String,
    },
}

/// A connection to a running QEMU.
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Takes QEMU's side of a socket, when it has been started.
    ///
    /// # Errors
    ///
    /// It does not greet, or not in time.
    pub fn new(stream: UnixStream) -> Result<Self, QmpError> {
        let limits = || {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))
        };
        limits().map_err(|source| QmpError::Io { command: "its start".to_owned(), source })?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.line("its start")?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Odd {
                command: "its start".to_owned(),
                answer: greeting.to_string(),
            });
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Has QEMU do something; gives what it answers.
    ///
    /// # Errors
    ///
    /// [`QmpError`].
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .map_err(|source| QmpError::Io { command: command.to_owned(), source })?;
        for _ in 0..MAX_EVENTS {
            let mut answer = self.line(command)?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(why) = answer.pointer("/error/desc") {
                let why = why.as_str().unwrap_or_default().to_owned();
                return Err(QmpError::Refused { command: command.to_owned(), why });
            }
        }
        Err(QmpError::Odd { command: command.to_owned(), answer: "only events".to_owned() })
    }

    /// Pulls the network cable, or plugs it in.
    ///
    /// # Errors
    ///
    /// [`QmpError`].
    pub fn set_link(&mut self, up: bool) -> Result<(), QmpError> {
        self.execute("set_link", &json!({ "name": CARD, "up": up })).map(drop)
    }

    /// Bytes that the machine has written to its disk since it was started.
    ///
    /// # Errors
    ///
    /// [`QmpError`].
    pub fn written_bytes(&mut self) -> Result<u64, QmpError> {
        let answer = self.execute("query-blockstats", &json!({}))?;
        written_bytes(&answer).ok_or_else(|| QmpError::Odd {
            command: "query-blockstats".to_owned(),
            answer: answer.to_string(),
        })
    }

    fn line(&mut self, command: &str) -> Result<Value, QmpError> {
        let failed = |source| QmpError::Io { command: command.to_owned(), source };
        let mut line = String::new();
        let mut limited = (&mut self.stream).take(MAX_LINE_BYTES);
        if limited.read_line(&mut line).map_err(failed)? == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&line)
            .map_err(|_| QmpError::Odd { command: command.to_owned(), answer: line })
    }
}

fn written_bytes(answer: &Value) -> Option<u64> {
    let devices = answer.as_array()?;
    let disk = devices.iter().find(|it| it.get("device").is_some_and(|name| name == DISK))?;
    disk.pointer("/stats/wr_bytes")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that says these lines.
    fn says(lines: &'static [u8]) -> Result<Qmp, QmpError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(lines).unwrap();
        // What is said to it is dropped; it ends when all was read.
        std::thread::spawn(move || io::copy(&mut theirs, &mut io::sink()));
        Qmp::new(ours)
    }

    const GREETING: &[u8] = b"{\"QMP\": {}}\n{\"return\": {}}\n";

    #[test]
    fn the_answer_is_found_among_events() {
        let lines = [GREETING, b"{\"event\": \"RTC_CHANGE\"}\n{\"return\": {\"a\": 1}}\n"].concat();
        let mut qmp = says(lines.leak()).unwrap();
        assert_eq!(qmp.execute("query", &json!({})).unwrap(), json!({ "a": 1 }));
    }

    #[test]
    fn a_refusal_is_told_as_qemu_says_it() {
        let lines = [GREETING, b"{\"error\": {\"class\": \"E\", \"desc\": \"no such card\"}}\n"];
        let mut qmp = says(lines.concat().leak()).unwrap();
        let error = qmp.set_link(false).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused set_link: no such card");
    }

    #[test]
    fn something_else_is_no_qemu() {
        assert!(matches!(says(b"SSH-2.0\n").err(), Some(QmpError::Odd { .. })));
        assert!(matches!(says(b"{}\n").err(), Some(QmpError::Odd { .. })));
    }

    #[test]
    fn what_was_written_is_of_the_disk_and_no_other_device() {
        let stats = |bytes: u64| json!({ "wr_bytes": bytes });
        let answer = json!([
            { "device": "pflash0", "stats": stats(1) },
            { "device": DISK, "stats": stats(4096) },
        ]);
        assert_eq!(written_bytes(&answer), Some(4096));
        assert_eq!(written_bytes(&json!([])), None);
    }
}
