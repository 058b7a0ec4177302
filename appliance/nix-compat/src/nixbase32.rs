//! Nix's base 32: the digits and lower case letters without `e`, `o`, `t` and `u`, the least
//! significant bits last. Used in store paths and in hashes.

const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// A text that is no nixbase32.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A character outside the alphabet.
    #[error(
        "{character:?} at offset {offset} is not a nixbase32 character (0-9, a-z without e, o, t and u)"
    )]
    BadCharacter {
        /// The character.
        character: char,
        /// Where, in bytes.
        offset: usize,
    },
    /// No number of bytes encodes to this length, or the bits left over are not zero.
    #[error("a nixbase32 text of {len} characters does not stand for a whole number of bytes")]
    BadLength {
        /// Characters.
        len: usize,
    },
}

/// How many characters `bytes` bytes encode to.
#[must_use]
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Whether `byte` is a character of the alphabet.
#[must_use]
pub const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'd' | b'f'..=b'n' | b'p'..=b's' | b'v'..=b'z')
}

/// Encodes.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let digit = |n: usize| {
        let (byte, shift) = (n * 5 / 8, n * 5 % 8);
        let low = u16::from(bytes[byte]);
        let high = bytes.get(byte + 1).map_or(0, |b| u16::from(*b));
        char::from(ALPHABET[usize::from((low | (high << 8)) >> shift) & 31])
    };
    (0..encoded_len(bytes.len())).rev().map(digit).collect()
}

/// Decodes.
///
/// # Errors
/// [`DecodeError`], if the text has a character outside the alphabet or no bytes encode to it.
pub fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    let is_bad = |c: &(usize, char)| !u8::try_from(c.1).is_ok_and(is_digit);
    if let Some((offset, character)) = text.char_indices().find(is_bad) {
        return Err(DecodeError::BadCharacter { character, offset });
    }
    let len = text.len() * 5 / 8;
    let bad_length = DecodeError::BadLength { len: text.len() };
    if encoded_len(len) != text.len() {
        return Err(bad_length);
    }
    let mut bytes = vec![0u8; len];
    for (n, c) in text.bytes().rev().enumerate() {
        let digit = ALPHABET.iter().position(|a| *a == c).unwrap_or_default();
        let (byte, shift) = (n * 5 / 8, n * 5 % 8);
        let [low, high] = ((digit as u16) << shift).to_le_bytes();
        bytes[byte] |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high != 0 => return Err(bad_length),
            None => {}
        }
    }
    Ok(bytes)
}
