//! The node that was connected to.

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tracing::{info, warn};

use super::messages::{Answer, ChannelError, Described, Request, VERSION, read, write};
use crate::{
    model::UpdateView,
    trust::{Membership, Order, Trust, TrustError, Trusted},
};

/// What an answer does beside files.
pub trait Effects {
    /// Has sshd show the certificate that is installed.
    ///
    /// # Errors
    /// Why it does not, in words.
    fn show_certificate(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Is told the time, by a node of the fleet.
    fn told_time(&self, time_s: u64);

    /// Takes an order that the fleet's key has signed for this node.
    ///
    /// # Errors
    /// Why it is not taken, in words.
    fn update(&self, order: Order) -> impl Future<Output = Result<(), String>> + Send;

    /// How the last update went, if there was one.
    ///
    /// # Errors
    /// Why that is not known, in words.
    fn last_update(&self) -> Result<Option<UpdateView>, String>;

    /// The time, in seconds since 1970.
    fn now_s(&self) -> u64;
}

/// Answers until the other node leaves.
///
/// # Errors
/// [`ChannelError`].
pub async fn answer(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    trust: &Trust,
    effects: &impl Effects,
) -> Result<(), ChannelError> {
    let mut reader = BufReader::new(reader);
    while let Some(request) = read(&mut reader).await? {
        let answer = match respond(request, trust, effects).await {
            Ok(answer) => answer,
            Err(why) => {
                warn!("a node of the fleet was refused: {why}");
                Answer::Refused(why)
            }
        };
        write(&mut writer, &answer).await?;
    }
    Ok(())
}

async fn respond(
    request: Request,
    trust: &Trust,
    effects: &impl Effects,
) -> Result<Answer, String> {
    let words = |error: TrustError| error.to_string();
    match request {
        Request::Hello { version, .. } if version != VERSION => {
            Err(format!("version {version} of this conversation instead of {VERSION}"))
        }
        Request::Hello { time_s, .. } => {
            effects.told_time(time_s);
            let now_s = effects.now_s();
            let described = trust.look(|it| describe(&it.membership, now_s));
            let described = described.ok_or("this node has no host key, and takes no visits")?;
            Ok(Answer::Hello(Box::new(described)))
        }
        Request::Install { host, user } => {
            let now_s = effects.now_s();
            let install = |it: &mut Trusted| it.membership.install(Some(&host), &user, now_s);
            if trust.change(now_s, install).map_err(words)? {
                info!("this node has new certificates");
            }
            effects.show_certificate().await?;
            Ok(Answer::Done)
        }
        Request::Show => {
            effects.show_certificate().await?;
            Ok(Answer::Done)
        }
        Request::Roster(signed) => {
            let now_s = effects.now_s();
            // Nothing is written for one that is not newer.
            let known = |it: &Trusted| it.membership.signed() == Some(&signed);
            if !trust.look(known) {
                trust.change(now_s, |it| it.accept(&signed, now_s)).map_err(words)?;
            }
            Ok(Answer::Done)
        }
        Request::GiveRoster => Ok(Answer::Roster(trust.look(|it| it.membership.signed().cloned()))),
        Request::Confirm => {
            let now_s = effects.now_s();
            trust.change(now_s, |it| it.membership.drop_token(now_s)).map_err(words)?;
            info!("enrolled");
            Ok(Answer::Done)
        }
        Request::Update(signed) => {
            let order = trust.look(|it| {
                let it = &it.membership;
                signed.verified(&it.authorities(), &it.own().id)
            });
            effects.update(order.map_err(|error| error.to_string())?).await?;
            Ok(Answer::Done)
        }
        Request::LastUpdate => Ok(Answer::LastUpdate(effects.last_update()?)),
    }
}

fn describe(membership: &Membership, now_s: u64) -> Option<Described> {
    let own = membership.own();
    Some(Described {
        version: VERSION,
        id: own.id.clone(),
        name: own.name.clone(),
        host_key: own.host_key.clone()?,
        client_key: own.client_key.clone(),
        roster: membership.roster().map_or(0, |roster| roster.number),
        host: membership.host_certificate(now_s).map(Into::into),
        user: membership.user_certificate(now_s).map(Into::into),
        has_token: membership.has_token(),
    })
}
