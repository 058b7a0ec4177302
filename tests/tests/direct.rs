//! A board is an ordinary Nix builder to everyone else: stock Nix, without roost, straight to it.

use roost_lab::{
    Host, Lan, Release, Result,
    fixtures::{
        builds::{self, Nix},
        fleet,
        nix::Drv,
        roost, ssh,
    },
};

/// The schemes by which stock Nix reaches another machine.
const SCHEMES: [&str; 2] = ["ssh-ng", "ssh"];

/// A machine with stock Nix only, and a board that root there may build on.
fn stock_and_board(lan: &Lan, release: Release) -> Result<[Host; 2]> {
    let hosts = lan.start([
        lan.host("stock").release(release),
        roost::board(lan.host("board").system("aarch64-linux"), 2, "")?,
    ])?;
    let [stock, board] = &hosts;
    roost::direct(stock, &[board])?;
    board.enable_service(roost_lab::Service::ROOST)?;
    Ok(hosts)
}

fn hello(salt: &str) -> Drv {
    Drv::new("hello", "aarch64-linux", "echo greetings; echo hello >$out").salt(salt)
}

/// As a builder, by both programs and both schemes.
fn builds_for_stock_nix(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [stock, board] = stock_and_board(&lan, release)?;
    for scheme in SCHEMES {
        let builder = roost::builder(scheme, &board, "aarch64-linux", 2);
        for nix in Nix::ALL {
            let drv = hello(&format!("{scheme} {nix:?}"));
            let after = drv.clone().attr("before", &drv.expr());
            let mut options = vec!["-j0", "--builders", &builder];
            // nix-build does so anyway.
            options.extend((nix == Nix::Build).then_some("-L"));
            let built = nix.command(&stock, &after.expr(), &options)?.run()?.ok()?;
            assert_eq!(stock.read(built.stdout.trim())?, "hello\n", "{scheme} {nix:?}");
            assert!(built.stderr.contains("greetings"), "{scheme} {nix:?}: {built}");
        }
    }
    let built = fleet::jobs(&board)?.iter().filter(|job| job.state == "built").count();
    assert_eq!(built, 8, "all of them as jobs");
    Ok(())
}

#[test]
fn nix_2_26_builds_straight_on_a_board() -> Result<()> {
    builds_for_stock_nix(Release::Trixie)
}

#[test]
fn the_newest_nix_builds_straight_on_a_board() -> Result<()> {
    builds_for_stock_nix(Release::Sid)
}

/// As a store: what people and scripts do with one.
fn is_a_store_for_stock_nix(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [stock, board] = stock_and_board(&lan, release)?;
    for scheme in SCHEMES {
        let store = format!("{scheme}://roost@board");
        let info = stock.check(&format!("nix store info --store {store} 2>&1"))?;
        assert!(info.contains("Store URL"), "{info}");
        copies_both_ways(&stock, &board, &store)?;
    }
    builds_in_the_store(&stock, &board)
}

/// `nix copy --to`, `nix path-info` and `nix copy --from`, of a path with references.
fn copies_both_ways(stock: &Host, board: &Host, store: &str) -> Result<()> {
    let expr = "let name = \"part\"; part = builtins.toFile name SALT; \
                in builtins.toFile \"whole\" \"${part}\\n\"";
    let expr = expr.replace("SALT", &format!("\"{store}\""));
    let path = stock.command(["nix-instantiate", "--eval", "--read-write-mode", "--expr", &expr]);
    let path = path.run()?.ok()?.stdout.trim().trim_matches('"').to_owned();
    stock.check(&format!("nix copy --to {store} {path}"))?;
    let part = board.read(&path)?;
    assert_eq!(board.read(part.trim())?, store, "references come along");
    let info = stock.check(&format!("nix path-info --store {store} --recursive --json {path}"))?;
    assert!(info.contains(part.trim()), "{info}");

    board.write("/srv/only-here", 0o644, format!("from {store}\n"))?;
    let path = board.add_to_store("/srv/only-here")?;
    stock.check(&format!("nix copy --no-check-sigs --from {store} {path}"))?;
    assert_eq!(stock.read(&path)?, format!("from {store}\n"));
    let absent = format!("/nix/store/{}-absent", "0".repeat(32));
    let answer = stock.sh(&format!("nix path-info --store {store} {absent}"))?;
    assert!(!answer.success() && answer.stderr.contains("is not valid"), "{answer}");
    Ok(())
}

/// `nix build --store` and `nix-store --realise --store`: evaluated here, built and kept there.
/// (Over `ssh://` Nix does neither, whatever is at the other end.)
fn builds_in_the_store(stock: &Host, board: &Host) -> Result<()> {
    let store = "ssh-ng://roost@board";
    let options = ["--store", store, "--eval-store", "auto", "-L"];
    let build = Nix::Build.command(stock, &hello("built there").expr(), &options)?.run()?.ok()?;
    assert!(build.stderr.contains("greetings"), "{build}");
    assert_eq!(board.read(build.stdout.trim())?, "hello\n");
    assert!(!stock.sh(&format!("test -e {}", build.stdout.trim()))?.success());

    let drv = builds::instantiate(stock, &hello("realised there").expr())?;
    stock.check(&format!("nix copy --derivation --to {store} {drv}"))?;
    let built = stock.check(&format!("nix-store --store {store} --realise {drv}"))?;
    assert_eq!(board.read(&built)?, "hello\n");
    Ok(())
}

#[test]
fn nix_2_26_uses_a_board_as_a_store() -> Result<()> {
    is_a_store_for_stock_nix(Release::Trixie)
}

#[test]
fn the_newest_nix_uses_a_board_as_a_store() -> Result<()> {
    is_a_store_for_stock_nix(Release::Sid)
}

#[test]
fn the_account_on_the_board_runs_nothing_else() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, _board] = stock_and_board(&lan, Release::Trixie)?;
    for line in ["sh", "nix-daemon --stdio; id", "cat /etc/passwd", "roost drain", ""] {
        let login = stock.run(["ssh", "-i", ssh::KEY, "roost@board", line])?;
        assert!(!login.success() && login.stdout.is_empty(), "{login}");
        assert!(login.stderr.contains("ssh-ng://"), "it says what is accepted: {login}");
    }
    let forward = "ssh -i /root/.ssh/id_ed25519 -o ExitOnForwardFailure=yes -N \
                   -R 2222:localhost:22 roost@board";
    assert!(!stock.sh(forward)?.success());
    Ok(())
}
