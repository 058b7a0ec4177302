//! Words that are checked where they enter, and lists of them, kept as the text they travel as.

use core::{cmp, fmt, hash, marker::PhantomData, str::FromStr};

use heapless::String;
use serde::{Deserialize, Serialize};

/// What a [`Word`], or a word of a [`List`], is.
pub trait Kind {
    /// What it is called in messages.
    const NAME: &'static str;

    /// Whether `word` is one.
    fn is_valid(word: &str) -> bool;
}

/// Nix's word for a platform, such as `riscv64-linux`: an architecture and an operating system of
/// `[a-z0-9_]`, joined by `-`; at most 31 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {}

impl Kind for System {
    const NAME: &'static str = "system";

    fn is_valid(word: &str) -> bool {
        let part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
        };
        word.len() <= 31 && word.split_once('-').is_some_and(|(cpu, os)| part(cpu) && part(os))
    }
}

/// A system feature, such as `big-parallel` or `gccarch-armv8-a`: `[A-Za-z0-9._+-]`, at most 63
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {}

impl Kind for Feature {
    const NAME: &'static str = "system feature";

    fn is_valid(word: &str) -> bool {
        (1..=63).contains(&word.len())
            && word.bytes().all(|c| c.is_ascii_alphanumeric() || b"._+-".contains(&c))
    }
}

/// Why a text is not the word or list it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordError {
    /// It is no such word, or one of its words is not.
    Invalid {
        /// What it should have been.
        what: &'static str,
    },
    /// It is too long.
    TooLong {
        /// What it should have been.
        what: &'static str,
        /// How many bytes it may have, commas between words included.
        capacity: usize,
    },
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { what } => write!(f, "not a {what}"),
            Self::TooLong { what, capacity } => {
                write!(f, "longer than the {capacity} bytes that a {what} may take here")
            }
        }
    }
}

impl core::error::Error for WordError {}

/// One word of kind `K`, at most `N` bytes.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String<N>", into = "String<N>", bound = "K: Kind")]
pub struct Word<K, const N: usize> {
    text: String<N>,
    kind: PhantomData<K>,
}

impl<K: Kind, const N: usize> Word<K, N> {
    /// Checks a word.
    ///
    /// # Errors
    ///
    /// If it is longer than `N` bytes or not of this kind.
    pub fn new(word: &str) -> Result<Self, WordError> {
        let text = String::try_from(word)
            .map_err(|()| WordError::TooLong { what: K::NAME, capacity: N })?;
        Self::try_from(text)
    }
}

impl<K, const N: usize> Word<K, N> {
    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: Kind, const N: usize> TryFrom<String<N>> for Word<K, N> {
    type Error = WordError;

    fn try_from(text: String<N>) -> Result<Self, WordError> {
        if !K::is_valid(&text) {
            return Err(WordError::Invalid { what: K::NAME });
        }
        Ok(Self { text, kind: PhantomData })
    }
}

impl<K: Kind, const N: usize> FromStr for Word<K, N> {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Self::new(text)
    }
}

impl<K, const N: usize> fmt::Display for Word<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Words of kind `K` without repetition, in order, whose comma list takes at most `N` bytes.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String<N>", into = "String<N>", bound = "K: Kind")]
pub struct List<K, const N: usize> {
    text: String<N>,
    kind: PhantomData<K>,
}

