//! The commands on files of their own.

mod joining;
mod nodes;
mod printed;
mod seeds;
mod typed;

use std::{fs, io};

use clap::{Parser, error::ErrorKind};
use ssh_key::{LineEnding, PrivateKey, PublicKey, private::Ed25519Keypair};
use tempfile::TempDir;

use super::{
    super::args::{Cli, Command, Output},
    args::{Content, List, Seed as SeedArgs, Source, Token as TokenArgs},
    list::{Gone, Listed, Shown},
    *,
};
use crate::{
    media::SEED_FILE,
    model::{BoardView, NodeView, Reach},
    trust::{Enrolment, Holder, Invitation, Own, Places, Seed, TokenView, fingerprint_text},
};

const NOW_S: u64 = 1_790_000_000;
const JSON: Output = Output { json: true };
const TEXT: Output = Output { json: false };

fn public(number: u8) -> PublicKey {
    PublicKey::from(Ed25519Keypair::from_seed(&[number; 32]).public)
}

struct Machine {
    dir: TempDir,
    here: Here,
}

fn machine(id: &str, number: u8, role: Role) -> Machine {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let own = Own {
        id: id.to_owned(),
        name: format!("the-{id}"),
        host_key: (role == Role::Board).then(|| public(number)),
        identity: path("id_ed25519"),
        client_key: public(number + 100),
    };
    let places = Places { trust: path("trust"), fleet: path("fleet") };
    let trust = Trust::open(places, own, NOW_S).unwrap();
    let confirm = |_: &str, otherwise: &str| Err(CommandError::Refused(otherwise.to_owned()));
    Machine { here: Here { trust, role, now_s: NOW_S, clock: || NOW_S, confirm }, dir }
}

fn desk() -> Machine {
    let desk = machine("desk", 5, Role::Workstation);
    key::init(&desk.here, TEXT, &mut Vec::new()).unwrap();
    desk
}

impl Machine {
    fn enrolment(&self) -> Enrolment {
        self.here.trust.look(|it| it.membership.enrolment(NOW_S))
    }

    fn fleet(&self) -> Vec<String> {
        self.here
            .trust
            .look(|it| it.membership.authorities().iter().map(fingerprint_text).collect())
    }

    fn tokens(&self) -> Vec<TokenView> {
        self.here.with_key(|_, registrar| Ok(registrar.tokens.list())).unwrap()
    }

    fn members(&self) -> Vec<String> {
        self.here.trust.look(|it| {
            let roster = it.membership.roster().unwrap();
            roster.members.iter().map(|it| it.id.clone()).collect()
        })
    }

    fn files(&self) -> Files {
        let path = |name: &str| self.dir.path().join(name);
        Files { hostname: path("hostname"), wifi: path("iwd"), authorized_keys: path("keys") }
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn invite(&self, text: &str, name: Option<&str>, certificate: bool) -> Result<String, String> {
        let name = name.map(str::to_owned);
        print(|out| join::invite(&self.here, text, name, certificate, out, &mut Vec::new()))
    }

    fn join(&self, text: &str, force: bool) -> Result<String, String> {
        print(|out| join::join(&self.here, text, force, &self.files(), out))
    }

    fn request(&self) -> Result<String, String> {
        print(|out| join::request(&self.here, out, &mut Vec::new()))
    }

    fn token(&self, args: &TokenArgs) -> Result<String, String> {
        print(|out| seed::token(&self.here, args, out, &mut Vec::new()))
    }
}

/// What a command prints, or its error as text.
fn print(command: impl FnOnce(&mut Vec<u8>) -> Done) -> Result<String, String> {
    let mut out = Vec::new();
    command(&mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn token_args() -> TokenArgs {
    TokenArgs { withdraw: None, content: content(), output: TEXT }
}

fn content() -> Content {
    Content { valid: Duration::from_secs(24 * 3600), ..Content::default() }
}

fn seed_args(target: &Path) -> SeedArgs {
    SeedArgs {
        target: target.to_owned(),
        source: Source { content: content(), no_token: false, from: None },
        replace: false,
        output: TEXT,
    }
}
