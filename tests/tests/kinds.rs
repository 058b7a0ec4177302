//! Every kind of derivation, through the workstation and straight at the board.

use std::time::Duration;

use roost_lab::{
    Host, HostSpec, Lan, Release, Result,
    fixtures::{
        builds::{self, FLEET, Nix},
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, ssh,
    },
};

const SOON: Duration = Duration::from_secs(30);
const CA: &str = "extra-experimental-features = ca-derivations";

/// A workstation that may use the board in both ways, and the board.
fn hosts(lan: &Lan, release: Release) -> Result<[Host; 2]> {
    let ws = fleet::workstation(lan, "ws", "")?.release(release).nix_conf(CA);
    let hosts = lan.start([ws, board(lan, "board", "")?.nix_conf(CA)])?;
    let [ws, board] = &hosts;
    roost::direct(ws, &[board])?;
    fleet::join(lan, ws, &[board])?;
    Ok(hosts)
}

/// A board with further features of its Nix.
fn board(lan: &Lan, name: &str, features: &str) -> Result<HostSpec> {
    let spec = fleet::board(lan, name, 2, "")?;
    Ok(spec.nix_conf(&format!("system-features = benchmark {features}")))
}

/// The options by which a build takes each way to the board.
fn ways(board: &Host) -> [(&'static str, Vec<String>); 3] {
    let options =
        |builders: &str| ["--max-jobs", "0", "--builders", builders].map(str::to_owned).to_vec();
    let direct = |scheme| {
        let features = "benchmark,ca-derivations";
        format!("{scheme}://roost@{} {SYSTEM} {} 2 1 {features} - -", board.name(), ssh::KEY)
    };
    [
        ("fleet", options("@/run/roost/machines")),
        ("ssh-ng", options(&direct("ssh-ng"))),
        ("ssh", options(&direct("ssh"))),
    ]
}

/// Builds on each way what `make` makes of the way's name, and reads the output.
fn on_each_way(
    ws: &Host,
    board: &Host,
    content: &str,
    make: impl Fn(&str) -> String,
) -> Result<()> {
    for (way, options) in ways(board) {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let build = Nix::DashBuild.command(ws, &make(way), &options)?.run()?.ok()?;
        assert_eq!(ws.read(build.stdout.trim())?, content, "by {way}");
    }
    Ok(())
}

/// A derivation that is nothing but its attributes: no input, not even a builder's.
fn bare(attrs: &str) -> String {
    format!(
        "(derivation {{ name = \"bare\"; system = \"{SYSTEM}\"; builder = \"/bin/sh\"; {attrs} }})"
    )
}

fn all_kinds_are_built(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan, release)?;
    let drv = |name: &str, script: &str| Drv::new(name, SYSTEM, script);

    let none = |way: &str| bare(&format!("args = [ \"-c\" \"echo {way} >$out\" ];"));
    for (way, options) in ways(&board) {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let build = Nix::DashBuild.command(&ws, &none(way), &options)?.run()?.ok()?;
        assert_eq!(ws.read(build.stdout.trim())?, format!("{way}\n"), "without inputs");
    }

    on_each_way(&ws, &board, "fixed", |way| {
        drv(&format!("fixed-by-{way}"), "printf fixed >$out")
            .attr("outputHashAlgo", "\"sha256\"")
            .attr("outputHashMode", "\"flat\"")
            .attr("outputHash", "builtins.hashString \"sha256\" \"fixed\"")
            .expr()
    })?;

    on_each_way(&ws, &board, "a word and a list of 2\n", |way| {
        let json = "out=$(sed -n 's/.*\"out\":\"\\([^\"]*\\)\".*/\\1/p' $NIX_ATTRS_JSON_FILE); \
                    grep -q '\"list\":\\[1,2\\]' $NIX_ATTRS_JSON_FILE; \
                    echo a word and a list of 2 >$out";
        drv("structured", json)
            .salt(way)
            .attr("__structuredAttrs", "true")
            .attr("list", "[ 1 2 ]")
            .attr("requiredSystemFeatures", "[ \"benchmark\" ]")
            .expr()
    })?;

    on_each_way(&ws, &board, "early\nlate\n", |way| {
        let floating = |drv: Drv| {
            drv.salt(way)
                .attr("__contentAddressed", "true")
                .attr("outputHashMode", "\"recursive\"")
                .attr("outputHashAlgo", "\"sha256\"")
        };
        let early = floating(drv("early", "echo early >$out"));
        let late = drv("late", "cat $early >$out; echo late >>$out").attr("early", &early.expr());
        floating(late).expr()
    })?;

    on_each_way(&ws, &board, "headers\n", |way| {
        let script = "echo program >$out; echo headers >$dev; echo pages >$man";
        let all = drv("several", script).salt(way).attr("outputs", "[ \"out\" \"dev\" \"man\" ]");
        format!("{}.dev", all.expr())
    })
}

#[test]
fn nix_2_26_has_derivations_of_every_kind_built() -> Result<()> {
    all_kinds_are_built(Release::Trixie)
}

#[test]
fn the_newest_nix_has_derivations_of_every_kind_built() -> Result<()> {
    all_kinds_are_built(Release::Sid)
}