impl<K: Kind, const N: usize> List<K, N> {
    /// The empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: String::new(), kind: PhantomData }
    }

    /// Adds a word; one that is there already is not added again.
    ///
    /// # Errors
    ///
    /// If it is no such word, or the list would be longer than `N` bytes. The list is then as
    /// before.
    pub fn push(&mut self, word: &str) -> Result<(), WordError> {
        if !K::is_valid(word) {
            return Err(WordError::Invalid { what: K::NAME });
        }
        if self.contains(word) {
            return Ok(());
        }
        let before = self.text.len();
        let comma = if before == 0 { "" } else { "," };
        self.text.push_str(comma).and_then(|()| self.text.push_str(word)).map_err(|()| {
            self.text.truncate(before);
            WordError::TooLong { what: K::NAME, capacity: N }
        })
    }

    /// Reads a comma list. Repetitions and empty places are dropped.
    ///
    /// # Errors
    ///
    /// See [`Self::push`].
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let mut list = Self::new();
        text.split(',').filter(|word| !word.is_empty()).try_for_each(|word| list.push(word))?;
        Ok(list)
    }

    /// As many of `words` as fit, in order; what is no such word is left out.
    #[must_use]
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut list = Self::new();
        for word in words {
            if let Err(WordError::TooLong { .. }) = list.push(word) {
                break;
            }
        }
        list
    }
}

impl<K, const N: usize> List<K, N> {
    /// The words, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.split(',').filter(|word| !word.is_empty())
    }

    /// Whether `word` is in it.
    #[must_use]
    pub fn contains(&self, word: &str) -> bool {
        self.iter().any(|held| held == word)
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The comma list.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: Kind, const N: usize> Default for List<K, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kind, const N: usize> TryFrom<String<N>> for List<K, N> {
    type Error = WordError;

    fn try_from(text: String<N>) -> Result<Self, WordError> {
        Self::parse(&text)
    }
}

/// What is derived for other types, but without asking the same of the kind, which has no values.
macro_rules! text_traits {
    ($type:ident) => {
        impl<K, const N: usize> From<$type<K, N>> for String<N> {
            fn from(value: $type<K, N>) -> Self {
                value.text
            }
        }

        impl<K, const N: usize> Clone for $type<K, N> {
            fn clone(&self) -> Self {
                Self { text: self.text.clone(), kind: PhantomData }
            }
        }

        impl<K, const N: usize> fmt::Debug for $type<K, N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.text, f)
            }
        }

        impl<K, const N: usize> PartialEq for $type<K, N> {
            fn eq(&self, other: &Self) -> bool {
                self.text == other.text
            }
        }

        impl<K, const N: usize> Eq for $type<K, N> {}

        impl<K, const N: usize> PartialOrd for $type<K, N> {
            fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl<K, const N: usize> Ord for $type<K, N> {
            fn cmp(&self, other: &Self) -> cmp::Ordering {
                self.text.cmp(&other.text)
            }
        }

        impl<K, const N: usize> hash::Hash for $type<K, N> {
            fn hash<H: hash::Hasher>(&self, state: &mut H) {
                self.text.as_str().hash(state);
            }
        }
    };
}

text_traits!(Word);
text_traits!(List);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_systems_from_other_words() {
        for good in ["aarch64-linux", "x86_64-darwin", "i686-linux", "armv7l-linux"] {
            assert!(System::is_valid(good), "{good}");
        }
        let long = format!("{}-linux", "a".repeat(26));
        for bad in ["", "linux", "-linux", "riscv64-", "ARM-linux", "a-b-c", "a b-linux", &long] {
            assert!(!System::is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn holds_each_word_once_and_never_more_than_its_bytes() {
        let mut list = List::<System, 27>::new();
        list.push("aarch64-linux").unwrap();
        list.push("aarch64-linux").unwrap();
        list.push("riscv64-linux").unwrap();
        assert_eq!(list.as_str(), "aarch64-linux,riscv64-linux");
        let full = WordError::TooLong { what: "system", capacity: 27 };
        assert_eq!(list.push("i686-linux"), Err(full));
        assert_eq!(list.push("Linux"), Err(WordError::Invalid { what: "system" }));
        assert_eq!(list.iter().collect::<Vec<_>>(), ["aarch64-linux", "riscv64-linux"]);
    }

    #[test]
    fn takes_what_fits_and_leaves_out_what_is_no_word() {
        let list = List::<Feature, 8>::of(["kvm", "a b", "kvm", "uid", "late"]);
        assert_eq!(list.as_str(), "kvm,uid");
    }
}
