//! Checks of single values, made while they are read so that an error knows its line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use serde::{Deserialize, Deserializer, de::Error};

use crate::model::NodeView;

/// Nodes that one list may name.
const MAX_NODE_WORDS: usize = 64;

/// A whole number from `MIN` to `MAX`.
pub(super) fn within<'de, D, N, const MIN: i64, const MAX: i64>(
    deserializer: D,
) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64>,
{
    in_range::<N, D::Error>(i64::deserialize(deserializer)?, MIN, MAX)
}

/// As [`within`], for a key that may be absent.
pub(super) fn within_opt<'de, D, N, const MIN: i64, const MAX: i64>(
    deserializer: D,
) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64>,
{
    within::<D, N, MIN, MAX>(deserializer).map(Some)
}

fn in_range<N: TryFrom<i64>, E: Error>(value: i64, min: i64, max: i64) -> Result<N, E> {
    let out_of_range = || E::custom(format!("{value} is out of range: expected {min} to {max}"));
    if !(min..=max).contains(&value) {
        return Err(out_of_range());
    }
    N::try_from(value).map_err(|_| out_of_range())
}

/// How fast a node is.
pub(super) fn speed_opt<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    let speed = f64::deserialize(deserializer)?;
    let (min, max) = (NodeView::SPEEDS.start(), NodeView::SPEEDS.end());
    if NodeView::SPEEDS.contains(&speed) {
        return Ok(Some(speed));
    }
    Err(D::Error::custom(format!("{speed} is out of range: expected {min} to {max}")))
}

/// A node's id or name: one label of a host name in lower case.
pub(super) fn name_opt<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let edges = name.starts_with('-') || name.ends_with('-');
    if (1..=63).contains(&name.len()) && name.bytes().all(valid) && !edges {
        Ok(Some(name))
    } else {
        Err(unlike(&name, "1 to 63 of a-z, 0-9 and -, not at either end"))
    }
}

/// Systems: at least one, each `<cpu>-<kernel>`.
pub(super) fn system_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    let systems = Vec::<String>::deserialize(deserializer)?;
    if systems.is_empty() {
        return Err(D::Error::custom(
            "a board without systems builds nothing: name one, or leave the key out",
        ));
    }
    systems.iter().try_for_each(|name| system(name))?;
    Ok(Some(systems))
}

/// A table whose keys are systems.
pub(super) fn by_system<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let table = BTreeMap::<String, T>::deserialize(deserializer)?;
    table.keys().try_for_each(|name| system(name))?;
    Ok(table)
}

fn system<E: Error>(name: &str) -> Result<(), E> {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
    };
    if name.split_once('-').is_some_and(|(cpu, kernel)| word(cpu) && word(kernel)) {
        return Ok(());
    }
    Err(unlike(name, "a system such as aarch64-linux or riscv64-linux"))
}

/// System features: words that a line of a machines file can carry.
pub(super) fn feature_set<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeSet<String>>, D::Error> {
    features(deserializer).map(Some)
}

/// As [`feature_set`], where none is the same as the empty set.
pub(super) fn features<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeSet<String>, D::Error> {
    let features = BTreeSet::<String>::deserialize(deserializer)?;
    match features.iter().find(|feature| !is_word(feature)) {
        Some(bad) => Err(unlike(bad, "a system feature such as big-parallel")),
        None => Ok(features),
    }
}

/// Labels of a node.
pub(super) fn labels<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeSet<String>, D::Error> {
    let labels = BTreeSet::<String>::deserialize(deserializer)?;
    let (most, longest) = (NodeView::MAX_LABELS, NodeView::MAX_LABEL_BYTES);
    if labels.len() > most {
        return Err(D::Error::custom(format!("{} labels: expected {most} at most", labels.len())));
    }
    match labels.iter().find(|label| !is_word(label) || label.len() > longest) {
        Some(bad) => Err(unlike(bad, &format!("a word of {longest} bytes at most, such as fast"))),
        None => Ok(labels),
    }
}

/// Nodes that are wanted somewhere: ids, names and labels.
pub(super) fn node_words<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeSet<String>, D::Error> {
    let words = BTreeSet::<String>::deserialize(deserializer)?;
    if words.len() > MAX_NODE_WORDS {
        let many = format!("{} nodes: expected {MAX_NODE_WORDS} at most", words.len());
        return Err(D::Error::custom(many));
    }
    match words.iter().find(|word| !is_word(word) || word.len() > 63) {
        Some(bad) => Err(unlike(bad, "the id, the name or a label of a node")),
        None => Ok(words),
    }
}

/// A system, if there is one.
pub(super) fn system_opt<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name != "builtin" {
        system(&name)?;
    }
    Ok(Some(name))
}

fn is_word(word: &str) -> bool {
    let valid = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    !word.is_empty() && word != "-" && word.bytes().all(valid)
}

pub(super) fn unlike<E: Error>(value: impl Display, expected: &str) -> E {
    E::custom(format!("\"{value}\" is not valid here: expected {expected}"))
}
