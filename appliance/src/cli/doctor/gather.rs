//! Looks at the machine: every fact that `judge` wants, each within a deadline.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::{
    super::now_s,
    facts::{Facts, NixDaemon, SecondWay, Seen, User},
    local_builds::is_ours,
};
use crate::{
    bus::{Client, ClientError, SystemBus},
    config::Config,
    discover::probe,
    execute::SecondNix,
    model::{BoardView, NodeView},
    names,
    observe::{Machine, vitals},
};

/// Longest time that any program asked here may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What reading from a process that has ended gives (proc(5)).
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// Where programs are that are not on a user's PATH: Debian's sshd, and everything on NixOS.
const MORE_PATH: [&str; 3] = ["/usr/sbin", "/sbin", "/run/current-system/sw/bin"];

/// Gathers the facts of this machine.
pub(in crate::cli) async fn gather(config: &Path) -> Facts {
    let bus = SystemBus::default();
    let (system_bus, Daemon { node, boards, second_store }) = bus_and_daemon(&bus).await;
    let root = Path::new("/");
    let config = Config::load_or_default(config).map_err(|error| error.to_string());
    // Asked first: it starts nix-daemon, whose environment is looked at below.
    let nix = nix_daemon().await;
    Facts {
        second_nix: second_nix(&config, root).await,
        config,
        root: rustix::process::geteuid().is_root(),
        clock_s: now_s(),
        system_bus,
        avahi: probe(&bus).await,
        daemon: node,
        boards,
        second_store,
        machine: Machine::observe(root).map_err(|error| error.to_string()),
        heat: vitals::heat(root),
        clock_mhz: vitals::clock_mhz(root),
        nix,
        nix_settings: nix_settings().await,
        nix_has_bash: every_nix(Path::new("/proc"), has_bash),
        nix_asks: every_nix(Path::new("/proc"), asks_roost),
        sshd: sshd().await,
        user: user().await,
    }
}

/// What the roost daemon tells.
struct Daemon {
    node: Seen<NodeView>,
    boards: Seen<Vec<BoardView>>,
    second_store: Seen<Option<NodeView>>,
}

impl Daemon {
    fn unknown(why: &str) -> Self {
        let why = || why.to_owned();
        Self { node: Err(why()), boards: Err(why()), second_store: Err(why()) }
    }
}

async fn bus_and_daemon(bus: &SystemBus) -> (Seen<()>, Daemon) {
    let client = match Client::connect(bus).await {
        Ok(client) => client,
        Err(ClientError::NoBus(why)) => {
            let daemon = Daemon::unknown("cannot be asked without the system bus");
            return (Err(format!("cannot be reached: {why}")), daemon);
        }
        Err(error) => return (Ok(()), Daemon::unknown(&error.to_string())),
    };
    let told = |error| match error {
        ClientError::NoDaemon => "is not running".to_owned(),
        other => other.to_string(),
    };
    let daemon = Daemon {
        node: client.node().await.map_err(told),
        boards: client.boards().await.map_err(told),
        second_store: client.second_store().await.map_err(told),
    };
    (Ok(()), daemon)
}

/// The way to a nix-daemon for the second store, if one is configured. Only root may go it, and only
/// the roost daemon makes the store.
async fn second_nix(config: &Seen<Config>, root: &Path) -> Option<SecondWay> {
    config.as_ref().ok().filter(|it| it.workstation.enable && it.workstation.emulate_here)?;
    let way = SecondNix::default();
    let nix = if !rustix::process::geteuid().is_root() {
        Err("only root may ask its nix-daemon".to_owned())
    } else if !way.root.is_dir() {
        Err(format!("{} is not there: roost makes it when it starts", way.root.display()))
    } else {
        let connected = way.connect().await;
        connected.map(|it| it.hello.nix_version).map_err(|error| error.to_string())
    };
    Some(SecondWay {
        // sd_booted(3)
        systemd: root.join("run/systemd/system").is_dir(),
        listens: UnixStream::connect(&way.socket).is_ok(),
        nix,
    })
}

