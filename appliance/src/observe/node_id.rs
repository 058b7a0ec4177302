//! This node's id.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use super::{ObserveError, failed, read};

/// Keeps the hash apart from that of any other program, as `machine-id(5)` asks for.
const APPLICATION: &[u8] = b"roost node id 1\0";

const FILE: &str = "node-id";

/// A stable id of this node: 16 hexadecimal digits.
///
/// It is a hash of `<root>/etc/machine-id` with a key of our own, since that id must not be
/// published. Where there is none (`uninitialized` on a first boot, say), an id is made up and
/// kept as `<state_dir>/node-id`; once there, it stays the node's id. Images that were copied
/// with their `machine-id` share an id; their host keys still tell them apart.
///
/// # Errors
///
/// [`ObserveError`] if an id has to be kept and cannot be.
pub fn node_id(root: &Path, state_dir: &Path) -> Result<String, ObserveError> {
    let kept = state_dir.join(FILE);
    match read(&kept).map(|bytes| parse_kept(&bytes)) {
        Ok(Some(id)) => return Ok(id),
        // Not readable as an id: neither is it one that anybody knows.
        Ok(None) => {}
        Err(ObserveError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let machine_id = read(&root.join("etc/machine-id")).ok().and_then(|b| parse_machine_id(&b));
    if let Some(machine_id) = machine_id {
        return Ok(id_from(&machine_id));
    }
    // 122 bits from the kernel's random number generator.
    let seed = read(&root.join("proc/sys/kernel/random/uuid"))?;
    let id = id_from(&seed);
    keep(state_dir, &id).map_err(failed("write", &kept))?;
    Ok(id)
}

fn id_from(secret: &[u8]) -> String {
    let hash = Sha256::new().chain_update(APPLICATION).chain_update(secret).finalize();
    HEXLOWER.encode(&hash[..8])
}

/// 32 hexadecimal digits and a line break, not all zero.
fn parse_machine_id(text: &[u8]) -> Option<[u8; 16]> {
    let id: [u8; 16] = HEXLOWER_PERMISSIVE.decode(text.trim_ascii_end()).ok()?.try_into().ok()?;
    (id != [0; 16]).then_some(id)
}

fn parse_kept(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii_end();
    (text.len() == 16 && HEXLOWER.decode(text).is_ok())
        .then(|| String::from_utf8_lossy(text).into_owned())
}

fn keep(dir: &Path, id: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    writeln!(file, "{id}")?;
    file.as_file().sync_all()?;
    file.persist(dir.join(FILE)).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "0b64b77a-8f0b-4b6f-a38d-6d0c6f8c9a11\n";

    fn root(machine_id: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in ["etc", "proc/sys/kernel/random"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        fs::write(root.path().join("proc/sys/kernel/random/uuid"), UUID).unwrap();
        if let Some(text) = machine_id {
            fs::write(root.path().join("etc/machine-id"), text).unwrap();
        }
        root
    }

    #[test]
    fn the_machine_id_gives_the_id_without_showing_in_it() {
        let machine_id = "d41d8cd98f00b204e9800998ecf8427e";
        let root = root(Some(&format!("{machine_id}\n")));
        let state = root.path().join("state");
        let id = node_id(root.path(), &state).unwrap();
        // A node that is known keeps its id: this value never changes.
        assert_eq!(id, "26aa4b0b3c880aa8");
        assert!(!state.exists());
    }

    #[test]
    fn without_a_machine_id_an_id_is_made_and_kept() {
        for text in
            [None, Some(""), Some("uninitialized\n"), Some("00000000000000000000000000000000\n")]
        {
            let root = root(text);
            let state = root.path().join("state");
            let id = node_id(root.path(), &state).unwrap();
            assert_eq!(id.len(), 16);
            fs::write(root.path().join("etc/machine-id"), "d41d8cd98f00b204e9800998ecf8427e\n")
                .unwrap();
            fs::remove_file(root.path().join("proc/sys/kernel/random/uuid")).unwrap();
            assert_eq!(node_id(root.path(), &state).unwrap(), id);
        }
    }

    #[test]
    fn a_damaged_kept_id_is_replaced() {
        let root = root(None);
        let state = root.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::write(state.join(FILE), "garbage").unwrap();
        let id = node_id(root.path(), &state).unwrap();
        assert_eq!(fs::read_to_string(state.join(FILE)).unwrap(), format!("{id}\n"));
    }

    #[test]
    fn an_id_that_cannot_be_kept_is_an_error_that_names_the_file() {
        let root = root(None);
        let state = root.path().join("state");
        fs::write(&state, "a file").unwrap();
        assert!(node_id(root.path(), &state).unwrap_err().to_string().contains("state/node-id"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_machine_id(&bytes);
            let _ = parse_kept(&bytes);
        }
    }
}
