//! Whether a node is where a job is wanted.

use std::collections::BTreeSet;

use crate::model::{Demand, Want, Wish};

/// What a demand says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Not there: why, in words.
    Forbidden(String),
    /// There it may be built.
    Allowed {
        /// Before others that are as free.
        preferred: bool,
    },
}

impl Demand {
    /// Whether a job may be built on the node with this id, name and labels.
    #[must_use]
    pub fn judge(&self, id: &str, name: &str, labels: &BTreeSet<String>) -> Fit {
        let mut preferred = false;
        for wish in self.wishes() {
            let named = wish.names(id, name, labels);
            match wish.want {
                Want::Require if !named => return Fit::Forbidden(wish.to_string()),
                Want::Avoid if named => return Fit::Forbidden(wish.to_string()),
                Want::Require | Want::Avoid => {}
                Want::Prefer => preferred |= named,
            }
        }
        Fit::Allowed { preferred }
    }
}

impl Wish {
    /// Whether it is about the node with this id, name and labels.
    #[must_use]
    pub fn names(&self, id: &str, name: &str, labels: &BTreeSet<String>) -> bool {
        self.nodes.contains(id)
            || self.nodes.contains(name)
            || self.nodes.iter().any(|word| labels.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn words(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn wish(want: Want, nodes: &[&str]) -> Wish {
        Wish { origin: Origin::On, want, nodes: words(nodes) }
    }

    fn judge(wishes: &[Wish]) -> Fit {
        let demand: Demand = wishes.iter().cloned().collect();
        demand.judge("vf2-0a1b", "vf2", &words(&["fast", "ssd"]))
    }

    #[test]
    fn a_node_is_meant_by_its_id_its_name_or_a_label() {
        for word in ["vf2-0a1b", "vf2", "fast"] {
            let fit = judge(&[wish(Want::Require, &["other", word])]);
            assert_eq!(fit, Fit::Allowed { preferred: false }, "{word}");
        }
        for word in ["vf", "vf2-0a1", "FAST", ""] {
            let fit = judge(&[wish(Want::Require, &[word])]);
            assert!(matches!(fit, Fit::Forbidden(_)), "{word}");
        }
    }

    #[test]
    fn all_that_is_required_has_to_hold_and_nothing_that_is_avoided() {
        let (fast, vf2) = (wish(Want::Require, &["fast"]), wish(Want::Require, &["vf2", "pi4"]));
        assert_eq!(judge(&[fast.clone(), vf2.clone()]), Fit::Allowed { preferred: false });
        let pi4 = wish(Want::Require, &["pi4"]);
        assert_eq!(judge(&[fast.clone(), pi4]), Fit::Forbidden("--on asks for pi4".to_owned()));
        let avoid = wish(Want::Avoid, &["pi4", "ssd"]);
        assert_eq!(judge(&[fast, avoid]), Fit::Forbidden("--on avoids pi4 and ssd".to_owned()));
    }

    #[test]
    fn what_is_preferred_forbids_nothing() {
        assert_eq!(judge(&[wish(Want::Prefer, &["pi4"])]), Fit::Allowed { preferred: false });
        assert_eq!(judge(&[wish(Want::Prefer, &["ssd"])]), Fit::Allowed { preferred: true });
        assert_eq!(judge(&[]), Fit::Allowed { preferred: false });
    }

    #[test]
    fn a_demand_is_told_with_who_asks() {
        let rule = Origin::Rule("rule 2 (name chromium*)".to_owned());
        let demand: Demand = [
            wish(Want::Require, &["vf2", "fast"]),
            Wish { origin: rule, want: Want::Avoid, nodes: words(&["pi4"]) },
        ]
        .into_iter()
        .collect();
        assert_eq!(
            demand.to_string(),
            "rule 2 (name chromium*) avoids pi4, and --on asks for fast or vf2"
        );
        let many: Vec<_> = (0..20).map(|n| format!("b{n:02}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let text = wish(Want::Require, &many).to_string();
        assert!(text.ends_with("b06 or b07 or 12 more"), "{text}");
    }
}
