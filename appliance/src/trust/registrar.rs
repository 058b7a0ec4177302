//! What only the machine does that holds the fleet's key: it enrols, renews, revokes and invites.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ssh_key::PublicKey;
use zeroize::Zeroizing;

use super::{
    Fingerprint, TrustError,
    authority::{Authority, fingerprint_text},
    certificate::Purpose,
    invitation::{Invitation, JoinRequest},
    membership::Membership,
    order::{Order, SignedOrder},
    roster::{BadRoster, Member, Role, Roster, SignedRoster},
    tokens::{Holder, Tokens, remove},
};
use crate::{durable::write_atomically, names};

const KEY: &str = "ca";
/// The key that is being replaced.
const PREVIOUS: &str = "ca-previous";
const APPROVED: &str = "approved";

/// A fleet's key, and who may still come.
#[derive(Debug)]
pub struct Registrar {
    folder: PathBuf,
    authority: Authority,
    previous: Option<Authority>,
    /// The tokens that were given out.
    pub tokens: Tokens,
    approved: Vec<Holder>,
}

/// The certificates of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// For its host key; none if nobody connects to it.
    pub host: Option<String>,
    /// For its client key.
    pub user: String,
}

impl Registrar {
    /// Where the fleet's key is: the one file to keep a copy of.
    #[must_use]
    pub fn key_file(folder: &Path) -> PathBuf {
        folder.join(KEY)
    }

    /// Makes a fleet's key.
    ///
    /// # Errors
    /// [`TrustError::FleetExists`], or another [`TrustError`].
    pub fn init(folder: &Path, now_s: u64) -> Result<Self, TrustError> {
        let authority = Authority::init(&Self::key_file(folder))?;
        Self::with(folder, authority, now_s)
    }

    /// Reads what there is, if this machine holds a fleet's key.
    ///
    /// # Errors
    /// [`TrustError`], naming the file.
    pub fn open(folder: &Path, now_s: u64) -> Result<Option<Self>, TrustError> {
        match Authority::load(&Self::key_file(folder))? {
            Some(authority) => Self::with(folder, authority, now_s).map(Some),
            None => Ok(None),
        }
    }

    fn with(folder: &Path, authority: Authority, now_s: u64) -> Result<Self, TrustError> {
        let approved = folder.join(APPROVED);
        Ok(Self {
            folder: folder.to_owned(),
            // The same key is what a rotation leaves that was interrupted before it began.
            previous: Authority::load(&folder.join(PREVIOUS))?
                .filter(|previous| previous.public() != authority.public()),
            // Beside the key, so that whoever watches the folder is told of tokens, too.
            tokens: Tokens::open(folder, now_s)?,
            approved: match fs::read(&approved) {
                Ok(text) => serde_json::from_slice(&text).map_err(TrustError::format(&approved))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(TrustError::file("read", &approved)(error)),
            },
            authority,
        })
    }

    /// The fleet's key.
    #[must_use]
    pub fn authority(&self) -> PublicKey {
        self.authority.public()
    }

