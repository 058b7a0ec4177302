use std::collections::{BTreeMap, BTreeSet};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{MAX_ITEMS, MAX_WORD, STEP, WireError, padding};
use crate::store_path::{self, StorePath};

/// Reads a number.
///
/// # Errors
/// [`WireError`], if the peer hangs up first or reading fails.
pub async fn read_u64<R>(r: &mut R, what: &'static str) -> Result<u64, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    r.read_u64_le().await.map_err(WireError::reading(what))
}

/// Reads the number that starts a request; here a peer may hang up.
pub(crate) async fn read_u64_or_hang_up<R>(r: &mut R, what: &'static str) -> Result<u64, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut bytes = [0; 8];
    let n = r.read(&mut bytes).await.map_err(WireError::reading(what))?;
    if n == 0 {
        return Err(WireError::HungUp);
    }
    r.read_exact(&mut bytes[n..]).await.map_err(WireError::reading(what))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads a signed number, in two's complement.
///
/// # Errors
/// As [`read_u64`].
pub async fn read_i64<R>(r: &mut R, what: &'static str) -> Result<i64, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    r.read_i64_le().await.map_err(WireError::reading(what))
}

/// Reads a number of at most 32 bits, which Nix's `int` fields are.
///
/// # Errors
/// As [`read_u64`], and [`WireError::TooLong`] if it is larger.
pub async fn read_u32<R>(r: &mut R, what: &'static str) -> Result<u32, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let len = read_u64(r, what).await?;
    u32::try_from(len).map_err(|_| WireError::TooLong { what, len, max: u32::MAX.into() })
}

/// Reads a truth value: 0 or 1.
///
/// # Errors
/// As [`read_u64`], and [`WireError::UnknownTag`] if it is another number.
pub async fn read_bool<R>(r: &mut R, what: &'static str) -> Result<bool, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    match read_u64(r, what).await? {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(WireError::UnknownTag { what, tag }),
    }
}

/// Reads the number that has to come first.
///
/// # Errors
/// As [`read_u64`], and [`WireError::BadMagic`] if it is another number.
pub async fn read_magic<R>(r: &mut R, what: &'static str, magic: u64) -> Result<(), WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    match read_u64(r, what).await? {
        found if found == magic => Ok(()),
        found => Err(WireError::BadMagic { what, found }),
    }
}

/// Reads the count of a list, set or map.
///
/// # Errors
/// As [`read_u64`], and [`WireError::TooLong`] if it is more than [`MAX_ITEMS`].
pub async fn read_count<R>(r: &mut R, what: &'static str) -> Result<u64, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    match read_u64(r, what).await? {
        len if len > MAX_ITEMS => Err(WireError::TooLong { what, len, max: MAX_ITEMS }),
        len => Ok(len),
    }
}

/// Reads a string of at most `max` bytes.
///
/// # Errors
/// As [`read_u64`], and [`WireError::TooLong`] or [`WireError::BadPadding`].
pub async fn read_bytes<R>(r: &mut R, what: &'static str, max: u64) -> Result<Vec<u8>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let len = read_u64(r, what).await?;
    if len > max {
        return Err(WireError::TooLong { what, len, max });
    }
    let mut bytes = Vec::new();
    let mut left = len;
    while left > 0 {
        let step = left.min(STEP as u64) as usize;
        let start = bytes.len();
        bytes.resize(start + step, 0);
        r.read_exact(&mut bytes[start..]).await.map_err(WireError::reading(what))?;
        left -= step as u64;
    }
    let mut zeros = [0; 8];
    let zeros = &mut zeros[..padding(len)];
    r.read_exact(zeros).await.map_err(WireError::reading(what))?;
    if zeros.iter().any(|zero| *zero != 0) {
        return Err(WireError::BadPadding { what });
    }
    Ok(bytes)
}

