//! What this node has to show, and whom it believes: the files of its trust folder.
//!
//! `seed.toml` and `roster.json` are where it comes from, the certificates are what it was given.
//! `authorities` and `revoked_keys` are written from them, for sshd and ssh.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use board_support::{FleetTag, Proof};
use ssh_key::PublicKey;

use super::{
    Fingerprint, TrustError,
    authority::fleet_tag,
    certificate::{Checked, Purpose},
    fingerprint,
    invitation::Invitation,
    key_text, private_folder,
    roster::{Roster, SignedRoster},
    seed::Seed,
    token::TokenKey,
    tokens::remove,
};
use crate::{durable::write_atomically, names};

const SEED: &str = "seed.toml";
const ROSTER: &str = "roster.json";
const PROBLEM: &str = "seed-problem";

/// Which node this is.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its sshd proves itself with; a node to which nobody connects has none.
    pub host_key: Option<PublicKey>,
    /// The private key with which it logs in; its certificate is beside it.
    pub identity: PathBuf,
    /// The public half.
    pub client_key: PublicKey,
}

/// How this node stands to a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// It was given no seed, or none that it could use: why.
    None {
        /// What was wrong with the seed, if there was one.
        problem: Option<String>,
    },
    /// It knows its fleet, and waits for a workstation.
    Waiting {
        /// Whether it has a token; without one it has to be approved.
        token: bool,
    },
    /// It has a certificate.
    Enrolled {
        /// Until when, in seconds since 1970.
        until_s: u64,
    },
    /// It had one, and nobody has renewed it in time.
    Ended,
}

/// What a node has to show, and whom it believes.
#[derive(Debug)]
pub struct Membership {
    folder: PathBuf,
    own: Own,
    seed: Option<Seed>,
    roster: Option<(SignedRoster, Roster)>,
    /// Keys that were revoked at any time, as text: no roster takes one back.
    revoked: BTreeMap<Fingerprint, String>,
    problem: Option<String>,
}

impl Membership {
    /// Reads the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`TrustError`], naming the file: what cannot be read is not taken for nothing.
    pub fn open(folder: &Path, own: Own) -> Result<Self, TrustError> {
        private_folder(folder)?;
        let seed = match read(&folder.join(SEED))? {
            Some(text) => {
                Some(Seed::parse(text.as_bytes()).map_err(TrustError::format(&folder.join(SEED)))?)
            }
            None => None,
        };
        let mut membership = Self {
            folder: folder.to_owned(),
            own,
            seed,
            roster: None,
            revoked: BTreeMap::new(),
            problem: read(&folder.join(PROBLEM))?,
        };
        membership.roster = membership.stored()?;
        let path = membership.revoked_file();
        for line in read(&path)?.unwrap_or_default().lines() {
            let key = PublicKey::from_openssh(line).map_err(TrustError::format(&path))?;
            membership.revoked.insert(fingerprint(&key), line.to_owned());
        }
        membership.derive()?;
        Ok(membership)
    }

    fn stored(&self) -> Result<Option<(SignedRoster, Roster)>, TrustError> {
        let path = self.folder.join(ROSTER);
        let Some(text) = read(&path)? else { return Ok(None) };
        let signed: SignedRoster =
            serde_json::from_str(&text).map_err(TrustError::format(&path))?;
        // It was verified when it came, and only root writes here. Its own keys vouch for it.
        let unproved = signed.trusted().map_err(TrustError::format(&path))?;
        Ok(Some((signed, unproved)))
    }

    /// Which node this is.
    #[must_use]
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// The keys whose signatures count, the fleet's present one first; none without a fleet.
    #[must_use]
    pub fn authorities(&self) -> Vec<PublicKey> {
        match (&self.roster, &self.seed) {
            (Some((_, roster)), _) => roster.authorities.clone(),
            (None, Some(seed)) => vec![seed.authority.clone()],
            (None, None) => Vec::new(),
        }
    }

    /// What boards of this fleet announce: more than one while its key is being replaced.
    #[must_use]
    pub fn tags(&self) -> Vec<FleetTag> {
        self.authorities().iter().filter_map(fleet_tag).collect()
    }

