//! `roost build`: the stock `nix build`, on boards that the user names.
//!
//! Nix asks the daemon for builds, and the daemon knows which of them this process has started. So this
//! process says where they are to be built, stays on the bus as long as Nix runs, and lets Nix have the
//! terminal.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
};

use nix_compat::{derivation::Derivation, store_path::StorePath};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{args::Build, connect, error::CommandError};
use crate::{
    bus::{Client, Wanted},
    observe::nix::nix_config,
    wire::read_drv,
};

/// What a dry run may print: some hundred thousand paths. What is beyond is not looked at.
const MAX_OUTPUT: u64 = 64 << 20;
/// The end of what a dry run has printed that is kept for an error.
const MAX_KEPT: usize = 64 << 10;
/// Derivations that the daemon is told of; those beyond are placed all the same.
const MAX_TOLD: usize = 20_000;

/// Runs `nix build` with the boards that are named.
pub(super) async fn run(args: &Build) -> Result<ExitCode, CommandError> {
    let client = connect().await?;
    let mut wanted = Wanted { boards: args.on.clone(), ..Wanted::default() };
    // Before anything is evaluated: boards that are not there are told of at once, and what the
    // evaluation itself builds goes to them, too.
    let mut told = agree(&client, &wanted, args.wait).await?;
    let mut command = nix();
    command.args(["build", "--dry-run"]).args(&args.nix);
    let plan = match dry_run(command).await? {
        Ok(plan) => plan,
        Err(Failed { status, text }) => {
            eprint!("{text}");
            return Ok(code(status));
        }
    };
    wanted.local = local_systems().await;
    let Sorted { derivations, notes } = sort(plan, &wanted.local, read);
    notes.iter().for_each(|note| eprintln!("roost: {note}"));
    wanted.derivations = derivations;
    if !wanted.derivations.is_empty() {
        told.extend(agree(&client, &wanted, args.wait).await?);
    }
    told.iter().for_each(|note| eprintln!("roost: {note}"));
    build(&client, &wanted, &args.nix).await
}

/// Tells the daemon, and waits for boards that are away if that is wanted; gives what else there is to
/// know.
async fn agree(
    client: &Client,
    wanted: &Wanted,
    wait: bool,
) -> Result<BTreeSet<String>, CommandError> {
    let first = client.demand(wanted).await?;
    if first.waits.is_empty() {
        return Ok(first.notes.into_iter().collect());
    }
    let mut waits = first.waits;
    if !wait {
        let waits = waits.join("; ");
        return Err(CommandError::Refused(format!("{waits}; `--wait` waits until it is back")));
    }
    // On a connection of its own: signals that are not read yet hold up no answers.
    let mut notices = connect().await?.notices().await?;
    loop {
        eprintln!("roost: waiting: {}", waits.join("; "));
        loop {
            let now = client.demand(wanted).await?;
            if now.waits.is_empty() {
                return Ok(now.notes.into_iter().collect());
            }
            if now.waits != waits {
                waits = now.waits;
                break;
            }
            notices.next().await?;
        }
    }
}

/// What Nix would build.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan(pub(super) BTreeSet<StorePath>);

impl Plan {
    /// Takes a line of what a dry run prints: the paths stand alone in their lines.
    fn line(&mut self, line: &str) {
        let path = StorePath::parse(line.trim()).ok();
        self.0.extend(path.filter(StorePath::is_derivation));
    }
}

/// A dry run that failed.
pub(super) struct Failed {
    pub(super) status: ExitStatus,
    /// What it said.
    pub(super) text: String,
}

/// Evaluates what is to be built, by `nix build --dry-run` or the like: Nix says itself what it would build
/// and fetch.
pub(super) async fn dry_run(mut command: Command) -> Result<Result<Plan, Failed>, CommandError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(CommandError::NoNix)?;
    let (mut plan, mut kept) = (Plan::default(), String::new());
    if let Some(output) = child.stderr.take() {
        let mut lines = BufReader::new(output.take(MAX_OUTPUT));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.map_err(CommandError::NoNix)? > 0 {
            let text = String::from_utf8_lossy(&line);
            plan.line(&text);
            kept += &text;
            if kept.len() > MAX_KEPT {
                let half = kept.len() - MAX_KEPT / 2;
                let cut = (half..kept.len()).find(|at| kept.is_char_boundary(*at));
                kept = kept.split_off(cut.unwrap_or(0));
            }
            line.clear();
        }
    }
    let status = child.wait().await.map_err(CommandError::NoNix)?;
    Ok(if status.success() { Ok(plan) } else { Err(Failed { status, text: kept }) })
}

/// The systems that this machine's own Nix builds; none if it does not say.
async fn local_systems() -> Vec<String> {
    match nix_config(Path::new("nix")).await {
        Ok(config) => std::iter::once(config.system).chain(config.extra_platforms).collect(),
        Err(error) => {
            eprintln!("roost: {error}");
            Vec::new()
        }
    }
}

/// Reads a derivation in the store.
pub(super) fn read(path: &StorePath) -> io::Result<Derivation> {
    read_drv(Path::new(path.as_str()))
}

/// What the daemon is told of a plan, and what the user is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    derivations: Vec<(String, String, Vec<String>)>,
    notes: Vec<String>,
}

