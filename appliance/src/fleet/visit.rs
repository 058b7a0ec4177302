//! Connecting to a board: what it has to prove, and what is told each other then.

use std::{path::Path, sync::Arc};

use super::{
    scan,
    sight::{Context, Sight, address_text},
};
use crate::{
    enrol::{Asked, Stage, Visited, ask},
    execute::{Link, LinkError, Process},
    trust::{Expected, SshFiles},
};

/// A connection to a board that has proved who it is.
pub(super) struct Connected {
    pub(super) link: Arc<Link>,
    pub(super) control: Process,
    pub(super) visited: Visited,
}

/// Who is connected to.
pub(super) struct Target<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) sight: &'a Sight,
}

impl Target<'_> {
    /// Connects, and has a board that may join certified before.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) async fn connect(&self, context: &Context) -> Result<Connected, String> {
        if self.sight.stage == Stage::Key {
            self.enrol(context).await?;
        }
        let authorities = context.trust.look(|it| it.membership.authorities());
        let link = self.open(context, Expected::Certificate(&authorities)).await?;
        let visited = self.visit(context, &link, Stage::Certificate).await?;
        // What was announced may have been copied by somebody who calls it otherwise.
        let link = link.named(&visited.name);
        let control = link.control().await.map_err(|error| error.to_string())?;
        Ok(Connected { link: Arc::new(link), control, visited })
    }

    /// Gives certificates to a board that has proved its announced key.
    async fn enrol(&self, context: &Context) -> Result<(), String> {
        let mut reason = "it announces no address".to_owned();
        for address in &self.sight.addresses {
            let text = address_text(*address);
            match scan::host_key(&text, address.port(), &self.sight.host_key()).await {
                Ok(key) => {
                    let link = self.open(context, Expected::Key(&key)).await?;
                    return self.visit(context, &link, Stage::Key).await.map(drop);
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(reason)
    }

    /// Tells each other what is new.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) async fn visit(
        &self,
        context: &Context,
        link: &Link,
        stage: Stage,
    ) -> Result<Visited, String> {
        let Process { stdin, stdout, child: _child } =
            link.trust().await.map_err(|error| error.to_string())?;
        let asked = Asked {
            id: self.id.to_owned(),
            host_key: self.sight.host_key(),
            token: self.sight.token,
        };
        ask(stdout, stdin, &context.trust, &asked, stage, (context.now_s)())
            .await
            .map_err(|error| error.to_string())
    }

    /// Tries its addresses in turn.
    async fn open(&self, context: &Context, expected: Expected<'_>) -> Result<Link, String> {
        let addresses: Vec<_> = self.sight.addresses.iter().map(|a| address_text(*a)).collect();
        let (revoked, certificates) = context.trust.look(|it| {
            let it = &it.membership;
            (it.revoked_file(), [it.user_file(), it.earlier_user_file()])
        });
        let files = SshFiles {
            board_id: self.id,
            addresses: &addresses,
            port: self.sight.addresses.first().map_or(22, std::net::SocketAddr::port),
            expected,
            revoked: &revoked,
            identity: &context.trust.own().identity,
            certificates: &certificates,
        };
        let files = files.write(&context.ssh_dir).map_err(|error| error.to_string())?;
        let mut reason = "it announces no address".to_owned();
        for (destination, address) in files.destinations.iter().zip(&addresses) {
            match self.open_at(context, &files.config, destination).await {
                Ok(link) => return Ok(link),
                Err(why) => reason = format!("{why} (tried {address})"),
            }
        }
        Err(reason)
    }

    async fn open_at(
        &self,
        context: &Context,
        config: &Path,
        destination: &str,
    ) -> Result<Link, String> {
        let control_dir = context.control_dir.join(self.id);
        std::fs::create_dir_all(&control_dir)
            .map_err(|error| format!("cannot make {}: {error}", control_dir.display()))?;
        Link::connect(self.name, &context.client, config, destination, &control_dir)
            .await
            .map_err(|error: LinkError| error.to_string())
    }
}
