//! Copies store paths from one store to another: what that one lacks and nothing else, references
//! first. A job's inputs go to a board, and its outputs come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use nix_compat::{
    nix_daemon::{
        PathInfo,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};
use tokio::{
    io::{AsyncBufRead, AsyncRead, ReadBuf},
    time::Instant,
};

use super::{
    Copied, Report, Stage,
    nix::{ANSWER_TIMEOUT, NixClient, within},
};

/// People read progress; they do not need more than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Longest wait for a store that fetches inputs from binary caches by itself.
const SUBSTITUTE_TIMEOUT: Duration = Duration::from_secs(3600);
/// A store that takes less than this is as good as gone.
const SLOWEST_BYTES_PER_S: u64 = 16 << 10;

/// Longest wait for a store to take this many bytes.
fn patience(bytes: u64) -> Duration {
    ANSWER_TIMEOUT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S)
}

/// Why paths could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The store that they come from lost them, or never had them.
    #[error("{0} is needed, and is not in the store any more")]
    Gone(StorePath),
    /// The store that they come from, or the connection to it, failed.
    #[error("{0}")]
    From(#[source] ClientError),
    /// The store that they go to, or the connection to it, failed.
    #[error("{0}")]
    To(#[source] ClientError),
    /// Paths refer to each other in a circle, which no store allows.
    #[error("the references of {0} go round in a circle")]
    Circle(StorePath),
}

/// What a store lacks, references first.
#[derive(Debug, Default)]
pub struct Cargo {
    infos: Vec<PathInfo>,
    bytes: u64,
}

impl Cargo {
    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }

    /// The size of the NARs together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Finds out what `to` lacks of the closure of `paths`. A path that it has is there with its
/// closure, so only what refers to missing paths is followed. With `substitute`, it may fetch them
/// from binary caches first.
///
/// # Errors
/// [`ShipError`].
pub async fn missing(
    from: &mut NixClient,
    to: &mut NixClient,
    paths: &BTreeSet<StorePath>,
    substitute: bool,
) -> Result<Cargo, ShipError> {
    let mut asked = paths.clone();
    let mut unknown = paths.clone();
    let mut lacking = BTreeMap::new();
    while !unknown.is_empty() {
        let limit = if substitute { SUBSTITUTE_TIMEOUT } else { ANSWER_TIMEOUT };
        let valid = within(limit, to.query_valid_paths(&unknown, substitute, &mut Discard))
            .await
            .map_err(ShipError::To)?;
        let missing: Vec<StorePath> = unknown.difference(&valid).cloned().collect();
        let infos = within(ANSWER_TIMEOUT, from.query_path_infos(&missing, &mut Discard))
            .await
            .map_err(ShipError::From)?;
        unknown = BTreeSet::new();
        for (path, info) in missing.into_iter().zip(infos) {
            let info = info.ok_or_else(|| ShipError::Gone(path.clone()))?;
            unknown.extend(
                info.references.iter().filter(|path| asked.insert((*path).clone())).cloned(),
            );
            lacking.insert(path, info);
        }
    }
    let bytes = lacking.values().fold(0, |sum: u64, info| sum.saturating_add(info.nar_size));
    Ok(Cargo { infos: references_first(lacking)?, bytes })
}

/// Sends it. The receiver has a path's references before the path. `stage` makes a stage of how far
/// it is.
///
/// # Errors
/// [`ShipError`].
pub async fn send(
    from: &mut NixClient,
    to: &mut NixClient,
    cargo: &Cargo,
    stage: &(dyn Fn(Copied) -> Stage + Sync),
    report: &mut dyn Report,
) -> Result<(), ShipError> {
    let mut upload = to
        .begin_add_multiple(cargo.infos.len() as u64, false, true)
        .await
        .map_err(ShipError::To)?;
    let mut progress = Progress::new(cargo, stage, report);
    for info in &cargo.infos {
        progress.tell();
        let nar = within(ANSWER_TIMEOUT, from.open_nar(&info.path, &mut Discard))
            .await
            .map_err(ShipError::From)?;
        let mut nar = Metered { nar, progress: &mut progress };
        within(patience(info.nar_size), upload.add(info, &mut nar, &mut Discard)).await.map_err(
            |error| match error {
                ClientError::Source(_) => ShipError::From(error),
                _ => ShipError::To(error),
            },
        )?;
        progress.copied.done_paths += 1;
    }
    within(patience(cargo.bytes), upload.finish(&mut Discard)).await.map_err(ShipError::To)
}

struct Progress<'a> {
    copied: Copied,
    stage: &'a (dyn Fn(Copied) -> Stage + Sync),
    told: Option<Instant>,
    report: &'a mut dyn Report,
}