/// Runs a program to its end; its standard output if it succeeded, else what it complained of.
async fn run(program: &str, args: &[&str]) -> Seen<String> {
    let mut path: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    path.extend(MORE_PATH.map(PathBuf::from));
    let path = env::join_paths(path).unwrap_or_default();
    // The path is searched here: a child's PATH does not decide where the child is found.
    let found = env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    let file = found.ok_or_else(|| format!("there is no {program} here"))?;
    let mut command = Command::new(file);
    command
        .args(args)
        .env("PATH", &path)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Err(_) => Err(format!("{program} gave no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(format!("cannot run {program}: {error}")),
        Ok(Ok(output)) => said(program, &output),
    }
}

fn said(program: &str, output: &Output) -> Seen<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Err(format!("{program} failed: {}", last.trim()))
}

async fn nix(args: &[&str]) -> Seen<String> {
    run("nix", &[&["--extra-experimental-features", "nix-command"], args].concat()).await
}

/// `nix store info` (`ping` up to Nix 2.18), which talks to the daemon and nothing else.
async fn nix_daemon() -> Seen<NixDaemon> {
    let mut answer = nix(&["store", "info", "--store", "daemon", "--json"]).await;
    if answer.is_err() {
        answer = nix(&["store", "ping", "--store", "daemon", "--json"]).await;
    }
    parse_store_info(&answer?)
}

fn parse_store_info(json: &str) -> Seen<NixDaemon> {
    let info: serde_json::Value =
        serde_json::from_str(json).map_err(|error| format!("nix store info: {error}"))?;
    let trusted = info.get("trusted").and_then(|trusted| {
        // A number up to Nix 2.18 and a boolean since.
        trusted.as_bool().or_else(|| trusted.as_u64().map(|number| number != 0))
    });
    let version = info.get("version").and_then(|version| version.as_str()).unwrap_or("unknown");
    Ok(NixDaemon { version: version.to_owned(), trusted })
}

/// `nix config show`, `show-config` up to Nix 2.19: lines of `name = value`.
async fn nix_settings() -> Seen<BTreeMap<String, String>> {
    let mut answer = nix(&["config", "show"]).await;
    if answer.is_err() {
        answer = nix(&["show-config"]).await;
    }
    Ok(pairs(&answer?, " = "))
}

/// Lines of a name, a separator and a value. A line without separator has an empty value.
fn pairs(text: &str, separator: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(|line| line.split_once(separator).unwrap_or((line.trim_end_matches(" ="), "")))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// sshd's settings for our user, as sshd itself works them out (sshd(8), `-T -C`).
async fn sshd() -> Seen<BTreeMap<String, String>> {
    let who = format!("user={},host=localhost,addr=127.0.0.1", names::USER);
    Ok(pairs(&run("sshd", &["-T", "-C", &who]).await?, " "))
}

/// The user as the system's user database has it (getent(1)), whatever it is made of.
async fn user() -> Seen<User> {
    let passwd = run("getent", &["passwd", names::USER])
        .await
        .map_err(|_| format!("there is no user {}", names::USER))?;
    // Only root may read it; then it counts as not locked.
    let shadow = run("getent", &["shadow", names::USER]).await.unwrap_or_default();
    Ok(parse_user(&passwd, &shadow))
}

fn parse_user(passwd: &str, shadow: &str) -> User {
    let shell = passwd.trim_end().rsplit(':').next().unwrap_or_default();
    let shell = Path::new(shell).file_name().unwrap_or_default();
    let password = shadow.split(':').nth(1).unwrap_or_default();
    User { shell: shell != "nologin" && shell != "false", locked: password.starts_with('!') }
}

/// Whether something holds of the environment that every running nix-daemon was started with (proc(5)).
fn every_nix(proc: &Path, holds: fn(&[u8]) -> bool) -> Seen<bool> {
    let cannot = |error| format!("cannot look at nix-daemon's environment: {error}");
    let processes = fs::read_dir(proc).map_err(cannot)?;
    let mut seen = Err("nix-daemon does not run now, so its environment is unknown".to_owned());
    for process in processes.filter_map(Result::ok).map(|entry| entry.path()) {
        let is_nix = fs::read(process.join("comm")).is_ok_and(|name| name == b"nix-daemon\n");
        if !is_nix {
            continue;
        }
        match fs::read(process.join("environ")) {
            Ok(environment) => seen = Ok(holds(&environment) && seen.unwrap_or(true)),
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(ESRCH) => {}
            Err(error) => return Err(cannot(error)),
        }
    }
    seen
}

/// A variable of an environment, with its `=`.
fn variable<'a>(environment: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name))
}

