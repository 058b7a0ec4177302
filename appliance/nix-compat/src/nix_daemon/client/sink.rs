use crate::nix_daemon::StderrMessage;

/// Takes what a server says while a client waits: log lines and activities, never
/// [`StderrMessage::Last`] or [`StderrMessage::Error`].
///
/// Closures are sinks: `&mut |message: StderrMessage| …`.
pub trait MessageSink: Send {
    /// Takes a message. While this is pending nothing is read, which holds the server back. It may be
    /// dropped before it is done; the same message comes again then.
    fn message(&mut self, message: StderrMessage) -> impl Future<Output = ()> + Send;
}

impl<F: FnMut(StderrMessage) + Send> MessageSink for F {
    async fn message(&mut self, message: StderrMessage) {
        self(message);
    }
}

/// A sink that throws everything away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl MessageSink for Discard {
    async fn message(&mut self, _: StderrMessage) {}
}
