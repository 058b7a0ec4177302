//! What the commands print, from views alone: no I/O and no clock.

use comfy_table::{ColumnConstraint, Table, presets};

use super::{human, timeline};
use crate::{
    draw,
    model::{BoardView, Candidate, JobView, NodeView, Reach, Standing, Why},
    names,
};

/// `roost status`: this node, a line a board, and its second store, if it has one.
#[must_use]
pub(crate) fn status(
    node: &NodeView,
    boards: &[BoardView],
    second_store: Option<&NodeView>,
) -> String {
    let mut text = this_node(node);
    if !boards.is_empty() {
        text += &format!("\n{}", board_table(boards));
    } else if node.slots == 0 {
        text += "\nNo boards yet. One that is switched on, on this network and running roost shows \
                 up by itself;\n`roost doctor` tells whether it could.\n";
    }
    if let Some(store) = second_store {
        text += &format!("\n{}", second_store_table(store));
    }
    text
}

fn board_table(boards: &[BoardView]) -> String {
    let mut header =
        vec!["BOARD", "STATE", "SYSTEMS", "SLOTS", "RUNNING", "QUEUED", "TEMP", "ADDRESS", "NOTE"];
    // Most fleets emulate nothing, and lines are long enough.
    let emulation = boards.iter().any(|board| !board.node.emulated.is_empty());
    if emulation {
        header.insert(3, "EMULATES");
    }
    let labels = boards.iter().any(|board| !board.node.labels.is_empty());
    if labels {
        header.insert(1, "LABELS");
    }
    let mut table = table(&header);
    for board in boards {
        let mut row = board_row(board);
        if emulation {
            row.insert(3, words(&board.node.emulated));
        }
        if labels {
            row.insert(1, words(&Vec::from_iter(board.node.labels.iter().cloned())));
        }
        table.add_row(row);
    }
    lines(&table)
}

/// A table of its own: it is no board, and has no address, queue or sensor.
fn second_store_table(store: &NodeView) -> String {
    let mut table = table(&["SECOND STORE", "STATE", "EMULATES", "SLOTS", "RUNNING", "NOTE"]);
    let note = match store.standing() {
        Standing::Trouble(why) | Standing::Paused(why) => why.to_owned(),
        Standing::Ready | Standing::Draining => format!("in {}", names::EMULATION_DIR),
    };
    table.add_row([
        &store.name,
        state_of(store),
        &words(&store.emulated),
        &store.slots.to_string(),
        &store.running.to_string(),
        &note,
    ]);
    lines(&table)
}

fn this_node(node: &NodeView) -> String {
    let nix = if node.nix_version.is_empty() {
        "no nix-daemon".to_owned()
    } else {
        format!("Nix {}", node.nix_version)
    };
    let offers = if node.slots == 0 {
        "offers no slots".to_owned()
    } else {
        let slots = human::count(node.slots, "slot");
        let mut offers = format!("offers {slots} for {}", words(&node.systems));
        if !node.emulated.is_empty() {
            offers += &format!(" (emulates {})", words(&node.emulated));
        }
        offers
    };
    let hardware = format!("{}, {}", human::count(node.cores, "core"), human::memory(node.mem_mib));
    let mut text =
        format!("{} ({}): roost {}, {nix}, {hardware}\n", node.name, node.id, node.version);
    text += &format!("{}, {} running, {} queued", offers, node.running, node.queued);
    if node.draining {
        text += ", draining: takes nothing new (`roost resume` ends that)";
    }
    text += "\n";
    if !node.enrolment.is_empty() && node.enrolment != "enrolled" {
        text += &format!("{}\n", node.enrolment_note);
    }
    if !node.update_note.is_empty() {
        text += &format!("{}\n", node.update_note);
    }
    for why in [&node.trouble, &node.paused].into_iter().filter(|why| !why.is_empty()) {
        text += &format!("begins nothing now: {why}\n");
    }
    text
}

