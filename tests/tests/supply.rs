//! A build goes where its inputs are, if that is sooner.

use roost_lab::{
    Host, Lan, Result,
    fixtures::{builds, fleet, nix, nix::Drv, steered},
};

/// What a build needs, in MiB: random, so that nothing makes it smaller.
const SIZE_MIB: u32 = 24;

/// A workstation, and boards that are equal but for their names.
fn trio() -> Result<(Lan, [Host; 3])> {
    let lan = Lan::new()?;
    let hosts = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::board(&lan, "one", 2, "")?,
        fleet::board(&lan, "two", 2, "")?,
    ])?;
    let [ws, one, two] = &hosts;
    fleet::join(&lan, ws, &[one, two])?;
    Ok((lan, hosts))
}

/// The derivation, with a large input.
fn with_input(drv: Drv, input: &str) -> Drv {
    drv.attr("input", &format!("builtins.storePath {input}"))
}

#[test]
fn a_build_goes_to_the_board_that_has_its_inputs_and_roost_why_says_what_others_lack() -> Result<()>
{
    let (lan, [ws, one, two]) = trio()?;
    ws.check(&format!("head -c {SIZE_MIB}M /dev/urandom >/root/input"))?;
    let input = ws.add_to_store("/root/input")?;
    let first = with_input(Drv::new("first", fleet::SYSTEM, "md5sum <$input >$out"), &input);
    nix::write(&ws, "/root/first.nix", &first.expr())?;
    // Without a word on where, equal boards have jobs in the order of their names.
    ws.check("roost build --on two --no-link --file /root/first.nix")?;
    let second = with_input(steered::drv("second", fleet::SYSTEM), &input);
    let mut build = fleet::nix_build(&ws, &second)?.spawn()?;
    let job = fleet::wait_job(&lan, &ws, "second", "running", |job| job.state == "running")?;
    assert_eq!(job.node.as_deref(), Some("two"));
    let why = fleet::why(&ws, "second")?;
    let line = |node: &str| why.lines().find(|line| line.contains(node) && line.contains("native"));
    let [at_one, at_two] = ["one", "two"].map(|node| line(node).unwrap_or_default().to_owned());
    let lacks = at_one.split_once("lacks ").and_then(|(_, text)| text.split_once(" MiB"));
    // The shell that builds is one of its inputs, too.
    let lacks_mib = lacks.and_then(|(mib, _)| mib.parse::<u32>().ok());
    assert!(lacks_mib.is_some_and(|mib| (SIZE_MIB..SIZE_MIB + 8).contains(&mib)), "{why}");
    assert!(at_two.contains('*') && !at_two.contains("lacks"), "{why}");
    steered::release_all(&two)?;
    assert_eq!(fleet::result(&ws, &mut build, builds::BUILD_TIMEOUT)?, "second\n");
    assert_eq!(steered::starts(&one, "second")?, 0);
    Ok(())
}
