//! The tokens that this workstation has given out: a file each, readable by root alone.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use board_support::Announcement;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Fingerprint, Secret, TrustError, private_folder,
    token::{Token, TokenId, TokenKey},
};
use crate::durable::write_atomically;

/// Tokens at once, spent ones included.
const MAX_TOKENS: usize = 1000;
/// How long it is remembered who used a token: a second board that shows it is told so.
const REMEMBERED_S: u64 = 30 * 24 * 3600;

/// A board, as a token remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its id.
    pub id: String,
    /// Its host key's fingerprint, as `SHA256:…`.
    pub host_key: String,
}

impl Holder {
    /// The board with this id and host key.
    #[must_use]
    pub fn new(id: &str, host_key: &Fingerprint) -> Self {
        let host_key = ssh_key::Fingerprint::Sha256(*host_key).to_string();
        Self { id: id.to_owned(), host_key }
    }
}

/// What has become of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Nobody has shown it.
    Unused { key: Secret },
    /// A board has proved it and is being enrolled.
    Bound { key: Secret, to: Holder },
    /// A board has been enrolled with it. The key is gone.
    Spent { by: Holder },
}

impl State {
    fn key(&self, id: TokenId) -> Option<TokenKey> {
        match self {
            Self::Unused { key } | Self::Bound { key, .. } => TokenKey::parse(id, key),
            Self::Spent { .. } => None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    made_s: u64,
    expires_s: u64,
    for_board: Option<String>,
    state: State,
}

/// A token, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenView {
    /// Its public id.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// When it ends, if it is not used.
    pub expires_s: u64,
    /// The first `compatible` of the only kind of board that may use it.
    pub for_board: Option<String>,
    /// `unused`, `bound` or `spent`.
    pub state: &'static str,
    /// The board that proved it.
    pub holder: Option<Holder>,
}

/// Why a proof lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token with this id.
    #[error("its proof is of no token that this workstation knows: a new seed lets it in")]
    Unknown,
    /// The proof was not made with the token, or for another id or host key.
    #[error("its proof does not fit its id and host key: it was copied or made up")]
    Wrong,
    /// Too late.
    #[error("its token has expired: a new seed lets it in")]
    Expired,
    /// Another board was first.
    #[error("its token belongs to board {} ({}): was one card copied? a seed of its own lets it in", .0.id, .0.host_key)]
    Taken(Holder),
    /// It is for other hardware.
    #[error("its token is for {wanted}, and it says that it is {found:?}")]
    OtherBoard {
        /// What the token is for.
        wanted: String,
        /// What the board says.
        found: String,
    },
}

/// All of them, in memory as on disk.
#[derive(Debug)]
pub struct Tokens {
    folder: PathBuf,
    records: BTreeMap<TokenId, Record>,
}

impl Tokens {
    /// Reads the tokens in a folder, which is made if it is not there. What is too old is removed.
    ///
    /// # Errors
    /// [`TrustError`], naming the file.
    pub fn open(folder: &Path, now_s: u64) -> Result<Self, TrustError> {
        private_folder(folder)?;
        let mut tokens = Self { folder: folder.to_owned(), records: BTreeMap::new() };
        let listed = fs::read_dir(folder).map_err(TrustError::file("list", folder))?;
        for entry in listed {
            let path = entry.map_err(TrustError::file("list", folder))?.path();
            let stem = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
            let Some(id) = stem.and_then(TokenId::parse) else { continue };
            let text = fs::read(&path).map(Zeroizing::new);
            let text = text.map_err(TrustError::file("read", &path))?;
            // What serde says may quote the key.
            let place = |error: serde_json::Error| format!("line {}", error.line());
            let record = serde_json::from_slice(&text).map_err(place);
            let record = record.map_err(TrustError::format(&path))?;
            tokens.records.insert(id, record);
        }
        tokens.tidy(now_s)?;
        Ok(tokens)
    }

