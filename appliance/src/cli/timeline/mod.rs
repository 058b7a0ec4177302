//! `roost timeline`: what happened, drawn.

mod course;
mod pick;

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use self::{
    course::{Courses, courses},
    pick::Picked,
};
use super::{args::Timeline, commands::print_json, error::CommandError, human};
use crate::{
    bus::Client,
    draw::{self, Chart, End, Screen},
    model::{BoardView, JobView, NodeView, Reach},
};

pub(super) use course::times;

/// Columns where nothing says how many there are.
const COLUMNS: usize = 100;

/// Asks the daemon, and prints or writes the chart.
pub(super) async fn run(
    client: &Client,
    args: &Timeline,
    now_ms: u64,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let (jobs, node) = (client.jobs().await?, client.node().await?);
    let (boards, second_store) = (client.boards().await?, client.second_store().await?);
    let rows = rows(&node, second_store.as_ref(), &boards);
    let chart = chart(&rows, jobs, args, now_ms);
    if args.output.json {
        return print_json(&chart, out);
    }
    show(&chart, args.svg.as_deref(), out)
}

/// Prints a chart as text, or writes it as SVG.
pub(super) fn show(
    chart: &Chart,
    svg: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    match svg {
        None => out.write_all(draw::text(chart, screen()).as_bytes())?,
        Some(file) if file == Path::new("-") => out.write_all(draw::svg(chart).as_bytes())?,
        Some(file) => {
            let written = fs::write(file, draw::svg(chart));
            written.map_err(|source| CommandError::Write { file: file.to_owned(), source })?;
        }
    }
    Ok(())
}

/// The rows that are there whether anything was built in them or not: this node and its second store, if
/// they build, and the boards that are up.
fn rows(node: &NodeView, second_store: Option<&NodeView>, boards: &[BoardView]) -> Vec<String> {
    let here = Some(node).filter(|node| node.slots > 0).into_iter().chain(second_store);
    let up = boards.iter().filter(|board| board.reach == Reach::Up).map(|board| &board.node.name);
    let mut up: Vec<_> = up.cloned().collect();
    up.sort();
    let mut rows: Vec<String> = here.map(|node| node.name.clone()).chain(up).collect();
    rows.dedup();
    rows
}

/// The jobs that were asked for, as a chart.
fn chart(rows: &[String], jobs: Vec<JobView>, args: &Timeline, now_ms: u64) -> Chart {
    let Picked { jobs, left_out, window } = pick::pick(jobs, args, now_ms);
    let Courses { spans, waits, unknown } = courses(&jobs, now_ms);
    let ended_badly = spans.iter().filter(|span| span.end == End::Bad).count();
    let chart = Chart::new(rows, spans, &waits, window);
    let drawn = jobs.len() - unknown;
    if drawn == 0 && unknown == 0 {
        return chart.caption(vec!["No jobs to show.".to_owned()]);
    }
    let length = draw::duration(chart.to_ms.saturating_sub(chart.from_ms));
    let mut first = format!("{} in {length} from {}", count(drawn, "job"), date(chart.from_ms));
    if ended_badly > 0 {
        first += &format!(", {ended_badly} failed");
    }
    let mut caption = vec![first];
    if left_out > 0 {
        let earlier = count(left_out, "earlier job");
        caption.push(format!("not shown: {earlier}; --last shows more"));
    }
    if unknown > 0 {
        let old = count(unknown, "job");
        caption.push(format!("not shown: {old} of which an earlier version noted no times"));
    }
    chart.caption(caption)
}

fn count(number: usize, word: &str) -> String {
    human::count(u32::try_from(number).unwrap_or(u32::MAX), word)
}

/// A moment in milliseconds since 1970, in UTC.
fn date(at_ms: u64) -> String {
    // RFC 3339 ends with the year 9999.
    let at_ms = at_ms.min(253_402_300_799_000);
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(at_ms)).unwrap_or(UNIX_EPOCH);
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// The screen that standard output is, or what COLUMNS says of it. NO_COLOR turns colours off, as on
/// no-color.org.
fn screen() -> Screen {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let told = || env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 0);
    let seen = || {
        let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    };
    let width = seen().or_else(told).unwrap_or(COLUMNS);
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    Screen { width, colour: terminal && !dumb && !set("NO_COLOR") }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};
    use crate::model::Course;

    const NOW_MS: u64 = fixtures::NOW_S * 1000;

    fn args() -> Timeline {
        Timeline { since: Some(Duration::from_secs(600)), ..Timeline::default() }
    }

    fn screen() -> Screen {
        Screen { width: 80, colour: false }
    }

    #[test]
    fn rows_are_the_nodes_that_build() {
        let node = fixtures::node();
        assert_eq!(rows(&node, None, &fixtures::boards()), ["rock5"], "others are not up");
        let store = NodeView { name: "desk (emulation)".into(), ..NodeView::default() };
        let node = NodeView { slots: 2, ..node };
        let rows = rows(&node, Some(&store), &fixtures::boards());
        assert_eq!(rows, ["desk", "desk (emulation)", "rock5"]);
    }

    #[test]
    fn a_fleet_is_drawn_with_what_waits_and_what_is_built() {
        let jobs = fixtures::timeline();
        let chart = chart(&["rock5".into()], jobs, &args(), NOW_MS);
        let text = draw::text(&chart, screen());
        let expected = "\
5 jobs in 10 min 00 s from 2023-11-14 22:03:20 UTC, 1 failed

waiting    ▆█▆▆▆▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃    ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃
rock5      ▒▒▒█hello-2.12████████████▓
            ░█broken-1███✗           ▒▒▒▒▒█linux-6.12███████████████████████████
vf2            ▒▒▒▒░░░█zlib-1.3█████████████████████████▓▓
        └0            └2 min        └4 min         └6 min        └8 min
░ waiting there   ▒ sending inputs   █ building   ▓ fetching outputs   ✗ failed
▄ waiting for a node, at most 3 at once
";
        assert!(text == expected, "--- printed\n{text}--- expected\n{expected}");
    }

    #[test]
    fn what_is_not_known_is_said() {
        let old = JobView { course: Course::default(), ..fixtures::jobs().swap_remove(2) };
        let args = Timeline { last: Some(1000), ..Timeline::default() };
        let text = draw::text(&chart(&[], vec![old], &args, NOW_MS), screen());
        assert!(text.contains("1 job of which an earlier version noted no times"), "{text}");
        let text = draw::text(&chart(&[], vec![], &args, NOW_MS), screen());
        assert!(text.starts_with("No jobs to show.\n"), "{text}");
    }

    #[test]
    fn dates_are_in_utc_and_never_fail() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(NOW_MS), "2023-11-14 22:13:20 UTC");
        assert_eq!(date(u64::MAX), "9999-12-31 23:59:59 UTC");
    }
}
