//! What can be typed after `roost`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use super::{
    flash::args::Flash,
    fleet::args::{Fleet, Seed},
};
use crate::names;

const EXAMPLES: &str = "\
Examples:
  roost status                     the boards, what they run, and what is wrong with the others
  roost jobs                       what is waiting and running
  roost why hello-2.12             where that build is, and why there
  roost logs -f hello-2.12         its log, followed to the end
  roost timeline                   what happened, drawn: which board built what, and when
  roost build --on rock5 .#kernel  `nix build`, on this board
  roost plan .#kernel              which board would build what, before anything is built
  roost drain rock5                give rock5 nothing new; what it runs goes on
  roost fleet init                 make a fleet; this machine holds its key
  roost flash --board rock-5b /dev/sdX
                                   write a board's image to a card, with what lets it into the fleet
  roost update rock5 ./result      give rock5 a new NixOS system, with a way back
  roost doctor                     check this machine, with a fix for whatever is wrong

Exit status:
  0  done
  1  the command failed, or `doctor` found something that does not work
  2  wrong use
  3  the roost daemon does not answer
  4  no such job or board, or more than one
  130, 143  `flash` was stopped by a signal: 128 and its number
  any  `build` ends as the `nix build` that it runs";

/// Turns boards into native Nix builders that find their users by themselves.
#[derive(Debug, Parser)]
#[command(name = "roost", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Ask the daemon.
    #[command(flatten)]
    Ask(Ask),

    /// Run `nix build` with the boards that shall build.
    #[command(after_help = "\
Everything after the options is `nix build`'s own. Every user may say where, whether Nix trusts them or
not. What only this machine itself can build is left to it.

Examples:
  roost build --on rock5 nixpkgs#legacyPackages.aarch64-linux.hello
  roost build --on vf2,star64 --wait -- --file . --no-link --print-out-paths
  roost build --on fast .#firmware          on any board with this label (node.labels)")]
    Build(Build),

    /// Show which node would build what, and when, before anything is built.
    #[command(after_help = "\
What would be built is found out as `nix build --dry-run` does it, and placed as it would be now, with
what the boards have to do already. Times are those of earlier builds; what was never built is guessed.
Options of `nix build` go behind --. Builds that cost less than sending their inputs (preferLocalBuild),
and Nix's own downloads, are left out.

Examples:
  roost plan .#nixosConfigurations.rock5.config.system.build.toplevel
  roost plan /nix/store/…-chromium-130.drv
  roost plan --svg plan.svg -- --file . world
  roost plan --json .#world | jq -r '.builds[] | \"\\(.node): \\(.name)\"'")]
    Plan(Plan),

    /// Print the lines that tell Nix of the boards.
    #[command(after_help = "\
Without --direct these are the lines this machine's Nix uses: each stands for every board of its
kind, and leads to the roost daemon, which chooses.

With --direct there is one plain line a board, for Hydra and for machines without roost. The machine
that uses a line logs in with a key of its own, which the fleet has to certify (`roost fleet invite
--certificate`); the third field may name it.

Examples:
  roost machines
  roost machines --direct | ssh root@hydra 'cat > /etc/nix/machines'")]
    Machines(Machines),

    /// Look after the fleet: who belongs to it, and who may join.
    #[command(subcommand)]
    Fleet(Fleet),

    /// Write to a board's card or image what lets it into the fleet.
    #[command(after_help = "\
The board takes the seed on its first boot, erases it from the card, and is enrolled as soon as
it is on one network with this machine. Each board needs a seed of its own.

Examples:
  roost seed /dev/sdX --hostname rock5
  roost seed board.img --wifi workshop --wifi-passphrase-file passphrase.txt
  roost seed /media/me/ROOST_SEED --valid 7days --for-board radxa,rock-5b
  ssh root@desk roost fleet token | roost seed board.img --from -")]
    Seed(Seed),

    /// Write a board's image to a card or another medium, with what lets the board into the fleet.
    #[command(after_help = "\
The image is built by Nix, unless --image gives it. It is written, read back, and given a seed; a
medium on which anything went wrong is left without a partition table.

Mounted and fixed disks, and those that the system runs from, are refused.

