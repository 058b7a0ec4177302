//! Messages as lines of text.

use nix_compat::nix_daemon::{Field, StderrMessage, client::MessageSink};

use crate::wire::door::Notes;

/// A result that is a line of a build's log (Nix: resBuildLogLine).
const BUILD_LOG_LINE: u64 = 101;

/// The same, from the hook that runs after a build (Nix: resPostBuildLogLine).
const POST_BUILD_LOG_LINE: u64 = 107;

/// A client's standard error, as the place for logs.
pub(super) struct Log<'a>(pub(super) &'a mut Notes);

impl MessageSink for Log<'_> {
    async fn message(&mut self, message: StderrMessage) {
        if let Some(line) = line(message) {
            self.0.text(line).await;
        }
    }
}

/// What of a message is for the eye, with its line's end.
fn line(message: StderrMessage) -> Option<Vec<u8>> {
    let mut line = match message {
        StderrMessage::Next(line) => line,
        StderrMessage::Result { kind: BUILD_LOG_LINE | POST_BUILD_LOG_LINE, fields, .. } => {
            match fields.into_iter().next()? {
                Field::String(line) => line,
                Field::Int(_) => return None,
            }
        }
        _ => return None,
    };
    line.truncate(line.trim_ascii_end().len());
    line.push(b'\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_and_texts_are_shown_and_nothing_else() {
        let result = |kind, field| StderrMessage::Result { id: 1, kind, fields: vec![field] };
        let shown = [
            (StderrMessage::Next(b"warning\n".to_vec()), Some("warning\n")),
            (result(101, Field::String(b"gcc -c x.c".to_vec())), Some("gcc -c x.c\n")),
            (result(101, Field::Int(3)), None),
            (result(104, Field::String(b"configure".to_vec())), None),
            (StderrMessage::StopActivity(1), None),
        ];
        for (message, text) in shown {
            assert_eq!(line(message), text.map(|text| text.as_bytes().to_vec()));
        }
    }
}
