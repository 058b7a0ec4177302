//! Boards that are too hot, short of memory or of disk: jobs wait, say for what, and go on.

use std::time::Duration;

use roost_lab::{
    Disk, Host, Lan, Result,
    fixtures::{
        fleet::{self, SYSTEM},
        roost, steered,
    },
};

const SOON: Duration = Duration::from_secs(60);

const ZONE: &str = "/sys/class/thermal/thermal_zone0";
const PRESSURE: &str = "/proc/pressure/memory";

/// A workstation and a board whose heat and memory are what the test says.
fn pair(lan: &Lan, disk: Disk, config: &str) -> Result<[Host; 2]> {
    let spec = steered::allow(lan.host("board").system(SYSTEM).disk(disk));
    let hosts = lan.start([fleet::workstation(lan, "ws", "")?, roost::board(spec, 2, config)?])?;
    let [ws, board] = &hosts;
    for (file, content) in [
        ("type", "cpu-thermal\n"),
        ("trip_point_0_type", "passive\n"),
        ("trip_point_0_temp", "80000\n"),
        ("trip_point_1_type", "critical\n"),
        ("trip_point_1_temp", "95000\n"),
        ("temp", "45000\n"),
    ] {
        board.write_hardware(&format!("{ZONE}/{file}"), content)?;
    }
    press(board, "0.00")?;
    remember(board, 2048)?;
    fleet::join(lan, ws, &[board])?;
    Ok(hosts)
}

/// The share of time in which tasks waited for memory (Documentation/accounting/psi.rst).
fn press(board: &Host, percent: &str) -> Result<()> {
    let line = |kind| format!("{kind} avg10={percent} avg60=0.00 avg300=0.00 total=1000\n");
    board.write_hardware(PRESSURE, &(line("some") + &line("full")))
}

/// How much memory new work could have.
fn remember(board: &Host, available_mib: u32) -> Result<()> {
    let kib = available_mib * 1024;
    let text =
        format!("MemTotal:        4194304 kB\nMemFree:  {kib} kB\nMemAvailable:    {kib} kB\n");
    board.write_hardware("/proc/meminfo", &text)
}

fn heat(board: &Host, celsius: u32) -> Result<()> {
    board.write_hardware(&format!("{ZONE}/temp"), &format!("{celsius}000\n"))
}

/// Has a job wait on the board for a reason with these words, which is shown where people look.
fn waits(lan: &Lan, [ws, board]: &[Host; 2], name: &str, words: &[&str]) -> Result<()> {
    let has = |text: &str| words.iter().all(|word| text.contains(word));
    let what = format!("waiting for {words:?}");
    fleet::wait_job(lan, ws, name, &what, |job| has(&job.reason))?;
    let why = fleet::why(ws, name)?;
    assert!(has(&why), "{why}");
    let status = || board.check("roost status").is_ok_and(|text| has(&text));
    lan.wait_until(SOON, "the board's status says so", status)?;
    assert_eq!(steered::starts(board, name)?, 0, "it began");
    Ok(())
}

/// Has a job begin, and end.
fn goes_on(lan: &Lan, board: &Host, name: &str) -> Result<()> {
    steered::wait_started(lan, board, name, 1)?;
    steered::release(board, name)
}

#[test]
fn a_hot_board_starts_nothing_until_it_has_cooled_down() -> Result<()> {
    let lan = Lan::new()?;
    let hosts = pair(&lan, Disk::Memory(4096), "")?;
    let [ws, board] = &hosts;
    // As hot as it may be.
    heat(board, 74)?;
    let mut warm = fleet::build(ws, "warm")?;
    steered::wait_started(&lan, board, "warm", 1)?;
    heat(board, 75)?;
    let mut hot = fleet::build(ws, "hot")?;
    waits(&lan, &hosts, "hot", &["too hot", "75 °C"])?;
    // What runs goes on; cooler is not yet cool.
    steered::release(board, "warm")?;
    assert_eq!(fleet::result(ws, &mut warm, SOON)?, "warm\n");
    heat(board, 70)?;
    waits(&lan, &hosts, "hot", &["it goes on below 70 °C"])?;
    heat(board, 69)?;
    goes_on(&lan, board, "hot")?;
    assert_eq!(fleet::result(ws, &mut hot, SOON)?, "hot\n");
    Ok(())
}

#[test]
fn a_board_that_swaps_starts_nothing_until_the_pressure_is_gone() -> Result<()> {
    let lan = Lan::new()?;
    let hosts = pair(&lan, Disk::Memory(4096), "")?;
    let [ws, board] = &hosts;
    press(board, "35.20")?;
    let mut build = fleet::build(ws, "a")?;
    waits(&lan, &hosts, "a", &["wait for memory", "20 %"])?;
    press(board, "0.40")?;
    goes_on(&lan, board, "a")?;
    assert_eq!(fleet::result(ws, &mut build, SOON)?, "a\n");
    Ok(())
}

#[test]
fn with_little_memory_a_board_builds_one_after_the_other() -> Result<()> {
    let lan = Lan::new()?;
    let hosts = pair(&lan, Disk::Memory(4096), "")?;
    let [ws, board] = &hosts;
    remember(board, 100)?;
    // Alone it may have what there is.
    let mut first = fleet::build(ws, "first")?;
    steered::wait_started(&lan, board, "first", 1)?;
    let mut second = fleet::build(ws, "second")?;
    waits(&lan, &hosts, "second", &["256 MiB of memory"])?;
    remember(board, 1000)?;
    goes_on(&lan, board, "second")?;
    steered::release(board, "first")?;
    assert_eq!(fleet::result(ws, &mut first, SOON)?, "first\n");
    assert_eq!(fleet::result(ws, &mut second, SOON)?, "second\n");
    Ok(())
}

#[test]
fn a_board_without_room_starts_nothing_until_there_is_some() -> Result<()> {
    // Enough for inputs to arrive, and too little for a build.
    without_room(Some("truncate -s -32M /var/tmp/ballast"))
}

#[test]
fn an_idle_board_that_cannot_take_a_single_input_says_that_its_disk_is_full() -> Result<()> {
    without_room(None)
}

/// A board whose disk is full but for what a command gives back.
fn without_room(give_back: Option<&str>) -> Result<()> {
    let lan = Lan::new()?;
    let hosts = pair(&lan, Disk::Memory(256), "\n[queue]\nmin_free_mib = 64\n")?;
    let [ws, board] = &hosts;
    board.fill_disk()?;
    if let Some(command) = give_back {
        board.check(command)?;
    }
    let mut build = fleet::build(ws, "a")?;
    let full = |job: &fleet::Job| job.reason.contains("MiB") && job.reason.contains("board");
    fleet::wait_job(&lan, ws, "a", "waiting for room", full)?;
    assert_eq!(steered::starts(board, "a")?, 0, "it began");
    board.free_disk()?;
    goes_on(&lan, board, "a")?;
    assert_eq!(fleet::result(ws, &mut build, SOON)?, "a\n");
    Ok(())
}
