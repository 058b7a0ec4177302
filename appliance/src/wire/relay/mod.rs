//! The worker protocol, served: what builds becomes a job, the rest is relayed to the local
//! nix-daemon.
//!
//! Requests are read and written again, since they carry no length; replies are copied as they come.
//! Both directions flow at the same time: nix-daemon may answer, and stop listening, in the middle
//! of an upload. A client has one operation in flight, so when it asks for a build, the reply to
//! what it asked before has gone out, and the relay may answer by itself.

mod divert;
mod handshake;
mod pump;

use std::pin::pin;

use nix_compat::{
    nar::copy_nar,
    nix_daemon::{ClientOptions, NixError, Operation, ProtocolVersion, Request, StderrMessage},
    store_path::StorePath,
    wire::WireError,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    time::{Instant, sleep_until},
};

use self::pump::{copy_upload, pump};
use super::{
    local_nix::{Daemon, KEPT_IDLE, LocalNix, USED_AGAIN},
    session::SessionError,
    stream::{Incoming, Outgoing, hung_up},
};
use crate::model::{Builds, Client};

/// The setting by which a peer names the client that it asks for (SetOptions).
pub const CLIENT_SETTING: &str = "roost-client";

/// How long a connection to nix-daemon lives. It holds temporary roots: what was imported or asked
/// for on it is safe from garbage collection until it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// As long as the client's session.
    Session,
    /// Until a job has failed, an output is fetched, or the client turns to the next job, and then for
    /// [`KEPT_IDLE`], or into the next jobs as long as it is younger than [`USED_AGAIN`]: for a peer whose
    /// session goes on for ever.
    Job,
}

/// The session of one client, after the handshake.
pub(super) struct Relay<'a, B> {
    input: BufReader<Incoming>,
    output: Outgoing,
    version: ProtocolVersion,
    client: Client,
    builds: &'a B,
    nix: &'a LocalNix,
    /// The open connection, which is made again when it is needed.
    daemon: Option<Daemon>,
    /// Until when it is kept, if nothing is to come on it.
    idle_until: Option<Instant>,
    lifetime: Lifetime,
    /// Whether a job has ended, and the client has not turned to the next one.
    job_ended: bool,
}

