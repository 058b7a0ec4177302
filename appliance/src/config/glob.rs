//! Patterns for names, as a shell has them for files: `*` is any characters, `?` is one.

/// Whether a pattern matches all of a text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // The last `*`, and where the text goes on after what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some('?') => (at, from) = (at + 1, from + 1),
            Some(c) if *c == text[from] => (at, from) = (at + 1, from + 1),
            // The last `*` takes one character more: an earlier one need not, since whatever it could
            // take, the last one can.
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    (at, from) = (star_at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the words of the description say, one character at a time.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                by_definition(rest, text)
                    || text.split_first().is_some_and(|(_, text)| by_definition(pattern, text))
            }
            (['?', rest @ ..], [_, text @ ..]) => by_definition(rest, text),
            ([c, rest @ ..], [d, text @ ..]) => c == d && by_definition(rest, text),
            _ => false,
        }
    }

    #[test]
    fn stars_are_any_characters_and_question_marks_one() {
        for (pattern, text, expected) in [
            ("chromium*", "chromium-130", true),
            ("chromium*", "ungoogled-chromium-130", false),
            ("*-source", "hello-source", true),
            ("llvm-1?", "llvm-18", true),
            ("llvm-1?", "llvm-1", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*a*b*", "xxaxxbxx", true),
            ("hello", "hello-2.12", false),
            ("[a]", "a", false),
            ("h?llo", "hällo", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_no_time() {
        assert!(!matches(&"*a".repeat(128), &"b".repeat(255)));
        assert!(!matches(&("*a".repeat(100) + "b"), &"a".repeat(255)));
    }

    proptest! {
        #[test]
        fn matches_what_the_definition_does(pattern in "[ab*?]{0,10}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                matches(&pattern, &text),
                by_definition(&chars(&pattern), &chars(&text))
            );
        }

        #[test]
        fn a_name_matches_itself_and_a_star_everything(name in "[a-zA-Z0-9+._-]{1,40}") {
            prop_assert!(matches(&name, &name));
            prop_assert!(matches("*", &name));
            let (open, longer) = (format!("{name}*"), format!("{name}x"));
            prop_assert!(matches(&open, &name));
            prop_assert!(!matches(&name, &longer));
        }
    }
}
