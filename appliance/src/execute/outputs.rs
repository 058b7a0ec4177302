//! What a job has made: which paths, how they come home, and how they are held until whoever asked
//! has fetched them.

use std::collections::BTreeSet;

use nix_compat::{
    nix_daemon::{
        BuildResult, ClientOptions,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};

use super::{
    Copied, Order, Pool, PoolError, Report, Stage,
    nix::{self, ANSWER_TIMEOUT, NixClient},
    ship::{self, ShipError},
};
use crate::{
    model::{JobId, Payload, realised_paths},
    queue::roots::Roots,
};

/// Why outputs did not come home.
#[derive(Debug, thiserror::Error)]
pub(super) enum HomeError {
    /// The local store cannot be reached.
    #[error(transparent)]
    Connect(#[from] PoolError),
    /// They could not be copied.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// They arrived, and the local nix-daemon does not let us keep them.
    #[error("the local nix-daemon: {0}")]
    Keep(#[source] ClientError),
    /// The garbage-collection roots could not be made.
    #[error("the outputs cannot be held: {0}")]
    Hold(String),
}

impl HomeError {
    /// Whether a store said no, rather than not being there: then there is no use in asking for ever.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Ship(ShipError::From(error) | ShipError::To(error)) | Self::Keep(error) => {
                matches!(error, ClientError::Nix(_))
            }
            Self::Ship(ShipError::Gone(_) | ShipError::Circle(_)) | Self::Hold(_) => true,
            Self::Connect(_) => false,
        }
    }
}

/// The paths that a job made: as realised, else as the derivation says.
pub(super) fn of(order: &Order, result: &BuildResult) -> BTreeSet<StorePath> {
    let realised = realised_paths(result);
    match &order.payload {
        Payload::Derivation(derivation) if realised.is_empty() => {
            derivation.outputs.values().filter_map(|output| output.path.clone()).collect()
        }
        _ => realised,
    }
}

/// Protects paths while the connection lasts, whether they are in the store yet or not.
///
/// # Errors
/// [`ClientError`].
pub(super) async fn protect(
    nix: &mut NixClient,
    paths: &BTreeSet<StorePath>,
) -> Result<(), ClientError> {
    for path in paths {
        nix::within(ANSWER_TIMEOUT, nix.add_temp_root(path, &mut Discard)).await?;
    }
    Ok(())
}

/// The size of the NARs of paths together; none if the store does not tell of each.
pub(super) async fn nar_bytes(nix: &mut NixClient, paths: &BTreeSet<StorePath>) -> Option<u64> {
    let mut bytes: u64 = 0;
    for path in paths {
        let info = nix::within(ANSWER_TIMEOUT, nix.query_path_info(path, &mut Discard)).await;
        bytes = bytes.saturating_add(info.ok()??.nar_size);
    }
    Some(bytes).filter(|_| !paths.is_empty())
}