/// Leaves out what never comes to the daemon.
fn sort(
    Plan(plan): Plan,
    local: &[String],
    read: impl Fn(&StorePath) -> io::Result<Derivation>,
) -> Sorted {
    let mut sorted = Sorted::default();
    let (mut own, mut unread) = (Vec::new(), Vec::new());
    if plan.len() > MAX_TOLD {
        let many = plan.len();
        sorted
            .notes
            .push(format!("only {MAX_TOLD} of {many} derivations were looked at beforehand"));
    }
    for path in plan.into_iter().take(MAX_TOLD) {
        let Ok(derivation) = read(&path) else {
            unread.push(path);
            continue;
        };
        let system = derivation.platform.clone();
        // Nix's own downloading, which nobody takes for a build.
        if system == "builtin" {
            continue;
        }
        if local.contains(&system) && derivation.prefer_local_build() {
            own.push(path);
            continue;
        }
        let features = derivation.required_system_features().into_iter().collect();
        sorted.derivations.push((path.as_str().to_owned(), system, features));
    }
    if let Some(example) = own.first().filter(|_| sorted.derivations.is_empty()) {
        sorted.notes.push(format!(
            "{} of the derivations, {} for one, are built by this machine itself: they say that this \
             costs less (preferLocalBuild)",
            own.len(),
            nix_compat::derivation::name(example)
        ));
    }
    if let Some(example) = unread.first() {
        sorted.notes.push(format!(
            "{} derivations could not be read, {example} for one: whether a board can build them shows \
             when they are built",
            unread.len()
        ));
    }
    sorted
}

/// Runs Nix on the terminal, and keeps the daemon told.
async fn build(
    client: &Client,
    wanted: &Wanted,
    args: &[OsString],
) -> Result<ExitCode, CommandError> {
    let of = |kind| signal(kind).map_err(CommandError::Signals);
    let mut interrupt = of(SignalKind::interrupt())?;
    let mut quit = of(SignalKind::quit())?;
    let mut hang_up = of(SignalKind::hangup())?;
    let mut terminate = of(SignalKind::terminate())?;
    let mut restarts = client.restarts().await?;
    let mut child = nix().arg("build").args(args).spawn().map_err(CommandError::NoNix)?;
    loop {
        // A terminal tells both of us of its keys; Nix does not mind being told twice.
        let passed_on = tokio::select! {
            ended = child.wait() => return Ok(code(ended.map_err(CommandError::NoNix)?)),
            _ = interrupt.recv() => Signal::INT,
            _ = quit.recv() => Signal::QUIT,
            _ = hang_up.recv() => Signal::HUP,
            _ = terminate.recv() => Signal::TERM,
            () = restarts.next() => {
                // It knows nothing any more of what is still to be asked for.
                if let Err(error) = client.demand(wanted).await {
                    eprintln!("roost: what is built from now on may be built anywhere: {error}");
                }
                continue;
            }
        };
        pass_on(&child, passed_on);
    }
}

fn pass_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It has not been waited for, so that its number is nobody else's.
        let _ = kill_process(pid, signal);
    }
}

pub(super) fn nix() -> Command {
    Command::new("nix")
}

/// As a shell has it: 128 and its number after a signal.
pub(super) fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}.drv", "0".repeat(32))).unwrap()
    }

    fn derivation(system: &str, env: &[(&str, &str)]) -> Derivation {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Derivation {
            outputs: BTreeMap::new(),
            input_drvs: BTreeMap::new(),
            input_srcs: BTreeSet::new(),
            platform: system.to_owned(),
            builder: bytes("/bin/sh"),
            args: Vec::new(),
            env: env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        }
    }

    #[test]
    fn a_plan_is_the_derivations_that_a_dry_run_names_alone_in_their_lines() {
        let mut plan = Plan::default();
        let a = path("a");
        let text = format!(
            "warning: Git tree '/root/x' is dirty\nthese 2 derivations will be built:\n  {a}\n  {}\n\
             this path will be fetched (0.1 MiB download, 0.4 MiB unpacked):\n  \
             /nix/store/{}-hello-2.12\nsee '{}' for more\n",
            path("b"),
            "1".repeat(32),
            path("c")
        );
        text.lines().for_each(|line| plan.line(line));
        assert_eq!(plan, Plan([a, path("b")].into()));
    }

    #[test]
    fn the_daemon_is_told_of_what_comes_to_it_with_its_system_and_features() {
        let plan = Plan(["board", "here", "cheap", "fetched", "lost"].map(path).into());
        let read = |path: &StorePath| {
            Ok(match path.name() {
                "board.drv" => {
                    derivation("riscv64-linux", &[("requiredSystemFeatures", "kvm big-parallel")])
                }
                "here.drv" => derivation("x86_64-linux", &[]),
                "cheap.drv" => derivation("x86_64-linux", &[("preferLocalBuild", "1")]),
                "fetched.drv" => derivation("builtin", &[]),
                _ => return Err(io::Error::other("gone")),
            })
        };
        let sorted = sort(plan, &["x86_64-linux".to_owned()], read);
        let of = |name: &str, system: &str, features: &[&str]| {
            let features = features.iter().map(|&feature| feature.to_owned()).collect();
            (path(name).to_string(), system.to_owned(), features)
        };
        assert_eq!(
            sorted.derivations,
            [
                of("board", "riscv64-linux", &["big-parallel", "kvm"]),
                of("here", "x86_64-linux", &[])
            ]
        );
        assert!(sorted.notes[0].contains("1 derivations could not be read"), "{sorted:?}");
    }

    #[test]
    fn what_this_machine_prefers_to_build_itself_is_told_if_nothing_else_is_built() {
        let read = |_: &StorePath| Ok(derivation("x86_64-linux", &[("preferLocalBuild", "1")]));
        let sorted = sort(Plan([path("a")].into()), &["x86_64-linux".to_owned()], read);
        assert!(sorted.derivations.is_empty());
        assert!(sorted.notes[0].contains("preferLocalBuild"), "{sorted:?}");
    }
}
