use std::collections::BTreeSet;

use tokio::io::AsyncRead;

use crate::{
    nixhash::{HashAlgo, NixHash},
    store_path::StorePath,
    wire::{
        Bounded, MAX_WORD, WireError, read_bool, read_optional_store_path, read_store_path,
        read_store_path_set, read_string, read_string_set, read_u64, write_bool, write_bytes,
        write_optional_store_path, write_store_path_set, write_string_set, write_u64,
    },
};

/// What a store knows of a valid path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// The derivation that made it.
    pub deriver: Option<StorePath>,
    /// SHA-256 of its NAR: 64 characters of base 16.
    pub nar_hash: String,
    /// The paths it refers to, itself included if it does.
    pub references: BTreeSet<StorePath>,
    /// When it became valid, in seconds since 1970.
    pub registration_time_s: u64,
    /// Length of its NAR, in bytes.
    pub nar_size: u64,
    /// Whether it was built here rather than copied.
    pub ultimate: bool,
    /// Signatures, `name:base 64`.
    pub signatures: BTreeSet<String>,
    /// Content address, such as `fixed:r:sha256:…`, or empty.
    pub ca: String,
}

impl PathInfo {
    /// Reads the form with the path.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        let path = read_store_path(r, "the path of a path info").await?;
        Self::read_unkeyed(r, path).await
    }

    /// Reads the form without the path, for `path`.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn read_unkeyed<R: AsyncRead + Unpin>(
        r: &mut R,
        path: StorePath,
    ) -> Result<Self, WireError> {
        let r = &mut Bounded::new(r);
        Ok(Self {
            path,
            deriver: read_optional_store_path(r, "the deriver of a path").await?,
            nar_hash: read_nar_hash(r).await?,
            references: read_store_path_set(r, "the references of a path").await?,
            registration_time_s: read_u64(r, "the registration time of a path").await?,
            nar_size: read_u64(r, "the NAR size of a path").await?,
            ultimate: read_bool(r, "the ultimate flag of a path").await?,
            signatures: read_string_set(r, "the signatures of a path").await?,
            ca: read_string(r, "the content address of a path", MAX_WORD).await?,
        })
    }

    /// Appends the form with the path.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, self.path.as_str());
        self.write_unkeyed(out);
    }

    /// Appends the form without the path.
    pub fn write_unkeyed(&self, out: &mut Vec<u8>) {
        write_optional_store_path(out, self.deriver.as_ref());
        write_bytes(out, &self.nar_hash);
        write_store_path_set(out, &self.references);
        write_u64(out, self.registration_time_s);
        write_u64(out, self.nar_size);
        write_bool(out, self.ultimate);
        write_string_set(out, &self.signatures);
        write_bytes(out, &self.ca);
    }

    /// Reads the reply to [`QueryPathInfo`](super::Operation::QueryPathInfo) for `path`.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn read_reply<R: AsyncRead + Unpin>(
        r: &mut R,
        path: StorePath,
    ) -> Result<Option<Self>, WireError> {
        match read_bool(r, "whether a path is valid").await? {
            true => Ok(Some(Self::read_unkeyed(r, path).await?)),
            false => Ok(None),
        }
    }

    /// Appends the reply to [`QueryPathInfo`](super::Operation::QueryPathInfo).
    pub fn write_reply(info: Option<&Self>, out: &mut Vec<u8>) {
        write_bool(out, info.is_some());
        if let Some(info) = info {
            info.write_unkeyed(out);
        }
    }
}

/// Reads a NAR hash in any notation that Nix accepts, and returns it in base 16.
pub(crate) async fn read_nar_hash<R: AsyncRead + Unpin>(r: &mut R) -> Result<String, WireError> {
    let what = "the NAR hash of a path";
    let text = read_string(r, what, MAX_WORD).await?;
    NixHash::parse_any(HashAlgo::Sha256, &text)
        .map(|hash| hash.to_base16())
        .map_err(|source| WireError::BadHash { what, source })
}
