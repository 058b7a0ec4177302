//! The roster: who belongs to the fleet, who no longer does, and whose signature counts. Signed by the
//! fleet's key, so that any node can pass it on; a node believes the newest it has seen.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use ssh_key::{PrivateKey, PublicKey};

use super::{
    Fingerprint, TrustError, fingerprint,
    signature::{MAX_SIGNATURES, is_signed, sign},
};

/// The longest roster that is read: about 2000 nodes.
pub const MAX_BYTES: usize = 1 << 20;

/// Keeps these signatures apart from others made with the same key (OpenSSH's PROTOCOL.sshsig).
const NAMESPACE: &str = "roost-roster@roost";
const VERSION: u32 = 1;

/// What a node is in its fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It builds for others.
    Board,
    /// It has others build.
    Workstation,
}

/// A node of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// What it was called when it came.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What its sshd proves itself with, if others connect to it.
    pub host_key: Option<PublicKey>,
    /// What it logs in with.
    pub client_key: PublicKey,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// The fleet's key that signed its certificates, as `SHA256:…`.
    pub signed_by: String,
    /// Its user certificate, if it has no other way to have it renewed.
    pub certificate: Option<String>,
}

/// A node that no longer belongs to the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Its id.
    pub id: String,
    /// What it was called.
    pub name: String,
    /// Its keys, which nobody believes any more.
    pub keys: Vec<PublicKey>,
    /// Since when, in seconds since 1970.
    pub at_s: u64,
}

/// A fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// The version of this format.
    pub(super) version: u32,
    /// Counts up: the higher one is the newer one.
    pub number: u64,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// The keys whose signatures count, the fleet's present one first.
    pub authorities: Vec<PublicKey>,
    /// Its nodes.
    pub members: Vec<Member>,
    /// Those that were sent away.
    pub revoked: Vec<Revoked>,
}

/// Why a roster is not believed.
#[derive(Debug, thiserror::Error)]
pub enum BadRoster {
    /// It is no roster of this version.
    #[error("a roster makes no sense: {0}")]
    Format(String),
    /// Nobody that is trusted here signed it.
    #[error("a roster is not signed by a key that this node trusts")]
    Signature,
    /// There is no room for more in it.
    #[error(
        "the fleet has more nodes, those that were sent away included, than a roster holds: {MAX_BYTES} \
         bytes"
    )]
    Full,
    /// It names no key.
    #[error("a roster names no fleet key")]
    NoAuthority,
}

impl Roster {
    /// The first one of a fleet.
    #[must_use]
    pub fn new(authority: PublicKey, now_s: u64) -> Self {
        let authorities = vec![authority];
        Self { version: VERSION, number: 0, made_s: now_s, authorities, ..Self::default() }
    }

    /// The node with this id.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The node with this id and this host key.
    #[must_use]
    pub fn board(&self, id: &str, host_key: &Fingerprint) -> Option<&Member> {
        self.member(id)
            .filter(|it| it.host_key.as_ref().is_some_and(|key| fingerprint(key) == *host_key))
    }

    /// The one node with this id, or else with this name.
    ///
    /// # Errors
    /// [`TrustError::Unknown`] or [`TrustError::Ambiguous`].
    pub fn called(&self, called: &str) -> Result<&Member, TrustError> {
        if let Some(member) = self.member(called) {
            return Ok(member);
        }
        let named: Vec<_> = self.members.iter().filter(|member| member.name == called).collect();
        match named.as_slice() {
            [] => Err(TrustError::Unknown(called.to_owned())),
            [member] => Ok(member),
            several => Err(TrustError::Ambiguous {
                called: called.to_owned(),
                count: several.len(),
                ids: several.iter().map(|it| it.id.as_str()).collect::<Vec<_>>().join(" or "),
            }),
        }
    }

    /// Who had this key, if it was revoked.
    #[must_use]
    pub fn revoked(&self, key: &Fingerprint) -> Option<&Revoked> {
        self.revoked.iter().find(|it| it.keys.iter().any(|revoked| fingerprint(revoked) == *key))
    }