/// Whether the last `build-hook` among the settings of `NIX_CONFIG` is ours.
fn asks_roost(environment: &[u8]) -> bool {
    let settings = variable(environment, b"NIX_CONFIG=").unwrap_or_default();
    let settings = pairs(&String::from_utf8_lossy(settings), "=");
    settings.get("build-hook").is_some_and(|hook| is_ours(hook))
}

fn has_bash(environment: &[u8]) -> bool {
    let path = variable(environment, b"PATH=");
    // What execvp searches without PATH.
    let path = path.unwrap_or(b"/bin:/usr/bin");
    env::split_paths(&*String::from_utf8_lossy(path)).any(|dir| dir.join("bash").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix_speaks_of_trust_in_two_ways() {
        let nix = |trusted| Ok(NixDaemon { version: "2.18.1".into(), trusted });
        let parse = |rest: &str| parse_store_info(&format!("{{\"version\":\"2.18.1\"{rest}}}"));
        assert_eq!(parse(",\"trusted\":1"), nix(Some(true)));
        assert_eq!(parse(",\"trusted\":false"), nix(Some(false)));
        assert_eq!(parse(""), nix(None));
        assert!(parse_store_info("error: cannot connect").is_err());
    }

    #[test]
    fn settings_are_read_from_both_programs() {
        let nix = pairs("builders = @/run/roost/machines\nextra-platforms = \ncores = 0\n", " = ");
        assert_eq!(nix["builders"], "@/run/roost/machines");
        assert_eq!(nix["extra-platforms"], "");
        let sshd = pairs("permittty no\nforcecommand /usr/bin/roost serve\nbanner\n", " ");
        assert_eq!(sshd["forcecommand"], "/usr/bin/roost serve");
        assert_eq!(sshd["banner"], "");
    }

    #[test]
    fn users_are_read_as_sshd_sees_them() {
        let passwd = "roost:x:998:998:roost build sessions:/var/lib/roost:/bin/sh\n";
        let user = |passwd: &str, shadow: &str| parse_user(passwd, shadow);
        assert_eq!(user(passwd, "roost:!*:20000::::::\n"), User { shell: true, locked: true });
        assert_eq!(user(passwd, "roost:*:20000::::::\n"), User { shell: true, locked: false });
        assert_eq!(user(passwd, ""), User { shell: true, locked: false });
        assert!(!user("roost:x:998:998::/:/usr/sbin/nologin\n", "").shell);
    }

    #[test]
    fn bash_is_looked_for_on_every_daemons_path() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("bash"), "").unwrap();
        let process = |id: &str, name: &str, path: &Path| {
            let process = dir.path().join(id);
            fs::create_dir(&process).unwrap();
            fs::write(process.join("comm"), format!("{name}\n")).unwrap();
            fs::write(process.join("environ"), format!("A=b\0PATH={}\0", path.display())).unwrap();
        };
        process("1", "systemd", Path::new("/nonexistent"));
        assert!(every_nix(dir.path(), has_bash).is_err());
        process("2", "nix-daemon", &bin);
        assert_eq!(every_nix(dir.path(), has_bash), Ok(true));
        process("3", "nix-daemon", Path::new("/nonexistent"));
        assert_eq!(every_nix(dir.path(), has_bash), Ok(false));
    }

    #[test]
    fn our_hook_is_found_among_nix_daemons_settings() {
        let asks = |config: &str| asks_roost(format!("A=b\0NIX_CONFIG={config}\0").as_bytes());
        assert!(asks("build-hook = /usr/bin/roost hook"));
        assert!(asks("cores = 2\nbuild-hook=/usr/bin/roost hook\n"));
        assert!(!asks("build-hook = /usr/bin/roost hook\nbuild-hook = nix __build-remote"));
        assert!(!asks(""));
        assert!(!asks_roost(b"PATH=/bin\0"));
    }

    #[tokio::test]
    async fn a_program_that_fails_or_is_not_there_says_so() {
        assert_eq!(
            run("no-such-program", &[]).await,
            Err("there is no no-such-program here".into())
        );
        let failing = run("sh", &["-c", "echo a >&2; echo b >&2; exit 3"]).await;
        assert_eq!(failing, Err("sh failed: b".into()));
        assert_eq!(run("sh", &["-c", "echo out"]).await.as_deref(), Ok("out\n"));
    }
}
