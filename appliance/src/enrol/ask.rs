//! The node that connected.

use ssh_key::PublicKey;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader};

use super::messages::{Answer, ChannelError, Described, Request, Shown, VERSION, read, write};
use crate::{
    model::first_line,
    trust::{
        Certificates, Fingerprint, Holder, LIFETIME_S, Role, SignedRoster, TokenId, Trust,
        TrustError, Trusted, fingerprint, fingerprint_text,
    },
};

/// What the other node has proved by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The very host key that it announced with its proof. It is given certificates.
    Key,
    /// That the fleet has certified it.
    Certificate,
}

/// Who is asked: what it announced, and proved.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// Its host key.
    pub host_key: Fingerprint,
    /// The token that it has shown.
    pub token: Option<TokenId>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visited {
    /// Its name, in its own words.
    pub name: String,
    /// The host key that it has proved.
    pub host_key: PublicKey,
    /// When its certificates are to be renewed, in seconds since 1970.
    pub due_s: u64,
    /// The number of the roster that both have now.
    pub roster: u64,
}

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The conversation failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The other node does not do what it should.
    #[error("it refuses to {what}: {why}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its reason.
        why: String,
    },
    /// It ends the conversation where one that knows updates answers.
    #[error(
        "its roost does not know updates: it is too old, or was told to stop; put the system on it by other \
         means once"
    )]
    TooOld,
    /// It is not what it announced.
    #[error("it announced {announced} and calls itself {found}")]
    Other {
        /// What it announced.
        announced: String,
        /// What it says.
        found: String,
    },
    /// Our own part failed.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Brings a node of the fleet and this one to the same knowledge of it. The machine that holds the
/// fleet's key also gives it what it lacks: certificates, and a place in the roster.
///
/// Every step can be interrupted and done again. A board is in the roster, durably, before it is told to
/// drop its token, and the token's key is dropped here after that.
///
/// # Errors
/// [`AskError`].
pub async fn ask(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    trust: &Trust,
    asked: &Asked,
    stage: Stage,
    now_s: u64,
) -> Result<Visited, AskError> {
    let mut visit = Visit { reader: BufReader::new(reader), writer, trust, now_s };
    let mut it = visit.hello(asked).await?;
    if stage == Stage::Certificate {
        visit.learn(&it).await?;
        visit.enlist(&it, asked)?;
    }
    visit.tell(&it).await?;
    if stage == Stage::Key && !visit.is_due(&it) {
        // It has certificates, and proves only its key: its sshd was not told of them.
        visit.done("show its certificate", &Request::Show).await?;
    }
    if visit.is_due(&it) && visit.certify(&it, asked).await? {
        it = visit.hello(asked).await?;
        if stage == Stage::Certificate {
            visit.enlist(&it, asked)?;
            visit.tell(&it).await?;
        }
    }
    if stage == Stage::Certificate && trust.look(|it| it.registrar.is_some()) {
        if it.has_token {
            visit.done("drop its token", &Request::Confirm).await?;
        }
        visit.settle(asked)?;
    }
    let until_s = |shown: &Option<Shown>| shown.as_ref().map_or(0, |shown| shown.until_s);
    Ok(Visited {
        due_s: until_s(&it.host).min(until_s(&it.user)).saturating_sub(LIFETIME_S / 2),
        roster: visit.number(),
        name: it.name,
        host_key: it.host_key,
    })
}

/// Asks for something, and reads the answer.
pub(super) async fn exchange(
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    what: &'static str,
    request: &Request,
) -> Result<Answer, AskError> {
    write(writer, request).await?;
    match read(reader).await? {
        Some(Answer::Refused(why)) => {
            Err(AskError::Refused { what, why: first_line(why.as_bytes()) })
        }
        Some(answer) => Ok(answer),
        None => Err(ChannelError::Closed.into()),
    }
}

