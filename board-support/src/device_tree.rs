//! Properties of the device tree's root, as `/proc/device-tree` shows them: strings, each ended by
//! a NUL (Devicetree Specification 0.4, section 2.2.4).

use crate::Compatible;

/// Longest `model` that is shown.
const MAX_MODEL_LEN: usize = 128;

/// What of a `compatible` property is a [`Compatible`], in order: the most specific one first. What
/// is not is left out.
pub fn compatible(property: &[u8]) -> impl Iterator<Item = Compatible> {
    strings(property).filter_map(|name| Compatible::new(name).ok())
}

/// A `model` property's text, if it is plain enough to be shown to people.
#[must_use]
pub fn model(property: &[u8]) -> Option<&str> {
    let plain = |c: u8| c.is_ascii_graphic() || c == b' ';
    let first = property.split(|c| *c == 0).next()?;
    let text = core::str::from_utf8(first).ok()?;
    let shown = (1..=MAX_MODEL_LEN).contains(&text.len()) && text.bytes().all(plain);
    shown.then_some(text)
}

fn strings(property: &[u8]) -> impl Iterator<Item = &str> {
    property.split(|c| *c == 0).filter_map(|bytes| core::str::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn compatible_strings_are_told_apart() {
        let list = |bytes| compatible(bytes).map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(list(b"radxa,rock-5b\0rockchip,rk3588\0"), ["radxa,rock-5b", "rockchip,rk3588"]);
        assert_eq!(list(b"no end"), [""; 0]);
        assert_eq!(list(b"\0a\0\xff\0b c\0d"), ["a", "d"]);
    }

    #[test]
    fn a_model_is_plain_text_or_nothing() {
        assert_eq!(model(b"Pine64 Star64\0"), Some("Pine64 Star64"));
        assert_eq!(model(b"no end"), Some("no end"));
        for bad in [&b""[..], b"\0a\0", b"a\nb\0", b"\xff\xfe\0", &[b'a'; MAX_MODEL_LEN + 1]] {
            assert_eq!(model(bad), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_words_only(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for name in compatible(&bytes) {
                prop_assert!(Compatible::new(name.as_str()).is_ok());
            }
            prop_assert!(model(&bytes).is_none_or(|text| !text.is_empty()));
        }
    }
}
