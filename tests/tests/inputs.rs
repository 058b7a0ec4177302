//! What a build needs goes to the board: all of it, once, and references first; and it comes from
//! and goes to whichever store the user builds in.

use roost_lab::{
    Host, HostSpec, Lan, Output, Release, Result,
    fixtures::{
        builds::{FLEET, Nix},
        fleet::{self, SYSTEM},
        nix::Drv,
        roost,
    },
};

/// A chain of store paths, each of which refers to the one before, as an expression for the last:
/// made by builds on the workstation itself, so that only their outputs are inputs of others.
fn chain(length: usize) -> String {
    let link = |before: &str, n: usize| {
        let script = format!("mkdir $out; echo {n} >$out/number; echo {before} >$out/before");
        let drv = Drv::new(&format!("link{n}"), "x86_64-linux", &script);
        if n == 0 { drv.expr() } else { drv.attr("before", &format!("l{}", n - 1)).expr() }
    };
    let links: String = (0..length)
        .map(|n| format!("l{n} = {}; ", link(if n == 0 { "none" } else { "$before" }, n)))
        .collect();
    format!("let {links} in l{}", length - 1)
}

fn hosts(lan: &Lan, workstation: &str, board: HostSpec) -> Result<[Host; 2]> {
    // What it builds itself needs no builder.
    let ws = roost::workstation(lan.host("ws").max_jobs(1), workstation)?;
    let hosts = lan.start([ws, board])?;
    let [ws, board] = &hosts;
    fleet::join(lan, ws, &[board])?;
    Ok(hosts)
}

/// Builds on the fleet, and gives what was shown.
fn build(ws: &Host, expr: &str) -> Result<Output> {
    let options = ["--builders", "@/run/roost/machines", "--log-format", "internal-json", "-v"];
    Nix::Build.command(ws, expr, &options)?.run()?.ok()
}

/// The last thing that was said of copying inputs, such as `3 of 5 paths`.
fn copied(output: &Output) -> Option<&str> {
    let (_, rest) = output.stderr.rsplit_once("copying inputs to board: ")?;
    rest.split(',').next()
}

#[test]
fn the_closure_of_an_input_goes_along_and_never_again() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan, "", fleet::board(&lan, "board", 2, "")?)?;
    let last = chain(30);
    let walk = "at=$chain; while [ $at != none ]; do cat $at/number >>$out; at=$(cat $at/before); \
                done";
    let walks = |salt: &str| {
        Drv::new("walks", SYSTEM, walk).salt(salt).attr("chain", &format!("({last})")).expr()
    };
    let first = build(&ws, &walks("first"))?;
    let numbers: String = (0..30).rev().map(|n| format!("{n}\n")).collect();
    assert_eq!(ws.read(first.stdout.trim())?, numbers);
    // The chain and the builder; what was made of them on the way is not asked for.
    assert_eq!(copied(&first), Some("0 of 31 paths"));
    let again = build(&ws, &walks("second"))?;
    assert_eq!(ws.read(again.stdout.trim())?, numbers);
    assert_eq!(copied(&again), None, "the board has all of it");
    assert_eq!(
        board.check("nix-store --verify --check-contents 2>&1 | grep -c error || true")?,
        "0"
    );
    Ok(())
}

#[test]
fn big_inputs_arrive_whole_and_their_progress_is_shown() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _board] = hosts(&lan, "", fleet::board(&lan, "board", 2, "")?)?;
    ws.check("mkdir /srv/big; for n in 1 2 3; do head -c 24M /dev/urandom >/srv/big/$n; done")?;
    let parts = "map (n: builtins.path { name = \"part\"; path = /srv/big + \"/${n}\"; })
                 [ \"1\" \"2\" \"3\" ]";
    let sum = Drv::new("sum", SYSTEM, "cat $parts | sha256sum >$out").attr("parts", parts);
    let output = build(&ws, &sum.expr())?;
    assert_eq!(ws.read(output.stdout.trim())?.trim(), ws.check("cat /srv/big/* | sha256sum")?);
    assert_eq!(copied(&output).map(|text| text.ends_with(" of 4 paths")), Some(true), "{output}");
    assert!(output.stderr.contains(" of 7"), "some 70 MiB: {output}");
    Ok(())
}

#[test]
fn a_board_may_fetch_inputs_from_its_own_substituters_first() -> Result<()> {
    let lan = Lan::new()?;
    let board = fleet::board(&lan, "board", 2, "")?
        .nix_conf("substituters = file:///srv/cache")
        .nix_conf("require-sigs = false");
    let [ws, board] = hosts(&lan, "substitute_on_boards = true", board)?;
    let input = Drv::new("input", "x86_64-linux", "echo from far away >$out").expr();
    let path = Nix::DashBuild.command(&ws, &input, &[])?.run()?.ok()?.stdout;
    ws.check(&format!("nix copy --to file:///srv/cache {path}"))?;
    let cache = ws.check("tar -C /srv -c cache | base64")?;
    board.command(["sh", "-c", "base64 -d | tar -C /srv -x"]).stdin(cache).run()?.ok()?;
    let reads = Drv::new("reads", SYSTEM, "cat $input >$out").attr("input", &input);
    let output = build(&ws, &reads.expr())?;
    assert_eq!(ws.read(output.stdout.trim())?, "from far away\n");
    // The builder, which no cache has; the input did not come from here.
    assert_eq!(copied(&output), Some("0 of 1 paths"), "{output}");
    Ok(())
}

/// A user's own store on the workstation, by each of its names.
fn builds_into_other_stores(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([
        roost::workstation(lan.host("ws").release(release), "")?,
        fleet::board(&lan, "board", 2, "")?,
    ])?;
    fleet::join(&lan, &ws, &[&board])?;
    for (store, root) in [("/tmp/one", "/tmp/one"), ("local?root=/tmp/two", "/tmp/two")] {
        let first = Drv::new("first", SYSTEM, "echo first >$out").salt(store).expr();
        let drv = Drv::new("second", SYSTEM, "cat $first >$out; echo second >>$out");
        let expr = drv.attr("first", &first).expr();
        let options = [FLEET, &["--store", store]].concat();
        let output = Nix::Build.command(&ws, &expr, &options)?.run()?.ok()?;
        let path = format!("{root}{}", output.stdout.trim());
        assert_eq!(ws.read(&path)?, "first\nsecond\n", "{store}");
        assert!(!ws.sh(&format!("test -e {}", output.stdout.trim()))?.success(), "only there");
    }
    Ok(())
}

#[test]
fn nix_2_26_builds_into_another_store() -> Result<()> {
    builds_into_other_stores(Release::Trixie)
}

#[test]
fn the_newest_nix_builds_into_another_store() -> Result<()> {
    builds_into_other_stores(Release::Sid)
}