struct Visit<'a, R, W> {
    reader: BufReader<R>,
    writer: W,
    trust: &'a Trust,
    now_s: u64,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Visit<'_, R, W> {
    async fn send(&mut self, what: &'static str, request: &Request) -> Result<Answer, AskError> {
        exchange(&mut self.reader, &mut self.writer, what, request).await
    }

    async fn done(&mut self, what: &'static str, request: &Request) -> Result<(), AskError> {
        match self.send(what, request).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(what, &other)),
        }
    }

    /// Who it is; it has to be who it announced, whose key it has proved.
    async fn hello(&mut self, asked: &Asked) -> Result<Described, AskError> {
        let what = "describe itself";
        let hello = Request::Hello { version: VERSION, time_s: self.now_s };
        let it = match self.send(what, &hello).await? {
            Answer::Hello(it) => *it,
            other => return Err(unexpected(what, &other)),
        };
        if it.id != asked.id || fingerprint(&it.host_key) != asked.host_key {
            let found = format!("{:?} with the key {}", it.id, fingerprint_text(&it.host_key));
            return Err(AskError::Other { announced: asked.id.clone(), found });
        }
        Ok(Described { name: first_line(it.name.as_bytes()), ..it })
    }

    fn number(&self) -> u64 {
        self.trust.look(|it| it.membership.roster().map_or(0, |roster| roster.number))
    }

    /// Takes its roster, if it is newer.
    async fn learn(&mut self, it: &Described) -> Result<(), AskError> {
        if it.roster <= self.number() {
            return Ok(());
        }
        let what = "give its roster";
        let signed = match self.send(what, &Request::GiveRoster).await? {
            Answer::Roster(Some(signed)) => signed,
            other => return Err(unexpected(what, &other)),
        };
        let now_s = self.now_s;
        self.trust.change(now_s, |it| it.accept(&signed, now_s))?;
        Ok(())
    }

    /// Gives it our roster, if that is newer.
    async fn tell(&mut self, it: &Described) -> Result<(), AskError> {
        let newer: Option<SignedRoster> = self.trust.look(|here| {
            let roster = here.membership.roster()?;
            (roster.number > it.roster).then(|| here.membership.signed().cloned())?
        });
        match newer {
            Some(signed) => self.done("take the roster", &Request::Roster(signed)).await,
            None => Ok(()),
        }
    }

    /// Puts it into the roster, if that is this machine's to do.
    fn enlist(&self, it: &Described, asked: &Asked) -> Result<(), AskError> {
        if !self.trust.look(|here| here.registrar.is_some()) {
            return Ok(());
        }
        let known = self.trust.look(|here| {
            let member = here.membership.roster()?.board(&asked.id, &asked.host_key)?.clone();
            let same = member.client_key == it.client_key;
            let signed = it.user.as_ref().is_some_and(|it| it.signed_by == member.signed_by);
            (same && signed).then_some(member)
        });
        if known.is_some() {
            return Ok(());
        }
        let signed_by = it.user.as_ref().map(|shown| shown.signed_by.clone());
        let change = |Trusted { membership, registrar }: &mut Trusted| {
            let Some(registrar) = registrar else { return Ok(()) };
            let (host_key, client_key) = (Some(it.host_key.clone()), it.client_key.clone());
            let mut member = registrar.member(&it.id, &it.name, Role::Board, host_key, client_key);
            member.signed_by = signed_by.unwrap_or_default();
            registrar.enlist(membership, member, self.now_s)
        };
        Ok(self.trust.change(self.now_s, change)?)
    }

    /// Whether it lacks a certificate, or one is to be renewed, and that is this machine's to do.
    fn is_due(&self, it: &Described) -> bool {
        let authority = self.trust.look(|here| Some(here.registrar.as_ref()?.authority()));
        let Some(authority) = authority.map(|key| fingerprint_text(&key)) else { return false };
        let good = |shown: &Option<Shown>| {
            shown.as_ref().is_some_and(|shown| {
                shown.signed_by == authority
                    && shown.until_s.saturating_sub(self.now_s) > LIFETIME_S / 2
            })
        };
        !good(&it.host) || !good(&it.user)
    }

    /// Gives it certificates; whether it was this machine's to do.
    async fn certify(&mut self, it: &Described, asked: &Asked) -> Result<bool, AskError> {
        let now_s = self.now_s;
        let certificates = self.trust.change(now_s, |here| {
            // Bound before anything is signed: a token lets in one board.
            let Trusted { membership, registrar: Some(registrar) } = here else { return Ok(None) };
            if let Some(token) = asked.token {
                registrar.tokens.bind(token, Holder::new(&asked.id, &asked.host_key), now_s)?;
            }
            // Whether the roster has room for it is asked before, and done after, it is certified.
            if let Some(roster) = membership.roster() {
                let (host, client) = (Some(it.host_key.clone()), it.client_key.clone());
                roster.with(registrar.member(&it.id, &it.name, Role::Board, host, client))?;
            }
            registrar.certify(&it.id, Some(&it.host_key), &it.client_key, now_s).map(Some)
        })?;
        let Some(Certificates { host: Some(host), user }) = certificates else { return Ok(false) };
        self.done("take certificates", &Request::Install { host, user }).await?;
        Ok(true)
    }

    /// Forgets what let it in.
    fn settle(&self, asked: &Asked) -> Result<(), AskError> {
        let holder = Holder::new(&asked.id, &asked.host_key);
        let open = self.trust.look(|here| {
            here.registrar.as_ref().is_some_and(|registrar| registrar.awaits(&holder))
        });
        if !open {
            return Ok(());
        }
        let settle = |here: &mut Trusted| match &mut here.registrar {
            Some(registrar) => registrar.settle(&holder),
            None => Ok(()),
        };
        Ok(self.trust.change(self.now_s, settle)?)
    }
}

pub(super) fn unexpected(what: &'static str, answer: &Answer) -> AskError {
    let why = match answer {
        Answer::Refused(why) => why.clone(),
        Answer::Hello(_) | Answer::Done | Answer::Roster(_) | Answer::LastUpdate(_) => {
            "its answer fits no question".to_owned()
        }
    };
    AskError::Refused { what, why }
}
