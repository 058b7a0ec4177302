//! The package's files as its installer puts them, read by the programs that they are for.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use roost_lab::{Host, Lan, Result, fixtures::roost};

/// Where the installer puts the folders of `appliance/share`, below `/`.
const PLACES: &[(&str, &str)] = &[
    ("dbus-1", "usr/share/dbus-1"),
    ("roost", "usr/share/roost"),
    ("ssh", "etc/ssh"),
    ("systemd", "usr/lib/systemd"),
    ("sysusers.d", "usr/lib/sysusers.d"),
    ("tmpfiles.d", "usr/lib/tmpfiles.d"),
];

/// What `roost.service` may be exposed, by systemd-analyze(1).
const DAEMON_AT_MOST: f32 = 3.0;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of this test alone, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// All files below a folder, by their paths there.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut next = vec![folder.to_owned()];
    while let Some(here) = next.pop() {
        for entry in fs::read_dir(&here).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                next.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below").to_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// What the installer must have put, besides the program and what that writes.
fn shipped() -> BTreeMap<PathBuf, Vec<u8>> {
    let share = repository().join("appliance/share");
    let placed = |(name, content): (PathBuf, Vec<u8>)| {
        let (from, to) = PLACES.iter().find(|(from, _)| name.starts_with(from))?;
        Some((Path::new(to).join(name.strip_prefix(from).ok()?), content))
    };
    files(&share).into_iter().filter_map(placed).collect()
}

fn is_made(name: &Path) -> bool {
    let made = ["usr/share/man", "usr/share/bash-completion", "usr/share/zsh", "usr/share/fish"];
    made.iter().any(|folder| name.starts_with(folder))
}

#[test]
fn everything_that_is_shipped_is_installed_unchanged_and_nothing_else() -> Result<()> {
    let folder = folder("as-a-distribution");
    roost::install(&folder)?;
    let mut installed = files(&folder);
    assert!(installed.remove(Path::new("usr/bin/roost")).is_some());
    let (made, installed): (BTreeMap<_, _>, BTreeMap<_, _>) =
        installed.into_iter().partition(|(name, _)| is_made(name));
    assert!(made.len() > 20, "{:?}", made.keys());
    assert_eq!(installed.keys().collect::<Vec<_>>(), shipped().keys().collect::<Vec<_>>());
    assert!(installed == shipped(), "a file has changed on the way");
    let known: BTreeSet<_> =
        PLACES.iter().map(|(folder, _)| *folder).chain(["install.sh"]).collect();
    let there = fs::read_dir(repository().join("appliance/share")).expect("it is there");
    let there: Vec<_> = there.flatten().map(|it| it.file_name().into_string()).collect();
    assert!(there.iter().flatten().all(|name| known.contains(name.as_str())), "{there:?}");
    Ok(())
}

#[test]
fn elsewhere_every_file_names_the_program_where_it_is() -> Result<()> {
    let program = roost::program()?;
    let install = |arguments: &[&str]| {
        let script = repository().join("appliance/share/install.sh");
        Command::new(script).args(arguments).output().expect("the installer starts")
    };
    let program = program.to_str().expect("a path in UTF-8");
    for (prefix, policy) in
        [("/usr/local", "etc/dbus-1/system.d"), ("/opt/roost", "opt/roost/share/dbus-1/system.d")]
    {
        let folder = folder(&prefix.replace('/', "-"));
        let destdir = folder.to_str().expect("a path in UTF-8");
        let output = install(&["--program", program, "--destdir", destdir, "--prefix", prefix]);
        assert!(output.status.success(), "{output:?}");
        let installed = files(&folder);
        let below = prefix.trim_start_matches('/');
        assert!(installed.contains_key(&Path::new(below).join("bin/roost")));
        assert!(installed.contains_key(&Path::new(policy).join("org.roost.Node1.conf")));
        for (name, content) in installed.iter().filter(|(name, _)| !name.ends_with("bin/roost")) {
            let text = String::from_utf8_lossy(content);
            assert!(!text.contains("/usr/bin/roost"), "{}: {text}", name.display());
        }
        let unit = &installed[&Path::new(below).join("lib/systemd/system/roost.service")];
        let start = format!("ExecStart={prefix}/bin/roost daemon");
        assert!(String::from_utf8_lossy(unit).contains(&start));
    }
    for wrong in [&["--program", "/nonexistent"][..], &["--prefix", "usr"], &["--program"], &[]] {
        let output = install(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
    }
    Ok(())
}

/// A host with the package, on which nothing runs.
fn host(lan: &Lan) -> Result<Host> {
    roost::node(lan.host("host"), "")?.services(&[]).start()
}

/// The names of the package's units.
fn units() -> Vec<String> {
    let folder = repository().join("appliance/share/systemd/system");
    let names = fs::read_dir(folder).expect("units").flatten();
    let mut names: Vec<_> = names.filter_map(|it| it.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The figures of the page's first table: `| unit | exposure | why |`.
fn recorded() -> BTreeMap<String, f32> {
    let page = repository().join("docs/hardening.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let first = page.lines().take_while(|line| !line.starts_with("## "));
    let rows = first.filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (unit, rest) = row.split_once("` | ")?;
        Some((unit.to_owned(), rest.split(' ').next()?.parse().ok()?))
    })
    .collect()
}

#[test]
fn systemd_accepts_the_units_and_finds_them_as_hardened_as_is_recorded() -> Result<()> {
    let lan = Lan::new()?;
    let host = host(&lan)?;
    let mut measured = BTreeMap::new();
    for unit in units() {
        let name = unit.replace('@', "@x");
        let verify = host.run(["systemd-analyze", "verify", "--man=no", &name])?;
        let said = verify.stderr.clone() + &verify.stdout;
        assert!(verify.success() && !said.contains("roost"), "{verify}");
        if !unit.ends_with(".service") {
            continue;
        }
        let analyze = ["systemd-analyze", "security", "--offline=true", "--no-pager", &unit];
        let output = host.command(analyze).env("SYSTEMD_COLORS", "0").run()?.ok()?;
        let sum = output.stdout.lines().last().unwrap_or_default().to_owned();
        let figure = sum.split(": ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        measured.insert(unit, figure.unwrap_or_else(|| panic!("no figure in: {sum}")));
    }
    assert_eq!(
        recorded(),
        measured,
        "docs/hardening.md has the figures of `systemd-analyze security`"
    );
    assert!(measured["roost.service"] <= DAEMON_AT_MOST);
    Ok(())
}

#[test]
fn the_pages_are_without_fault() -> Result<()> {
    let lan = Lan::new()?;
    let host = host(&lan)?;
    host.check("mandoc -T lint -W warning /usr/share/man/man1/roost*.1")?;
    let page = host.check("mandoc -T html /usr/share/man/man1/roost-fleet-init.1")?;
    // The examples are shown line by line, as the help shows them.
    let help = host.check("roost fleet init --help")?;
    let examples = help.split("Examples:\n").nth(1).expect("it has examples");
    for line in examples.lines() {
        assert!(page.contains(line), "{line}: {page}");
    }
    // The units name pages that are there.
    host.check(
        "grep -ho 'man:roost[^ ]*' /usr/lib/systemd/system/roost* | sort -u |
         sed 's|man:\\(.*\\)(\\(.\\))|/usr/share/man/man\\2/\\1.\\2|' | xargs ls",
    )
    .map(drop)
}

#[test]
fn bash_completes_commands_and_none_that_is_hidden() -> Result<()> {
    let lan = Lan::new()?;
    let host = host(&lan)?;
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        // As bash-completion loads it, and bash calls it when Tab is pressed.
        host.check(&format!(
            "source /usr/share/bash-completion/bash_completion && _comp_load roost
             complete -p roost >/dev/null
             COMP_WORDS=({line}{end}) COMP_CWORD={last} COMP_LINE='{line}' COMP_POINT={point}
             function=$(complete -p roost | sed 's/.*-F \\([^ ]*\\).*/\\1/')
             $function roost '{word}' '{before}'
             echo \"${{COMPREPLY[*]}}\"",
            end = if line.ends_with(' ') { "''" } else { "" },
            last = words.len() - 1,
            point = line.len(),
            word = words[words.len() - 1],
            before = words[words.len() - 2],
        ))
    };
    assert_eq!(complete("roost fle")?, "fleet");
    assert_eq!(complete("roost fleet inv")?, "invite");
    assert_eq!(complete("roost jobs --a")?, "--all");
    let all = complete("roost ")?;
    assert!(all.contains("status") && !all.contains("first-boot"), "{all}");
    Ok(())
}
