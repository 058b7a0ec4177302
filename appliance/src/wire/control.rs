//! The control channel between two nodes: lines of JSON. The board describes itself, at once and
//! whenever something changes; the other node asks for things. Once it has asked for the history of
//! builds, it is told what is new in that, too: before the description that has its revision.

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{mpsc, watch},
};

use crate::{
    learn::Entry,
    model::{ControlRequest, NodeView},
};

/// A request is a few words; a longer line is none.
const MAX_LINE: u64 = 4096;
/// What a line of history is kept below, in bytes: half of the longest line that is read.
const MAX_HISTORY: usize = 32 << 10;
/// How a line of history begins. A description has a number of that name, and not at its beginning.
const HISTORY: &[u8] = b"{\"history\":[";

/// What a node says.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Its description.
    Node(Box<NodeView>),
    /// Builds that it has learned from.
    History(Vec<Entry>),
}

impl Told {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct History {
            history: Vec<Entry>,
        }
        if line.starts_with(HISTORY) {
            let History { history } = serde_json::from_slice(line)?;
            return Ok(Self::History(history));
        }
        serde_json::from_slice(line).map(|node| Self::Node(Box::new(node)))
    }
}

/// Why a control channel ended before its client left.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The connection failed.
    #[error("the control channel failed: {0}")]
    Io(#[from] std::io::Error),
    /// A line is no request.
    #[error("not a request that this version knows: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A line does not end.
    #[error("a request is longer than {MAX_LINE} bytes")]
    TooLong,
}

/// Serves a control channel until the other node leaves. `history` is what was learned since a revision,
/// in the order of revisions.
///
/// # Errors
/// [`ControlError`].
pub async fn control(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    mut node: watch::Receiver<NodeView>,
    requests: mpsc::Sender<ControlRequest>,
    history: impl Fn(u64) -> Vec<Entry>,
) -> Result<(), ControlError> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    // The revision that was told of last, once it was asked for.
    let mut told = None;
    node.mark_changed();
    loop {
        // `read_until` keeps what it has read in `line` when the other branch wins.
        let mut limited = (&mut reader).take(MAX_LINE - line.len() as u64);
        tokio::select! {
            changed = node.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let view = node.borrow_and_update().clone();
                if let Some(told) = told.as_mut().filter(|told| view.history > **told) {
                    tell(&mut writer, &history, told).await?;
                }
                let mut text = serde_json::to_vec(&view)?;
                text.push(b'\n');
                writer.write_all(&text).await?;
                writer.flush().await?;
            }
            read = limited.read_until(b'\n', &mut line) => {
                read?;
                if line.ends_with(b"\n") {
                    match serde_json::from_slice(&line)? {
                        ControlRequest::History { since } => {
                            tell(&mut writer, &history, told.insert(since)).await?;
                        }
                        // The daemon is stopping when nobody takes requests any more.
                        request => if requests.send(request).await.is_err() {
                            return Ok(());
                        }
                    }
                    line.clear();
                } else if line.len() as u64 >= MAX_LINE {
                    return Err(ControlError::TooLong);
                } else {
                    return Ok(());
                }
            }
        }
    }
}

/// Tells what was learned since `told`, and makes it the last revision of that.
async fn tell(
    writer: &mut (impl AsyncWrite + Unpin),
    history: &impl Fn(u64) -> Vec<Entry>,
    told: &mut u64,
) -> Result<(), ControlError> {
    let entries = history(*told);
    for line in lines(&entries)? {
        writer.write_all(&line).await?;
    }
    writer.flush().await?;
    if let Some(last) = entries.last() {
        *told = last.record.revision();
    }
    Ok(())
}