    /// What this node announces of its fleet.
    #[must_use]
    pub fn tag(&self) -> Option<FleetTag> {
        fleet_tag(self.authorities().first()?)
    }

    /// What shows that this node was given a token.
    #[must_use]
    pub fn proof(&self) -> Option<Proof> {
        let host_key = fingerprint(self.own.host_key.as_ref()?);
        self.token()?.proof(&self.own.id, &host_key)
    }

    fn token(&self) -> Option<TokenKey> {
        Some(self.seed.as_ref()?.token()?.key())
    }

    /// Whether it still has a token.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token().is_some()
    }

    /// What is known of the fleet, if anything is.
    #[must_use]
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref().map(|(_, roster)| roster)
    }

    /// The same, as it is passed on.
    #[must_use]
    pub fn signed(&self) -> Option<&SignedRoster> {
        self.roster.as_ref().map(|(signed, _)| signed)
    }

    /// No time before this is right, in seconds since 1970: things that were made then are here.
    #[must_use]
    pub fn earliest_s(&self) -> u64 {
        let seed_s = self.seed.as_ref().map_or(0, |seed| seed.made_s);
        seed_s.max(self.roster().map_or(0, |roster| roster.made_s))
    }

    /// Whether a key was revoked.
    #[must_use]
    pub fn is_revoked(&self, key: &Fingerprint) -> bool {
        self.revoked.contains_key(key)
    }

    /// The certificate that sshd shows, if there is a good one.
    #[must_use]
    pub fn host_certificate(&self, now_s: u64) -> Option<Checked> {
        let key = self.own.host_key.as_ref()?;
        let text = read(&self.host_file()).ok()??;
        Purpose::Host.check(&text, key, &self.own.id, &self.authorities(), now_s).ok()
    }

    /// The certificate that ssh shows, if there is a good one.
    #[must_use]
    pub fn user_certificate(&self, now_s: u64) -> Option<Checked> {
        let text = read(&self.user_file()).ok()??;
        let key = &self.own.client_key;
        Purpose::User.check(&text, key, names::USER, &self.authorities(), now_s).ok()
    }

    /// Whether a user certificate for this node is good, and of a newer key of the fleet than the one
    /// it has, or lasts longer.
    #[must_use]
    pub fn is_better(&self, text: &str, now_s: u64) -> bool {
        let (key, authorities) = (&self.own.client_key, self.authorities());
        let Ok(new) = Purpose::User.check(text, key, names::USER, &authorities, now_s) else {
            return false;
        };
        let Some(old) = self.user_certificate(now_s) else { return true };
        let is_present = |it: Checked| authorities.first().map(fingerprint) == Some(it.signed_by);
        (is_present(new), new.until_s) > (is_present(old), old.until_s)
    }

    /// How this node stands to its fleet.
    #[must_use]
    pub fn enrolment(&self, now_s: u64) -> Enrolment {
        if self.authorities().is_empty() {
            return Enrolment::None { problem: self.problem.clone() };
        }
        let user = self.user_certificate(now_s);
        let certificate = match &self.own.host_key {
            Some(_) => self.host_certificate(now_s).filter(|_| user.is_some()),
            None => user,
        };
        match certificate {
            Some(Checked { until_s, .. }) if !self.has_token() => Enrolment::Enrolled { until_s },
            Some(_) => Enrolment::Waiting { token: true },
            None if self.has_token() || !self.user_file().exists() => {
                Enrolment::Waiting { token: self.has_token() }
            }
            None => Enrolment::Ended,
        }
    }

    /// Takes what a seed gives. One of another fleet replaces everything; one that was taken before
    /// changes nothing.
    ///
    /// # Errors
    /// [`TrustError`]; to be tried again then, which is harmless.
    pub fn adopt(&mut self, seed: Seed) -> Result<(), TrustError> {
        if self.seed.as_ref().is_some_and(|known| known.is_followed_by(&seed)) {
            return self.forget_problem();
        }
        if !self.authorities().contains(&seed.authority) {
            for file in [
                self.folder.join(ROSTER),
                self.host_file(),
                self.user_file(),
                self.earlier_user_file(),
                self.revoked_file(),
            ] {
                remove(&file)?;
            }
            self.roster = None;
            self.revoked.clear();
        }
        self.keep(Seed { wifi: None, ..seed })?;
        self.forget_problem()?;
        self.derive()
    }

    /// Whether an invitation is from the fleet that this node belongs to.
    #[must_use]
    pub fn knows(&self, invitation: &Invitation) -> bool {
        invitation.roster.verified(&self.authorities()).is_ok()
    }

    /// Takes what an invitation gives, all of which is checked before. One of another fleet replaces
    /// everything.
    ///
    /// # Errors
    /// [`TrustError`]; to be tried again then, which is harmless, if it could not be written.
    pub fn join(&mut self, invitation: &Invitation, now_s: u64) -> Result<(), TrustError> {
        let Invitation { authority, id, certificate, roster, .. } = invitation;
        if *id != self.own.id {
            let (invited, own) = (id.clone(), self.own.id.clone());
            return Err(TrustError::OtherMachine { invited, own });
        }
        let authorities = std::slice::from_ref(authority);
        let made_s = roster.verified(authorities)?.made_s;
        let key = &self.own.client_key;
        Purpose::User.check(certificate, key, names::USER, authorities, now_s)?;
        // One that this node's fleet has signed tells of a new key of it.
        if self.knows(invitation) {
            self.accept(roster)?;
        }
        self.adopt(Seed::new(authority.clone(), None, made_s))?;
        self.accept(roster)?;
        self.install(None, certificate, now_s).map(drop)
    }

    /// Notes why a seed could not be taken, for people.
    ///
    /// # Errors
    /// [`TrustError::File`].
    pub fn note_problem(&mut self, problem: &str) -> Result<(), TrustError> {
        let path = self.folder.join(PROBLEM);
        write_atomically(&path, problem.as_bytes(), 0o644)
            .map_err(TrustError::file("write", &path))?;
        self.problem = Some(problem.to_owned());
        Ok(())
    }

    /// Forgets it: there is no such seed any more.
    ///
    /// # Errors
    /// [`TrustError::File`].
    pub fn forget_problem(&mut self) -> Result<(), TrustError> {
        remove(&self.folder.join(PROBLEM))?;
        self.problem = None;
        Ok(())
    }

    /// Takes certificates for this node's keys, having checked them. Whether they are other ones
    /// than before.
    ///
    /// # Errors
    /// [`TrustError`]: nothing has changed then, or the user's certificate only.
    pub fn install(
        &mut self,
        host: Option<&str>,
        user: &str,
        now_s: u64,
    ) -> Result<bool, TrustError> {
        let authorities = self.authorities();
        let client_key = &self.own.client_key;
        if let (Some(text), Some(key)) = (host, &self.own.host_key) {
            Purpose::Host.check(text, key, &self.own.id, &authorities, now_s)?;
        }
        let new = Purpose::User.check(user, client_key, names::USER, &authorities, now_s)?;
        // Who has not heard of the fleet's new key yet still believes the old one.
        if self.user_certificate(now_s).is_some_and(|old| old.signed_by != new.signed_by) {
            let old = read(&self.user_file())?.unwrap_or_default();
            self.put(&self.earlier_user_file(), &old)?;
        }
        let changed = self.put(&self.user_file(), user)?;
        match (host, &self.own.host_key) {
            (Some(text), Some(_)) => Ok(self.put(&self.host_file(), text)? || changed),
            _ => Ok(changed),
        }
    }

    fn put(&self, path: &Path, certificate: &str) -> Result<bool, TrustError> {
        let text = format!("{}\n", certificate.trim());
        let changed = read(path)?.as_deref() != Some(&text);
        write_atomically(path, text.as_bytes(), 0o644).map_err(TrustError::file("write", path))?;
        Ok(changed)
    }

    /// Forgets the token: the certificates do from now on.
    ///
    /// # Errors
    /// [`TrustError::NotCertified`] if there is no good certificate, or another [`TrustError`].
    pub fn drop_token(&mut self, now_s: u64) -> Result<(), TrustError> {
        if !self.has_token() {
            return Ok(());
        }
        if self.host_certificate(now_s).is_none() || self.user_certificate(now_s).is_none() {
            return Err(TrustError::NotCertified);
        }
        let Some(seed) = &self.seed else { return Ok(()) };
        self.keep(Seed::new(seed.authority.clone(), None, seed.made_s))
    }

    fn keep(&mut self, seed: Seed) -> Result<(), TrustError> {
        let path = self.folder.join(SEED);
        let text = seed.to_toml().map_err(TrustError::format(&path))?;
        write_atomically(&path, text.as_bytes(), 0o600)
            .map_err(TrustError::file("write", &path))?;
        self.seed = Some(seed);
        Ok(())
    }

    /// Believes a roster that is newer and signed by a key that counts; whether it was.
    ///
    /// # Errors
    /// [`TrustError::Roster`] if its signature does not count, or another [`TrustError`].
    pub fn accept(&mut self, signed: &SignedRoster) -> Result<bool, TrustError> {
        let roster = signed.verified(&self.authorities())?;
        if self.roster().is_some_and(|known| known.number >= roster.number) {
            return Ok(false);
        }
        self.replace(signed.clone(), roster)?;
        Ok(true)
    }

    /// Takes a roster of this machine's own making.
    pub(super) fn replace(
        &mut self,
        signed: SignedRoster,
        roster: Roster,
    ) -> Result<(), TrustError> {
        let path = self.folder.join(ROSTER);
        let text = serde_json::to_vec(&signed).map_err(TrustError::format(&path))?;
        write_atomically(&path, &text, 0o644).map_err(TrustError::file("write", &path))?;
        self.roster = Some((signed, roster));
        self.derive()
    }

    /// Writes what sshd and ssh read. A file without keys lets nobody in, and a missing list of revoked
    /// keys makes sshd refuse all.
    fn derive(&mut self) -> Result<(), TrustError> {
        let revoked = self.roster.iter().flat_map(|(_, roster)| &roster.revoked);
        let revoked = revoked.flat_map(|it| &it.keys);
        let revoked: Vec<_> =
            revoked.filter_map(|key| Some((fingerprint(key), key_text(key)?))).collect();
        self.revoked.extend(revoked);
        let authorities: Vec<_> = self.authorities().iter().filter_map(key_text).collect();
        let revoked = self.revoked.values().map(|line| format!("{line}\n"));
        write_list(&self.revoked_file(), &revoked.collect::<String>())?;
        let authorities = authorities.iter().map(|line| format!("{line}\n"));
        write_list(
            &self.folder.join(file_name(names::AUTHORITIES_FILE)),
            &authorities.collect::<String>(),
        )
    }

    /// Where sshd looks for its certificate.
    #[must_use]
    pub fn host_file(&self) -> PathBuf {
        self.folder.join(file_name(names::HOST_CERTIFICATE_FILE))
    }

    /// Where this node's own certificate is.
    #[must_use]
    pub fn user_file(&self) -> PathBuf {
        let mut name = self.own.identity.as_os_str().to_owned();
        name.push("-cert.pub");
        name.into()
    }

    /// Where the one is that an earlier key of the fleet has signed.
    #[must_use]
    pub fn earlier_user_file(&self) -> PathBuf {
        let mut name = self.own.identity.as_os_str().to_owned();
        name.push("-earlier-cert.pub");
        name.into()
    }

    /// Keys that nobody believes any more, one a line.
    #[must_use]
    pub fn revoked_file(&self) -> PathBuf {
        self.folder.join(file_name(names::REVOKED_FILE))
    }
}

/// A text file, if it is there.
fn read(path: &Path) -> Result<Option<String>, TrustError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TrustError::file("read", path)(error)),
    }
}

fn write_list(path: &Path, text: &str) -> Result<(), TrustError> {
    write_atomically(path, text.as_bytes(), 0o644).map_err(TrustError::file("write", path))
}

/// The last part of a shared path: tests have folders of their own.
fn file_name(path: &'static str) -> &'static str {
    path.rsplit('/').next().unwrap_or(path)
}
