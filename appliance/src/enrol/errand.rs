//! A short visit of the fleet's holder: to order an update, and to hear how it went.

use tokio::io::{AsyncRead, AsyncWrite, BufReader};

use super::{
    ask::{AskError, exchange, unexpected},
    messages::{Answer, ChannelError, Request, VERSION},
};
use crate::{
    model::{UpdateView, first_line},
    trust::SignedOrder,
};

/// What is shown of a reason, in lines.
const MAX_LINES: usize = 12;

/// A conversation with a board that has proved its certificate.
pub struct Errand<R, W> {
    reader: BufReader<R>,
    writer: W,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Errand<R, W> {
    /// Begins, with the node of this id.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn begin(reader: R, writer: W, id: &str, now_s: u64) -> Result<Self, AskError> {
        let mut errand = Self { reader: BufReader::new(reader), writer };
        let hello = Request::Hello { version: VERSION, time_s: now_s };
        match errand.send("describe itself", &hello).await? {
            Answer::Hello(it) if it.id == id => Ok(errand),
            Answer::Hello(it) => {
                let found = format!("{:?}", first_line(it.id.as_bytes()));
                Err(AskError::Other { announced: id.to_owned(), found })
            }
            other => Err(unexpected("describe itself", &other)),
        }
    }

    /// How its last update went, if there was one.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn last_update(&mut self) -> Result<Option<UpdateView>, AskError> {
        let what = "tell how its last update went";
        match self.send(what, &Request::LastUpdate).await.map_err(too_old)? {
            Answer::LastUpdate(view) => Ok(view.as_ref().map(plain)),
            other => Err(unexpected(what, &other)),
        }
    }

    /// Gives it an order, which is durable there when this returns.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn update(&mut self, order: &SignedOrder) -> Result<(), AskError> {
        let what = "take the update";
        let request = Request::Update(order.clone());
        match self.send(what, &request).await.map_err(too_old)? {
            Answer::Done => Ok(()),
            other => Err(unexpected(what, &other)),
        }
    }

    async fn send(&mut self, what: &'static str, request: &Request) -> Result<Answer, AskError> {
        exchange(&mut self.reader, &mut self.writer, what, request).await
    }
}

fn too_old(error: AskError) -> AskError {
    match error {
        AskError::Channel(ChannelError::Closed) => AskError::TooOld,
        other => other,
    }
}

/// What can be shown to people as it is.
fn plain(view: &UpdateView) -> UpdateView {
    let lines = view.reason.lines().map(|line| {
        let indent = if line.starts_with("  ") { "  " } else { "" };
        format!("{indent}{}", first_line(line.as_bytes()).trim())
    });
    let reason = lines.take(MAX_LINES).collect::<Vec<_>>().join("\n");
    let UpdateView { number, phase, .. } = *view;
    UpdateView { number, system: first_line(view.system.as_bytes()), phase, reason }
}