#[test]
fn all_outputs_come_back_each_with_its_content() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _board] = hosts(&lan, Release::Trixie)?;
    let script = "mkdir $out; echo run >$out/program; chmod +x $out/program; \
                  ln -s $out/program $out/link; echo $out >$dev; : >$empty";
    let drv = Drv::new("tree", SYSTEM, script).attr("outputs", "[ \"out\" \"dev\" \"empty\" ]");
    let expr = format!("let drv = {}; in drv.all", drv.expr());
    let build = Nix::DashBuild.command(&ws, &expr, FLEET)?.run()?.ok()?;
    let [out, dev, empty]: [&str; 3] =
        build.stdout.split_whitespace().collect::<Vec<_>>().try_into().expect("three outputs");
    assert_eq!(
        ws.check(&format!("stat -c %A {out}/program; readlink {out}/link"))?,
        format!("-r-xr-xr-x\n{out}/program")
    );
    assert_eq!((ws.read(dev)?, ws.read(empty)?), (format!("{out}\n"), String::new()));
    assert_eq!(ws.check(&format!("nix-store --query --references {dev}"))?, out);
    assert_eq!(
        ws.check("nix-store --verify --check-contents 2>&1 | grep -c modified || true")?,
        "0"
    );
    Ok(())
}

#[test]
fn nothing_is_held_any_more_when_all_outputs_have_been_fetched() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan, Release::Trixie)?;
    let drv = Drv::new("several", SYSTEM, "echo a >$out; echo b >$dev; echo c >$man")
        .attr("outputs", "[ \"out\" \"dev\" \"man\" ]");
    for (way, options) in ways(&board) {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let several = drv.clone().salt(way).times(8);
        Nix::DashBuild.command(&ws, &several, &options)?.run()?.ok()?;
        for host in [&ws, &board] {
            lan.wait_until(SOON, "no root is left", || {
                host.check("ls /nix/var/nix/gcroots/roost").is_ok_and(|held| held.is_empty())
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_wrong_hash_and_an_output_that_is_missing_are_told_in_nixs_own_words() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan, Release::Trixie)?;
    for (way, options) in ways(&board) {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let wrong = Drv::new("wrong", SYSTEM, "printf something >$out")
            .salt(way)
            .attr("outputHashAlgo", "\"sha256\"")
            .attr("outputHash", "builtins.hashString \"sha256\" \"else\"");
        let build = Nix::DashBuild.command(&ws, &wrong.expr(), &options)?.run()?;
        assert!(!build.success() && build.stderr.contains("hash mismatch"), "{way}: {build}");
        // What people copy into their expression.
        assert!(build.stderr.contains("got:"), "{way}: {build}");
        let nothing = Drv::new("nothing", SYSTEM, "true").salt(way);
        let build = Nix::DashBuild.command(&ws, &nothing.expr(), &options)?.run()?;
        let told = build.stderr.contains("failed to produce output path");
        assert!(!build.success() && told, "{way}: {build}");
    }
    Ok(())
}

#[test]
fn features_choose_the_board_that_has_them() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, plain, fast] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "plain", "")?,
        board(&lan, "fast", "gpu")?,
    ])?;
    fleet::join(&lan, &ws, &[&plain, &fast])?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    let machines = ws.read("/run/roost/machines")?;
    let lines: Vec<&str> = machines.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), 2, "one a system and set of features: {machines}");
    assert!(lines.iter().any(|line| line.contains(" benchmark,gpu ")), "{machines}");
    assert!(lines.iter().any(|line| line.contains(" benchmark ")), "{machines}");

    let needs = |feature: &str, salt: &str| {
        let drv = Drv::new("needs", SYSTEM, "echo $salt >$out").salt(salt);
        drv.attr("requiredSystemFeatures", &format!("[ \"{feature}\" ]")).expr()
    };
    for salt in ["one", "two", "three"] {
        let path = builds::on_fleet(&ws, &needs("gpu", salt))?;
        fast.check(&format!("nix-store --check-validity {path}"))?;
        assert!(!plain.sh(&format!("nix-store --check-validity {path}"))?.success());
    }
    let build = Nix::DashBuild.command(&ws, &needs("quantum", "x"), FLEET)?.run()?;
    assert!(!build.success() && build.stderr.contains("quantum"), "{build}");
    assert!(build.stderr.contains(SYSTEM), "{build}");
    Ok(())
}

#[test]
fn a_board_offers_nothing_that_its_nix_would_refuse() -> Result<()> {
    let lan = Lan::new()?;
    let offers =
        "features = [ \"benchmark\", \"gpu\" ]\nsystems = [ \"aarch64-linux\", \"z80-linux\" ]";
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", 2, offers)?])?;
    fleet::join(&lan, &ws, &[&board])?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    let machines = ws.read("/run/roost/machines")?;
    assert!(machines.contains(" benchmark - -") && !machines.contains("z80"), "{machines}");
    let doctor = board.run(["roost", "doctor"])?.ok()?.stdout;
    assert!(doctor.contains("Nix would refuse gpu of board.features"), "{doctor}");
    Ok(())
}
