//! Base64 with the URL-safe alphabet and without padding (RFC 4648, section 5), for 32 bytes.

/// The alphabet, in order.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters that 32 bytes take.
pub(crate) const LEN: usize = 43;

/// Whether `c` is of the alphabet.
pub(crate) const fn is_digit(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'-' || c == b'_'
}

/// The characters of `bytes`.
pub(crate) fn encode(bytes: &[u8; 32]) -> [u8; LEN] {
    let mut text = [0; LEN];
    for (i, digit) in text.iter_mut().enumerate() {
        let bit = i * 6;
        let high = u16::from(bytes[bit / 8]) << 8;
        let low = bytes.get(bit / 8 + 1).copied().map_or(0, u16::from);
        *digit = ALPHABET[usize::from((high | low) >> (10 - bit % 8) & 63)];
    }
    text
}

/// The bytes of `text`, or nothing if it is not exactly what [`encode`] writes: another length, a
/// character outside the alphabet, or bits set that no byte holds.
pub(crate) fn decode(text: &str) -> Option<[u8; 32]> {
    if text.len() != LEN {
        return None;
    }
    let mut bytes = [0; 32];
    let mut buffer = 0u16;
    let mut bits = 0;
    let mut out = bytes.iter_mut();
    for c in text.bytes() {
        let digit = ALPHABET.iter().position(|&a| a == c)?;
        buffer = buffer << 6 | u16::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *out.next()? = u8::try_from(buffer >> bits).ok()?;
            buffer &= (1 << bits) - 1;
        }
    }
    (buffer == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8; 32]) -> String {
        String::from_utf8(encode(bytes).to_vec()).unwrap()
    }

    #[test]
    fn writes_what_other_implementations_write() {
        // As `basenc --base64url` of GNU coreutils writes these bytes, but for the padding.
        let digest = *b"\x00\x10\x83\x10\x51\x87\x20\x92\x8b\x30\xd3\x8f\x41\x14\x93\x51\
                        \x55\x97\x61\x96\x9b\x71\xd7\x9f\x82\x18\xa3\x92\x59\xa7\xff\xff";
        assert_eq!(text(&digest), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn__8");
    }

    #[test]
    fn refuses_padding_foreign_characters_and_loose_bits() {
        let good = text(&[0; 32]);
        assert!(decode(&good).is_some());
        assert_eq!(decode(&format!("{good}=")), None);
        assert_eq!(decode(&good.replacen('A', "+", 1)), None);
        assert_eq!(decode(&format!("{}B", &good[..42])), None);
        assert_eq!(decode(""), None);
    }

    proptest! {
        #[test]
        fn comes_back(bytes: [u8; 32]) {
            prop_assert_eq!(decode(&text(&bytes)), Some(bytes));
        }

        #[test]
        fn text_that_decodes_is_the_only_one(candidate in "[A-Za-z0-9_-]{43}") {
            if let Some(bytes) = decode(&candidate) {
                prop_assert_eq!(text(&bytes), candidate);
            }
        }
    }
}
