//! What programs say, as text for people.

/// The first line of a message that is not empty, as plain text. Nix colours its messages by control
/// sequences (ECMA-48), and parts of them come from builders: none of it shall reach a terminal.
#[must_use]
pub fn first_line(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    text.lines().map(plain).find(|line| !line.trim().is_empty()).unwrap_or_default()
}

fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_sequence(&mut chars),
            '\t' => plain.push(' '),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// Skips what follows an escape character, up to the end of the sequence or of the line.
fn skip_sequence(chars: &mut std::str::Chars<'_>) {
    match chars.next() {
        // A control sequence: parameters, then a final byte.
        Some('[') => drop(chars.find(|c| ('\x40'..='\x7e').contains(c))),
        // A command string: up to BEL or to ESC \, whose backslash is all that is left of it.
        Some(']' | 'P' | 'X' | '^' | '_') => drop(chars.find(|c| ['\x07', '\\'].contains(c))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_are_left_out() {
        let coloured = b"\x1b[31;1merror:\x1b[0m a '\x1b[35;1maarch64-linux\x1b[0m'\tis\nmore";
        assert_eq!(first_line(coloured), "error: a 'aarch64-linux' is");
    }

    #[test]
    fn so_are_titles_and_other_commands_to_a_terminal() {
        assert_eq!(first_line(b"a\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x1bcd\x08"), "abcd");
        assert_eq!(first_line(b"\n \x1b[2J\n said\x1b["), " said");
        assert_eq!(first_line(b""), "");
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(message in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!first_line(&message).chars().any(char::is_control));
        }
    }
}
