//! What would be built, and what of it needs what.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
};

use nix_compat::{
    derivation::{self, Derivation},
    store_path::StorePath,
};

use crate::model::Planned;

/// Derivations to be placed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) planned: Vec<Planned>,
    /// What else there is to know.
    pub(super) notes: Vec<String>,
}

/// Reads the derivations that would be built. What never comes to the daemon is left out; what needs
/// it then needs what that needed. `local` are the systems that this machine's own Nix builds.
pub(super) fn of(
    paths: BTreeSet<StorePath>,
    local: &[String],
    read: impl Fn(&StorePath) -> io::Result<Derivation>,
) -> Graph {
    let (mut graph, mut unread, mut own) = (Graph::default(), Vec::new(), 0_usize);
    let mut all = BTreeMap::new();
    for path in paths {
        match read(&path) {
            Ok(derivation) => drop(all.insert(path, derivation)),
            Err(_) => unread.push(path),
        }
    }
    let mut places = HashMap::new();
    for (path, derivation) in &all {
        let system = &derivation.platform;
        if system == "builtin" {
            continue;
        }
        if derivation.prefer_local_build() && local.contains(system) {
            own += 1;
            continue;
        }
        places.insert(path, u32::try_from(places.len()).unwrap_or(u32::MAX));
        graph.planned.push(Planned {
            drv_path: path.as_str().to_owned(),
            system: system.clone(),
            features: derivation.required_system_features(),
            fixed_output: derivation.is_fixed_output(),
            prefer_local: derivation.prefer_local_build(),
            needs: Vec::new(),
        });
    }
    let needs: Vec<_> = all
        .keys()
        .filter(|path| places.contains_key(path))
        .map(|it| needs(it, &all, &places))
        .collect();
    for (planned, needs) in graph.planned.iter_mut().zip(needs) {
        planned.needs = needs;
    }
    if own > 0 {
        let what = if own == 1 { "derivation is" } else { "derivations are" };
        graph.notes.push(format!(
            "{own} {what} left out, which this machine builds itself, since that costs less \
             (preferLocalBuild)"
        ));
    }
    if let Some(example) = unread.first() {
        graph.notes.push(format!(
            "{} derivations could not be read, {} for one: they are left out",
            unread.len(),
            derivation::name(example)
        ));
    }
    graph
}

/// The places of what a derivation needs.
fn needs(
    path: &StorePath,
    all: &BTreeMap<StorePath, Derivation>,
    places: &HashMap<&StorePath, u32>,
) -> Vec<u32> {
    let inputs = |path: &StorePath| all.get(path).into_iter().flat_map(|it| it.input_drvs.keys());
    let (mut needs, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut next: Vec<&StorePath> = inputs(path).collect();
    while let Some(input) = next.pop() {
        match places.get(input) {
            Some(place) => drop(needs.insert(*place)),
            None if seen.insert(input) => next.extend(inputs(input)),
            None => {}
        }
    }
    needs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}.drv", "0".repeat(32))).unwrap()
    }

    fn derivation(system: &str, needs: &[&str], env: &[(&str, &str)]) -> Derivation {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Derivation {
            outputs: BTreeMap::new(),
            input_drvs: needs.iter().map(|it| (path(it), ["out".to_owned()].into())).collect(),
            input_srcs: BTreeSet::new(),
            platform: system.to_owned(),
            builder: bytes("/bin/sh"),
            args: Vec::new(),
            env: env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        }
    }

    #[test]
    fn what_never_comes_to_the_daemon_is_left_out_and_what_it_needs_is_not() {
        let local = ["x86_64-linux".to_owned()];
        let paths = ["a-big", "b-cheap", "c-source", "d-lost", "e-last"].map(path).into();
        let graph = of(paths, &local, |path| {
            Ok(match path.name() {
                "a-big.drv" => {
                    let features = [("requiredSystemFeatures", "big-parallel")];
                    derivation("riscv64-linux", &["c-source", "there-already"], &features)
                }
                "b-cheap.drv" => {
                    derivation("x86_64-linux", &["a-big"], &[("preferLocalBuild", "1")])
                }
                "c-source.drv" => derivation("builtin", &[], &[]),
                "e-last.drv" => derivation("riscv64-linux", &["b-cheap", "d-lost"], &[]),
                _ => return Err(io::Error::other("gone")),
            })
        });
        let told: Vec<_> = graph.planned.iter().map(|it| (&it.drv_path, &it.needs)).collect();
        let (big, last) = (path("a-big").to_string(), path("e-last").to_string());
        assert_eq!(told, [(&big, &vec![]), (&last, &vec![0])]);
        assert!(graph.planned[0].features.contains("big-parallel"));
        assert_eq!(graph.notes.len(), 2, "{graph:?}");
        assert!(graph.notes[0].starts_with("1 derivation is left out"), "{graph:?}");
        assert!(graph.notes[1].contains("d-lost for one"), "{graph:?}");
    }
}
