//! The control channel between two nodes: lines of JSON. The board describes itself, at once and
//! whenever something changes; the other node asks for things.

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{mpsc, watch},
};

use crate::model::{ControlRequest, NodeView};

/// A request is a few words; a longer line is none.
const MAX_LINE: u64 = 4096;

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

/// Serves a control channel until the other node leaves.
///
/// # Errors
/// [`ControlError`].
pub async fn control(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    mut node: watch::Receiver<NodeView>,
    requests: mpsc::Sender<ControlRequest>,
) -> Result<(), ControlError> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    node.mark_changed();
    loop {
        // `read_until` keeps what it has read in `line` when the other branch wins.
        let mut limited = (&mut reader).take(MAX_LINE - line.len() as u64);
        tokio::select! {
            changed = node.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let mut text = serde_json::to_vec(&*node.borrow_and_update())?;
                text.push(b'\n');
                writer.write_all(&text).await?;
                writer.flush().await?;
            }
            read = limited.read_until(b'\n', &mut line) => {
                read?;
                if line.ends_with(b"\n") {
                    // The daemon is stopping when nobody takes requests any more.
                    if requests.send(serde_json::from_slice(&line)?).await.is_err() {
                        return Ok(());
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

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn the_node_is_described_at_once_and_when_it_changes() {
        let (near, far) = duplex(4096);
        let (reader, writer) = tokio::io::split(far);
        let node = watch::Sender::new(NodeView { slots: 2, ..NodeView::default() });
        let (requests, mut asked) = mpsc::channel(1);
        let served = tokio::spawn(control(reader, writer, node.subscribe(), requests));
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
            let error = control(sent, Vec::new(), node.subscribe(), requests).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
