//! This node's part in its fleet: what it announces and shows of it, and what follows when that changes.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use board_support::HostKeyHash;
use rustix::time::{ClockId, Timespec, clock_settime};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{DaemonError, sshd::Sshd, updates::Updates};
use crate::{
    discover::{Announcer, Service},
    dispatch::now_s,
    enrol::Effects,
    model::{NodeView, UpdateView},
    names,
    trust::{Enrolment, FileWatch, Fingerprint, Order, Role, Trust, fingerprint, fingerprint_text},
};

/// Own certificates are looked at once a day: they last for months.
const LOOK_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// A clock that is behind by more than this is set; NTP does the rest.
const CLOCK_TOLERANCE_S: u64 = 60;

/// A node in its fleet. Clones are the same.
#[derive(Clone)]
pub(super) struct Belonging {
    pub(super) trust: Trust,
    pub(super) role: Role,
    pub(super) updates: Updates,
    sshd: Arc<Sshd>,
    shown: Arc<Mutex<Shown>>,
}

/// What a node shows of its fleet: looked at when something has changed, and once a day.
#[derive(Clone, Debug, Default)]
struct Shown {
    fleet: String,
    roster: u64,
    enrolment: &'static str,
    note: String,
    update_note: String,
}

impl Belonging {
    /// A node with this part in its fleet.
    pub(super) fn new(trust: Trust, role: Role, sshd: Sshd, updates: Updates) -> Self {
        Self { trust, role, updates, sshd: Arc::new(sshd), shown: Arc::default() }
    }

