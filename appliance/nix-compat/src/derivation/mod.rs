//! Derivations: as the protocols carry them ([`BasicDerivation`]), as a `.drv` file holds them
//! ([`Derivation`]), and what they tell a scheduler.

mod aterm;
mod scheduling;
mod wire_format;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::store_path::StorePath;

pub use aterm::{AtermError, AtermFault, MAX_ATERM};

/// An output as the wire's basic derivation carries it: four strings' worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivationOutput {
    /// Path, if known in advance.
    pub path: Option<StorePath>,
    /// `""`, `sha256`, `r:sha256`, `text:sha256`, ...
    pub hash_algo: String,
    /// Hash in base 16, `impure`, or empty.
    pub hash: String,
}

/// The wire's basic derivation: a derivation without the derivations it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicDerivation {
    /// By name.
    pub outputs: BTreeMap<String, DerivationOutput>,
    /// Input sources (with their closure where a build hook sent it).
    pub input_srcs: BTreeSet<StorePath>,
    /// `system`.
    pub platform: String,
    /// The builder.
    pub builder: Vec<u8>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its environment.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A derivation as a `.drv` file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// By name.
    pub outputs: BTreeMap<String, DerivationOutput>,
    /// The derivations it depends on, and the names of the outputs it needs of each.
    pub input_drvs: BTreeMap<StorePath, BTreeSet<String>>,
    /// Input sources, without their closure.
    pub input_srcs: BTreeSet<StorePath>,
    /// `system`.
    pub platform: String,
    /// The builder.
    pub builder: Vec<u8>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its environment.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The name of a derivation: its path's name without `.drv`.
#[must_use]
pub fn name(drv_path: &StorePath) -> &str {
    let name = drv_path.name();
    name.strip_suffix(".drv").unwrap_or(name)
}

impl BasicDerivation {
    /// The features a builder must have: `requiredSystemFeatures`, and `ca-derivations` if the path
    /// of an output is not known in advance. With structured attributes (env `__json`) the former is
    /// a list, otherwise blank separated. What is malformed counts as empty: Nix refuses to build it.
    #[must_use]
    pub fn required_system_features(&self) -> BTreeSet<String> {
        scheduling::required_system_features(&self.env, &self.outputs)
    }

    /// `preferLocalBuild`: building it costs less than copying its inputs.
    #[must_use]
    pub fn prefer_local_build(&self) -> bool {
        scheduling::flag(&self.env, scheduling::PREFER_LOCAL_BUILD).unwrap_or(false)
    }

    /// Whether what it makes is known before, as a hash: it is a download, mostly.
    #[must_use]
    pub fn is_fixed_output(&self) -> bool {
        scheduling::is_fixed(&self.outputs)
    }

    /// `allowSubstitutes`: whether to look for its outputs in binary caches. True unless it says
    /// otherwise.
    #[must_use]
    pub fn allow_substitutes(&self) -> bool {
        scheduling::flag(&self.env, scheduling::ALLOW_SUBSTITUTES).unwrap_or(true)
    }

    /// The name of the derivation at `drv_path`.
    #[must_use]
    pub fn name<'a>(&self, drv_path: &'a StorePath) -> &'a str {
        name(drv_path)
    }
}

impl Derivation {
    /// As [`BasicDerivation::required_system_features`].
    #[must_use]
    pub fn required_system_features(&self) -> BTreeSet<String> {
        scheduling::required_system_features(&self.env, &self.outputs)
    }

    /// As [`BasicDerivation::prefer_local_build`].
    #[must_use]
    pub fn prefer_local_build(&self) -> bool {
        scheduling::flag(&self.env, scheduling::PREFER_LOCAL_BUILD).unwrap_or(false)
    }

    /// As [`BasicDerivation::is_fixed_output`].
    #[must_use]
    pub fn is_fixed_output(&self) -> bool {
        scheduling::is_fixed(&self.outputs)
    }

    /// As [`BasicDerivation::allow_substitutes`].
    #[must_use]
    pub fn allow_substitutes(&self) -> bool {
        scheduling::flag(&self.env, scheduling::ALLOW_SUBSTITUTES).unwrap_or(true)
    }

    /// What the wire carries: `inputs` (the outputs of the derivations it depends on) take the place
    /// of [`Derivation::input_drvs`].
    #[must_use]
    pub fn into_basic(mut self, inputs: impl IntoIterator<Item = StorePath>) -> BasicDerivation {
        self.input_srcs.extend(inputs);
        BasicDerivation {
            outputs: self.outputs,
            input_srcs: self.input_srcs,
            platform: self.platform,
            builder: self.builder,
            args: self.args,
            env: self.env,
        }
    }
}
