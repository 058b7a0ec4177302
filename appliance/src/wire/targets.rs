//! What clients name when they ask for builds: derived paths, and the derivations behind them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::model::{Client, Demand, JobKey, Mode, Payload, Site, Submission, realised_paths};
use nix_compat::{
    derivation::{BasicDerivation, Derivation, DerivationOutput},
    nix_daemon::{BuildMode, BuildResult},
    store_path::StorePath,
};

/// The largest `.drv` file that is read.
const DRV_BYTES_MAX: u64 = 64 << 20;

/// Stands for all outputs of a derivation.
pub(super) const ALL: &str = JobKey::ALL_OUTPUTS;

/// A build to ask for, and what to expect of it.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The job.
    pub(super) submission: Submission,
    /// What can be fetched afterwards.
    pub(super) outputs: Outputs,
}

/// What a client wants built, by who does it.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    /// What becomes jobs, in the client's words.
    pub(super) ordered: Vec<String>,
    /// The same, in ours.
    pub(super) orders: Vec<Order>,
    /// What is left to the local Nix.
    pub(super) others: Vec<String>,
}

impl Targets {
    /// Looks each target up in the store directory.
    pub(super) async fn sort(
        store_dir: &Path,
        targets: Vec<String>,
        mode: Mode,
        client: &Client,
    ) -> Self {
        let mut sorted = Self::default();
        for target in targets {
            match Order::target(store_dir, &target, mode, client).await {
                Some(order) => {
                    sorted.orders.push(order);
                    sorted.ordered.push(target);
                }
                None => sorted.others.push(target),
            }
        }
        sorted
    }
}

impl From<BuildMode> for Mode {
    fn from(mode: BuildMode) -> Self {
        match mode {
            BuildMode::Normal => Self::Normal,
            BuildMode::Repair => Self::Repair,
            BuildMode::Check => Self::Check,
        }
    }
}

/// The wanted outputs of a derivation: those paths that are known in advance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outputs(BTreeSet<StorePath>);

impl Order {
    /// A derivation that the client sent along; all its outputs are wanted.
    pub(super) fn derivation(
        drv_path: StorePath,
        drv: BasicDerivation,
        mode: Mode,
        client: Client,
    ) -> Self {
        Self {
            outputs: Outputs::of(&drv.outputs, |_| true),
            submission: Submission {
                key: JobKey { drv_path, outputs: [ALL.to_owned()].into(), mode, site: Site::Here },
                system: drv.platform.clone(),
                features: drv.required_system_features(),
                payload: Payload::Derivation(Box::new(drv)),
                client,
                forwarded: false,
                demand: Demand::default(),
            },
        }
    }

    /// A derived path as on the wire, such as `/nix/store/….drv!out,dev`. None if it is not the
    /// output of a derivation in this store: then it is the local Nix that knows what to do.
    /// `store_dir` is the folder that is `/nix/store`.
    pub(super) async fn target(
        store_dir: &Path,
        target: &str,
        mode: Mode,
        client: &Client,
    ) -> Option<Self> {
        let (drv_path, wanted) = split(target)?;
        let file = store_dir.join(drv_path.base_name());
        let drv = tokio::task::spawn_blocking(move || read_drv(&file)).await.ok()?;
        let drv = drv
            .inspect_err(|error| tracing::debug!("leaving {target} to nix-daemon: {error}"))
            .ok()?;
        // Wanting every output by name is the same job as wanting all.
        let all = wanted.contains(ALL) || drv.outputs.keys().all(|name| wanted.contains(name));
        let outputs = Outputs::of(&drv.outputs, |name| all || wanted.contains(name));
        let wanted = if all { [ALL.to_owned()].into() } else { wanted };
        Some(Self {
            outputs,
            submission: Submission {
                key: JobKey { drv_path, outputs: wanted, mode, site: Site::Here },
                payload: Payload::Target(target.to_owned()),
                features: drv.required_system_features(),
                system: drv.platform,
                client: client.clone(),
                forwarded: false,
                demand: Demand::default(),
            },
        })
    }
}

impl Outputs {
    /// The outputs of `all` whose names are wanted.
    fn of(all: &BTreeMap<String, DerivationOutput>, wanted: impl Fn(&str) -> bool) -> Self {
        let wanted = all.iter().filter(|(name, _)| wanted(name));
        Self(wanted.filter_map(|(_, output)| output.path.clone()).collect())
    }

    /// The store paths that the client can fetch after `result`.
    pub(super) fn paths(self, result: &BuildResult) -> BTreeSet<StorePath> {
        if !result.is_success() {
            return BTreeSet::new();
        }
        self.0.into_iter().chain(realised_paths(result)).collect()
    }
}

/// Splits `….drv!out,dev`, also with `^`. None for a plain store path, and for an output of an
/// output, which is a dynamic derivation.
pub(super) fn split(target: &str) -> Option<(StorePath, BTreeSet<String>)> {
    let (drv_path, outputs) = target.split_once(['!', '^'])?;
    let drv_path = StorePath::parse(drv_path).ok().filter(StorePath::is_derivation)?;
    let outputs: BTreeSet<String> = outputs.split(',').map(str::to_owned).collect();
    let plain = |name: &String| !name.is_empty() && !name.contains(['!', '^', '/']);
    outputs.iter().all(plain).then_some((drv_path, outputs))
}

