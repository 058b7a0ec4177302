//! How long builds of a package took: read from the records of the jobs that have ended.

use std::time::Duration;

use super::State;
use crate::{
    model::{How, Job, JobState},
    place::Times,
};

/// The medians for other builds of the same package for the same system.
pub(super) fn times(state: &State, job: &Job) -> Times {
    let package = package(&job.name);
    let alike = |other: &&Job| other.system == job.system && self::package(&other.name) == package;
    let ended: Vec<&Job> = state.jobs.values().map(|live| &live.job).filter(alike).collect();
    let median = |how: How| {
        let built = ended.iter().filter(|job| job.how == how && succeeded(job));
        let mut all: Vec<u64> = built.filter_map(|job| job.build_ms).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().map(Duration::from_millis)
    };
    Times { native: median(How::Native), emulated: median(How::Emulated) }
}

fn succeeded(job: &Job) -> bool {
    matches!(&job.state, JobState::Done { result, .. } if result.is_success())
}

/// A derivation's name without its version, which begins after the first dash that no letter
/// follows, as Nix divides names (`builtins.parseDrvName`).
fn package(name: &str) -> &str {
    let version = name
        .match_indices('-')
        .find(|(at, _)| name[at + 1..].starts_with(|c: char| !c.is_ascii_alphabetic()));
    version.map_or(name, |(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::package;

    #[test]
    fn a_package_is_known_by_its_name_without_version() {
        for (name, expected) in [
            ("hello-2.12.1", "hello"),
            ("gcc-wrapper-14.3.0", "gcc-wrapper"),
            ("python3.13-setuptools-80.9.0", "python3.13-setuptools"),
            ("source", "source"),
            ("x-", "x-"),
            ("", ""),
        ] {
            assert_eq!(package(name), expected, "{name}");
        }
    }
}
