//! This board's sshd: whether it shows the board's certificate, and having it do so.

use std::{process::Stdio, time::Duration};

use ssh_key::Certificate;
use tokio::{
    process::Command,
    sync::Mutex,
    time::{sleep, timeout},
};

/// How long sshd may take to read its configuration anew.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to answer.
const SCAN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between looks at what it shows after that. Few: sshd refuses who connects too often and never
/// logs in (sshd_config(5), PerSourcePenalties).
const PAUSES_MS: [u64; 7] = [0, 50, 100, 200, 400, 800, 1600];

/// An sshd on this machine.
#[derive(Debug)]
pub(super) struct Sshd {
    /// Where it listens.
    port: u16,
    /// What has it read its configuration anew; empty if it does for each connection.
    reload: Vec<String>,
    /// The certificate that it was seen to show. Held as long as one is looked for: two reloads would
    /// come between each other's looks.
    seen: Mutex<Option<String>>,
}

/// What sshd answers on the loopback interface.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Host keys or certificates, as `type base64` lines.
    Lines(Vec<String>),
    /// Nothing: it is not there, or listens elsewhere, or has nothing of that kind.
    Nothing,
}

impl Sshd {
    /// One that listens there, and is told by this command to read its configuration anew.
    pub(super) fn new(port: u16, reload: Vec<String>) -> Self {
        Self { port, reload, seen: Mutex::default() }
    }

    /// Has sshd show this certificate, unless it was seen to show it before.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(super) async fn show_new(&self, certificate: &str) -> Result<(), String> {
        if self.seen.lock().await.as_deref() == Some(certificate) {
            return Ok(());
        }
        self.show(certificate).await
    }

    /// Has sshd show this certificate, unless it does now.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(super) async fn show(&self, certificate: &str) -> Result<(), String> {
        let mut seen = self.seen.lock().await;
        *seen = None;
        self.see_to(certificate).await?;
        *seen = Some(certificate.to_owned());
        Ok(())
    }

    async fn see_to(&self, certificate: &str) -> Result<(), String> {
        if self.shows(certificate).await {
            return Ok(());
        }
        self.reload().await?;
        for pause_ms in PAUSES_MS {
            sleep(Duration::from_millis(pause_ms)).await;
            if self.shows(certificate).await {
                return Ok(());
            }
        }
        // One that does not listen on the loopback interface cannot be looked at from here.
        match self.scan(&[]).await {
            Answer::Nothing => Ok(()),
            Answer::Lines(_) => Err("sshd does not show this board's certificate after it was told to \
                 (board.reload_sshd); does its configuration include 50-roost.conf? `roost doctor` tells"
                .to_owned()),
        }
    }

    async fn shows(&self, certificate: &str) -> bool {
        match self.scan(&["-c"]).await {
            Answer::Lines(lines) => lines.iter().any(|line| is_same(line, certificate)),
            Answer::Nothing => false,
        }
    }

    async fn scan(&self, options: &[&str]) -> Answer {
        let scan = Command::new("ssh-keyscan")
            .args(options)
            .args(["-t", "ed25519", "-T", "5", "-p", &self.port.to_string(), "127.0.0.1"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        let Ok(Ok(output)) = timeout(SCAN_TIMEOUT, scan).await else { return Answer::Nothing };
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<_> = text.lines().filter_map(shown).collect();
        if lines.is_empty() { Answer::Nothing } else { Answer::Lines(lines) }
    }

    async fn reload(&self) -> Result<(), String> {
        let Some((program, arguments)) = self.reload.split_first() else { return Ok(()) };
        let failed = |why: String| {
            format!("sshd was not told to show the certificate (board.reload_sshd): {why}")
        };
        let reload = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .output();
        match timeout(RELOAD_TIMEOUT, reload).await {
            Err(_) => Err(failed(format!("{program} did not end in time"))),
            Ok(Err(error)) => Err(failed(format!("cannot run {program}: {error}"))),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(failed(format!("{program} failed ({}): {text}", output.status)))
            }
        }
    }
}

/// The key or certificate in a line of ssh-keyscan(1): its last two words. Before them are the host and,
/// with a certificate, a marker.
fn shown(line: &str) -> Option<String> {
    let mut words = line.split(' ').rev();
    let (key, kind) = (words.next()?, words.next()?);
    kind.starts_with("ssh-").then(|| format!("{kind} {key}"))
}

/// Whether two texts are one certificate, whatever comment they have.
fn is_same(one: &str, other: &str) -> bool {
    let bytes = |text: &str| Certificate::from_openssh(text.trim()).ok()?.to_bytes().ok();
    bytes(one).is_some_and(|one| bytes(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sshd(reload: &[&str]) -> Sshd {
        // Nobody listens on the discard port here.
        Sshd::new(9, reload.iter().map(|&word| word.to_owned()).collect())
    }

    #[tokio::test]
    async fn a_command_that_fails_or_is_not_there_is_told_with_the_setting() {
        for (reload, words) in [
            (&["sh", "-c", "echo no such unit >&2; exit 5"][..], "no such unit"),
            (&["/nonexistent"], "cannot run /nonexistent"),
        ] {
            let why = sshd(reload).show("a certificate").await.unwrap_err();
            assert!(why.contains("board.reload_sshd") && why.contains(words), "{why}");
        }
    }

    #[tokio::test]
    async fn an_sshd_that_cannot_be_looked_at_is_believed_after_its_reload() {
        sshd(&["true"]).show("a certificate").await.unwrap();
    }

    #[test]
    fn what_is_scanned_is_the_end_of_a_line() {
        for line in [
            "127.0.0.1 ssh-ed25519 AAAA",
            "[127.0.0.1]:2222 ssh-ed25519 AAAA",
            "@cert-authority 127.0.0.1 ssh-ed25519 AAAA",
        ] {
            assert_eq!(shown(line).as_deref(), Some("ssh-ed25519 AAAA"), "{line}");
        }
        assert_eq!(shown("# 127.0.0.1:22 SSH-2.0-OpenSSH_10.0"), None);
        assert_eq!(shown(""), None);
    }

    #[test]
    fn certificates_are_compared_without_their_comments() {
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&[1; 32]);
        let key = ssh_key::PrivateKey::from(pair);
        let make = |until_s: u64| {
            let public = key.public_key().key_data().clone();
            let mut builder =
                ssh_key::certificate::Builder::new(vec![7; 16], public, 0, until_s).unwrap();
            builder.valid_principal("b1").unwrap();
            builder.sign(&key).unwrap().to_openssh().unwrap()
        };
        let one = make(100);
        assert!(is_same(&one, &format!("{} a comment\n", one.trim())));
        assert!(!is_same(&one, &make(101)));
        assert!(!is_same("nonsense", "nonsense"));
    }
}
