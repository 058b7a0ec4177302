//! `[[rule]]`: where single jobs go.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{
    checks::{features, node_words, system_opt, unlike},
    glob,
};
use crate::model::{Demand, Origin, Want, Wish};

/// Rules of one configuration: each is looked at for each job.
const MAX_RULES: usize = 256;
/// Patterns of one rule.
const MAX_PATTERNS: usize = 64;
/// Longest pattern: names of derivations have 211 bytes at most.
const MAX_PATTERN_BYTES: usize = 256;

/// One rule: for which jobs, and where they are to be built. Every condition that it has must hold, and
/// it has one at least, and one effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Patterns, one of which the derivation's name must match: `*` is any characters, `?` is one.
    #[serde(deserialize_with = "patterns", skip_serializing_if = "BTreeSet::is_empty")]
    pub name: BTreeSet<String>,
    /// What it runs on.
    #[serde(deserialize_with = "system_opt", skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Features that it must all require.
    #[serde(deserialize_with = "features", skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// Nodes that come before others that are as free: ids, names and labels.
    #[serde(deserialize_with = "node_words", skip_serializing_if = "BTreeSet::is_empty")]
    pub prefer: BTreeSet<String>,
    /// Nodes of which one must build it.
    #[serde(deserialize_with = "node_words", skip_serializing_if = "BTreeSet::is_empty")]
    pub require: BTreeSet<String>,
    /// Nodes of which none may.
    #[serde(deserialize_with = "node_words", skip_serializing_if = "BTreeSet::is_empty")]
    pub avoid: BTreeSet<String>,
}

impl Rule {
    /// Whether it is about a job.
    #[must_use]
    pub fn applies(&self, name: &str, system: &str, features: &BTreeSet<String>) -> bool {
        let named = |pattern: &String| glob::matches(pattern, name);
        (self.name.is_empty() || self.name.iter().any(named))
            && self.system.as_ref().is_none_or(|own| own == system)
            && self.features.is_subset(features)
    }

    /// What it asks for, as the rule of this number, from 1.
    #[must_use]
    pub fn demand(&self, number: usize) -> Demand {
        let origin = Origin::Rule(self.title(number));
        let wish = |(want, nodes): (Want, &BTreeSet<String>)| {
            let (origin, nodes) = (origin.clone(), nodes.clone());
            (!nodes.is_empty()).then_some(Wish { origin, want, nodes })
        };
        let all = [
            (Want::Require, &self.require),
            (Want::Avoid, &self.avoid),
            (Want::Prefer, &self.prefer),
        ];
        all.into_iter().filter_map(wish).collect()
    }

    /// How people find it: by its number, and by what it is about.
    fn title(&self, number: usize) -> String {
        let words = |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(", ");
        let about = if !self.name.is_empty() {
            format!("name {}", words(&self.name))
        } else if let Some(system) = &self.system {
            format!("system {system}")
        } else {
            format!("features {}", words(&self.features))
        };
        format!("rule {number} ({about})")
    }

    /// Why it makes no sense, if so.
    fn problem(&self) -> Option<&'static str> {
        if self.name.is_empty() && self.system.is_none() && self.features.is_empty() {
            return Some("has no condition: name, system or features");
        }
        let without = self.prefer.is_empty() && self.require.is_empty() && self.avoid.is_empty();
        without.then_some("has no effect: prefer, require or avoid")
    }
}

/// All rules.
pub(super) fn all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    let rules = Vec::<Rule>::deserialize(deserializer)?;
    if rules.len() > MAX_RULES {
        return Err(D::Error::custom(format!("{} rules: {MAX_RULES} at most", rules.len())));
    }
    for (rule, number) in rules.iter().zip(1..) {
        if let Some(problem) = rule.problem() {
            return Err(D::Error::custom(format!("rule {number} {problem}")));
        }
    }
    Ok(rules)
}

/// One pattern, or several.
fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a pattern, or a list of patterns")]
    enum Patterns {
        One(String),
        Several(BTreeSet<String>),
    }
    let patterns = match Patterns::deserialize(deserializer)? {
        Patterns::One(pattern) => [pattern].into(),
        Patterns::Several(patterns) => patterns,
    };
    if patterns.len() > MAX_PATTERNS {
        let many = format!("{} patterns: {MAX_PATTERNS} at most", patterns.len());
        return Err(D::Error::custom(many));
    }
    match patterns.iter().find(|pattern| !(1..=MAX_PATTERN_BYTES).contains(&pattern.len())) {
        Some(bad) => Err(unlike(
            bad,
            &format!("a pattern of 1 to {MAX_PATTERN_BYTES} bytes, such as llvm-*"),
        )),
        None => Ok(patterns),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::Config, *};

    fn parse(text: &str) -> Result<Vec<Rule>, String> {
        let config = Config::parse(text, Path::new("roost.toml"));
        config.map(|config| config.rule).map_err(|error| error.to_string())
    }

    fn rule(text: &str) -> Rule {
        parse(&format!("[[rule]]\n{text}")).unwrap().remove(0)
    }

    #[test]
    fn every_condition_must_hold() {
        let rule = rule(
            "name = ['chromium*', 'llvm']\nsystem = 'aarch64-linux'\nfeatures = ['big-parallel']\n\
             prefer = ['fast']",
        );
        let features = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let big = features(&["big-parallel", "kvm"]);
        assert!(rule.applies("chromium-130", "aarch64-linux", &big));
        assert!(rule.applies("llvm", "aarch64-linux", &big));
        assert!(!rule.applies("llvm-18", "aarch64-linux", &big));
        assert!(!rule.applies("llvm", "riscv64-linux", &big));
        assert!(!rule.applies("llvm", "aarch64-linux", &features(&["kvm"])));
    }

    #[test]
    fn a_rule_asks_for_all_its_effects_and_is_named_by_its_number_and_subject() {
        let told = |text: &str| rule(text).demand(3).to_string();
        assert_eq!(
            told("name = 'llvm*'\nrequire = ['a', 'b']\nprefer = ['b']\navoid = ['ssd']"),
            "rule 3 (name llvm*) asks for a or b, and rule 3 (name llvm*) avoids ssd, and \
             rule 3 (name llvm*) prefers b"
        );
        assert_eq!(
            told("system = 'riscv64-linux'\navoid = ['a']"),
            "rule 3 (system riscv64-linux) avoids a"
        );
        assert_eq!(told("features = ['kvm']\nprefer = ['a']"), "rule 3 (features kvm) prefers a");
    }

    #[test]
    fn a_rule_without_condition_or_effect_is_an_error_that_names_it() {
        let good = "[[rule]]\nname = 'a'\nprefer = ['b']\n";
        let error = parse(&format!("{good}[[rule]]\nprefer = ['b']\n")).unwrap_err();
        assert!(error.contains("rule 2 has no condition"), "{error}");
        let error = parse(&format!("{good}{good}[[rule]]\nname = 'b'\n")).unwrap_err();
        assert!(error.contains("rule 3 has no effect"), "{error}");
    }

    #[test]
    fn rules_are_bounded() {
        let good = "[[rule]]\nname = 'a'\nprefer = ['b']\n";
        assert_eq!(parse(&good.repeat(MAX_RULES)).unwrap().len(), MAX_RULES);
        let error = parse(&good.repeat(MAX_RULES + 1)).unwrap_err();
        assert!(error.contains("257 rules: 256 at most"), "{error}");
        let error = parse(&format!("[[rule]]\nname = '{}'\nprefer = ['b']", "x".repeat(257)));
        assert!(error.unwrap_err().contains("1 to 256 bytes"));
    }
}
