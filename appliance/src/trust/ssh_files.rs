//! One `ssh_config` and one `known_hosts` for each board.

use std::{
    fs::{self, DirBuilder},
    io,
    net::{IpAddr, Ipv6Addr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use ssh_key::PublicKey;

use crate::{durable::write_atomically, names};

/// Why a board's files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SshFilesError {
    /// A value cannot stand in an `ssh_config` without changing its meaning.
    #[error("{value:?} cannot be used as {what} of a board in an ssh configuration")]
    Value {
        /// What it was to be.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// No address to connect to.
    #[error("board {board} has no address")]
    NoAddress {
        /// Its id.
        board: String,
    },
    /// The host key cannot be written down.
    #[error("the host key of board {board} cannot be encoded: {source}")]
    Key {
        /// Its id.
        board: String,
        /// Why not.
        source: ssh_key::Error,
    },
    /// A file operation failed.
    #[error("cannot write {path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A board, to be connected to.
#[derive(Clone, Copy, Debug)]
pub struct SshFiles<'a> {
    /// The board's id: `[A-Za-z0-9._-]`, at most 64 of them, starting with a letter or digit.
    pub board_id: &'a str,
    /// IP addresses, best first; a link-local one with its scope, such as `fe80::1%eth0`.
    pub addresses: &'a [String],
    /// sshd's port.
    pub port: u16,
    /// What the board has to prove.
    pub expected: Expected<'a>,
    /// Keys that are believed of nobody, one a line.
    pub revoked: &'a Path,
    /// The private key to log in with.
    pub identity: &'a Path,
    /// Its certificates, those that are not there included.
    pub certificates: &'a [PathBuf],
}

/// What a board has to prove.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// That it holds this very key.
    Key(&'a PublicKey),
    /// That one of these authorities has certified its host key for its id.
    Certificate(&'a [PublicKey]),
}

impl Expected<'_> {
    /// What ssh is to ask for.
    fn algorithm(self) -> &'static str {
        match self {
            Self::Key(_) => "ssh-ed25519",
            Self::Certificate(_) => "ssh-ed25519-cert-v01@openssh.com",
        }
    }

    /// Lines of a `known_hosts` file for a host of this name.
    fn known_hosts(self, host: &str) -> Result<String, ssh_key::Error> {
        let line = |marker: &str, key: &PublicKey| {
            let key = PublicKey::from(key.key_data().clone()).to_openssh()?;
            Ok(format!("{marker}{host} {key}\n"))
        };
        match self {
            Self::Key(key) => line("", key),
            Self::Certificate(keys) => {
                keys.iter().map(|key| line("@cert-authority ", key)).collect()
            }
        }
    }
}

/// Where a board's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardFiles {
    /// For `ssh -F`.
    pub config: PathBuf,
    /// Named by the configuration.
    pub known_hosts: PathBuf,
    /// What to give `ssh` as destination: one name an address, best first.
    pub destinations: Vec<String>,
}

