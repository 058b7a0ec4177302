//! A board's first boot: what its seed gives is taken from the medium, and the seed is erased there.
//!
//! Every step can be interrupted and done again. The token is in the trust folder, durably, before
//! anything else is done; the seed is erased last, and only if everything of it was taken.

mod console_key;
mod host_key;
mod wifi;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::system::{sethostname, uname};

pub use host_key::make as make_host_key;

use crate::{
    durable::write_atomically,
    media::{MediaError, SEED_LABEL, SeedPlace},
    names,
    trust::{KeyError, Seed, Trust, TrustError},
};

/// The files of other programs that a seed has a say in.
#[derive(Clone, Debug)]
pub struct Files {
    /// What the board is called.
    pub hostname: PathBuf,
    /// iwd's networks.
    pub wifi: PathBuf,
    /// Who may log in as root.
    pub authorized_keys: PathBuf,
}

impl Files {
    /// Where they are.
    #[must_use]
    pub fn system() -> Self {
        Self {
            hostname: names::HOSTNAME_FILE.into(),
            wifi: "/var/lib/iwd".into(),
            authorized_keys: "/root/.ssh/authorized_keys".into(),
        }
    }
}

/// The volume that images have for a seed.
#[must_use]
pub fn default_place() -> PathBuf {
    Path::new("/dev/disk/by-label").join(SEED_LABEL)
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// There is no seed.
    Nothing,
    /// It was taken, and erased.
    Taken,
    /// It cannot be used, and was left where it is: why.
    Unusable(String),
}

/// Why a seed could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum FirstBootError {
    /// This board's host key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What this board trusts.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file that it has a say in.
    #[error("cannot {doing} {}: {source}; the seed stays where it is, and is taken at the next boot", path.display())]
    File {
        /// What was tried, such as `write`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The name.
    #[error("cannot set the host name to {name}: {source}")]
    HostName {
        /// What it was to be.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The seed was taken, and is still there.
    #[error(
        "the seed was taken and could not be erased: {0}; erase it, for it may hold a passphrase"
    )]
    Erase(#[source] MediaError),
}

/// Takes a seed from an image, a device or a folder, if one is there.
///
/// # Errors
/// [`FirstBootError`]; to be tried again then, which is harmless.
pub fn import(
    place: &Path,
    files: &Files,
    trust: &Trust,
    now_s: u64,
) -> Result<Imported, FirstBootError> {
    let found = match fs::metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(_) | Err(_) => {
            SeedPlace::open(place).and_then(|it| Ok(it.read()?.map(|seed| (it, seed))))
        }
    };
    let (place, seed) = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            trust.change(now_s, |it| it.membership.forget_problem())?;
            return Ok(Imported::Nothing);
        }
        Err(error) => return unusable(&error.to_string(), trust, now_s),
    };
    match Seed::parse(&seed) {
        Ok(seed) => {
            take(seed, files, trust, now_s)?;
            place.erase().map_err(FirstBootError::Erase)?;
            Ok(Imported::Taken)
        }
        Err(bad) => unusable(&bad.to_string(), trust, now_s),
    }
}

/// Notes for people, on the console and elsewhere, why there is no usable seed.
fn unusable(why: &str, trust: &Trust, now_s: u64) -> Result<Imported, FirstBootError> {
    trust.change(now_s, |it| it.membership.note_problem(why))?;
    Ok(Imported::Unusable(why.to_owned()))
}

/// Takes all that a seed gives.
///
/// # Errors
/// [`FirstBootError`]; to be tried again then, which is harmless.
pub fn take(seed: Seed, files: &Files, trust: &Trust, now_s: u64) -> Result<(), FirstBootError> {
    let (hostname, wifi, key) =
        (seed.hostname.clone(), seed.wifi.clone(), seed.console_key.clone());
    trust.change(now_s, |it| it.membership.adopt(seed))?;
    if let Some(name) = hostname {
        let path = &files.hostname;
        write_atomically(path, format!("{name}\n").as_bytes(), 0o644)
            .map_err(file("write", path))?;
    }
    if let Some(wifi) = wifi {
        wifi::keep(&files.wifi, &wifi)?;
    }
    if let Some(key) = key {
        console_key::admit(&files.authorized_keys, &key)?;
    }
    Ok(())
}

/// Gives the kernel the name that a seed has given this board, now or earlier.
///
/// # Errors
/// [`FirstBootError`].
pub fn apply_host_name(files: &Files) -> Result<(), FirstBootError> {
    let path = &files.hostname;
    let name = match fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file("read", path)(error)),
    };
    if name.is_empty() || uname().nodename().to_bytes() == name.as_bytes() {
        return Ok(());
    }
    sethostname(name.as_bytes())
        .map_err(|errno| FirstBootError::HostName { name, source: errno.into() })
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FirstBootError {
    let path = path.to_owned();
    move |source| FirstBootError::File { doing, path, source }
}
