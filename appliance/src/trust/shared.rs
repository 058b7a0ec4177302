//! What this node trusts, shared by the parts of the daemon and by the commands.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use board_support::Announcement;
use tokio::sync::watch;

use super::{
    TrustError, Verdict, judge,
    membership::{Membership, Own},
    private_folder,
    registrar::Registrar,
    roster::{Role, SignedRoster},
};
use crate::durable::Locked;

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Places {
    /// What the node has to show, and whom it believes.
    pub trust: PathBuf,
    /// The fleet's key and what belongs to it, on the machine that holds it.
    pub fleet: PathBuf,
}

impl Places {
    /// Keeps others from reading and changing the files until it is dropped.
    fn lock(&self) -> Result<Locked, TrustError> {
        Locked::wait_for(&self.trust).map_err(TrustError::file("lock", &self.trust))
    }
}

/// What a node trusts.
#[derive(Debug)]
pub struct Trusted {
    /// What it has to show, and whom it believes.
    pub membership: Membership,
    /// On the machine that holds the fleet's key.
    pub registrar: Option<Registrar>,
}

/// What a node trusts. Clones share it. The files count: whoever changes something holds their lock,
/// reads them anew, and writes; the daemon is told by the kernel when a command has done so.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Places,
    own: Own,
    state: Mutex<Trusted>,
    changed: watch::Sender<()>,
}

impl Trust {
    /// Reads everything.
    ///
    /// # Errors
    /// [`TrustError`], naming the file.
    pub fn open(places: Places, own: Own, now_s: u64) -> Result<Self, TrustError> {
        private_folder(&places.trust)?;
        private_folder(&places.fleet)?;
        let _lock = places.lock()?;
        let state = Mutex::new(Trusted::open(&places, &own, now_s)?);
        Ok(Self(Arc::new(Inner { places, own, state, changed: watch::Sender::new(()) })))
    }

    fn state(&self) -> MutexGuard<'_, Trusted> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the files are.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.0.places
    }

    /// Which node this is.
    #[must_use]
    pub fn own(&self) -> &Own {
        &self.0.own
    }

    /// Looks at what there is.
    pub fn look<T>(&self, look: impl FnOnce(&Trusted) -> T) -> T {
        look(&self.state())
    }

    /// Changes something, with the files' lock held and everything read anew before.
    ///
    /// # Errors
    /// Those of `change`, and [`TrustError`] if the files cannot be read.
    pub fn change<T>(
        &self,
        now_s: u64,
        change: impl FnOnce(&mut Trusted) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        let _lock = self.0.places.lock()?;
        let mut state = self.state();
        *state = Trusted::open(&self.0.places, &self.0.own, now_s)?;
        let done = change(&mut state);
        drop(state);
        self.0.changed.send_replace(());
        done
    }

    /// Reads everything anew: a command may have changed something.
    ///
    /// # Errors
    /// [`TrustError`]; what was known before still counts then.
    pub fn reload(&self, now_s: u64) -> Result<(), TrustError> {
        let _lock = self.0.places.lock()?;
        let fresh = Trusted::open(&self.0.places, &self.0.own, now_s)?;
        *self.state() = fresh;
        self.0.changed.send_replace(());
        Ok(())
    }

    /// Told whenever something may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// On the machine that holds the fleet's key: gives its own node what it lacks.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn certify_own(&self, role: Role, now_s: u64) -> Result<(), TrustError> {
        if self.look(|it| it.registrar.is_none()) {
            return Ok(());
        }
        self.change(now_s, |Trusted { membership, registrar }| match registrar {
            Some(registrar) => registrar.certify_own(membership, role, now_s),
            None => Ok(()),
        })
    }

    /// Takes this node's own certificate out of the roster, where it is renewed if nobody connects to
    /// this node.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn take_own_certificate(&self, now_s: u64) -> Result<(), TrustError> {
        let better = self.look(|it| {
            let member = it.membership.roster()?.member(&it.membership.own().id)?;
            it.membership
                .is_better(member.certificate.as_ref()?, now_s)
                .then(|| member.certificate.clone())?
        });
        match better {
            Some(text) => {
                self.change(now_s, |it| it.membership.install(None, &text, now_s)).map(drop)
            }
            None => Ok(()),
        }
    }

    /// How this node stands to a board that announces itself.
    #[must_use]
    pub fn judge(&self, board: &Announcement, now_s: u64) -> Verdict {
        self.look(|it| judge::judge(&it.membership, it.registrar.as_ref(), board, now_s))
    }
}

impl Trusted {
    /// Takes what another node knows of the fleet, if its signature counts; whether there was anything
    /// new.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn accept(&mut self, signed: &SignedRoster, now_s: u64) -> Result<bool, TrustError> {
        match &self.registrar {
            Some(registrar) => registrar.merge(&mut self.membership, signed, now_s),
            None => self.membership.accept(signed),
        }
    }

    fn open(places: &Places, own: &Own, now_s: u64) -> Result<Self, TrustError> {
        Ok(Self {
            membership: Membership::open(&places.trust, own.clone())?,
            registrar: Registrar::open(&places.fleet, now_s)?,
        })
    }
}