/// Holds outputs that a connection protects, so that they outlive it.
///
/// # Errors
/// Why they cannot be held, in words.
pub(super) async fn hold(
    roots: &Roots,
    id: JobId,
    outputs: BTreeSet<StorePath>,
) -> Result<(), String> {
    let roots = roots.clone();
    tokio::task::spawn_blocking(move || roots.hold_outputs(&id, &outputs))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Copies what a board has built for a job into the local store, and holds it there. Whoever asked
/// finds everything as if it had been built here.
///
/// # Errors
/// [`HomeError`]; the board still holds the outputs.
pub(super) async fn bring_home(
    board: &mut NixClient,
    node: &str,
    (store, roots): (&Pool, &Roots),
    (order, result): (&Order, &BuildResult),
    report: &mut dyn Report,
) -> Result<(), HomeError> {
    let outputs = of(order, result);
    let mut connection = store.take(&ClientOptions::default()).await?;
    let local = &mut connection.nix;
    protect(local, &outputs).await.map_err(HomeError::Keep)?;
    let cargo = ship::missing(board, local, &outputs, false).await?;
    if !cargo.is_empty() {
        let stage = |copied: Copied| Stage::Fetching { node: node.to_owned(), copied };
        ship::send(board, local, &cargo, &stage, report).await?;
    }
    if has_floating_outputs(order) {
        for realisation in result.built_outputs.values() {
            nix::within(ANSWER_TIMEOUT, local.register_drv_output(realisation, &mut Discard))
                .await
                .map_err(HomeError::Keep)?;
        }
    }
    hold(roots, order.key.id(), outputs).await.map_err(HomeError::Hold)?;
    store.give_back(connection);
    Ok(())
}

/// Whether the paths of some outputs are known only by what was built (content-addressed ones).
fn has_floating_outputs(order: &Order) -> bool {
    let Payload::Derivation(derivation) = &order.payload else { return false };
    derivation.outputs.values().any(|output| output.path.is_none())
}

#[cfg(test)]
mod tests {
    use nix_compat::{
        nix_daemon::{BuildStatus, PathInfo, Realisation, Request},
        wire,
    };

    use super::*;
    use crate::{
        model::{Client, Cores, JobKey, Mode, Site},
        wire::testing::{FakeNix, NixConnection, drv, path, result, soon},
    };

    struct Told(Vec<Stage>);

    impl Report for Told {
        fn stage(&mut self, stage: Stage) {
            self.0.push(stage);
        }

        fn line(&mut self, _: &[u8]) {}
    }

    /// A derivation with the output `out` alone, whose path only its realisation tells.
    fn order() -> (Order, BuildResult) {
        let mut derivation = drv("hello");
        derivation.outputs.retain(|name, _| name == "out");
        derivation.outputs.values_mut().for_each(|output| output.path = None);
        let key = JobKey {
            drv_path: path("hello.drv"),
            outputs: [JobKey::ALL_OUTPUTS.to_owned()].into(),
            mode: Mode::Normal,
            site: Site::Here,
        };
        let client = Client { label: "ssh from ::1".to_owned() };
        let mut built = result(BuildStatus::Built);
        let realisation = format!(r#"{{"outPath":"{}"}}"#, path("hello").base_name());
        built.built_outputs.insert("sha256:0!out".to_owned(), Realisation(realisation));
        (
            Order {
                key,
                payload: Payload::Derivation(Box::new(derivation)),
                client,
                cores: Cores::Share,
            },
            built,
        )
    }

    async fn acknowledge(nix: &mut NixConnection) {
        let mut reply = Vec::new();
        wire::write_u64(&mut reply, 1);
        nix.reply(&reply).await;
    }

    async fn says_valid(nix: &mut NixConnection, valid: &[&str]) {
        assert!(matches!(nix.request().await, Request::QueryValidPaths { substitute: false, .. }));
        let mut reply = Vec::new();
        let valid = valid.iter().map(|name| path(name)).collect();
        wire::write_store_path_set(&mut reply, &valid);
        nix.reply(&reply).await;
    }

    /// The local nix-daemon: it takes `hello`, which it lacks, and what it is.
    async fn local(near: &FakeNix) {
        let mut nix = near.accept().await;
        assert!(matches!(nix.request().await, Request::SetOptions(_)));
        nix.reply(&[]).await;
        assert_eq!(nix.request().await, Request::AddTempRoot(path("hello")));
        acknowledge(&mut nix).await;
        says_valid(&mut nix, &[]).await;
        says_valid(&mut nix, &["input"]).await;
        assert!(matches!(nix.request().await, Request::AddMultipleToStore { .. }));
        let mut frames = tokio::io::BufReader::new(wire::FramedReader::new(&mut nix.read));
        assert_eq!(wire::read_u64(&mut frames, "paths").await.unwrap(), 1);
        assert_eq!(PathInfo::read(&mut frames).await.unwrap().path, path("hello"));
        frames.get_mut().drain().await.unwrap();
        nix.reply(&[]).await;
        assert!(matches!(nix.request().await, Request::RegisterDrvOutput(_)));
        nix.reply(&[]).await;
    }

    async fn board(nix: &mut NixConnection) {
        assert_eq!(nix.request().await, Request::QueryPathInfo(path("hello")));
        let mut reply = Vec::new();
        let info = PathInfo {
            path: path("hello"),
            deriver: None,
            nar_hash: "0".repeat(64),
            references: [path("hello"), path("input")].into(),
            registration_time_s: 0,
            nar_size: 112,
            ultimate: true,
            signatures: BTreeSet::new(),
            ca: String::new(),
        };
        PathInfo::write_reply(Some(&info), &mut reply);
        nix.reply(&reply).await;
        assert_eq!(nix.request().await, Request::NarFromPath(path("hello")));
        let mut nar = Vec::new();
        for word in ["nix-archive-1", "(", "type", "regular", "contents", "", ")"] {
            wire::write_bytes(&mut nar, word.as_bytes());
        }
        nix.reply(&nar).await;
    }

    #[tokio::test]
    async fn outputs_come_home_with_their_realisations_and_are_held() {
        let (near, far) = (FakeNix::new(), FakeNix::new());
        let socket = near.local().socket;
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::open(&folder.path().join("roots"), "/nix/store".as_ref()).unwrap();
        let far_socket = far.local().socket;
        let (there, mut there_nix) = tokio::join!(nix::connect(&far_socket), far.accept());
        let mut there = there.unwrap().0;
        let (order, result) = order();
        let mut told = Told(Vec::new());
        let store = Pool::new(socket);
        let (home, made) = ((&store, &roots), (&order, &result));
        let brought = bring_home(&mut there, "b", home, made, &mut told);
        let all = async { tokio::join!(brought, local(&near), board(&mut there_nix)) };
        soon(all).await.0.unwrap();
        let copied = Copied { paths: 1, bytes: 112, ..Copied::default() };
        assert_eq!(told.0, [Stage::Fetching { node: "b".to_owned(), copied }]);
        let held = folder.path().join("roots").join(order.key.id().as_str()).join("outputs");
        assert!(held.join(path("hello").base_name()).is_symlink());
    }

    #[test]
    fn a_refusal_is_told_from_a_lost_connection() {
        let refused = ClientError::Nix(nix_compat::nix_daemon::NixError::new("no"));
        assert!(HomeError::Ship(ShipError::From(refused)).is_refusal());
        assert!(!HomeError::Ship(ShipError::From(ClientError::Busy)).is_refusal());
    }
}