fn board_row(board: &BoardView) -> Vec<String> {
    let node = &board.node;
    let measured = board.reach == Reach::Up;
    let number = |n: u32| if measured { n.to_string() } else { "-".to_owned() };
    vec![
        node.name.clone(),
        state(board).to_owned(),
        words(&node.systems),
        node.slots.to_string(),
        number(node.running),
        number(node.queued),
        node.temperature_mc.filter(|_| measured).map_or_else(|| "-".to_owned(), human::temperature),
        board.addresses.first().map_or_else(|| "-".to_owned(), |first| endpoint(first, board.port)),
        note(board),
    ]
}

/// One word for how a board stands.
fn state(board: &BoardView) -> &'static str {
    match board.reach {
        Reach::Up => state_of(&board.node),
        Reach::Connecting => "connecting",
        Reach::Away => "away",
        Reach::Pending => "pending",
    }
}

/// One word for how a node stands that is reached.
fn state_of(node: &NodeView) -> &'static str {
    match node.standing() {
        Standing::Ready => "up",
        other => other.as_str(),
    }
}

fn note(board: &BoardView) -> String {
    match (board.reason.as_str(), board.ours) {
        ("", _) if !board.node.update_note.is_empty() => board.node.update_note.clone(),
        ("", 0) => String::new(),
        ("", ours) => format!("{} from here", human::count(ours, "job")),
        (reason, _) => reason.to_owned(),
    }
}