    /// With a node in it, in the place of what was known of it.
    ///
    /// A node that has proved the host key of another entry is the same machine with a new id, and
    /// takes its place.
    ///
    /// # Errors
    /// [`TrustError::IdTaken`] if the id is another's, [`TrustError::KeyTaken`] if its client key is,
    /// [`TrustError::Revoked`] if one of its keys was revoked.
    pub fn with(&self, member: Member) -> Result<Self, TrustError> {
        let member = Member {
            host_key: member.host_key.as_ref().map(bare),
            client_key: bare(&member.client_key),
            ..member
        };
        let keys = || member.host_key.iter().chain([&member.client_key]);
        if let Some(revoked) = keys().find_map(|key| self.revoked(&fingerprint(key))) {
            return Err(TrustError::Revoked { name: revoked.name.clone() });
        }
        if let Some(known) = self.member(&member.id) {
            let same = match (&known.host_key, &member.host_key) {
                (Some(known), Some(new)) => known.key_data() == new.key_data(),
                _ => known.client_key.key_data() == member.client_key.key_data(),
            };
            if !same {
                let (id, name) = (known.id.clone(), known.name.clone());
                return Err(TrustError::IdTaken { id, name });
            }
        }
        let mut roster = self.clone();
        roster.members.retain(|known| {
            let same_host = known.host_key.is_some() && known.host_key == member.host_key;
            known.id != member.id && !same_host
        });
        // Whoever shows another's key would have it revoked together with its own.
        if let Some(known) = roster.members.iter().find(|it| it.client_key == member.client_key) {
            let (id, name) = (known.id.clone(), known.name.clone());
            return Err(TrustError::KeyTaken { id, name });
        }
        roster.members.push(member);
        roster.members.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(roster)
    }

    /// Without a node, whose keys are believed no longer.
    #[must_use]
    pub fn without(&self, member: &Member, now_s: u64) -> Self {
        let mut roster = self.clone();
        roster.members.retain(|known| known.id != member.id);
        roster.revoked.push(Revoked {
            id: member.id.clone(),
            name: member.name.clone(),
            keys: member.host_key.iter().chain([&member.client_key]).cloned().collect(),
            at_s: now_s,
        });
        roster
    }

    /// What two rosters of one fleet say together: nobody is lost who is in one of them, and nobody is
    /// let in who was revoked in one of them.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let (newer, older) =
            if self.number >= other.number { (self, other) } else { (other, self) };
        let mut roster = newer.clone();
        for revoked in &older.revoked {
            if !roster.revoked.iter().any(|known| known.keys == revoked.keys) {
                roster.revoked.push(revoked.clone());
            }
        }
        for member in &older.members {
            if roster.member(&member.id).is_none() {
                roster.members.push(member.clone());
            }
        }
        let keys = roster.revoked.iter().flat_map(|it| &it.keys);
        let gone: BTreeSet<Fingerprint> = keys.map(fingerprint).collect();
        let gone = |key: &PublicKey| gone.contains(&fingerprint(key));
        roster.members.retain(|it| !it.host_key.iter().chain([&it.client_key]).any(gone));
        roster.members.sort_by(|a, b| a.id.cmp(&b.id));
        roster.revoked.sort_by(|a, b| (a.at_s, &a.id).cmp(&(b.at_s, &b.id)));
        roster
    }

    /// Whether it says the same, whenever it was made.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.authorities == other.authorities
            && self.members == other.members
            && self.revoked == other.revoked
    }
}

/// A key without its comment, so that equal keys are equal.
fn bare(key: &PublicKey) -> PublicKey {
    PublicKey::from(key.key_data().clone())
}

/// A roster and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRoster {
    /// A [`Roster`], as the JSON text that was signed.
    roster: String,
    /// Signatures, armoured (OpenSSH's PROTOCOL.sshsig).
    signatures: Vec<String>,
}

impl SignedRoster {
    pub(super) fn new(roster: &Roster, keys: &[&PrivateKey]) -> Result<Self, TrustError> {
        let text =
            serde_json::to_string(roster).map_err(|error| BadRoster::Format(error.to_string()))?;
        if text.len() > MAX_BYTES {
            return Err(BadRoster::Full.into());
        }
        let signatures =
            sign(NAMESPACE, &text, keys).map_err(TrustError::key("sign the roster"))?;
        Ok(Self { roster: text, signatures })
    }

    /// A roster that was verified before and kept where only root writes: it has to be signed by one
    /// of the keys that it names.
    pub(super) fn trusted(&self) -> Result<Roster, BadRoster> {
        let roster: Roster = serde_json::from_str(&self.roster)
            .map_err(|error| BadRoster::Format(error.to_string()))?;
        self.verified(&roster.authorities)
    }

    /// The roster, if one of `authorities` has signed it.
    ///
    /// # Errors
    /// [`BadRoster`].
    pub fn verified(&self, authorities: &[PublicKey]) -> Result<Roster, BadRoster> {
        if self.roster.len() > MAX_BYTES || self.signatures.len() > MAX_SIGNATURES {
            return Err(BadRoster::Format("it is too long".to_owned()));
        }
        if !is_signed(NAMESPACE, &self.roster, &self.signatures, authorities) {
            return Err(BadRoster::Signature);
        }
        let roster: Roster = serde_json::from_str(&self.roster)
            .map_err(|error| BadRoster::Format(error.to_string()))?;
        if roster.version != VERSION {
            let version = roster.version;
            return Err(BadRoster::Format(format!("version {version} instead of {VERSION}")));
        }
        if roster.authorities.is_empty() {
            return Err(BadRoster::NoAuthority);
        }
        Ok(roster)
    }
}