/// Reads a derivation, in bounded memory.
///
/// # Errors
/// If the file cannot be read, is larger than any derivation is, or is none.
pub fn read_drv(file: &Path) -> io::Result<Derivation> {
    let mut text = Vec::new();
    File::open(file)?.take(DRV_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > DRV_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {DRV_BYTES_MAX} bytes")));
    }
    Derivation::parse(&text).map_err(io::Error::other)
}

/// Reads a derivation of the store whose directory this is, with the paths of all that it needs. None if
/// one of these is not known before it is built: only Nix can then tell what is to be built.
///
/// # Errors
/// As [`read_drv`], of the derivation and of those that it needs.
pub fn read_basic(store_dir: &Path, drv_path: &StorePath) -> io::Result<Option<BasicDerivation>> {
    let drv = read_drv(&store_dir.join(drv_path.base_name()))?;
    let inputs = inputs(&drv, |needed| read_drv(&store_dir.join(needed.base_name())))?;
    Ok(inputs.map(|inputs| drv.into_basic(inputs)))
}

/// The paths of the outputs that a derivation needs of others, which `read` knows. None if one of them
/// is not known before it is built.
pub(super) fn inputs<E>(
    drv: &Derivation,
    read: impl Fn(&StorePath) -> Result<Derivation, E>,
) -> Result<Option<Vec<StorePath>>, E> {
    let mut inputs = Vec::new();
    for (drv_path, names) in &drv.input_drvs {
        let needed = read(drv_path)?;
        for name in names {
            let output = needed.outputs.get(name);
            match output.and_then(|output| output.path.clone()) {
                Some(path) => inputs.push(path),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(inputs))
}

#[cfg(test)]
mod tests {
    use nix_compat::nix_daemon::{BuildStatus, Realisation};

    use super::*;

    const HASH: &str = "00000000000000000000000000000000";

    fn client() -> Client {
        Client { label: "test".to_owned() }
    }

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{HASH}-{name}")).unwrap()
    }

    fn drv() -> Derivation {
        let output = |name: &str, known: bool| {
            let path = known.then(|| path(name));
            (
                name.to_owned(),
                DerivationOutput { path, hash_algo: String::new(), hash: String::new() },
            )
        };
        Derivation {
            outputs: [output("dev", true), output("out", true)].into(),
            input_drvs: BTreeMap::new(),
            input_srcs: BTreeSet::new(),
            platform: "riscv64-linux".to_owned(),
            builder: b"/bin/sh".to_vec(),
            args: Vec::new(),
            env: [(b"requiredSystemFeatures".to_vec(), b"kvm big-parallel".to_vec())].into(),
        }
    }

    /// A store directory with `x.drv` in it.
    fn store() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(path("x.drv").base_name()), drv().to_aterm()).unwrap();
        folder
    }

    async fn order(target: &str) -> Option<Order> {
        Order::target(store().path(), target, Mode::Normal, &client()).await
    }

    #[tokio::test]
    async fn a_derived_path_becomes_a_job_with_what_its_derivation_says() {
        let target = format!("{}!out", path("x.drv"));
        let order = order(&target).await.unwrap();
        let job = &order.submission;
        assert_eq!(job.key.drv_path, path("x.drv"));
        assert_eq!(job.key.outputs, ["out".to_owned()].into());
        assert_eq!(job.payload, Payload::Target(target));
        assert_eq!(job.system, "riscv64-linux");
        assert_eq!(job.features, ["big-parallel".to_owned(), "kvm".to_owned()].into());
        let mut result = BuildResult::failure(BuildStatus::Built, "");
        assert_eq!(order.outputs.clone().paths(&result), [path("out")].into());
        result.status = BuildStatus::PermanentFailure;
        assert_eq!(order.outputs.paths(&result), BTreeSet::new());
    }

    #[tokio::test]
    async fn naming_every_output_is_the_same_job_as_wanting_all() {
        let all = order(&format!("{}!*", path("x.drv"))).await.unwrap();
        let named = order(&format!("{}^dev,out", path("x.drv"))).await.unwrap();
        assert_eq!(named.submission.key, all.submission.key);
    }

    #[tokio::test]
    async fn what_is_no_derivation_of_this_store_is_left_to_nix() {
        for target in [
            path("x.drv").to_string(),
            format!("{}!out", path("absent.drv")),
            format!("{}!out", path("x")),
            format!("{}!y.drv!out", path("x.drv")),
            format!("{}!", path("x.drv")),
            "/etc/passwd!out".to_owned(),
            String::new(),
        ] {
            assert!(order(&target).await.is_none(), "{target}");
        }
    }

    #[test]
    fn outputs_not_known_in_advance_are_read_from_the_realisations() {
        let mut basic = drv().into_basic([]);
        basic.outputs.retain(|name, _| name == "out");
        basic.outputs.values_mut().for_each(|output| output.path = None);
        let order = Order::derivation(path("x.drv"), basic, Mode::Normal, client());
        assert!(order.submission.features.contains("ca-derivations"));
        let mut result = BuildResult::failure(BuildStatus::Built, "");
        let json = format!(r#"{{"id":"sha256:0!out","outPath":"{HASH}-x","signatures":[]}}"#);
        result.built_outputs.insert("sha256:0!out".to_owned(), Realisation(json));
        assert_eq!(order.outputs.paths(&result), [path("x")].into());
    }
}