fn words(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn endpoint(address: &str, port: u16) -> String {
    match (port, address.contains(':')) {
        (22, _) => address.to_owned(),
        (_, true) => format!("[{address}]:{port}"),
        (_, false) => format!("{address}:{port}"),
    }
}

/// `roost jobs`: a line a job, in the order given.
#[must_use]
pub(crate) fn jobs(jobs: &[JobView], now_s: u64) -> String {
    if jobs.is_empty() {
        return "No jobs.\n".to_owned();
    }
    let header = ["ID", "NAME", "SYSTEM", "STATE", "FOR", "NODE", "CLIENT", "NOTE"];
    let mut table = table(&header);
    for job in jobs {
        table.add_row(vec![
            job.id.clone(),
            job.name.clone(),
            job.system.clone(),
            job_state(job),
            lasted(job, now_s),
            node(job).unwrap_or_else(|| "-".to_owned()),
            job.client.clone(),
            reason(job).to_owned(),
        ]);
    }
    lines(&table)
}

/// The node that has or had a job, and whether it is no native one.
fn node(job: &JobView) -> Option<String> {
    let node = job.node.as_ref()?;
    Some(if job.emulated { format!("{node} (emulated)") } else { node.clone() })
}

fn job_state(job: &JobView) -> String {
    let unattended = job.ended_s.is_none() && job.attached == 0;
    if unattended { format!("{}, unattended", job.state) } else { job.state.clone() }
}

/// What there is to say beyond the state.
fn reason(job: &JobView) -> &str {
    if job.reason == job.state { "" } else { &job.reason }
}

/// How long the job has been in its state, or, if it ended, how long it ran.
fn lasted(job: &JobView, now_s: u64) -> String {
    let from_s = job.started_s.unwrap_or(job.accepted_s);
    human::between(from_s, job.ended_s.unwrap_or(now_s))
}

/// `roost why`: where the job is, and its story.
#[must_use]
pub(crate) fn why(why: &Why, now_s: u64) -> String {
    let job = &why.job;
    let place = match (node(job), job.ended_s, job.started_s) {
        (Some(node), None, Some(_)) => format!("running on {node} for {}", lasted(job, now_s)),
        (Some(node), Some(_), _) => format!("{} on {node} after {}", job.state, lasted(job, now_s)),
        _ => format!("{} for {}", job.state, lasted(job, now_s)),
    };
    let mut text = format!("{} (job {}), {}\n{place}", job.name, job.id, job.system);
    if !reason(job).is_empty() {
        text += &format!(": {}", reason(job));
    }
    let waiting = match (job.ended_s, job.attached) {
        (Some(_), _) => String::new(),
        (None, 0) => "; nobody waits for it now".to_owned(),
        (None, n) => format!("; {} waiting for it", human::count(n, "client")),
    };
    text += &format!("\nasked for by {}{waiting}\n{}\n", job.client, job.drv_path);
    let times = timeline::times(job, now_s.saturating_mul(1000));
    if !times.is_empty() {
        let took = |(what, ms): &(&str, u64)| format!("{what} {}", draw::duration(*ms));
        text += &format!("{}\n", times.iter().map(took).collect::<Vec<_>>().join(", "));
    }
    text += &candidates(&why.candidates, job.started_s.is_some());
    if !why.notes.is_empty() {
        text +=
            &format!("\nSince it was accepted, {} ago:\n", human::between(job.accepted_s, now_s));
        let mut table = table(&[]);
        for (at_s, note) in &why.notes {
            table.add_row(vec![
                format!("  +{}", human::between(job.accepted_s, *at_s)),
                note.clone(),
            ]);
        }
        text += &lines(&table);
    }
    text
}

/// The nodes that could have a job; `was` if that was so when it was placed.
fn candidates(nodes: &[Candidate], was: bool) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let known = nodes.iter().any(|node| node.finish_s.is_some());
    let mut title = match was {
        true => "When it was placed".to_owned(),
        false => "Nodes that could have it, as it is now".to_owned(),
    };
    if !known {
        title += " (nothing is known of such builds yet)";
    }
    let mut header = vec!["  NODE", "HOW", "BEGINS", "NOTE"];
    if known {
        header.insert(3, "DONE");
    }
    let mut table = table(&header);
    let when = |node: &Candidate| match (node.start_s, node.finish_s) {
        (None, _) => "-".to_owned(),
        (Some(s), _) if s < 0.5 => "at once".to_owned(),
        // What such builds take says when the ones before it are over.
        (Some(_), None) if node.reason.is_empty() => "when a slot is free".to_owned(),
        (Some(_), None) => "with a slot and all inputs".to_owned(),
        (Some(s), Some(_)) => format!("in about {}", human::roughly(s)),
    };
    for node in nodes {
        let mark = if node.chosen { "*" } else { " " };
        let how = if node.emulated { "emulated" } else { "native" };
        let mut row =
            vec![format!("{mark} {}", node.node), how.to_owned(), when(node), node.reason.clone()];
        if known {
            let done =
                node.finish_s.map_or("-".to_owned(), |s| format!("in about {}", human::roughly(s)));
            row.insert(3, done);
        }
        table.add_row(row);
    }
    format!("\n{title}:\n{}", lines(&table))
}

/// A table without frames: a line stays a line, so that output can be searched and cut.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    table
}