/// Lines of [`MAX_HISTORY`] bytes at most; an entry is far below that.
fn lines(entries: &[Entry]) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        let text = serde_json::to_vec(entry)?;
        match lines.last_mut() {
            Some(line) if line.len() + text.len() + b",]}\n".len() <= MAX_HISTORY => {
                line.push(b',');
                line.extend_from_slice(&text);
            }
            _ => lines.push([HISTORY, &text].concat()),
        }
    }
    for line in &mut lines {
        line.extend_from_slice(b"]}\n");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::duplex;

    use super::*;
    use crate::{
        learn::{Ending, Outcome, Package, Table},
        model::How,
    };

    #[tokio::test]
    async fn the_node_is_described_at_once_and_when_it_changes() {
        let (near, far) = duplex(4096);
        let (reader, writer) = tokio::io::split(far);
        let node = watch::Sender::new(NodeView { slots: 2, ..NodeView::default() });
        let (requests, mut asked) = mpsc::channel(1);
        let served =
            tokio::spawn(control(reader, writer, node.subscribe(), requests, |_| Vec::new()));
        let (reader, mut writer) = tokio::io::split(near);
        let mut lines = BufReader::new(reader).lines();
        let view =
            |line: Option<String>| -> NodeView { serde_json::from_str(&line.unwrap()).unwrap() };
        assert_eq!(view(lines.next_line().await.unwrap()).slots, 2);
        node.send_modify(|node| node.running = 1);
        assert_eq!(view(lines.next_line().await.unwrap()).running, 1);
        writer.write_all(b"{\"cancel\":\"x\"}\n\"drain\"\n").await.unwrap();
        assert_eq!(asked.recv().await, Some(ControlRequest::Cancel("x".to_owned())));
        assert_eq!(asked.recv().await, Some(ControlRequest::Drain));
        writer.shutdown().await.unwrap();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn nonsense_and_endless_lines_are_errors() {
        for (sent, expected) in [(&b"{}\n"[..], "not a request"), (&[b'x'; 5000], "longer than")] {
            let node = watch::Sender::new(NodeView::default());
            let (requests, _asked) = mpsc::channel(1);
            let served = control(sent, Vec::new(), node.subscribe(), requests, |_| Vec::new());
            let error = served.await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// A table with a build of each of so many packages.
    fn learned(packages: u32) -> Table {
        let mut table = Table::default();
        for number in 0..packages {
            build(&mut table, &format!("a-package-with-quite-a-name-{}", "x".repeat(100)), number);
        }
        table
    }

    fn build(table: &mut Table, name: &str, number: u32) {
        let name = format!("{name}.{number}");
        let package = Package::of(&name, "riscv64-linux", How::Native);
        let ending = Ending::Built { ms: 4711, peak_mib: None, output_bytes: Some(1 << 20) };
        table.learn(&Outcome { package, ending, at_s: 1000 });
    }

    #[tokio::test]
    async fn history_is_told_once_it_is_asked_for_and_then_whenever_there_is_more() {
        let (near, far) = duplex(4096);
        let (reader, writer) = tokio::io::split(far);
        let table = Arc::new(Mutex::new(learned(500)));
        let node = watch::Sender::new(NodeView::default());
        let (requests, _asked) = mpsc::channel(1);
        let shared = table.clone();
        let history = move |since| shared.lock().unwrap().since(since);
        let served = tokio::spawn(control(reader, writer, node.subscribe(), requests, history));
        let (reader, mut writer) = tokio::io::split(near);
        let mut lines = BufReader::new(reader).lines();
        let mut next = async || lines.next_line().await.unwrap().unwrap();
        let view = |line: &str| match Told::parse(line.as_bytes()).unwrap() {
            Told::Node(view) => view,
            Told::History(entries) => panic!("{entries:?}"),
        };
        assert_eq!(view(&next().await).history, 0);
        let all = table.lock().unwrap().revision();
        node.send_modify(|node| node.history = all);
        assert_eq!(view(&next().await).history, all, "nobody has asked");
        writer.write_all(b"{\"history\":{\"since\":0}}\n").await.unwrap();
        let mut other = Table::default();
        let mut told = 0;
        while other.len() < 500 {
            let line = next().await;
            assert!(line.len() < MAX_HISTORY, "{}", line.len());
            let Told::History(entries) = Told::parse(line.as_bytes()).unwrap() else { panic!() };
            other.merge(entries);
            told += 1;
        }
        assert!(told > 1, "in lines of bounded length");
        build(&mut table.lock().unwrap(), "new", 1);
        build(&mut table.lock().unwrap(), "new", 2);
        let new = table.lock().unwrap().revision();
        node.send_modify(|node| node.history = new);
        let line = next().await;
        let Told::History(entries) = Told::parse(line.as_bytes()).unwrap() else { panic!() };
        assert_eq!(entries.len(), 2, "{line}");
        assert_eq!(view(&next().await).history, new);
        node.send_modify(|node| node.running = 1);
        assert_eq!(view(&next().await).running, 1, "nothing new");
        writer.shutdown().await.unwrap();
        served.await.unwrap().unwrap();
    }
}
