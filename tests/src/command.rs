//! A command to run in a host.

use std::{process::Command as Outside, sync::Arc, time::Duration};

use crate::{
    error::Result,
    host::HostInner,
    process::{Output, Running},
};

/// How long a command may take unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A command to run in a host: as root, in `/`, with a clean environment in which Nix goes
/// through the daemon as it does for ordinary users (`NIX_REMOTE=daemon`).
#[must_use]
pub struct Command {
    host: Arc<HostInner>,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    user: Option<String>,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl Command {
    pub(crate) fn new<S: Into<String>>(
        host: &Arc<HostInner>,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            host: Arc::clone(host),
            argv: argv.into_iter().map(Into::into).collect(),
            env: vec![("NIX_REMOTE".to_owned(), "daemon".to_owned())],
            user: None,
            stdin: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it as another user of the host.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Gives it something to read; it sees the end of its input afterwards.
    pub fn stdin(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.stdin = content.into();
        self
    }

    /// How long [`Command::run`] waits; [`DEFAULT_TIMEOUT`] if not set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end, whatever its status; [`Output::ok`] turns a failure into an error.
    ///
    /// # Errors
    ///
    /// The host is off; the command did not end in time and was killed.
    pub fn run(self) -> Result<Output> {
        let timeout = self.timeout;
        self.spawn()?.finish(timeout)
    }

    /// Starts it and leaves it running.
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn spawn(self) -> Result<Running> {
        let mut argv = Vec::new();
        if let Some(user) = &self.user {
            let options = [format!("--reuid={user}"), format!("--regid={user}")];
            argv.push("setpriv".to_owned());
            argv.extend(options);
            argv.extend(["--init-groups".to_owned(), "--".to_owned()]);
        }
        argv.extend(self.argv.iter().cloned());
        let mut command = self.host.enter(&argv)?;
        command.envs(self.env);
        Running::start(self.host.name(), &self.argv.join(" "), &mut command, &self.stdin)
    }
}

impl HostInner {
    /// A command of the machine that runs another one in all namespaces of the host.
    pub(crate) fn enter<S: AsRef<str>>(&self, argv: &[S]) -> Result<Outside> {
        let mut command = Outside::new("nsenter");
        if self.spec.foreign.needs_user_namespace() {
            command.arg("--user");
        }
        command
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--target"])
            .arg(self.init()?.to_string())
            .arg("--")
            .args(argv.iter().map(AsRef::as_ref))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([("HOME", "/root"), ("USER", "root"), ("LANG", "C.UTF-8")]);
        Ok(command)
    }
}