impl<'a> Progress<'a> {
    fn new(
        cargo: &Cargo,
        stage: &'a (dyn Fn(Copied) -> Stage + Sync),
        report: &'a mut dyn Report,
    ) -> Self {
        let (paths, bytes) = (cargo.infos.len(), cargo.bytes);
        let copied = Copied { paths, bytes, ..Copied::default() };
        Self { copied, stage, told: None, report }
    }

    fn tell(&mut self) {
        let now = Instant::now();
        if self.told.is_some_and(|told| now - told < PROGRESS_EVERY) {
            return;
        }
        self.told = Some(now);
        self.report.stage((self.stage)(self.copied));
    }
}

/// A NAR that counts as it is sent: one path may take minutes.
struct Metered<'a, 'b, N> {
    nar: N,
    progress: &'a mut Progress<'b>,
}

impl<N: AsyncBufRead + Unpin> AsyncBufRead for Metered<'_, '_, N> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().nar).poll_fill_buf(cx)
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        let this = self.get_mut();
        Pin::new(&mut this.nar).consume(n);
        this.progress.copied.done_bytes += n as u64;
        this.progress.tell();
    }
}

impl<N: AsyncBufRead + Unpin> AsyncRead for Metered<'_, '_, N> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let n = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}

/// Orders paths so that each comes after its references (Kahn's algorithm); a path may refer to
/// itself.
fn references_first(infos: BTreeMap<StorePath, PathInfo>) -> Result<Vec<PathInfo>, ShipError> {
    let mut waits_for: BTreeMap<&StorePath, usize> = BTreeMap::new();
    let mut needed_by: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
    for (path, info) in &infos {
        let references = info.references.iter().filter(|r| *r != path && infos.contains_key(*r));
        let mut count = 0;
        for reference in references {
            needed_by.entry(reference).or_default().push(path);
            count += 1;
        }
        waits_for.insert(path, count);
    }
    let mut ready: Vec<&StorePath> =
        waits_for.iter().filter(|(_, count)| **count == 0).map(|(path, _)| *path).collect();
    let mut order = Vec::with_capacity(infos.len());
    while let Some(path) = ready.pop() {
        waits_for.remove(path);
        order.push(path.clone());
        for dependent in needed_by.remove(path).unwrap_or_default() {
            if let Some(count) = waits_for.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    ready.push(dependent);
                }
            }
        }
    }
    if let Some(path) = waits_for.keys().next() {
        return Err(ShipError::Circle((*path).clone()));
    }
    let mut infos = infos;
    Ok(order.iter().filter_map(|path| infos.remove(path)).collect())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use nix_compat::nix_daemon::{NixError, StderrMessage};

    use super::*;
    use crate::{
        execute::nix,
        wire::testing::{FakeNix, soon},
    };

    fn path(name: &str) -> StorePath {
        let hash = "00000000000000000000000000000000";
        format!("/nix/store/{hash}-{name}").parse().unwrap()
    }

    fn infos(graph: &[(&str, &[&str])]) -> BTreeMap<StorePath, PathInfo> {
        graph
            .iter()
            .map(|(name, references)| {
                let references = references.iter().map(|name| path(name)).collect();
                let info = PathInfo {
                    path: path(name),
                    deriver: None,
                    nar_hash: "0".repeat(64),
                    references,
                    registration_time_s: 0,
                    nar_size: 0,
                    ultimate: false,
                    signatures: BTreeSet::new(),
                    ca: String::new(),
                };
                (path(name), info)
            })
            .collect()
    }

    #[test]
    fn references_come_before_what_refers_to_them() {
        let graph = infos(&[("a", &["b", "c"]), ("b", &["c", "b", "elsewhere"]), ("c", &[])]);
        let order: Vec<_> = references_first(graph).unwrap().into_iter().map(|i| i.path).collect();
        assert_eq!(order, [path("c"), path("b"), path("a")]);
    }

    fn shipping(copied: Copied) -> Stage {
        Stage::Shipping { node: "b".to_owned(), copied }
    }

    /// Hears nothing of how it goes.
    struct Unheard;

    impl Report for Unheard {
        fn accepted(&mut self) {}
        fn stage(&mut self, _: Stage) {}
        fn line(&mut self, _: &[u8]) {}
    }

    #[tokio::test]
    async fn an_upload_cut_short_leaves_a_connection_that_is_not_idle() {
        let (near, far) = (FakeNix::new(), FakeNix::new());
        let (near_socket, far_socket) = (near.local().socket, far.local().socket);
        let (from, mut daemon) = tokio::join!(nix::connect(&near_socket), near.accept());
        let (to, _receiver) = tokio::join!(nix::connect(&far_socket), far.accept());
        let (mut from, mut to) = (from.unwrap().0, to.unwrap().0);
        let cargo = Cargo { infos: infos(&[("a", &[])]).into_values().collect(), bytes: 0 };
        let refuse = async {
            daemon.request().await;
            daemon.send(&StderrMessage::Error(NixError::new("gone")).encode()).await;
        };
        let mut unheard = Unheard;
        let sent = send(&mut from, &mut to, &cargo, &shipping, &mut unheard);
        let (sent, ()) = soon(async { tokio::join!(sent, refuse) }).await;
        assert!(matches!(sent, Err(ShipError::From(ClientError::Nix(_)))), "{sent:?}");
        assert!(!to.is_idle());
        assert!(from.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_board_that_says_nothing_is_given_up() {
        let silent = std::future::pending::<Result<(), ClientError>>();
        let error = within(patience(1 << 20), silent).await.unwrap_err();
        assert!(error.to_string().contains("within 124 s"), "{error}");
    }

    #[test]
    fn a_circle_is_an_error_and_no_endless_loop() {
        assert!(matches!(
            references_first(infos(&[("a", &["b"]), ("b", &["a"]), ("c", &[])])),
            Err(ShipError::Circle(_))
        ));
    }

    #[derive(Default)]
    struct Told(Vec<Stage>);

    impl Report for Told {
        fn accepted(&mut self) {}

        fn stage(&mut self, stage: Stage) {
            self.0.push(stage);
        }

        fn line(&mut self, _: &[u8]) {}
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_in_the_middle_of_a_path() {
        let cargo = Cargo { infos: infos(&[("big", &[])]).into_values().collect(), bytes: 100 };
        let mut told = Told::default();
        let mut progress = Progress::new(&cargo, &shipping, &mut told);
        progress.tell();
        let mut nar = Metered { nar: &[0; 100][..], progress: &mut progress };
        let mut quarter = [0; 25];
        nar.read_exact(&mut quarter).await.unwrap();
        tokio::time::advance(PROGRESS_EVERY).await;
        nar.read_exact(&mut quarter).await.unwrap();
        nar.read_exact(&mut quarter).await.unwrap();
        let stage =
            |done_bytes| shipping(Copied { paths: 1, bytes: 100, done_paths: 0, done_bytes });
        assert_eq!(told.0, [stage(0), stage(50)]);
    }
}
