//! What goes over the door's socket besides file descriptors.
//!
//! Both directions are sequences of *frames*: a length (u32, little-endian) and that many bytes.
//! A client sends one frame, its [`Hello`] as JSON, and with its first byte its standard input and
//! output. The daemon sends frames that begin with a tag: [`TEXT`] for the client's standard error,
//! and at the end [`END`] with the exit code.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::command::Command;

/// The version of this protocol. Both ends are the same program; it changes when they may differ
/// during an upgrade.
pub(super) const VERSION: u32 = 1;

/// A hello is at most this long.
pub(super) const HELLO_MAX: usize = 4096;

/// A frame from the daemon is at most this long.
pub(super) const FRAME_MAX: usize = 64 * 1024;

/// Tag of a frame with text for standard error.
pub(super) const TEXT: u8 = b'T';

/// Tag of the last frame: one byte follows, the exit code.
pub(super) const END: u8 = b'E';

/// The first and only thing a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`VERSION`].
    pub(super) version: u32,
    /// What it wants.
    #[serde(flatten)]
    pub(super) request: Request,
}

/// What a client of the door wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Request {
    /// Started by sshd, for a client on another machine.
    Serve {
        /// What that client asked for; a command line on the wire.
        command: Command,
        /// Its address, for display.
        peer: String,
        /// The fingerprint of the key that it logged in with, as `SHA256:…`, if sshd told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Started by the local Nix, as the builder of a line in the machines file.
    Connect {
        /// Which line.
        selector: String,
    },
    /// Started by the local Nix, as its build hook: where this should be built. The answer is one line on
    /// the standard output ([`crate::model::HookReply`]). After [`crate::model::HookReply::Taken`] another
    /// line follows when the job has been given to a node, and the session ends when the hook does.
    Advise {
        /// Whether it has a slot free.
        willing: bool,
        /// Builds that it runs at once by itself; 0 if it cannot build this.
        slots: u32,
        /// The derivation, as an absolute path.
        drv_path: String,
        /// Its system.
        system: String,
        /// The features that it requires.
        features: BTreeSet<String>,
    },
}

/// A frame around `tag` and `payload`, which is cut at [`FRAME_MAX`].
pub(super) fn frame(tag: Option<u8>, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(FRAME_MAX - 1)];
    let len = u32::try_from(payload.len() + tag.iter().len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(payload.len() + 5);
    frame.extend(len.to_le_bytes());
    frame.extend(tag);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_flat_json_with_version_and_kind() {
        let connect = Request::Connect { selector: "aarch64-linux".to_owned() };
        let advise = Request::Advise {
            willing: true,
            slots: 8,
            drv_path: "/nix/store/a.drv".to_owned(),
            system: "aarch64-linux".to_owned(),
            features: BTreeSet::from(["kvm".to_owned()]),
        };
        let serve = Request::Serve { command: Command::Worker, peer: "::1".to_owned(), key: None };
        for (request, text) in [
            (connect, r#"{"version":1,"kind":"connect","selector":"aarch64-linux"}"#),
            (
                advise,
                concat!(
                    r#"{"version":1,"kind":"advise","willing":true,"slots":8,"#,
                    r#""drv_path":"/nix/store/a.drv","system":"aarch64-linux","features":["kvm"]}"#
                ),
            ),
            (serve, r#"{"version":1,"kind":"serve","command":"nix-daemon --stdio","peer":"::1"}"#),
        ] {
            let hello = Hello { version: VERSION, request };
            assert_eq!(serde_json::to_string(&hello).unwrap(), text);
            assert_eq!(serde_json::from_str::<Hello>(text).unwrap(), hello);
        }
    }

    #[test]
    fn a_frame_never_exceeds_its_limit() {
        assert_eq!(frame(Some(END), &[7]), [2, 0, 0, 0, END, 7]);
        assert_eq!(frame(Some(TEXT), &vec![0; FRAME_MAX * 2]).len(), FRAME_MAX + 4);
    }
}
