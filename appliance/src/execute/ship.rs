//! Sends a job's inputs to a board: what it lacks and nothing else, references first.

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
    Report, Stage,
    nix::{ANSWER_TIMEOUT, NixClient, within},
};

/// People read progress; they do not need more than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Longest wait for a board that fetches inputs from binary caches by itself.
const SUBSTITUTE_TIMEOUT: Duration = Duration::from_secs(3600);
/// A board that takes less than this is as good as gone.
const SLOWEST_BYTES_PER_S: u64 = 16 << 10;

/// Longest wait for a board to take this many bytes.
fn patience(bytes: u64) -> Duration {
    ANSWER_TIMEOUT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S)
}

/// Why inputs could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The local store lost them, or never had them.
    #[error("{0} is not in the local store any more, and the board needs it")]
    Gone(StorePath),
    /// The local nix-daemon failed.
    #[error("the local nix-daemon: {0}")]
    Local(#[source] ClientError),
    /// The board, or the connection to it, failed.
    #[error("{0}")]
    Board(#[source] ClientError),
    /// Paths refer to each other in a circle, which no store allows.
    #[error("the references of {0} go round in a circle")]
    Circle(StorePath),
}

/// What a board lacks, references first.
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
}

/// Finds out what the board lacks of the closure of `inputs`. A path that the board has is there
/// with its closure, so only what refers to missing paths is followed.
///
/// # Errors
/// [`ShipError`].
pub async fn missing(
    local: &mut NixClient,
    board: &mut NixClient,
    inputs: &BTreeSet<StorePath>,
    substitute: bool,
) -> Result<Cargo, ShipError> {
    let mut asked = inputs.clone();
    let mut unknown = inputs.clone();
    let mut lacking = BTreeMap::new();
    while !unknown.is_empty() {
        let limit = if substitute { SUBSTITUTE_TIMEOUT } else { ANSWER_TIMEOUT };
        let valid = within(limit, board.query_valid_paths(&unknown, substitute, &mut Discard))
            .await
            .map_err(ShipError::Board)?;
        let missing: Vec<StorePath> = unknown.difference(&valid).cloned().collect();
        let infos = within(ANSWER_TIMEOUT, local.query_path_infos(&missing, &mut Discard))
            .await
            .map_err(ShipError::Local)?;
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

/// Sends it. The receiver has a path's references before the path.
///
/// # Errors
/// [`ShipError`].
pub async fn send(
    local: &mut NixClient,
    board: &mut NixClient,
    cargo: &Cargo,
    node: &str,
    report: &mut dyn Report,
) -> Result<(), ShipError> {
    let mut upload = board
        .begin_add_multiple(cargo.infos.len() as u64, false, true)
        .await
        .map_err(ShipError::Board)?;
    let mut progress = Progress { node, cargo, sent_paths: 0, sent_bytes: 0, told: None, report };
    for info in &cargo.infos {
        progress.tell();
        let nar = within(ANSWER_TIMEOUT, local.open_nar(&info.path, &mut Discard))
            .await
            .map_err(ShipError::Local)?;
        let mut nar = Metered { nar, progress: &mut progress };
        within(patience(info.nar_size), upload.add(info, &mut nar, &mut Discard)).await.map_err(
            |error| match error {
                ClientError::Source(_) => ShipError::Local(error),
                _ => ShipError::Board(error),
            },
        )?;
        progress.sent_paths += 1;
    }
    within(patience(cargo.bytes), upload.finish(&mut Discard)).await.map_err(ShipError::Board)
}

struct Progress<'a> {
    node: &'a str,
    cargo: &'a Cargo,
    sent_paths: usize,
    sent_bytes: u64,
    told: Option<Instant>,
    report: &'a mut dyn Report,
}

impl Progress<'_> {
    fn tell(&mut self) {
        let now = Instant::now();
        if self.told.is_some_and(|told| now - told < PROGRESS_EVERY) {
            return;
        }
        self.told = Some(now);
        self.report.stage(Stage::Shipping {
            node: self.node.to_owned(),
            sent_paths: self.sent_paths,
            paths: self.cargo.infos.len(),
            sent_bytes: self.sent_bytes,
            bytes: self.cargo.bytes,
        });
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
        this.progress.sent_bytes += n as u64;
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
        let (local, mut daemon) = tokio::join!(nix::connect(&near_socket), near.accept());
        let (board, _receiver) = tokio::join!(nix::connect(&far_socket), far.accept());
        let (mut local, mut board) = (local.unwrap().0, board.unwrap().0);
        let cargo = Cargo { infos: infos(&[("a", &[])]).into_values().collect(), bytes: 0 };
        let refuse = async {
            daemon.request().await;
            daemon.send(&StderrMessage::Error(NixError::new("gone")).encode()).await;
        };
        let mut unheard = Unheard;
        let sent = send(&mut local, &mut board, &cargo, "nahe", &mut unheard);
        let (sent, ()) = soon(async { tokio::join!(sent, refuse) }).await;
        assert!(matches!(sent, Err(ShipError::Local(ClientError::Nix(_)))), "{sent:?}");
        assert!(!board.is_idle());
        assert!(local.is_idle());
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
        let report = &mut told;
        let mut progress =
            Progress { node: "b", cargo: &cargo, sent_paths: 0, sent_bytes: 0, told: None, report };
        progress.tell();
        let mut nar = Metered { nar: &[0; 100][..], progress: &mut progress };
        let mut quarter = [0; 25];
        nar.read_exact(&mut quarter).await.unwrap();
        tokio::time::advance(PROGRESS_EVERY).await;
        nar.read_exact(&mut quarter).await.unwrap();
        nar.read_exact(&mut quarter).await.unwrap();
        let stage = |sent_bytes| Stage::Shipping {
            node: "b".to_owned(),
            sent_paths: 0,
            paths: 1,
            sent_bytes,
            bytes: 100,
        };
        assert_eq!(told.0, [stage(0), stage(50)]);
    }
}