/// The table's text, with columns two blanks apart and no blanks at the end of lines.
pub(super) fn lines(table: &Table) -> String {
    let mut table = table.clone();
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_constraint(ColumnConstraint::ContentWidth);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    #[track_caller]
    fn same(given: &str, expected: &str) {
        assert!(given == expected, "--- printed\n{given}--- expected\n{expected}");
    }

    #[test]
    fn status_is_a_line_a_board() {
        same(
            &status(&fixtures::node(), &fixtures::boards(), None),
            "\
desk (desk-1c2d): roost 0.1.0, Nix 2.26.3, 16 cores, 31.2 GiB
offers no slots, 1 running, 1 queued

BOARD  STATE    SYSTEMS        EMULATES       SLOTS  RUNNING  QUEUED  TEMP   ADDRESS              NOTE
rock5  up       aarch64-linux  riscv64-linux  4      2        1       52 °C  192.168.1.7          1 job from here
vf2    away     riscv64-linux  -              2      -        -       -      [fe80::2%eth0]:2222  no answer for 3 min
pi4    pending  aarch64-linux  -              2      -        -       -      -                    it belongs to another fleet
",
        );
    }

    #[test]
    fn labels_have_a_column_if_a_board_has_any() {
        let mut boards = fixtures::boards();
        boards[1].node.labels = ["fast", "ssd"].map(str::to_owned).into();
        let text = status(&fixtures::node(), &boards, None);
        assert!(text.contains("\nBOARD  LABELS     STATE    SYSTEMS        EMULATES  "), "{text}");
        assert!(text.contains("\nvf2    fast, ssd  away     riscv64-linux"), "{text}");
        assert!(text.contains("\nrock5  -          up       aarch64-linux"), "{text}");
    }

    #[test]
    fn status_of_a_node_alone_says_what_it_offers_or_how_to_get_boards() {
        let board = NodeView { draining: true, ..fixtures::boards().swap_remove(0).node };
        same(
            &status(&board, &[], None),
            "\
rock5 (rock5-0a1b): roost 0.1.0, Nix 2.26.3, 8 cores, 8.0 GiB
offers 4 slots for aarch64-linux (emulates riscv64-linux), 2 running, 1 queued, draining: takes nothing new (`roost resume` ends that)
",
        );
        assert!(status(&fixtures::node(), &[], None).ends_with(
            "\nNo boards yet. One that is switched on, on this network and running roost shows up by \
             itself;\n`roost doctor` tells whether it could.\n"
        ));
    }

    #[test]
    fn the_second_store_is_told_apart_from_boards() {
        let store = NodeView {
            name: "desk (emulation)".into(),
            emulated: vec!["aarch64-linux".into(), "riscv64-linux".into()],
            slots: 8,
            running: 3,
            ..NodeView::default()
        };
        let text = status(&fixtures::node(), &fixtures::boards(), Some(&store));
        let (boards, second) = text.rsplit_once("\n\n").unwrap();
        assert!(boards.ends_with("it belongs to another fleet"), "{text}");
        same(
            second,
            "\
SECOND STORE      STATE  EMULATES                      SLOTS  RUNNING  NOTE
desk (emulation)  up     aarch64-linux, riscv64-linux  8      3        in /var/lib/roost/emulation
",
        );
        let full = NodeView { trouble: "the disk is full".into(), ..store };
        let text = status(&fixtures::node(), &[], Some(&full));
        assert!(text.contains("No boards yet.") && text.ends_with("the disk is full\n"), "{text}");
        assert!(text.contains("desk (emulation)  trouble  "), "{text}");
    }

    #[test]
    fn jobs_are_a_line_each() {
        same(
            &jobs(&fixtures::jobs(), fixtures::NOW_S),
            "\
ID                NAME        SYSTEM         STATE               FOR         NODE   CLIENT            NOTE
0f3k9x2a1b4c5d6f  hello-2.12  aarch64-linux  running             3 min 10 s  rock5  alice (pid 4711)  fastest free board
1a2b3c4d5f6g7h8i  linux-6.12  riscv64-linux  queued, unattended  45 s        -      bob (pid 99)      waits for vf2, which is away
9z8y7x6w5v4s3r2q  broken-1    aarch64-linux  failed              1 h 06 min  rock5  alice (pid 4000)  builder failed with exit code 1
",
        );
        same(&jobs(&[], 0), "No jobs.\n");
    }

    #[test]
    fn why_tells_the_story() {
        same(
            &why(&fixtures::why(), fixtures::NOW_S),
            "\
hello-2.12 (job 0f3k9x2a1b4c5d6f), aarch64-linux
running on rock5 for 3 min 10 s: fastest free board
asked for by alice (pid 4711); 1 client waiting for it
/nix/store/7h3x0f1k2l4m5n6p8q9r0s1v2w3x4y5z-hello-2.12.drv

Since it was accepted, 3 min 20 s ago:
  +0 s   accepted
  +0 s   waits: all 4 slots of rock5 are busy
  +10 s  runs on rock5: fastest free board
",
        );
    }

    #[test]
    fn why_tells_of_the_nodes_that_were_considered() {
        let why_of = |job: usize, candidates: Vec<Candidate>| {
            let job = fixtures::jobs().swap_remove(job);
            why(&Why { job, notes: vec![], candidates }, fixtures::NOW_S)
        };
        let table = "
  NODE    HOW       BEGINS         DONE                 NOTE
* rock5   native    in about 45 s  in about 3 min
  pi4     native    at once        in about 5 min
  vf2     emulated  at once        in about 2 h 03 min
  star64  native    -              -                    away: no answer for 3 min
";
        let text = why_of(1, fixtures::candidates());
        let expected = format!("Nodes that could have it, as it is now:{table}");
        assert!(text.ends_with(&expected), "--- printed\n{text}--- expected\n{expected}");
        let text = why_of(0, fixtures::candidates());
        assert!(text.contains("\nWhen it was placed:\n"), "{text}");
        let unknown = fixtures::candidates().into_iter().take(2);
        let unknown = unknown.map(|node| Candidate { finish_s: None, ..node }).collect();
        let text = why_of(1, unknown);
        assert!(text.contains("(nothing is known of such builds yet):\n"), "{text}");
        assert!(text.contains("* rock5  native  when a slot is free\n"), "{text}");
        assert!(!text.contains("DONE"), "{text}");
    }

    #[test]
    fn why_tells_where_the_time_went() {
        let told =
            |job: JobView| why(&Why { job, notes: vec![], candidates: vec![] }, fixtures::NOW_S);
        let [built, failed, _, running, waiting] = fixtures::timeline().try_into().unwrap();
        let text = told(built);
        let times = "\nwaiting for a node 1.0 s, waiting there 2.0 s, sending inputs 18.0 s, \
                     building 3 min 09 s, fetching outputs 10.0 s\n";
        assert!(text.ends_with(times), "{text}");
        let text = told(failed);
        let times = "\nwaiting for a node 10.0 s, waiting there 2.0 s, building 1 min 48 s\n";
        assert!(text.ends_with(times), "{text}");
        assert!(told(running).ends_with(", building 5 min 16 s\n"), "up to now");
        assert!(told(waiting).ends_with("\nwaiting for a node 5 min 10 s\n"));
    }

    #[test]
    fn why_of_a_waiting_and_of_an_ended_job() {
        let told =
            |job: JobView| why(&Why { job, notes: vec![], candidates: vec![] }, fixtures::NOW_S);
        let [_, waiting, ended]: [JobView; 3] = fixtures::jobs().try_into().unwrap();
        let text = told(waiting);
        assert!(text.contains("queued for 45 s: waits for vf2, which is away\n"), "{text}");
        assert!(text.contains("; nobody waits for it now\n"), "{text}");
        let text = told(ended);
        assert!(text.contains("failed on rock5 after 1 h 06 min: builder failed"), "{text}");
    }

    #[test]
    fn a_job_that_is_emulated_says_so() {
        let mut job = fixtures::jobs().swap_remove(0);
        job.emulated = true;
        let listed = jobs(std::slice::from_ref(&job), fixtures::NOW_S);
        assert!(listed.contains("rock5 (emulated)"), "{listed}");
        let text = why(&Why { job, notes: vec![], candidates: vec![] }, fixtures::NOW_S);
        assert!(text.contains("running on rock5 (emulated) for 3 min"), "{text}");
    }

    #[test]
    fn nothing_is_said_twice() {
        let mut job = fixtures::jobs().swap_remove(2);
        (job.state, job.reason) = ("built".into(), "built".into());
        let text = why(&Why { job, notes: vec![], candidates: vec![] }, fixtures::NOW_S);
        assert!(text.contains("\nbuilt on rock5 after 1 h 06 min\n"), "{text}");
    }
}