Examples:
  roost flash --list
  roost flash --board visionfive2 /dev/sdX
  roost flash --board rock-5b --image rock-5b.img.zst --hostname rock5 /dev/sdX
  roost flash --image rock-5b.img.zst --no-seed card.img    into a file; the image names its board")]
    Flash(Flash),

    /// Give a board a new NixOS system, or show how its last update went.
    #[command(after_help = "\
Copies the system to the board, which is restarted with it when its builds have ended. If the board does
not work with it within 5 minutes of its start, it goes back to the system before: to work is to be
enrolled, to have its daemon and nix-daemon running, and to be connected to by a node of the fleet.

Only the machine that holds the fleet's key updates boards. The command succeeds when the board has
kept the system.

Examples:
  nix build .#nixosConfigurations.rock5.config.system.build.toplevel
  roost update rock5 ./result
  roost update rock5                how that went")]
    Update(Update),

    /// Check whether roost can work here, with a fix for whatever is wrong.
    #[command(after_help = "\
Run it as root: some facts are root's alone, and checks that lack them are skipped.")]
    Doctor {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = names::CONFIG_FILE)]
        config: PathBuf,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },

    /// Check a configuration file and print what it amounts to.
    CheckConfig {
        /// The file; if it is not given, the daemon's own, which need not exist.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },

    /// Run the daemon.
    Daemon {
        /// The configuration file; without one, the defaults.
        #[arg(long, value_name = "FILE", default_value = names::CONFIG_FILE)]
        config: PathBuf,
    },

    /// Take what this board's seed gives (started by systemd at each boot).
    #[command(hide = true)]
    FirstBoot {
        /// The image, device or folder with the seed; if it is not given, the volume labelled
        /// ROOST_SEED.
        #[arg(long, value_name = "PATH")]
        from: Option<PathBuf>,
    },

    /// Restart with the system that was ordered (started by systemd).
    #[command(hide = true)]
    ApplyUpdate,

    /// Keep the system that was started, or go back (started by systemd at each boot of a trial).
    #[command(hide = true)]
    SettleUpdate,

    /// Write the man pages and shell completions (for whoever packages roost).
    #[command(hide = true)]
    Pages {
        /// A folder laid out like /usr/share.
        #[arg(value_name = "FOLDER")]
        share: PathBuf,
    },

    /// Serve a client of this board (sshd's forced command).
    #[command(hide = true)]
    Serve,

    /// Hand a local Nix to the daemon (started by Nix).
    #[command(hide = true)]
    Connect {
        /// Which line of the machines file is meant.
        #[arg(long)]
        selector: String,
    },

    /// Stand before the stock build hook (started by Nix).
    #[command(hide = true)]
    Hook {
        /// The stock hook's command, if it is not the one of the Nix that runs, and the verbosity.
        #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// The commands that the daemon answers.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Ask {
    /// Show this node, the boards it knows, and the store it emulates in, if it does.
    #[command(after_help = "\
A board's state:
  up          connected and used
  draining    connected, and given nothing new
  trouble     connected, and unable to build: a full disk, no nix-daemon
  paused      connected, and beginning nothing for the moment: heat, memory
  connecting  known, and being connected to
  away        known, and not reachable: its jobs wait for it
  pending     announced, but nothing proves that it belongs to the fleet: never used")]
    Status(Output),

    /// List jobs that wait or run.
    #[command(after_help = "\
Examples:
  roost jobs
  roost jobs --all --json | jq '.[] | select(.state == \"failed\") | .drv_path'")]
    Jobs {
        /// List ended jobs too, as long as they are remembered.
        #[arg(long, short)]
        all: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },

    /// Print a job's log.
    #[command(after_help = JOB)]
    Logs {
        /// The job: id, start of an id, derivation, or name.
        job: String,
        /// Go on until the job ends.
        #[arg(long, short)]
        follow: bool,
    },

    /// Tell where a job is and why, or what it waits for.
    #[command(after_help = JOB)]
    Why {
        /// The job: id, start of an id, derivation, or name.
        job: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },

    /// Draw what happened: boards as rows, builds as bars.
    #[command(after_help = "\
A board has a line for each build it had at once. A bar begins when the build was given to the
board: it may wait there, its inputs are sent, it builds, its outputs are fetched. What waited for
a board is counted in the line above. Times are counted from the left edge.

Without --since and --last it is the last stretch of work: jobs back to a time in which nothing
was done for half an hour, 200 at most. Jobs are remembered as the configuration says
(queue.max_done, queue.done_age_s); of a derivation that was built again it is the last build.
Builds that Nix did by itself, without roost, are not known here.

Examples:
  roost timeline
  roost timeline --since 2h
  roost timeline --last 500 --svg builds.svg
  roost timeline --json | jq -r '.rows[] | \"\\(.name): \\([.lanes[][]] | length)\"'")]
    Timeline(Timeline),

    /// Give a board nothing new; what it runs goes on.
    #[command(after_help = "\
Examples:
  roost drain          this node takes no new builds, from anyone
  roost drain rock5    the same for a board of the fleet, as if it were typed there")]
    Drain {
        /// A board's name or id; without it, this node.
        board: Option<String>,
    },

    /// Undo `drain`.
    Resume {
        /// A board's name or id; without it, this node.
        board: Option<String>,
    },

    /// Cancel a job, whoever waits for it.
    #[command(after_help = JOB)]
    Cancel {
        /// The job: id, start of an id, derivation, or name.
        job: String,
    },
}

const JOB: &str = "\
A job can be given as
  0f3k9…                         its id, or as much of its start as no other has
  /nix/store/…-hello-2.12.drv    its derivation
  hello-2.12                     its name, if no other job has it";

/// How a result is printed.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Print JSON, for programs.
    #[arg(long)]
    pub json: bool,
}

