//! From a flake to a board that is a member of the fleet: `roost flash` has Nix build the image, and a
//! board takes the seed that it put there.

use std::{
    io::{Cursor, Write},
    time::Duration,
};

use roost_lab::{
    Host, Lan, Result, Service,
    fixtures::{
        builds,
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, trust,
    },
};

const BUILD: Duration = Duration::from_secs(120);
const FULL: usize = 4 << 20;

/// An image that is one FAT volume: with the seed's label, the board it is for, and so much more.
fn image(ballast_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut image = Cursor::new(vec![0; 4 << 20]);
    let options = fatfs::FormatVolumeOptions::new().volume_label(*b"ROOST_SEED ");
    fatfs::format_volume(&mut image, options)?;
    let volume = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new())?;
    let mut label = volume.root_dir().create_file("roost-image.json")?;
    label.write_all(br#"{"board": "rock-5b", "version": "0.1.0"}"#)?;
    let mut ballast = volume.root_dir().create_file("ballast")?;
    // Ends when the volume is full, and that is the point.
    let written = ballast.write_all(&vec![1; ballast_bytes]);
    drop((label, ballast));
    volume.unmount()?;
    assert_eq!(written.is_err(), ballast_bytes == FULL);
    Ok(image.into_inner())
}

/// Packed with zstd: a frame of blocks that are not compressed (RFC 8878).
fn packed(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let blocks = content.chunks(1 << 17).collect::<Vec<_>>();
    for (number, block) in blocks.iter().enumerate() {
        let is_last = u32::from(number + 1 == blocks.len());
        frame.extend(&((block.len() as u32) << 3 | is_last).to_le_bytes()[..3]);
        frame.extend(*block);
    }
    frame
}

/// A flake whose image for a ROCK 5B is the one that lies beside it.
fn flake(host: &Host, image: Vec<u8>) -> Result<()> {
    let system = format!("{}-linux", std::env::consts::ARCH);
    let script = "mkdir -p $out/image && cp $image $out/image/roost.img.zst";
    let drv = Drv::new("image", &system, script).attr("image", "./roost.img.zst").expr();
    // A flake reaches nothing outside of itself.
    let drv = drv.replace("/usr/lib/lab", "./lab");
    let flake = format!("{{ outputs = _: {{ packages.{system}.image-rock-5b = {drv}; }}; }}");
    host.check("mkdir /root/flake && cp -r /usr/lib/lab /root/flake/lab")?;
    host.write("/root/flake/roost.img.zst", 0o644, image)?;
    host.write("/root/flake/flake.nix", 0o644, flake)
}

fn tokens(host: &Host) -> Result<usize> {
    let listed = host.check("roost fleet list --tokens --json | grep -c '\"id\"' || true")?;
    Ok(listed.parse().unwrap_or_default())
}

#[test]
fn a_board_is_flashed_from_a_flake_and_joins_the_fleet() -> Result<()> {
    let lan = Lan::new()?;
    let board = roost::board(lan.host("board").system(SYSTEM), 1, "")?;
    let [ws, board] = lan.start([fleet::workstation(&lan, "ws", "")?, board])?;
    flake(&ws, packed(&image(0).unwrap_or_default()))?;
    let flash = "roost flash --board rock5b --flake path:/root/flake";

    // Without a fleet, nothing is built for nothing.
    let early = ws.sh(&format!("{flash} /root/card.img"))?;
    assert!(early.stderr.contains("roost fleet init"), "{early}");
    assert!(!early.stderr.contains("building"), "{early}");

    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    let argv = ["bash", "-c", &format!("{flash} --hostname board /root/card.img")];
    let told = ws.command(argv).timeout(BUILD).run()?.ok()?;
    assert!(
        told.stdout.contains("Plug it into Radxa ROCK 5B; it appears in `roost status`"),
        "{told}"
    );
    assert!(told.stderr.contains("verifying: 100 %"), "{told}");
    assert_eq!(tokens(&ws)?, 1);

    let card = ws.check("base64 -w0 /root/card.img")?;
    board.command(["sh", "-c", "base64 -d >/root/card.img"]).stdin(card).run()?.ok()?;
    board.check("roost first-boot --from /root/card.img")?;
    board.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    let expr = Drv::new("hello", SYSTEM, "echo hello >$out").salt("flashed").expr();
    builds::on_fleet(&ws, &expr).map(drop)
}

#[test]
fn a_seed_that_cannot_be_written_leaves_no_token_and_says_how_to_go_on() -> Result<()> {
    let lan = Lan::new()?;
    let ws = fleet::workstation(&lan, "ws", "")?.start()?;
    trust::found(&ws)?;
    ws.write("/root/full.img", 0o644, image(FULL).unwrap_or_default())?;
    let flashed = ws.sh("roost flash --image /root/full.img /root/card.img")?;
    assert_eq!(flashed.code(), Some(1), "{flashed}");
    let told = &flashed.stderr;
    assert!(told.contains("written and verified, but has no seed"), "{flashed}");
    assert!(told.contains("`roost seed /root/card.img`"), "{flashed}");
    assert_eq!(tokens(&ws)?, 0);

    // Nix is needed only where no image is given.
    let no_nix = ws.sh("PATH=/nowhere /usr/bin/roost flash --board rock-5b /root/new.img")?;
    assert!(no_nix.stderr.contains("no nix") && no_nix.stderr.contains("--image"), "{no_nix}");
    let no_such = ws.sh("roost flash --board star64 --flake path:/nowhere /root/new.img")?;
    assert!(no_such.stderr.contains("path:/nowhere#image-star64"), "{no_such}");
    assert_eq!(ws.sh("[ -e /root/new.img ]")?.code(), Some(1));
    assert_eq!(tokens(&ws)?, 0);
    Ok(())
}
