//! How long builds of a package took: read from the records of the jobs that have ended.

use std::{collections::HashMap, time::Duration};

use nix_compat::nix_daemon::BuildStatus;

use super::State;
use crate::{
    model::{How, Job, JobState},
    place::Times,
};

/// What was found out in one round of placement, by system and package.
#[derive(Default)]
pub(super) struct History(HashMap<(String, String), Times>);

impl History {
    /// The medians for builds of the same package for the same system.
    pub(super) fn times(&mut self, state: &State, job: &Job) -> Times {
        let key = (job.system.clone(), package(&job.name).to_owned());
        *self.0.entry(key).or_insert_with_key(|(system, package)| times(state, system, package))
    }
}

fn times(state: &State, system: &str, package: &str) -> Times {
    let (mut native, mut emulated) = (Vec::new(), Vec::new());
    for job in state.jobs.values().map(|live| &live.job).filter(|job| was_built(job)) {
        if job.system == system && self::package(&job.name) == package {
            match job.how {
                How::Native => native.extend(job.build_ms),
                How::Emulated => emulated.extend(job.build_ms),
            }
        }
    }
    Times { native: median(native), emulated: median(emulated) }
}

fn median(mut all_ms: Vec<u64>) -> Option<Duration> {
    all_ms.sort_unstable();
    all_ms.get(all_ms.len() / 2).copied().map(Duration::from_millis)
}

/// Whether it was really built: not substituted, and not there already.
fn was_built(job: &Job) -> bool {
    matches!(&job.state, JobState::Done { result, .. } if result.status == BuildStatus::Built)
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
