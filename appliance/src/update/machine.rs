//! What is done to the machine, and asked of it.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix_compat::store_path::StorePath;

use super::run;
use crate::names;

/// How long Nix may take to change a link, on a board that is busy.
const PROFILE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a boot loader's files may take to be written, on a slow card.
const BOOT_TIMEOUT: Duration = Duration::from_secs(600);

/// The machine that is updated. Its clock is the machine's, too: tests have another.
pub trait Machine {
    /// Which boot this is.
    ///
    /// # Errors
    /// Why that cannot be known.
    fn boot(&self) -> Result<String, String>;

    /// The system that was started, if the machine tells.
    fn booted(&self) -> Option<String>;

    /// The system that is started next.
    ///
    /// # Errors
    /// Why there is none.
    fn next(&self) -> Result<StorePath, String>;

    /// Makes a system the one that is started next.
    fn install(&self, system: &StorePath) -> impl Future<Output = Result<(), String>>;

    /// Lets no build begin, and waits until those that run have ended, for a bounded time.
    fn drain(&self) -> impl Future<Output = ()>;

    /// Lets builds begin again.
    fn resume(&self) -> impl Future<Output = ()>;

    /// Restarts the machine: it returns only if that fails.
    fn restart(&self) -> impl Future<Output = Result<Infallible, String>>;

    /// Why the board does not work, if so.
    fn health(&self) -> impl Future<Output = Result<(), String>>;

    /// How long this boot lasts.
    fn uptime(&self) -> Duration;
}

/// What selects the system that a machine starts: a profile of Nix, and the system's own
/// `switch-to-configuration`.
#[derive(Clone, Debug)]
pub struct Switch {
    profile: PathBuf,
    /// Links to the system that was started and to the one that runs.
    links: [PathBuf; 2],
}

impl Switch {
    /// This machine's.
    #[must_use]
    pub fn system() -> Self {
        let links = [names::BOOTED_SYSTEM.into(), names::RUNNING_SYSTEM.into()];
        Self { profile: names::SYSTEM_PROFILE.into(), links }
    }

    /// The system that was started, if there is a link to it.
    #[must_use]
    pub fn booted(&self) -> Option<String> {
        let target = fs::canonicalize(&self.links[0]).ok()?;
        target.to_str().map(str::to_owned)
    }

    /// The system that is started next: the profile's, or else the one that runs.
    ///
    /// # Errors
    /// Why there is none.
    pub fn next(&self) -> Result<StorePath, String> {
        let [_, running] = &self.links;
        let found = [&self.profile, running].into_iter().find_map(|it| fs::canonicalize(it).ok());
        let (profile, running) = (self.profile.display(), running.display());
        let found = found.ok_or_else(|| {
            format!(
                "there is nothing to go back to: neither {profile} nor {running} names a system"
            )
        })?;
        StorePath::parse(&found.to_string_lossy())
            .map_err(|error| format!("there is nothing to go back to: {error}"))
    }

    /// Makes a system the one that is started next.
    ///
    /// # Errors
    /// What failed, with its last words.
    pub async fn install(&self, system: &StorePath) -> Result<(), String> {
        let profile = self.profile.as_os_str();
        let set = ["-p".as_ref(), profile, "--set".as_ref(), system.as_str().as_ref()];
        run(Path::new("nix-env"), &set, PROFILE_TIMEOUT).await?;
        let switch = Path::new(system.as_str()).join("bin/switch-to-configuration");
        run(&switch, &["boot".as_ref()], BOOT_TIMEOUT).await
    }
}
