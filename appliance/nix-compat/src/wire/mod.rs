//! What both protocols are made of, and how much of it is accepted.
//!
//! Numbers are 64 bits, little-endian. A string is its length, its bytes, and zeros up to a multiple
//! of 8. A list, set or map is its count and its items. A framed stream is frames (length and bytes,
//! not padded) up to a frame of length 0.
//!
//! Readers allocate only what has arrived (in steps of at most [`STEP`] bytes), so a peer cannot make
//! them reserve memory with a length alone. Writers append to a `Vec<u8>` that goes out at once.

mod bounded;
mod error;
mod framed;
mod read;
mod relay;
mod write;

pub use bounded::Bounded;
pub use error::WireError;
pub use framed::{FrameScanner, FramedReader, FramedWriter, copy_framed};
pub use read::{
    read_bool, read_bytes, read_bytes_list, read_bytes_map, read_count, read_i64, read_magic,
    read_optional_store_path, read_store_path, read_store_path_set, read_string, read_string_list,
    read_string_map, read_string_set, read_u32, read_u64,
};
pub use relay::{Scan, copy_scanned};
pub use write::{
    write_bool, write_bytes, write_bytes_list, write_bytes_map, write_i64,
    write_optional_store_path, write_store_path_set, write_string_list, write_string_map,
    write_string_set, write_u64,
};

pub(crate) use read::read_u64_or_hang_up;
pub(crate) use relay::copy_and_flush;

/// Most bytes that are allocated ahead of what has arrived.
pub const STEP: usize = 64 << 10;

/// Longest string where text of any kind is carried: a builder's environment, a text to store.
pub const MAX_TEXT: u64 = 32 << 20;

/// Longest string where a name, path, hash, signature or setting is carried.
pub const MAX_WORD: u64 = 64 << 10;

/// Most items of a list, set or map.
pub const MAX_ITEMS: u64 = 1 << 20;

/// Longest request or reply altogether, without framed payloads and NARs.
pub const MAX_MESSAGE: u64 = 64 << 20;

/// How many zeros follow a string of `len` bytes.
pub(crate) const fn padding(len: u64) -> usize {
    (len.wrapping_neg() % 8) as usize
}
