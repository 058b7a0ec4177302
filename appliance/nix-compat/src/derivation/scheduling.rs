//! What a derivation's environment tells a scheduler.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::DerivationOutput;

type Env = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) const PREFER_LOCAL_BUILD: &str = "preferLocalBuild";
pub(super) const ALLOW_SUBSTITUTES: &str = "allowSubstitutes";
const REQUIRED_SYSTEM_FEATURES: &str = "requiredSystemFeatures";

/// The variable that holds all attributes as JSON if they are structured.
const STRUCTURED: &[u8] = b"__json";

/// The structured attributes of interest; the others can be large and are skipped.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Structured {
    required_system_features: Value,
    prefer_local_build: Value,
    allow_substitutes: Value,
}

impl Structured {
    fn of(env: &Env) -> Option<Self> {
        let json = env.get(STRUCTURED)?;
        Some(serde_json::from_slice(json).unwrap_or_default())
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match name {
            PREFER_LOCAL_BUILD => self.prefer_local_build.as_bool(),
            ALLOW_SUBSTITUTES => self.allow_substitutes.as_bool(),
            _ => None,
        }
    }
}

pub(super) fn flag(env: &Env, name: &str) -> Option<bool> {
    match Structured::of(env) {
        Some(structured) => structured.flag(name),
        None => env.get(name.as_bytes()).map(|value| value == b"1"),
    }
}

/// Whether an output's hash is known before; `impure` stands where none will ever be.
pub(super) fn is_fixed(outputs: &BTreeMap<String, DerivationOutput>) -> bool {
    outputs.values().any(|output| !output.hash.is_empty() && output.hash != "impure")
}

pub(super) fn required_system_features(
    env: &Env,
    outputs: &BTreeMap<String, DerivationOutput>,
) -> BTreeSet<String> {
    let mut features: BTreeSet<String> = match Structured::of(env) {
        Some(structured) => structured
            .required_system_features
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        None => env
            .get(REQUIRED_SYSTEM_FEATURES.as_bytes())
            .and_then(|features| std::str::from_utf8(features).ok())
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .map(str::to_owned)
            .collect(),
    };
    if outputs.values().any(|output| output.path.is_none()) {
        features.insert("ca-derivations".to_owned());
    }
    features
}