impl SshFiles<'_> {
    /// Writes `<dir>/<board id>.config` and `<dir>/<board id>.known_hosts`, each atomically and
    /// only if it changed. Creates `dir` for its owner only.
    ///
    /// With these `ssh` connects to the addresses given, accepts what is expected and nothing else,
    /// uses the given private key and no agent, asks nothing, adds nothing to any file, and gives
    /// up on a board that does not answer for 15 s. How connections are shared is left to the
    /// caller's command line.
    ///
    /// # Errors
    ///
    /// [`SshFilesError`]; a value with a line break or anything else that `ssh_config` would
    /// read differently is refused.
    pub fn write(&self, dir: &Path) -> Result<BoardFiles, SshFilesError> {
        let board = board_id(self.board_id)?;
        let known_hosts = dir.join(format!("{board}.known_hosts"));
        let config = dir.join(format!("{board}.config"));
        let (text, destinations) = self.config(board, &known_hosts)?;
        let lines = self.expected.known_hosts(board);
        let lines =
            lines.map_err(|source| SshFilesError::Key { board: board.to_owned(), source })?;

        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SshFilesError::File { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        write_atomically(&known_hosts, lines.as_bytes(), 0o600).map_err(failed(&known_hosts))?;
        write_atomically(&config, text.as_bytes(), 0o600).map_err(failed(&config))?;
        Ok(BoardFiles { config, known_hosts, destinations })
    }

    /// Removes a board's files. Harmless if there are none.
    ///
    /// # Errors
    ///
    /// [`SshFilesError`].
    pub fn remove(dir: &Path, id: &str) -> Result<(), SshFilesError> {
        let board = board_id(id)?;
        for path in [dir.join(format!("{board}.config")), dir.join(format!("{board}.known_hosts"))]
        {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(SshFilesError::File { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn config(
        &self,
        board: &str,
        known_hosts: &Path,
    ) -> Result<(String, Vec<String>), SshFilesError> {
        if self.addresses.is_empty() {
            return Err(SshFilesError::NoAddress { board: board.to_owned() });
        }
        let (user, port) = (names::USER, self.port);
        let known_hosts = quoted("the known_hosts file", known_hosts)?;
        let identity = quoted("the private key", self.identity)?;
        let revoked = quoted("the list of revoked keys", self.revoked)?;
        let algorithm = self.expected.algorithm();
        let (mut text, mut destinations) =
            ("# Written by roost; changes are lost.\n".to_owned(), Vec::new());
        for (number, address) in self.addresses.iter().enumerate() {
            // HostName expands %h, so a scope's % is written twice.
            let host = address_with_scope(address)?.replace('%', "%%");
            let destination = format!("{board}-{number}");
            text += &format!("Host {destination}\n    HostName {host}\n");
            destinations.push(destination);
        }
        text += &format!(
            "Host *
    Port {port}
    User {user}
    HostKeyAlias {board}
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    VerifyHostKeyDNS no
    CheckHostIP no
    HostKeyAlgorithms {algorithm}
    RevokedHostKeys {revoked}
    IdentityFile {identity}
    IdentitiesOnly yes
    IdentityAgent none
    AddKeysToAgent no
    PreferredAuthentications publickey
    BatchMode yes
    ConnectTimeout 5
    ServerAliveInterval 5
    ServerAliveCountMax 3
    ControlMaster no
    ControlPath none
    ControlPersist no
    Compression no
    RequestTTY no
    ForwardAgent no
    ForwardX11 no
    ClearAllForwardings yes
    PermitLocalCommand no
    CanonicalizeHostname no
"
        );
        for certificate in self.certificates.iter().filter(|path| path.exists()) {
            text += &format!("    CertificateFile {}\n", quoted("a certificate", certificate)?);
        }
        Ok((text, destinations))
    }
}

fn refused(what: &'static str, value: &str) -> SshFilesError {
    SshFilesError::Value { what, value: value.to_owned() }
}

/// An id that is safe as a file name, a host name and a `known_hosts` pattern.
fn board_id(id: &str) -> Result<&str, SshFilesError> {
    let safe = id.len() <= 64
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if safe { Ok(id) } else { Err(refused("the id", id)) }
}

/// An IP address, with a scope only if it is a link-local one.
fn address_with_scope(address: &str) -> Result<&str, SshFilesError> {
    let valid = match address.split_once('%') {
        None => address.parse::<IpAddr>().is_ok(),
        Some((ip, scope)) => {
            ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local())
                && (1..=15).contains(&scope.len())
                && scope.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
        }
    };
    if valid { Ok(address) } else { Err(refused("an address", address)) }
}

/// A path in quotes. `ssh_config` expands `%`, `$` and `~` in paths and knows escapes in quotes:
/// paths with such characters are refused.
fn quoted(what: &'static str, path: &Path) -> Result<String, SshFilesError> {
    let lossy = path.to_string_lossy();
    let safe = path.is_absolute()
        && path.to_str().is_some()
        && !lossy.chars().any(|c| c.is_control() || "\"'\\%$`#".contains(c));
    if safe { Ok(format!("\"{lossy}\"")) } else { Err(refused(what, &lossy)) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;
    use ssh_key::private::Ed25519Keypair;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        PublicKey::new(Ed25519Keypair::from_seed(&[seed; 32]).public.into(), "made\nup")
    }

    fn write(dir: &Path, id: &str, addresses: &[&str]) -> Result<BoardFiles, SshFilesError> {
        let addresses: Vec<_> = addresses.iter().map(|&address| address.to_owned()).collect();
        write_as(dir, id, &addresses, Expected::Key(&key(1)))
    }

    fn write_as(
        dir: &Path,
        id: &str,
        addresses: &[String],
        expected: Expected<'_>,
    ) -> Result<BoardFiles, SshFilesError> {
        let (revoked, identity) = (dir.join("revoked"), dir.join("id with space"));
        let certificates = [dir.join("id with space-cert.pub"), dir.join("no such certificate")];
        SshFiles {
            board_id: id,
            addresses,
            port: 2222,
            expected,
            revoked: &revoked,
            identity: &identity,
            certificates: &certificates,
        }
        .write(dir)
    }

    #[test]
    fn each_address_is_a_destination_and_the_board_one_host_key() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "b0ard", &["fe80::1%eth0", "192.168.1.7"]).unwrap();
        assert_eq!(files.destinations, ["b0ard-0", "b0ard-1"]);
        let config = fs::read_to_string(&files.config).unwrap();
        assert!(config.contains("HostName fe80::1%%eth0\n"), "{config}");
        let hosts = fs::read_to_string(&files.known_hosts).unwrap();
        assert_eq!(hosts.lines().count(), 1);
        assert!(hosts.starts_with("b0ard ssh-ed25519 "), "{hosts}");
        SshFiles::remove(dir.path(), "b0ard").unwrap();
        SshFiles::remove(dir.path(), "b0ard").unwrap();
        assert!(!files.config.exists() && !files.known_hosts.exists());
    }

    #[test]
    fn a_certificate_is_asked_for_where_one_is_expected() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("id with space-cert.pub"), "").unwrap();
        let addresses = ["192.168.1.7".to_owned()];
        let keys = [key(1), key(2)];
        let files =
            write_as(dir.path(), "b0ard", &addresses, Expected::Certificate(&keys)).unwrap();
        let hosts = fs::read_to_string(&files.known_hosts).unwrap();
        assert_eq!(hosts.lines().count(), 2);
        assert!(hosts.starts_with("@cert-authority b0ard ssh-ed25519 "), "{hosts}");
        let config = fs::read_to_string(&files.config).unwrap();
        assert!(config.contains("HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com\n"));
        let shown: Vec<_> =
            config.lines().filter(|line| line.contains("CertificateFile")).collect();
        assert_eq!(shown.len(), 1, "{config}");
    }

    /// What `ssh` itself makes of the file. OpenSSH's client is a run-time dependency of roost.
    #[test]
    fn ssh_reads_the_values_as_they_were_meant() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "b0ard", &["fe80::1%eth0", "192.168.1.7"]).unwrap();
        let output = Command::new("ssh")
            .args(["-G", "-F"])
            .args([files.config.as_os_str(), "b0ard-0".as_ref()])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let identity = dir.path().join("id with space");
        for expected in [
            "hostname fe80::1%eth0",
            "user roost",
            "port 2222",
            "hostkeyalias b0ard",
            "batchmode yes",
            "stricthostkeychecking true",
            "identitiesonly yes",
            "hostkeyalgorithms ssh-ed25519",
            &format!("revokedhostkeys {}", dir.path().join("revoked").display()),
            "serveraliveinterval 5",
            &format!("identityfile {}", identity.display()),
            &format!("userknownhostsfile {}", files.known_hosts.display()),
        ] {
            assert!(text.lines().any(|line| line == expected), "no {expected:?} in {text}");
        }
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let dir = tempfile::tempdir().unwrap();
        let modified = |path: &Path| path.metadata().unwrap().modified().unwrap();
        let files = write(dir.path(), "b0ard", &["192.168.1.7"]).unwrap();
        let before = (modified(&files.config), modified(&files.known_hosts));
        write(dir.path(), "b0ard", &["192.168.1.7"]).unwrap();
        assert_eq!((modified(&files.config), modified(&files.known_hosts)), before);
    }

    #[test]
    fn values_that_would_change_the_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["", "a b", "a\nProxyCommand x", "../a", "-a", ".", "a*", "a%h", &"a".repeat(65)]
        {
            assert!(write(dir.path(), id, &["192.168.1.7"]).is_err(), "{id:?}");
        }
        for address in [
            "",
            "board.local",
            "1.2.3.4\nProxyCommand x",
            "fe80::1%",
            "fe80::1%a b",
            "fe80::1%eth0\n",
            "2001:db8::1%eth0",
            "1.2.3.4%eth0",
            "fe80::1%eth0%1",
        ] {
            assert!(write(dir.path(), "a", &[address]).is_err(), "{address:?}");
        }
        assert!(write(dir.path(), "a", &[]).is_err());
        assert!(quoted("a path", Path::new("/a\"b")).is_err());
        assert!(quoted("a path", Path::new("relative")).is_err());
        assert!(quoted("a path", Path::new("/a\nb")).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn an_accepted_id_or_address_is_one_word(text in "[\\PC\\n]{0,20}|fe80::[0-9a-f]{0,4}%?[\\PC\\n]{0,16}") {
            let one_word = |text: &str| text.split_whitespace().count() == 1;
            prop_assert!(board_id(&text).is_err() || one_word(&text));
            prop_assert!(address_with_scope(&text).is_err() || one_word(&text));
        }
    }
}
