//! What can be typed after `roost fleet` and `roost seed`.

use std::{path::PathBuf, time::Duration};

use board_support::{Compatible, NodeId};
use clap::{Args, Subcommand};

use super::super::args::Output;

/// How long a token may be good.
const VALID: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(365 * 24 * 3600);

/// The commands on a fleet.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Fleet {
    /// Make a fleet: a key, which this machine holds from now on.
    #[command(after_help = "\
The key certifies every board and workstation of the fleet. Its file is the only one to keep a
copy of: who belongs to the fleet, and who no longer does, is learnt again from the boards.

Examples:
  roost fleet init
  roost flash --board rock-5b /dev/sdX
                          then: a card for a board, with what lets it in")]
    Init(Output),

    /// Show this node's fleet, and how it stands to it.
    Show(Output),

    /// List the nodes of the fleet.
    #[command(after_help = "\
Examples:
  roost fleet list
  roost fleet list --revoked          those that were sent away
  roost fleet list --tokens --json    the tokens that this machine has given out")]
    List(List),

    /// Make a one-time token, and print the seed for a board that has it.
    #[command(after_help = "\
The seed is a secret: whoever has it can enrol one board. `roost seed` makes one and writes it to
a card.

Examples:
  (umask 077; roost fleet token > seed.toml)
  roost fleet token | ssh root@board roost fleet join -
  roost fleet token --withdraw 0a1b2c3d4e5f")]
    Token(Token),

    /// Let in a board that has no token, after comparing its fingerprint.
    #[command(after_help = "\
The fingerprint is on the board's console, and there
`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it. The board has to know this fleet:
`roost seed --no-token` gives it that. So is a member let in whose certificates have ended.

Examples:
  roost fleet approve rock5
  roost fleet approve rock5 --fingerprint SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDvrQXRVrvXfQyiq0g")]
    Approve {
        /// The board's name or id, as `roost status` shows it.
        board: String,
        /// Its host key's fingerprint, as the board itself shows it.
        #[arg(long, value_name = "SHA256:…", value_parser = fingerprint)]
        fingerprint: Option<String>,
    },

    /// Send a node away.
    #[command(after_help = "\
Every node that can be reached knows within seconds, one that is off when it is back. The node is
given no new jobs and can give none. It comes back with new keys and a new seed only.")]
    Revoke {
        /// The node's name or id, as `roost fleet list` shows it.
        node: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },

    /// Replace the fleet's key.
    #[command(after_help = "\
Both keys count until --finish: each node is given certificates of the new one when it is
connected. `roost fleet list` shows who has them. Keep a copy of the new key as soon as it is made.

Examples:
  roost fleet rotate
  roost fleet list              until every node has the new key
  roost fleet rotate --finish")]
    Rotate {
        /// End the old key.
        #[arg(long)]
        finish: bool,
        /// Even though nodes have no certificate of the new key yet: they have to be seeded again.
        #[arg(long, requires = "finish")]
        force: bool,
    },

    /// Let another workstation, or a machine without roost, use the boards.
    #[command(after_help = "\
A machine with roost asks with `roost fleet join`, whose output is FILE; what is printed here is
carried back to it, and is no secret. For one without roost, such as Hydra, FILE is the SSH public
key that it logs in with.

Examples:
  ssh root@laptop roost fleet join > request
  roost fleet invite request | ssh root@laptop roost fleet join -
  roost fleet invite --name hydra --certificate hydra.pub > hydra-cert.pub")]
    Invite {
        /// The request or public key; `-` is standard input.
        file: PathBuf,
        /// What the machine is called; one without roost has this as its id, too.
        #[arg(long, value_parser = node_id)]
        name: Option<String>,
        /// Print the certificate alone, for ssh.
        #[arg(long)]
        certificate: bool,
    },

    /// Ask to join a fleet, or join it.
    #[command(after_help = "\
Without FILE it prints this machine's request, for `roost fleet invite` where the fleet's key is.
With the invitation that this prints, a workstation joins; with a seed, a board does.

Examples:
  roost fleet join > request.toml
  roost fleet join invitation.toml")]
    Join {
        /// The invitation or seed; `-` is standard input.
        file: Option<PathBuf>,
        /// Leave the fleet that this machine belongs to.
        #[arg(long, requires = "file")]
        force: bool,
    },
}

/// What to list.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Those that were sent away, instead.
    #[arg(long)]
    pub revoked: bool,
    /// The tokens that this machine has given out, instead.
    #[arg(long, conflicts_with = "revoked")]
    pub tokens: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `roost fleet token`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Token {
    /// Take back a token that was not used.
    #[arg(long, value_name = "ID", conflicts_with_all = [
        "valid", "for_board", "hostname", "wifi", "console_key",
    ])]
    pub withdraw: Option<String>,
    /// What the seed says.
    #[command(flatten)]
    pub content: Content,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `roost seed`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Seed {
    /// A disk image, a device such as a card, or the folder where its volume is mounted.
    pub target: PathBuf,
    /// Where it comes from.
    #[command(flatten)]
    pub source: Source,
    /// Write it in the place of the one that is there.
    #[arg(long)]
    pub replace: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// Where a seed comes from: it is made, or there is one.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// What the seed says.
    #[command(flatten)]
    pub content: Content,
    /// Make no token: the board waits for `roost fleet approve`.
    #[arg(long)]
    pub no_token: bool,
    /// Write a seed that `roost fleet token` made; `-` is standard input. Needs no root for an image.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "valid", "for_board", "hostname", "wifi", "console_key", "no_token",
    ])]
    pub from: Option<PathBuf>,
}

/// What a seed says beside the fleet.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// How long the token is good for, such as 90min or 7days; 1 minute to 365 days.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = validity)]
    pub valid: Duration,
    /// The only kind of board that may use it: the first word of /proc/device-tree/compatible.
    #[arg(long, value_name = "COMPATIBLE", value_parser = compatible)]
    pub for_board: Option<String>,
    /// What the board is called.
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// The wireless network that it joins.
    #[arg(long, value_name = "SSID", requires = "wifi_passphrase_file")]
    pub wifi: Option<String>,
    /// The file with that network's passphrase; `-` is standard input.
    #[arg(long, value_name = "FILE", requires = "wifi")]
    pub wifi_passphrase_file: Option<PathBuf>,
    /// The SSH public key that may log in as root on the board.
    #[arg(long, value_name = "FILE")]
    pub console_key: Option<PathBuf>,
}

fn validity(text: &str) -> Result<Duration, String> {
    let valid = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match VALID.contains(&valid) {
        true => Ok(valid),
        false => Err("it has to be from 1 minute to 365 days".to_owned()),
    }
}

fn compatible(text: &str) -> Result<String, String> {
    Compatible::new(text).map(|word| word.to_string()).map_err(|error| error.to_string())
}

fn node_id(text: &str) -> Result<String, String> {
    NodeId::new(text)
        .map(|word| word.to_string())
        .map_err(|_| "it has to be 1 to 63 of a-z, 0-9 and -".to_owned())
}

fn fingerprint(text: &str) -> Result<String, String> {
    match crate::trust::parse_fingerprint(text) {
        Some(fingerprint) => Ok(crate::trust::fingerprint_of(&fingerprint)),
        None => {
            Err("it has to be SHA256: and 43 characters, as `ssh-keygen -l` prints it".to_owned())
        }
    }
}
