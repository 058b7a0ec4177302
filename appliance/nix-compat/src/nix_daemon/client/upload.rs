use std::pin::pin;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::{Client, ClientError, MessageSink, State, resume::Resume};
use crate::{
    nar::NarScanner,
    nix_daemon::{NixError, PathInfo, Request},
    wire::{FramedWriter, WireError, copy_scanned, write_u64},
};

/// A framed stream on its way to a server that may talk meanwhile, and may refuse.
#[derive(Debug)]
struct Upload<'c, R, W> {
    reader: &'c mut Resume<BufReader<R>>,
    frames: FramedWriter<&'c mut W>,
    state: &'c mut State,
}

/// What came first.
enum Event<T> {
    /// The work is done.
    Done(T),
    /// The server refused.
    Refused(NixError),
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Upload<'_, R, W> {
    /// Sends bytes and, if there is one, a NAR after them. Returns the NAR's length. Unless this
    /// succeeds the upload is over and the connection can be used again, if it still works.
    async fn send<N: AsyncBufRead + Unpin>(
        &mut self,
        bytes: &[u8],
        nar: Option<&mut N>,
        sink: &mut impl MessageSink,
    ) -> Result<u64, ClientError> {
        let frames = &mut self.frames;
        let work = async {
            frames.write_all(bytes).await.map_err(WireError::writing("an upload"))?;
            match nar {
                Some(nar) => copy_scanned(nar, frames, &mut NarScanner::new()).await,
                None => Ok(0),
            }
        };
        match listen_during(work, self.reader, sink).await? {
            Event::Done(Ok(n)) => Ok(n),
            Event::Done(Err(error @ WireError::Io { doing: "write", .. })) => {
                Err(self.last_words(error, sink).await)
            }
            Event::Done(Err(error)) => {
                // The server gets to see a stream that ends too early, and answers with an error.
                match self.finish(sink).await {
                    Err(ClientError::Wire(error)) => Err(error.into()),
                    _ => Err(ClientError::Source(error)),
                }
            }
            Event::Refused(error) => self.give_up(error).await,
        }
    }

    /// Ends the stream and waits for the reply.
    async fn finish(&mut self, sink: &mut impl MessageSink) -> Result<(), ClientError> {
        let event = listen_during(self.frames.finish(), self.reader, sink).await?;
        match event {
            Event::Done(Ok(())) => {}
            Event::Done(Err(error)) => {
                let error = WireError::writing("an upload")(error);
                return Err(self.last_words(error, sink).await);
            }
            Event::Refused(error) => return self.give_up(error).await,
        }
        let reply = self.reader.await_reply(sink).await?;
        *self.state = State::Idle;
        Ok(reply?)
    }

    /// Ends the stream after the server has refused, so that the next request can follow, if the
    /// server is still there.
    async fn give_up<T>(&mut self, error: NixError) -> Result<T, ClientError> {
        if self.frames.finish().await.is_ok() {
            *self.state = State::Idle;
        }
        Err(error.into())
    }

    /// Why the server has stopped reading, if it said so before it hung up.
    async fn last_words(&mut self, error: WireError, sink: &mut impl MessageSink) -> ClientError {
        match self.reader.await_reply(sink).await {
            Ok(Err(refusal)) => refusal.into(),
            _ => error.into(),
        }
    }
}

/// Does some work, and listens to the server as long as it takes: a server that cannot get rid of
/// what it has to say may stop reading.
async fn listen_during<R: AsyncRead + Unpin, T>(
    work: impl Future<Output = T>,
    reader: &mut Resume<R>,
    sink: &mut impl MessageSink,
) -> Result<Event<T>, WireError> {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => Ok(Event::Done(done)),
        reply = reader.await_reply(sink) => match reply? {
            Err(error) => Ok(Event::Refused(error)),
            Ok(()) => Err(WireError::Unsupported { what: "a reply before the end of an upload" }),
        },
    }
}

/// An upload of several paths in one request. They have to come in an order in which each refers
/// only to earlier ones, itself, and those the server has.
///
/// Every path announced has to be added, and [`AddMultiple::finish`] called. If adding one fails the
/// upload is over: the connection can be used again unless it failed itself.
#[derive(Debug)]
pub struct AddMultiple<'c, R, W> {
    upload: Upload<'c, R, W>,
    /// Goes out with the first path.
    unsent: Vec<u8>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> AddMultiple<'_, R, W> {
    /// Sends a path: exactly one NAR is read from `nar`. Returns the NAR's length.
    ///
    /// # Errors
    /// [`ClientError::Nix`] if the server has refused the upload, and [`ClientError::Source`] if the
    /// NAR cannot be read; how much of it has been read is not known then.
    pub async fn add(
        &mut self,
        info: &PathInfo,
        nar: &mut (impl AsyncBufRead + Unpin),
        sink: &mut impl MessageSink,
    ) -> Result<u64, ClientError> {
        if *self.upload.state == State::Idle {
            return Err(ClientError::Busy);
        }
        let mut bytes = std::mem::take(&mut self.unsent);
        info.write(&mut bytes);
        self.upload.send(&bytes, Some(nar), sink).await
    }

    /// Ends the upload and waits until the server has added everything.
    ///
    /// # Errors
    /// [`ClientError::Nix`] if the server has refused a path; it may have added those before it.
    pub async fn finish(mut self, sink: &mut impl MessageSink) -> Result<(), ClientError> {
        if *self.upload.state == State::Idle {
            return Err(ClientError::Busy);
        }
        let bytes = std::mem::take(&mut self.unsent);
        self.upload.send::<&[u8]>(&bytes, None, sink).await?;
        self.upload.finish(sink).await
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Client<R, W> {
    fn upload(&mut self) -> Upload<'_, R, W> {
        Upload {
            reader: &mut self.reader,
            frames: FramedWriter::new(&mut self.writer),
            state: &mut self.state,
        }
    }

    /// Starts to upload `count` paths. `dont_check_sigs` only counts if the server trusts us.
    ///
    /// # Errors
    /// [`ClientError::Wire`].
    pub async fn begin_add_multiple(
        &mut self,
        count: u64,
        repair: bool,
        dont_check_sigs: bool,
    ) -> Result<AddMultiple<'_, R, W>, ClientError> {
        self.start(&Request::AddMultipleToStore { repair, dont_check_sigs }).await?;
        let mut unsent = Vec::new();
        write_u64(&mut unsent, count);
        Ok(AddMultiple { upload: self.upload(), unsent })
    }

    /// Uploads a path: exactly one NAR is read from `nar`. `dont_check_sigs` only counts if the server
    /// trusts us. Returns the NAR's length.
    ///
    /// # Errors
    /// [`ClientError::Nix`] if the server refuses it, and [`ClientError::Source`] if the NAR cannot be
    /// read.
    pub async fn add_to_store_nar(
        &mut self,
        info: &PathInfo,
        nar: &mut (impl AsyncBufRead + Unpin),
        repair: bool,
        dont_check_sigs: bool,
        sink: &mut impl MessageSink,
    ) -> Result<u64, ClientError> {
        let info = Box::new(info.clone());
        self.start(&Request::AddToStoreNar { info, repair, dont_check_sigs }).await?;
        let mut upload = self.upload();
        let copied = upload.send(&[], Some(nar), sink).await?;
        upload.finish(sink).await?;
        Ok(copied)
    }
}
