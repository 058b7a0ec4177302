//! A stock `nix build` lands on a board that announced itself.

use std::time::Duration;

use roost_lab::{
    Lan, Result,
    fixtures::{nix, nix::Drv, roost},
};

#[test]
fn a_stock_nix_build_lands_on_a_board_and_comes_back() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([
        roost::workstation(lan.host("ws"), "")?,
        roost::board(lan.host("board1").system("aarch64-linux"), 2, "")?,
    ])?;
    roost::join(&ws, &[&board])?;
    lan.wait_until(Duration::from_secs(20), "the board has a line", || {
        ws.read("/run/roost/machines").is_ok_and(|text| text.contains("aarch64-linux"))
    })?;
    let drv = Drv::new("hello", "aarch64-linux", "echo building; echo hello >$out").salt("1");
    nix::write(&ws, "/root/hello.nix", &drv.expr())?;
    let build = ws.command([
        "nix-build",
        "--no-out-link",
        "--max-jobs",
        "0",
        "--builders",
        "@/run/roost/machines",
        "/root/hello.nix",
    ]);
    let output = build.timeout(Duration::from_secs(40)).run()?;
    let path = output.ok()?.stdout;
    assert_eq!(ws.read(path.trim())?, "hello\n");
    Ok(())
}