    /// Whether the key is being replaced.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.previous.is_some()
    }

    /// Whether a board was let in by hand.
    #[must_use]
    pub fn is_approved(&self, id: &str, host_key: &Fingerprint) -> bool {
        self.approved.contains(&Holder::new(id, host_key))
    }

    /// Whether a board can be let in at all.
    ///
    /// # Errors
    /// [`TrustError::Revoked`] or [`TrustError::IdTaken`].
    pub fn check_admissible(
        &self,
        membership: &Membership,
        id: &str,
        host_key: &Fingerprint,
    ) -> Result<(), TrustError> {
        let roster = membership.roster();
        if membership.is_revoked(host_key) {
            let known = roster.and_then(|roster| roster.revoked(host_key));
            return Err(TrustError::Revoked { name: known.map_or(id, |it| &it.name).to_owned() });
        }
        match roster.and_then(|roster| roster.member(id)) {
            Some(known) if roster.is_none_or(|it| it.board(id, host_key).is_none()) => {
                let (id, name) = (known.id.clone(), known.name.clone());
                Err(TrustError::IdTaken { id, name })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Lets a board in by hand: somebody has compared its fingerprint.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn approve(&mut self, board: Holder) -> Result<(), TrustError> {
        if !self.approved.contains(&board) {
            self.approved.push(board);
        }
        self.save_approved()
    }

    fn save_approved(&self) -> Result<(), TrustError> {
        let path = self.folder.join(APPROVED);
        let text = serde_json::to_vec(&self.approved).map_err(TrustError::format(&path))?;
        write_atomically(&path, &text, 0o600).map_err(TrustError::file("write", &path))
    }

    /// Whether there is something that let this board in, and is to be forgotten.
    #[must_use]
    pub fn awaits(&self, board: &Holder) -> bool {
        self.tokens.awaits(board) || self.approved.contains(board)
    }

    /// Forgets what let this board in: it is in.
    ///
    /// # Errors
    /// [`TrustError`]; harmless to be tried again.
    pub fn settle(&mut self, board: &Holder) -> Result<(), TrustError> {
        self.tokens.spend(board)?;
        if self.approved.contains(board) {
            self.approved.retain(|it| it != board);
            self.save_approved()?;
        }
        Ok(())
    }

    /// Signs an order to a board. While the key is being replaced both sign: the board may know one.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn order(&self, order: &Order) -> Result<SignedOrder, TrustError> {
        self.authority.sign_order(self.previous.as_ref(), order)
    }

    /// Certificates for a node.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn certify(
        &self,
        id: &str,
        host_key: Option<&PublicKey>,
        client_key: &PublicKey,
        now_s: u64,
    ) -> Result<Certificates, TrustError> {
        let host = host_key.map(|key| self.authority.certify_host(key, id, now_s)).transpose()?;
        Ok(Certificates { host, user: self.authority.certify_user(client_key, id, now_s)? })
    }

    /// Gives this machine's own node certificates and a place in the roster, where it lacks them.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn certify_own(
        &self,
        membership: &mut Membership,
        role: Role,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let own = membership.own().clone();
        if membership.authorities().first() != Some(&self.authority()) {
            self.publish(membership, self.roster(membership, now_s), now_s)?;
        }
        let key = super::fingerprint(&self.authority());
        let current = |it: super::Checked| it.signed_by == key && !it.is_due(now_s);
        let certified = membership.user_certificate(now_s).is_some_and(current)
            && (own.host_key.is_none() || membership.host_certificate(now_s).is_some_and(current));
        if !certified {
            let Certificates { host, user } =
                self.certify(&own.id, own.host_key.as_ref(), &own.client_key, now_s)?;
            membership.install(host.as_deref(), &user, now_s)?;
        }
        let member = self.member(&own.id, &own.name, role, own.host_key.clone(), own.client_key);
        // This machine may have been set up anew since the others were told of it.
        let taken =
            |it: &Roster| matches!(it.with(member.clone()), Err(TrustError::IdTaken { .. }));
        let mut roster = self.roster(membership, now_s);
        if taken(&roster) {
            roster.members.retain(|it| it.id != own.id);
            self.publish(membership, roster, now_s)?;
        }
        self.enlist(membership, member, now_s)?;
        self.renew_invited(membership, now_s)
    }

    /// Renews the certificates of nodes that nobody connects to: they find them in the roster.
    fn renew_invited(&self, membership: &mut Membership, now_s: u64) -> Result<(), TrustError> {
        let roster = self.roster(membership, now_s);
        let key = super::fingerprint(&self.authority());
        let current = |member: &Member, text: &str| {
            let authorities = [self.authority()];
            let check =
                Purpose::User.check(text, &member.client_key, names::USER, &authorities, now_s);
            check.is_ok_and(|it| it.signed_by == key && !it.is_due(now_s))
        };
        for member in &roster.members {
            let Some(text) = &member.certificate else { continue };
            if !current(member, text) {
                let certificate =
                    self.authority.certify_user(&member.client_key, &member.id, now_s)?;
                let signed_by = fingerprint_text(&self.authority());
                let renewed =
                    Member { certificate: Some(certificate), signed_by, ..member.clone() };
                self.enlist(membership, renewed, now_s)?;
            }
        }
        Ok(())
    }

    /// A node, as it stands in the roster; since when is seen when it is put there.
    #[must_use]
    pub fn member(
        &self,
        id: &str,
        name: &str,
        role: Role,
        host_key: Option<PublicKey>,
        client_key: PublicKey,
    ) -> Member {
        Member {
            id: id.to_owned(),
            name: name.to_owned(),
            role,
            host_key,
            client_key,
            since_s: 0,
            signed_by: fingerprint_text(&self.authority()),
            certificate: None,
        }
    }

    /// Puts a node into the roster, unless it is there as it is.
    ///
    /// # Errors
    /// [`TrustError::IdTaken`], [`TrustError::Revoked`], or that it cannot be written.
    pub fn enlist(
        &self,
        membership: &mut Membership,
        member: Member,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let roster = self.roster(membership, now_s);
        let since_s = roster.member(&member.id).map_or(now_s, |known| known.since_s);
        let next = roster.with(Member { since_s, ..member })?;
        if next.says_the_same(&roster) {
            return Ok(());
        }
        self.publish(membership, next, now_s)
    }

    /// Lets in a node that nobody connects to, with what it has to be told.
    ///
    /// # Errors
    /// Those of [`Registrar::enlist`].
    pub fn invite(
        &self,
        membership: &mut Membership,
        request: &JoinRequest,
        now_s: u64,
    ) -> Result<Invitation, TrustError> {
        let JoinRequest { id, name, key, .. } = request;
        let certificate = self.authority.certify_user(key, id, now_s)?;
        let member = self.member(id, name, Role::Workstation, None, key.clone());
        let member = Member { certificate: Some(certificate.clone()), ..member };
        self.enlist(membership, member, now_s)?;
        let roster = membership.signed().cloned();
        let roster = roster.ok_or(BadRoster::NoAuthority)?;
        Ok(Invitation::new(self.authority(), id.clone(), certificate, roster))
    }

    /// Sends a node away.
    ///
    /// # Errors
    /// [`TrustError::Unknown`], [`TrustError::Ambiguous`], [`TrustError::Own`], or that it cannot be
    /// written.
    pub fn revoke(
        &self,
        membership: &mut Membership,
        called: &str,
        now_s: u64,
    ) -> Result<Member, TrustError> {
        let roster = self.roster(membership, now_s);
        let member = roster.called(called)?.clone();
        if member.id == membership.own().id {
            return Err(TrustError::Own { name: member.name });
        }
        self.publish(membership, roster.without(&member, now_s), now_s)?;
        Ok(member)
    }

    /// Takes in what another node knows of the fleet; whether there was anything new.
    ///
    /// # Errors
    /// [`TrustError::Roster`] if its signature does not count, or another [`TrustError`].
    pub fn merge(
        &self,
        membership: &mut Membership,
        signed: &SignedRoster,
        now_s: u64,
    ) -> Result<bool, TrustError> {
        let other = signed.verified(&membership.authorities())?;
        let roster = self.roster(membership, now_s);
        let merged = roster.merged(&other);
        // Whose signatures count is this machine's to say.
        let merged = Roster { authorities: roster.authorities.clone(), ..merged };
        if merged.says_the_same(&roster) && roster.number >= other.number {
            return Ok(false);
        }
        // Of two machines with the fleet's key, neither has to have the last word.
        if merged.says_the_same(&other) && other.number > roster.number {
            membership.replace(signed.clone(), other)?;
            return Ok(true);
        }
        self.publish(membership, merged, now_s)?;
        Ok(true)
    }

    /// What is known of this key's fleet. A new key that the roster does not name yet, since a
    /// rotation was interrupted, comes first; a roster of another fleet does not count.
    fn roster(&self, membership: &Membership, now_s: u64) -> Roster {
        let own = self.authority();
        let previous = self.previous.as_ref().map(Authority::public);
        match membership.roster() {
            Some(known) if known.authorities.contains(&own) => known.clone(),
            Some(known) if previous.is_some_and(|key| known.authorities.contains(&key)) => {
                let authorities = [&[own], known.authorities.as_slice()].concat();
                Roster { authorities, ..known.clone() }
            }
            Some(_) | None => Roster::new(own, now_s),
        }
    }

    fn publish(
        &self,
        membership: &mut Membership,
        roster: Roster,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let roster = Roster { number: roster.number + 1, made_s: now_s, ..roster };
        let signed = match &self.previous {
            Some(previous) => self.authority.sign_with(previous, &roster)?,
            None => self.authority.sign(&roster)?,
        };
        membership.replace(signed, roster)
    }

    /// Makes a new key for the fleet. Until [`Registrar::finish_rotation`] both count.
    ///
    /// # Errors
    /// [`TrustError::Rotation`] if one is under way, or that it cannot be written.
    pub fn rotate(
        &mut self,
        membership: &mut Membership,
        now_s: u64,
    ) -> Result<PublicKey, TrustError> {
        if self.is_rotating() {
            let why =
                "the fleet's key is being replaced already; `roost fleet rotate --finish` ends it";
            return Err(TrustError::Rotation(why.to_owned()));
        }
        let (key, previous) = (self.folder.join(KEY), self.folder.join(PREVIOUS));
        let next = self.folder.join("ca-next");
        // A rotation that was interrupted before this begins anew.
        remove(&next)?;
        let authority = Authority::init(&next)?;
        let text = fs::read(&key).map(Zeroizing::new).map_err(TrustError::file("read", &key))?;
        write_atomically(&previous, &text, 0o600).map_err(TrustError::file("write", &previous))?;
        fs::rename(&next, &key)
            .and_then(|()| fs::File::open(&self.folder)?.sync_all())
            .map_err(TrustError::file("write", &key))?;
        self.previous = Some(std::mem::replace(&mut self.authority, authority));
        self.publish(membership, self.roster(membership, now_s), now_s)?;
        Ok(self.authority())
    }

    /// Ends a rotation: the old key counts no longer, and is removed.
    ///
    /// # Errors
    /// [`TrustError::Rotation`] if there is none, or if nodes have no new certificate yet and
    /// `even_so` is not set.
    pub fn finish_rotation(
        &mut self,
        membership: &mut Membership,
        even_so: bool,
        now_s: u64,
    ) -> Result<(), TrustError> {
        if !self.is_rotating() {
            let why = "the fleet's key is not being replaced; `roost fleet rotate` begins it";
            return Err(TrustError::Rotation(why.to_owned()));
        }
        let roster = self.roster(membership, now_s);
        let key = fingerprint_text(&self.authority());
        let late: Vec<_> = roster.members.iter().filter(|it| it.signed_by != key).collect();
        if !late.is_empty() && !even_so {
            let names: Vec<_> = late.iter().map(|it| it.name.as_str()).collect();
            return Err(TrustError::Rotation(format!(
                "{} still shows certificates of the old key, and gets new ones as soon as it is \
                 connected; --force ends the old key all the same, and such nodes have to be seeded \
                 again once their certificates have ended",
                names.join(", "),
            )));
        }
        let authorities = vec![self.authority()];
        self.publish(membership, Roster { authorities, ..roster }, now_s)?;
        remove(&self.folder.join(PREVIOUS))?;
        self.previous = None;
        Ok(())
    }
}