impl<B: Builds> Relay<'_, B> {
    /// Serves requests until the client hangs up.
    ///
    /// # Errors
    /// [`SessionError`]; where the protocol allows it, the client has been told, too.
    pub(super) async fn run(mut self) -> Result<(), SessionError> {
        loop {
            let handled = match self.next_request().await {
                Ok(request) => self.handle(request).await,
                Err(error) => Err(error),
            };
            match handled {
                Ok(()) => {}
                Err(error) if error.is_hang_up() => return Ok(()),
                Err(error) => return Err(self.give_up(error).await),
            }
        }
    }

    /// Reads the next request while the reply to the last one flows.
    async fn next_request(&mut self) -> Result<Request, SessionError> {
        let Self { input, output, daemon, version, idle_until, .. } = self;
        let mut request = pin!(Request::read(input, *version));
        if let Some(until) = idle_until.take() {
            tokio::select! {
                request = &mut request => return request.map_err(SessionError::Client),
                error = pump(daemon.as_mut().map(|daemon| &mut daemon.replies), output) => {
                    if error.is_hang_up() {
                        return Err(error);
                    }
                }
                () = sleep_until(until) => {}
            }
            *daemon = None;
        }
        tokio::select! {
            request = request => request.map_err(SessionError::Client),
            error = pump(daemon.as_mut().map(|daemon| &mut daemon.replies), output) => Err(error),
        }
    }

    /// Tells the client of an error, unless that would fall into the middle of a reply.
    async fn give_up(mut self, error: SessionError) -> SessionError {
        let in_reply = self.daemon.as_ref().is_some_and(|daemon| daemon.replies.has_begun);
        let tell = match error {
            SessionError::Client(_) | SessionError::LocalNix(_) | SessionError::Refused(_) => true,
            SessionError::DaemonLost(_) => !in_reply,
        };
        if tell {
            // The session ends with this error, whether or not the client hears of it.
            drop(self.refuse(&error.to_string()).await);
        }
        error
    }

    async fn handle(&mut self, request: Request) -> Result<(), SessionError> {
        match request {
            Request::SetOptions(options) => self.set_options(&options).await,
            Request::BuildDerivation { drv_path, drv, mode } => {
                self.build_derivation(drv_path, *drv, mode).await
            }
            Request::BuildPaths { .. } | Request::BuildPathsWithResults { .. } => {
                self.build_targets(request).await
            }
            Request::NarFromPath(path) if self.nix.unfetched.awaits(&path) => {
                self.fetch(path).await
            }
            request => {
                if request.operation() == Operation::QueryValidPaths {
                    self.begin_job();
                }
                self.relay(&request).await
            }
        }
    }

    /// Answers a client's settings. Our own executors make theirs; of these, only the name under
    /// which a peer asks is of use.
    async fn set_options(&mut self, options: &ClientOptions) -> Result<(), SessionError> {
        if let (Lifetime::Job, Some(label)) = (self.lifetime, options.overrides.get(CLIENT_SETTING))
        {
            self.client = Client { label: label.chars().take(200).collect() };
        }
        self.write(&StderrMessage::Last.encode()).await
    }

    /// Passes a request on. Its reply is copied while the next one is waited for.
    async fn relay(&mut self, request: &Request) -> Result<(), SessionError> {
        let sent = self.send(request).await;
        if !request.has_framed_payload() {
            return sent.map(drop);
        }
        if let Err(error) = sent {
            copy_upload(&mut self.input, None).await?;
            return Err(error);
        }
        self.upload().await
    }

    /// Copies an upload, and what nix-daemon says to it.
    async fn upload(&mut self) -> Result<(), SessionError> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let mut copied = pin!(copy_upload(&mut self.input, Some(&mut daemon.requests)));
        let error = tokio::select! {
            copied = &mut copied => return copied,
            error = pump(Some(&mut daemon.replies), &mut self.output) => error,
        };
        if !error.is_hang_up() {
            // The client reads what went wrong when it has got rid of its upload.
            copied.await?;
        }
        Err(error)
    }

    /// Relays the NAR of an output that a job is held for, and takes note of it.
    async fn fetch(&mut self, path: StorePath) -> Result<(), SessionError> {
        self.send(&Request::NarFromPath(path.clone())).await?;
        loop {
            let message = self.listen().await?;
            self.write(&message.encode()).await?;
            match message {
                StderrMessage::Last => break,
                StderrMessage::Error(_) => return Ok(()),
                _ => {}
            }
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        daemon.replies.has_begun = true;
        copy_nar(&mut daemon.replies.reader, &mut self.output)
            .await
            .map_err(SessionError::copying)?;
        for id in self.nix.unfetched.fetched(&path) {
            self.builds.fetched(&id).await;
        }
        self.end_job();
        Ok(())
    }

    /// Waits for nix-daemon's next message, as long as the client does.
    async fn listen(&mut self) -> Result<StderrMessage, SessionError> {
        let Some(daemon) = &mut self.daemon else {
            return Err(SessionError::DaemonLost(WireError::HungUp));
        };
        tokio::select! {
            message = daemon.message() => message,
            () = hung_up(&mut self.input, &self.output) => Err(SessionError::client_gone()),
        }
    }

    /// A peer turns to its next job.
    fn begin_job(&mut self) {
        if std::mem::take(&mut self.job_ended) {
            self.end_job();
        }
    }

    /// What a peer's connection to nix-daemon holds is held otherwise from now on, or not needed: it is
    /// closed, now or soon.
    fn end_job(&mut self) {
        if self.lifetime == Lifetime::Job {
            let is_young = |daemon: &mut Daemon| daemon.opened.elapsed() < USED_AGAIN;
            self.daemon = self.daemon.take_if(is_young);
            self.idle_until = self.daemon.is_some().then(|| Instant::now() + KEPT_IDLE);
        }
    }

    /// Sends a request to nix-daemon, and connects to it first if needed.
    async fn send(&mut self, request: &Request) -> Result<&mut Daemon, SessionError> {
        self.idle_until = None;
        let daemon = match self.daemon.take() {
            Some(daemon) => daemon,
            None => self.nix.open_as(self.version).await?,
        };
        let daemon = self.daemon.insert(daemon);
        daemon.send(request).await?;
        Ok(daemon)
    }

    /// Ends an operation with an error.
    async fn refuse(&mut self, message: &str) -> Result<(), SessionError> {
        self.write(&StderrMessage::Error(NixError::new(message)).encode()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.output.write_all(bytes).await.map_err(SessionError::writing)
    }
}

#[cfg(test)]
mod tests;