/// `roost timeline`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Draw the last while up to now, such as 90min, 2h or 3days.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,
    /// Draw so many jobs at most, the last ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub last: Option<u16>,
    /// Write it as SVG, for a browser; - is standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub svg: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `roost build`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The boards of which one shall build: ids, names or labels.
    #[arg(long, required = true, value_name = "BOARD", value_delimiter = ',')]
    pub on: Vec<String>,
    /// Wait for boards that are away, as long as it takes.
    #[arg(long)]
    pub wait: bool,
    /// What `nix build` is told.
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub nix: Vec<OsString>,
}

/// `roost plan`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What would be built: installables of `nix build`, or derivations.
    #[arg(value_name = "INSTALLABLE", required_unless_present = "nix")]
    pub what: Vec<OsString>,
    /// Write the chart as SVG, for a browser; - is standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub svg: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
    /// What else `nix build` is told.
    #[arg(last = true, value_name = "ARGS")]
    pub nix: Vec<OsString>,
}

/// Which lines to print.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machines {
    /// One line a board, that works without roost.
    #[arg(long)]
    pub direct: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `roost update`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The board's name or id.
    pub board: String,
    /// The system: a store path, or a link to one, such as ./result.
    pub system: Option<PathBuf>,
    /// Restart at once: builds that run are begun again later.
    #[arg(long, requires = "system")]
    pub now: bool,
    /// Succeed when the board has accepted the order.
    #[arg(long, requires = "system")]
    pub no_wait: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::{
        super::fleet::args::{Content, Source},
        *,
    };

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace())
            .map(|cli| cli.command)
            .map_err(|error| error.kind())
    }

    /// A seed's source when nothing is said of it: a token for a day.
    fn day() -> Source {
        let content = Content { valid: Duration::from_secs(24 * 3600), ..Content::default() };
        Source { content, ..Source::default() }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_told_apart() {
        let json = Output { json: true };
        let cases = [
            ("roost status --json", Command::Ask(Ask::Status(json))),
            (
                "roost plan .#a --json -- --file .",
                Command::Plan(Plan {
                    what: vec![".#a".into()],
                    output: json,
                    nix: vec!["--file".into(), ".".into()],
                    ..Plan::default()
                }),
            ),
            ("roost jobs -a", Command::Ask(Ask::Jobs { all: true, output: Output::default() })),
            ("roost logs hello -f", Command::Ask(Ask::Logs { job: "hello".into(), follow: true })),
            (
                "roost why hello --json",
                Command::Ask(Ask::Why { job: "hello".into(), output: json }),
            ),
            (
                "roost timeline --since 2h --last 500 --svg -",
                Command::Ask(Ask::Timeline(Timeline {
                    since: Some(Duration::from_secs(2 * 3600)),
                    last: Some(500),
                    svg: Some("-".into()),
                    output: Output::default(),
                })),
            ),
            ("roost drain", Command::Ask(Ask::Drain { board: None })),
            ("roost resume rock5", Command::Ask(Ask::Resume { board: Some("rock5".into()) })),
            ("roost cancel 0f3k", Command::Ask(Ask::Cancel { job: "0f3k".into() })),
            (
                "roost update rock5 ./result --now",
                Command::Update(Update {
                    board: "rock5".into(),
                    system: Some("./result".into()),
                    now: true,
                    no_wait: false,
                    output: Output::default(),
                }),
            ),
            (
                "roost build --on vf2,star64 --wait nixpkgs#hello -L --on x",
                Command::Build(Build {
                    on: vec!["vf2".into(), "star64".into()],
                    wait: true,
                    nix: ["nixpkgs#hello", "-L", "--on", "x"].map(OsString::from).into(),
                }),
            ),
            (
                "roost build --on vf2 --file . --no-link",
                Command::Build(Build {
                    on: vec!["vf2".into()],
                    wait: false,
                    nix: ["--file", ".", "--no-link"].map(OsString::from).into(),
                }),
            ),
            (
                "roost build --on vf2 -- --wait",
                Command::Build(Build {
                    on: vec!["vf2".into()],
                    wait: false,
                    nix: vec!["--wait".into()],
                }),
            ),
            ("roost daemon", Command::Daemon { config: names::CONFIG_FILE.into() }),
            (
                "roost flash --board rock-5b --no-seed -y /dev/sdb",
                Command::Flash(Flash {
                    target: Some("/dev/sdb".into()),
                    board: Some("rock-5b".into()),
                    image: None,
                    flake: names::FLAKE.into(),
                    list: false,
                    yes: true,
                    force: false,
                    no_seed: true,
                    source: day(),
                    output: Output::default(),
                }),
            ),
            (
                "roost check-config my.toml",
                Command::CheckConfig { file: Some("my.toml".into()), output: Output::default() },
            ),
        ];
        for (line, command) in cases {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn wrong_use_is_refused() {
        for (line, kind) in [
            ("roost", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("roost logs", ErrorKind::MissingRequiredArgument),
            ("roost timeline --since yesterday", ErrorKind::ValueValidation),
            ("roost timeline --last 0", ErrorKind::ValueValidation),
            ("roost timeline --svg a --json", ErrorKind::ArgumentConflict),
            ("roost build nixpkgs#hello", ErrorKind::MissingRequiredArgument),
            ("roost build --on", ErrorKind::InvalidValue),
            ("roost drain a b", ErrorKind::UnknownArgument),
            ("roost machines --indirect", ErrorKind::UnknownArgument),
            ("roost update", ErrorKind::MissingRequiredArgument),
            ("roost update rock5 --now", ErrorKind::MissingRequiredArgument),
            ("roost statu", ErrorKind::InvalidSubcommand),
            ("roost connect", ErrorKind::MissingRequiredArgument),
            ("roost flash --list /dev/sdb", ErrorKind::ArgumentConflict),
            ("roost flash --no-seed --hostname a /dev/sdb", ErrorKind::ArgumentConflict),
            ("roost flash --image a --flake b /dev/sdb", ErrorKind::ArgumentConflict),
            ("roost flash --from a --no-token /dev/sdb", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line), Err(kind), "{line}");
        }
    }

    #[test]
    fn every_visible_command_says_what_it_does() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            let hidden = [
                "first-boot",
                "apply-update",
                "settle-update",
                "pages",
                "serve",
                "connect",
                "hook",
            ];
            let hidden = hidden.contains(&command.get_name());
            assert_eq!(command.is_hide_set(), hidden, "{}", command.get_name());
        }
    }
}
