use super::*;
use crate::{
    learn::{Ending, Outcome, Package},
    model::How,
};

fn view(history: u64) -> NodeView {
    NodeView { id: "rock5".to_owned(), history, ..NodeView::default() }
}

/// What a board tells that has built a package at this time.
fn built(name: &str, at_s: u64) -> Vec<Entry> {
    let package = Package::of(name, "riscv64-linux", How::Native);
    let ending = Ending::Built { ms: 1000, peak_mib: None, output_bytes: None };
    let mut table = Table::default();
    table.learn(&Outcome { package, ending, at_s });
    table.since(0)
}

/// What a board is asked for that connects and then describes itself with these revisions.
fn asked(board: &Board, revisions: &[u64]) -> Vec<ControlRequest> {
    let mut shares = false;
    revisions.iter().flat_map(|it| board.requests(&view(*it), &mut shares)).collect()
}

fn since(since: u64) -> ControlRequest {
    ControlRequest::History { since }
}

#[test]
fn a_board_that_learns_is_asked_once_a_connection_for_what_is_not_known_of_it() {
    let board = Board::new(view(0), None);
    assert_eq!(asked(&board, &[0, 0]), [], "an older one would not understand");
    assert_eq!(asked(&board, &[0, 70, 80]), [since(0)]);
    let entries = [built("hello-1", 70), built("gcc-1", 80)].concat();
    Arc::make_mut(&mut board.state().history).merge(entries);
    assert_eq!(asked(&board, &[80, 90]), [since(80)]);
    assert_eq!(board.show().node.history, 80);
    assert_eq!(board.history().len(), 2);
}

#[test]
fn a_board_that_has_lost_what_it_told_begins_anew() {
    let board = Board::new(view(0), None);
    Arc::make_mut(&mut board.state().history).merge(built("hello-1", 70));
    assert_eq!(asked(&board, &[60]), [since(0)]);
    assert!(board.history().is_empty());
}

#[test]
fn jobs_that_are_not_wanted_are_ended_before_anything_else() {
    let board = Board::new(view(0), None);
    board.forget("a-job".to_owned());
    let cancel = ControlRequest::Cancel("a-job".to_owned());
    assert_eq!(asked(&board, &[70]), [cancel, since(0)]);
    assert_eq!(asked(&board, &[0]), []);
}

#[test]
fn a_speed_that_no_machine_has_is_none() {
    let board = Board::new(view(0), None);
    for (told, known) in [("0.25", 0.25), ("0", 0.0), ("-1", 0.0), ("1e300", 0.0), ("1000", 1000.0)]
    {
        let line = format!("{{\"id\":\"rock5\",\"speed\":{told}}}\n");
        let Ok(Told::Node(view)) = board.told(line.as_bytes()) else { panic!("{told}") };
        assert_eq!(view.speed, known, "{told}");
    }
}

#[test]
fn nonsense_instead_of_history_is_an_error() {
    let board = Board::new(view(0), None);
    for line in
        ["{\"history\":[1]}", "{\"history\":[{\"p\":[\"a\",\"b\",\"native\"]}]}", "{\"history\":["]
    {
        assert!(board.told(line.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn labels_that_no_configuration_has_are_left_out() {
    let long = "x".repeat(33);
    let given = ["fast", "two words", "a,b", "", "\u{1b}[2J", &long].map(str::to_owned);
    assert_eq!(bounded(given.into()), ["fast".to_owned()].into());
    let many = (0..100).map(|n| format!("label{n:03}")).collect();
    assert_eq!(bounded(many).len(), NodeView::MAX_LABELS);
}