/// Reads text of at most `max` bytes.
///
/// # Errors
/// As [`read_bytes`], and [`WireError::NotUtf8`].
pub async fn read_string<R>(r: &mut R, what: &'static str, max: u64) -> Result<String, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    String::from_utf8(read_bytes(r, what, max).await?).map_err(|_| WireError::NotUtf8 { what })
}

/// Reads a store path.
///
/// # Errors
/// As [`read_string`], and [`WireError::BadStorePath`].
pub async fn read_store_path<R>(r: &mut R, what: &'static str) -> Result<StorePath, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let path = read_string(r, what, store_path::MAX_LEN as u64).await?;
    StorePath::try_from(path).map_err(|source| WireError::BadStorePath { what, source })
}

/// Reads a store path or nothing, which is the empty string.
///
/// # Errors
/// As [`read_store_path`].
pub async fn read_optional_store_path<R>(
    r: &mut R,
    what: &'static str,
) -> Result<Option<StorePath>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    match read_string(r, what, store_path::MAX_LEN as u64).await? {
        path if path.is_empty() => Ok(None),
        path => StorePath::try_from(path)
            .map(Some)
            .map_err(|source| WireError::BadStorePath { what, source }),
    }
}

/// Reads a set of store paths.
///
/// # Errors
/// As [`read_count`] and [`read_store_path`].
pub async fn read_store_path_set<R>(
    r: &mut R,
    what: &'static str,
) -> Result<BTreeSet<StorePath>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut paths = BTreeSet::new();
    for _ in 0..read_count(r, what).await? {
        paths.insert(read_store_path(r, what).await?);
    }
    Ok(paths)
}

/// Reads a list of words ([`MAX_WORD`] each).
///
/// # Errors
/// As [`read_count`] and [`read_string`].
pub async fn read_string_list<R>(r: &mut R, what: &'static str) -> Result<Vec<String>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut items = Vec::new();
    for _ in 0..read_count(r, what).await? {
        items.push(read_string(r, what, MAX_WORD).await?);
    }
    Ok(items)
}

/// Reads a set of words ([`MAX_WORD`] each).
///
/// # Errors
/// As [`read_count`] and [`read_string`].
pub async fn read_string_set<R>(
    r: &mut R,
    what: &'static str,
) -> Result<BTreeSet<String>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut items = BTreeSet::new();
    for _ in 0..read_count(r, what).await? {
        items.insert(read_string(r, what, MAX_WORD).await?);
    }
    Ok(items)
}

/// Reads a map from words ([`MAX_WORD`]) to text of at most `max` bytes.
///
/// # Errors
/// As [`read_count`] and [`read_string`].
pub async fn read_string_map<R>(
    r: &mut R,
    what: &'static str,
    max: u64,
) -> Result<BTreeMap<String, String>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut map = BTreeMap::new();
    for _ in 0..read_count(r, what).await? {
        let key = read_string(r, what, MAX_WORD).await?;
        map.insert(key, read_string(r, what, max).await?);
    }
    Ok(map)
}

/// Reads a list of strings of at most `max` bytes each.
///
/// # Errors
/// As [`read_count`] and [`read_bytes`].
pub async fn read_bytes_list<R>(
    r: &mut R,
    what: &'static str,
    max: u64,
) -> Result<Vec<Vec<u8>>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut items = Vec::new();
    for _ in 0..read_count(r, what).await? {
        items.push(read_bytes(r, what, max).await?);
    }
    Ok(items)
}

/// Reads a map from strings ([`MAX_WORD`]) to strings of at most `max` bytes.
///
/// # Errors
/// As [`read_count`] and [`read_bytes`].
pub async fn read_bytes_map<R>(
    r: &mut R,
    what: &'static str,
    max: u64,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, WireError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut map = BTreeMap::new();
    for _ in 0..read_count(r, what).await? {
        let key = read_bytes(r, what, MAX_WORD).await?;
        map.insert(key, read_bytes(r, what, max).await?);
    }
    Ok(map)
}
