//! The host keys that are believed: an OpenSSH `known_hosts` file.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ssh_key::{
    HashAlg, PublicKey,
    known_hosts::{Entry, Marker},
};

use super::Fingerprint;

/// More than any fleet's file.
const MAX_BYTES: u64 = 4 << 20;

/// Why the file cannot be used. Until it can, no key is believed.
#[derive(Debug, thiserror::Error)]
pub enum KnownHostsError {
    /// It is there and cannot be read.
    #[error("cannot read the known host keys in {path}: {source}; no board is used until this is mended", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line makes no sense.
    #[error("{path}:{line}: not a known_hosts line ({source}); expected `host key-type base64-key`; no board is used until this is mended", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        source: ssh_key::Error,
    },
}

/// What tells one state of the file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Host keys by fingerprint. The host names in the file do not matter, hashed or not: a board's
/// name is what it announces, and its key is what proves it.
#[derive(Debug)]
pub struct KnownHosts {
    path: PathBuf,
    /// `None` if the file was missing.
    stamp: Option<Stamp>,
    keys: HashMap<Fingerprint, PublicKey>,
}

impl KnownHosts {
    /// Reads the file. A missing one holds no keys.
    ///
    /// # Errors
    ///
    /// [`KnownHostsError`], naming file and line.
    pub fn load(path: &Path) -> Result<Self, KnownHostsError> {
        let mut hosts = Self { path: path.to_owned(), stamp: None, keys: HashMap::new() };
        hosts.read()?;
        Ok(hosts)
    }

    /// Reads the file again if it changed; whether it did. One `stat` if not.
    ///
    /// # Errors
    ///
    /// [`KnownHostsError`]; no key is believed then, and the next call tries again.
    pub fn refresh(&mut self) -> Result<bool, KnownHostsError> {
        let found = std::fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata));
        if found == self.stamp {
            return Ok(false);
        }
        self.read()?;
        Ok(true)
    }

    /// The key with this fingerprint, if it is believed.
    #[must_use]
    pub fn key_for(&self, fingerprint: &Fingerprint) -> Option<PublicKey> {
        self.keys.get(fingerprint).cloned()
    }

    fn read(&mut self) -> Result<(), KnownHostsError> {
        // Whatever goes wrong below: nothing is believed, and the next refresh looks again.
        self.keys.clear();
        self.stamp = None;
        match read_bounded(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(KnownHostsError::Read { path: self.path.clone(), source }),
            Ok((stamp, text)) => {
                self.keys = parse(&text).map_err(|(line, source)| KnownHostsError::Line {
                    path: self.path.clone(),
                    line,
                    source,
                })?;
                self.stamp = Some(stamp);
                Ok(())
            }
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<(Stamp, String)> {
    let file = File::open(path)?;
    // Before reading: a change meanwhile is seen as one by the next refresh.
    let stamp = Stamp::of(&file.metadata()?);
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        let error = format!("it is larger than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
    }
    Ok((stamp, text))
}

/// Keys by fingerprint, or the number of a bad line. A revoked key is believed nowhere; a
/// certificate authority is no host key.
fn parse(text: &str) -> Result<HashMap<Fingerprint, PublicKey>, (usize, ssh_key::Error)> {
    let (mut keys, mut revoked) = (HashMap::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        // sshd_config(5) allows any blanks between the fields; the parser wants one space.
        let line = line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry: Entry = line.parse().map_err(|source| (number + 1, source))?;
        let mut key = entry.public_key().clone();
        key.set_comment("");
        let fingerprint = key.fingerprint(HashAlg::Sha256).sha256();
        match (entry.marker(), fingerprint) {
            (None, Some(fingerprint)) => {
                keys.insert(fingerprint, key);
            }
            (Some(Marker::Revoked), Some(fingerprint)) => revoked.push(fingerprint),
            (Some(Marker::CertAuthority), _) | (_, None) => {}
        }
    }
    for fingerprint in revoked {
        keys.remove(&fingerprint);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use ssh_key::private::Ed25519Keypair;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        let pair = Ed25519Keypair::from_seed(&[seed; 32]);
        PublicKey::new(pair.public.into(), "a comment")
    }

    fn fingerprint(key: &PublicKey) -> Fingerprint {
        key.fingerprint(HashAlg::Sha256).sha256().unwrap()
    }

    fn line(seed: u8) -> String {
        key(seed).to_openssh().unwrap()
    }

    #[test]
    fn plain_hashed_and_commented_lines_are_read() {
        let text = format!(
            "# boards\n\n  \nboard1,192.168.1.7 {}\n[board2]:2222\t {}\r\n|1|{}=|{}= {}\n",
            line(1),
            line(2),
            "A".repeat(27),
            "A".repeat(27),
            line(3),
        );
        let keys = parse(&text).unwrap();
        assert_eq!(keys.len(), 3);
        let found = keys.get(&fingerprint(&key(2))).unwrap();
        assert_eq!(found.key_data(), key(2).key_data());
        assert_eq!(found.comment(), "");
    }

    #[test]
    fn a_revoked_key_is_not_believed_wherever_it_is_listed() {
        let text = format!("a {}\n@revoked * {}\na {}\n", line(1), line(1), line(1));
        assert!(parse(&text).unwrap().is_empty());
        assert!(parse(&format!("@cert-authority * {}", line(1))).unwrap().is_empty());
    }

    #[test]
    fn a_missing_file_has_no_keys_and_is_read_when_it_appears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let mut hosts = KnownHosts::load(&path).unwrap();
        assert!(hosts.key_for(&fingerprint(&key(1))).is_none());
        assert!(!hosts.refresh().unwrap());
        fs::write(&path, format!("board {}\n", line(1))).unwrap();
        assert!(hosts.refresh().unwrap());
        assert!(hosts.key_for(&fingerprint(&key(1))).is_some());
        assert!(!hosts.refresh().unwrap());
        fs::remove_file(&path).unwrap();
        assert!(hosts.refresh().unwrap());
        assert!(hosts.key_for(&fingerprint(&key(1))).is_none());
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_is_believed_until_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        fs::write(&path, format!("board {}\n", line(1))).unwrap();
        let mut hosts = KnownHosts::load(&path).unwrap();
        fs::write(&path, format!("board {}\nboard2 ssh-ed25519\n", line(1))).unwrap();
        let error = hosts.refresh().unwrap_err().to_string();
        assert!(error.contains("known_hosts:2:"), "{error}");
        assert!(hosts.key_for(&fingerprint(&key(1))).is_none());
        assert!(hosts.refresh().is_err());
        fs::write(&path, format!("board {}\n", line(1))).unwrap();
        assert!(hosts.refresh().unwrap());
        assert!(hosts.key_for(&fingerprint(&key(1))).is_some());
    }

    #[test]
    fn an_unreadable_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = KnownHosts::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        let path = dir.path().join("binary");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(KnownHosts::load(&path).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC|\\n|@revoked |ssh-ed25519 |AAAA|\\|1\\|){0,60}") {
            let _ = parse(&text);
        }
    }
}