    /// A new token, on disk before it is given to anybody.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn issue(
        &mut self,
        valid_s: u64,
        for_board: Option<String>,
        now_s: u64,
    ) -> Result<Token, TrustError> {
        if self.records.len() >= MAX_TOKENS {
            return Err(TrustError::TooManyTokens { max: MAX_TOKENS });
        }
        let token = Token::random()?;
        let key = token.key();
        let record = Record {
            made_s: now_s,
            expires_s: now_s.saturating_add(valid_s),
            for_board,
            state: State::Unused { key: key.to_text().into() },
        };
        self.put(key.id(), record)?;
        Ok(token)
    }

    /// Whether what a board announces lets it in: the token that does, or why none does.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(&self, board: &Announcement, now_s: u64) -> Result<TokenId, Refusal> {
        let proof = board.proof.as_ref().ok_or(Refusal::Unknown)?;
        let id = TokenId::of(proof).ok_or(Refusal::Unknown)?;
        let record = self.records.get(&id).ok_or(Refusal::Unknown)?;
        let holder = Holder::new(board.id.as_str(), &board.host_key.0);
        if let State::Spent { by } = &record.state {
            return if *by == holder { Ok(id) } else { Err(Refusal::Taken(by.clone())) };
        }
        let key = record.state.key(id).ok_or(Refusal::Unknown)?;
        if !key.verify(board.id.as_str(), &board.host_key.0, proof) {
            return Err(Refusal::Wrong);
        }
        if let State::Bound { to, .. } = &record.state {
            return if *to == holder { Ok(id) } else { Err(Refusal::Taken(to.clone())) };
        }
        if now_s >= record.expires_s {
            return Err(Refusal::Expired);
        }
        let found = board.board.as_ref().map(ToString::to_string).unwrap_or_default();
        match &record.for_board {
            Some(wanted) if *wanted != found => {
                Err(Refusal::OtherBoard { wanted: wanted.clone(), found })
            }
            _ => Ok(id),
        }
    }

    /// Binds a token to the first board that proved it. Harmless if it is this board's already.
    ///
    /// # Errors
    /// [`TrustError::Token`] if another board was faster, or another [`TrustError`]: it is not bound
    /// then.
    pub fn bind(&mut self, id: TokenId, to: Holder, now_s: u64) -> Result<(), TrustError> {
        let record = self.records.get(&id).ok_or(Refusal::Unknown)?;
        let key = match &record.state {
            // It was good when the board was judged, which may be a while ago.
            State::Unused { .. } if now_s >= record.expires_s => {
                return Err(Refusal::Expired.into());
            }
            State::Unused { key } => key.clone(),
            State::Bound { to: holder, .. } | State::Spent { by: holder } if *holder == to => {
                return Ok(());
            }
            State::Bound { to: holder, .. } | State::Spent { by: holder } => {
                return Err(Refusal::Taken(holder.clone()).into());
            }
        };
        let state = State::Bound { key, to };
        self.put(id, Record { state, ..record.clone() })
    }

    /// Whether a token has done its duty.
    #[must_use]
    pub fn is_spent(&self, id: TokenId) -> bool {
        self.records.get(&id).is_some_and(|it| matches!(it.state, State::Spent { .. }))
    }

    /// Whether a token is bound to this board.
    #[must_use]
    pub fn awaits(&self, holder: &Holder) -> bool {
        let bound =
            |record: &Record| matches!(&record.state, State::Bound { to, .. } if to == holder);
        self.records.values().any(bound)
    }

    /// Drops the key of every token that is bound to this board: it has shown its certificate.
    ///
    /// # Errors
    /// [`TrustError`]; to be tried again.
    pub fn spend(&mut self, holder: &Holder) -> Result<(), TrustError> {
        let bound = |state: &State| matches!(state, State::Bound { to, .. } if to == holder);
        let ids: Vec<_> =
            self.records.iter().filter(|(_, it)| bound(&it.state)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(record) = self.records.get(&id) else { continue };
            let state = State::Spent { by: holder.clone() };
            self.put(id, Record { state, ..record.clone() })?;
        }
        Ok(())
    }

    /// Removes a token that nobody shall use any more; whether there was one.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn withdraw(&mut self, id: TokenId) -> Result<bool, TrustError> {
        if !self.records.contains_key(&id) {
            return Ok(false);
        }
        remove(&self.path(id))?;
        self.records.remove(&id);
        Ok(true)
    }

    /// All tokens, by id.
    #[must_use]
    pub fn list(&self) -> Vec<TokenView> {
        let view = |(id, record): (&TokenId, &Record)| {
            let (state, holder) = match &record.state {
                State::Unused { .. } => ("unused", None),
                State::Bound { to, .. } => ("bound", Some(to.clone())),
                State::Spent { by } => ("spent", Some(by.clone())),
            };
            TokenView {
                id: id.to_string(),
                made_s: record.made_s,
                expires_s: record.expires_s,
                for_board: record.for_board.clone(),
                state,
                holder,
            }
        };
        self.records.iter().map(view).collect()
    }

    /// Removes the keys that have expired, and what was remembered long enough.
    fn tidy(&mut self, now_s: u64) -> Result<(), TrustError> {
        let old = |record: &Record| {
            let kept_s = match record.state {
                State::Unused { .. } => 0,
                State::Bound { .. } | State::Spent { .. } => REMEMBERED_S,
            };
            now_s >= record.expires_s.saturating_add(kept_s)
        };
        let ids: Vec<_> =
            self.records.iter().filter(|(_, it)| old(it)).map(|(id, _)| *id).collect();
        for id in ids {
            self.withdraw(id)?;
        }
        Ok(())
    }

    fn put(&mut self, id: TokenId, record: Record) -> Result<(), TrustError> {
        let path = self.path(id);
        let text = serde_json::to_vec(&record).map(Zeroizing::new);
        let text = text.map_err(TrustError::format(&path))?;
        write_atomically(&path, &text, 0o600).map_err(TrustError::file("write", &path))?;
        self.records.insert(id, record);
        Ok(())
    }

    fn path(&self, id: TokenId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

/// Removes a file, which may not be there, for good: it does not come back when the power is cut.
pub(super) fn remove(path: &Path) -> Result<(), TrustError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let removed = fs::remove_file(path).and_then(|()| fs::File::open(folder)?.sync_all());
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(TrustError::file("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
