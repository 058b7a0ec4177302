//! A build goes where its inputs are, if that is sooner.

use roost_lab::{
    HostSpec, Lan, Result,
    fixtures::{builds, fleet, nix, nix::Drv, roost, steered},
};

/// What a build needs, in MiB: random, so that nothing makes it smaller.
const SIZE_MIB: u32 = 24;

/// Has a build, and another one that needs its output, which refers to something large. Boards are equal but
/// for their names, in the order of which they are given jobs.
fn builds_where_inputs_are(hook: impl FnOnce(HostSpec) -> HostSpec) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, one, two] = lan.start([
        hook(fleet::workstation(&lan, "ws", "")?),
        fleet::board(&lan, "one", 2, "")?,
        fleet::board(&lan, "two", 2, "")?,
    ])?;
    fleet::join(&lan, &ws, &[&one, &two])?;
    ws.check(&format!("head -c {SIZE_MIB}M /dev/urandom >/root/large"))?;
    let large = ws.add_to_store("/root/large")?;
    let first = Drv::new("first", fleet::SYSTEM, "echo $large >$out")
        .attr("large", &format!("builtins.storePath {large}"));
    nix::write(&ws, "/root/first.nix", &first.expr())?;
    ws.check("roost build --on two --no-link --file /root/first.nix")?;

    let second = steered::drv("second", fleet::SYSTEM).attr("first", &first.expr());
    let mut build = fleet::nix_build(&ws, &second)?.spawn()?;
    let job = fleet::wait_job(&lan, &ws, "second", "running", |job| job.state == "running")?;
    let why = fleet::why(&ws, "second")?;
    assert_eq!(job.node.as_deref(), Some("two"), "{why}");
    let line = |node: &str| why.lines().find(|line| line.contains(node) && line.contains("native"));
    let [at_one, at_two] = ["one", "two"].map(|node| line(node).unwrap_or_default().to_owned());
    let lacks = at_one.split_once("lacks ").and_then(|(_, text)| text.split_once(" MiB"));
    // The shell that builds is one of its inputs, too.
    let lacks_mib = lacks.and_then(|(mib, _)| mib.parse::<u32>().ok());
    assert!(lacks_mib.is_some_and(|mib| (SIZE_MIB..SIZE_MIB + 8).contains(&mib)), "{why}");
    assert!(at_two.contains('*') && !at_two.contains("lacks"), "{why}");
    steered::release_all(&two)?;
    assert_eq!(fleet::result(&ws, &mut build, builds::BUILD_TIMEOUT)?, "second\n");
    Ok(())
}

#[test]
fn a_build_goes_to_the_board_that_has_its_inputs_and_roost_why_says_what_others_lack() -> Result<()>
{
    builds_where_inputs_are(|ws| ws)
}

#[test]
fn so_does_one_that_is_accepted_before_nix_has_said_what_it_needs() -> Result<()> {
    builds_where_inputs_are(roost::hooked)
}