    /// Does what is this machine's to do for itself, at the start and whenever something has changed.
    ///
    /// # Errors
    /// [`DaemonError::Trust`].
    pub(super) fn settle(&self) -> Result<(), DaemonError> {
        let now_s = now_s();
        self.trust.certify_own(self.role, now_s)?;
        self.trust.take_own_certificate(now_s)?;
        let update_note = self.updates.note();
        let shown = self.trust.look(|it| {
            let it = &it.membership;
            let fleet = it.authorities().first().map(fingerprint_text).unwrap_or_default();
            let roster = it.roster().map_or(0, |roster| roster.number);
            let (enrolment, note) = words(&it.enrolment(now_s), self.role);
            Shown { fleet, roster, enrolment, note, update_note }
        });
        *self.shown() = shown;
        Ok(())
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node shows of its fleet.
    pub(super) fn describe(&self, view: &NodeView) -> NodeView {
        let Shown { fleet, roster, enrolment, note, update_note } = self.shown().clone();
        let (enrolment, enrolment_note) = (enrolment.to_owned(), note);
        let contacted = self.updates.contacted();
        NodeView {
            fleet,
            roster,
            enrolment,
            enrolment_note,
            contacted,
            update_note,
            ..view.clone()
        }
    }

    /// A service with what this node announces of its fleet.
    pub(super) fn announce(&self, mut service: Service) -> Service {
        let (tag, proof) = self.trust.look(|it| (it.membership.tag(), it.membership.proof()));
        service.announcement.fleet = tag;
        service.announcement.proof = proof;
        service
    }

    /// Follows what changes, by this daemon, by other nodes or by commands.
    pub(super) fn follow(
        &self,
        tasks: &mut JoinSet<()>,
        announcer: Option<(Arc<Announcer>, Service)>,
        changed: impl Fn() + Send + Sync + 'static,
    ) {
        for folder in [&self.trust.places().trust, &self.trust.places().fleet] {
            let (trust, file) = (self.trust.clone(), folder.join("any"));
            tasks.spawn(async move { watch(&trust, &file).await });
        }
        let own = self.clone();
        tasks.spawn(async move {
            let mut changes = own.trust.changes();
            let mut updates = own.updates.watch();
            loop {
                if let Err(error) = own.settle() {
                    warn!("{error}");
                }
                // What has changed by now was seen; what changes while sshd is waited for was not.
                changes.borrow_and_update();
                // Also one that was made by a command, or before the last daemon was killed.
                if let Some(certificate) = own.host_certificate() {
                    if let Err(why) = own.sshd.show_new(&certificate).await {
                        warn!("{why}");
                    }
                }
                if let Some((announcer, service)) = &announcer {
                    announcer.update(own.announce(service.clone()));
                }
                own.tell_console();
                changed();
                tokio::select! {
                    ended = changes.changed() => if ended.is_err() { return },
                    () = own.updates.changed(&mut updates) => {}
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                }
            }
        });
    }

    /// Returns when the key with which a client has logged in is revoked.
    pub(super) async fn revoked(&self, key: Option<Fingerprint>) {
        let Some(key) = key else { return std::future::pending().await };
        let mut changes = self.trust.changes();
        while !self.trust.look(|it| it.membership.is_revoked(&key)) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What sshd is to show, on a board that has it.
    fn host_certificate(&self) -> Option<String> {
        let file = self.trust.look(|it| it.membership.host_file());
        std::fs::read_to_string(file).ok().filter(|_| self.role == Role::Board)
    }

    /// Writes what a board's console says.
    fn tell_console(&self) {
        if self.role == Role::Workstation {
            return;
        }
        let own = self.trust.own();
        let note = self.shown().note.clone();
        let key = own.host_key.as_ref().map(fingerprint_text).unwrap_or_default();
        let text = format!("roost board {} (id {}, host key {key})\n{note}\n\n", own.name, own.id);
        if std::fs::read_to_string(names::CONSOLE_FILE).is_ok_and(|there| there == text) {
            return;
        }
        if let Err(error) = std::fs::write(names::CONSOLE_FILE, text) {
            warn!("cannot write {}: {error}", names::CONSOLE_FILE);
        }
        info!("{note}");
    }
}

/// Reads everything anew when a command has changed something.
async fn watch(trust: &Trust, file: &Path) {
    let folder = file.parent().unwrap_or(Path::new("/")).display();
    let error = match FileWatch::new(file) {
        Ok(mut watch) => loop {
            match watch.changed().await {
                Ok(()) => {
                    if let Err(error) = trust.reload(now_s()) {
                        warn!("{error}; what was known before still counts");
                    }
                }
                Err(error) => break error,
            }
        },
        Err(error) => error,
    };
    warn!("{folder} is not watched ({error}); what commands change there counts after a restart");
}

/// How a node stands to its fleet: a word, and a sentence with what to do.
fn words(enrolment: &Enrolment, role: Role) -> (&'static str, String) {
    match (enrolment, role) {
        (Enrolment::None { problem: Some(problem) }, Role::Board) => {
            ("none", format!("Not enrolled: {problem}."))
        }
        (Enrolment::None { .. }, Role::Board) => (
            "none",
            "Not enrolled, and not reachable by anyone: it has no seed. Write one to its card on the \
             workstation with `roost seed`, or give it one here with `roost fleet join`."
                .to_owned(),
        ),
        (Enrolment::None { .. }, Role::Workstation) => (
            "none",
            "In no fleet: `roost fleet init` makes one, `roost fleet join` joins one.".to_owned(),
        ),
        (Enrolment::Waiting { token: true }, _) => (
            "waiting",
            "Waiting for the workstation that made its seed; both have to be on one network.".to_owned(),
        ),
        (Enrolment::Waiting { token: false }, _) => (
            "waiting",
            "Waiting to be let in: compare its host key above with what `roost fleet approve` shows on \
             the workstation."
                .to_owned(),
        ),
        (Enrolment::Enrolled { .. }, _) => ("enrolled", "Enrolled.".to_owned()),
        (Enrolment::Ended, Role::Board) => (
            "ended",
            "Its certificates have ended: it was without its workstation for too long. A new seed lets \
             it in again (`roost seed`)."
                .to_owned(),
        ),
        (Enrolment::Ended, Role::Workstation) => (
            "ended",
            "Its certificate has ended; `roost fleet invite` on the machine that holds the fleet's key \
             makes a new one."
                .to_owned(),
        ),
    }
}

impl Effects for Belonging {
    async fn show_certificate(&self) -> Result<(), String> {
        match self.host_certificate() {
            Some(certificate) => self.sshd.show(&certificate).await,
            None => Ok(()),
        }
    }

    fn told_time(&self, time_s: u64) {
        let earliest_s = self.trust.look(|it| it.membership.earliest_s());
        let Some(time_s) = better_time(now_s(), earliest_s, time_s) else { return };
        let time = i64::try_from(time_s).map(|tv_sec| Timespec { tv_sec, tv_nsec: 0 });
        match time.map(|time| clock_settime(ClockId::Realtime, time)) {
            Ok(Ok(())) => {
                info!("the clock was wrong, and is set to what the fleet says: {time_s} s");
            }
            Ok(Err(error)) => warn!("the clock is wrong and cannot be set: {error}"),
            Err(_) => {}
        }
    }

    async fn update(&self, order: Order) -> Result<(), String> {
        self.updates.take(self.role, order).await
    }

    fn last_update(&self) -> Result<Option<UpdateView>, String> {
        self.updates.last()
    }

    fn now_s(&self) -> u64 {
        now_s()
    }
}

/// The time to set the clock to. A clock that is not behind what is known to have passed is believed,
/// whatever others say.
fn better_time(now_s: u64, earliest_s: u64, told_s: u64) -> Option<u64> {
    let wrong = now_s.saturating_add(CLOCK_TOLERANCE_S) < earliest_s;
    (wrong && told_s >= earliest_s).then_some(told_s)
}

/// This machine's host key, as it is announced.
pub(super) fn announced_key(trust: &Trust) -> Option<HostKeyHash> {
    trust.own().host_key.as_ref().map(|key| HostKeyHash(fingerprint(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_surely_wrong_is_set() {
        // Without a clock: seconds after 1970, but the seed was made in 2026.
        assert_eq!(better_time(12, 1_790_000_000, 1_790_000_500), Some(1_790_000_500));
        // It may be right: whoever asks may be wrong.
        assert_eq!(better_time(1_790_000_001, 1_790_000_000, 1_900_000_000), None);
        assert_eq!(better_time(1_789_999_980, 1_790_000_000, 1_900_000_000), None);
        // Both are wrong.
        assert_eq!(better_time(12, 1_790_000_000, 1_700_000_000), None);
    }

    #[test]
    fn what_to_do_is_said_in_every_state() {
        let none = Enrolment::None { problem: None };
        assert!(words(&none, Role::Board).1.contains("roost seed"));
        assert!(words(&none, Role::Workstation).1.contains("roost fleet init"));
        let broken = Enrolment::None { problem: Some("the seed is not usable: x".to_owned()) };
        assert!(words(&broken, Role::Board).1.contains("not usable"));
        assert!(words(&Enrolment::Waiting { token: false }, Role::Board).1.contains("approve"));
        assert_eq!(words(&Enrolment::Enrolled { until_s: 1 }, Role::Board).0, "enrolled");
        assert!(words(&Enrolment::Ended, Role::Board).1.contains("seed"));
    }
}
