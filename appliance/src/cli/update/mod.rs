//! `roost update` on the machine that holds the fleet's key, and what systemd starts on the board.

mod machine;
mod system;
mod wait;
mod way;

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use nix_compat::store_path::StorePath;

use super::{
    args::Update, commands::print_json, connect, error::CommandError, fleet::Here, run_daemon,
};
use crate::{
    model::{BoardView, Reach, UpdatePhase, UpdateView},
    trust::Order,
    update::{self, Store},
};
use machine::ThisMachine;
use wait::Waiting;
use way::Way;

type Done = Result<(), CommandError>;

/// `roost apply-update`.
pub(super) async fn apply() -> Done {
    on_this_machine().await?;
    let store = Store::system();
    Ok(update::apply(&store.hold_soon().await?, &ThisMachine::new()).await?)
}

/// `roost settle-update`.
pub(super) async fn settle() -> Done {
    on_this_machine().await?;
    let store = Store::system();
    Ok(update::settle(&store.hold_soon().await?, &ThisMachine::new()).await?)
}

async fn on_this_machine() -> Done {
    super::fleet::must_be_root()?;
    run_daemon::log_to_stderr();
    Ok(())
}

/// `roost update`.
pub(super) async fn run(args: &Update, out: &mut impl Write) -> Done {
    let here = Here::open()?;
    let boards = connect().await?.boards().await?;
    let board = chosen(&boards, &args.board)?;
    match &args.system {
        None => {
            let Some(view) = Way::look(board, here.now_s).await? else {
                return show_none(board, args, out);
            };
            show(board, &view, args, out)
        }
        Some(path) => {
            if here.trust.look(|it| it.registrar.is_none()) {
                return Err(CommandError::Refused(
                    "only the machine that holds the fleet's key updates boards, since whoever chooses a \
                     board's system is root there: run this on that machine"
                        .to_owned(),
                ));
            }
            give(&here, board, &system::system(path, &board.node)?, args, out).await
        }
    }
}

/// Copies a system to a board, orders it, and waits for how that ends.
async fn give(
    here: &Here,
    board: &BoardView,
    system: &StorePath,
    args: &Update,
    out: &mut impl Write,
) -> Done {
    let name = &board.node.name;
    let (way, mut errand) = Way::open(board, here.now_s).await?;
    // Asked before anything is copied: a board that takes no order needs no system.
    let last = errand.last_update().await.map_err(|error| way::refused(name, &error))?;
    if let Some(last) = last.as_ref().filter(|last| !last.phase.is_over()) {
        return Err(CommandError::Refused(format!(
            "{name} is being updated to {}; `roost update {name}` shows how far it is",
            last.system
        )));
    }
    drop(errand);
    eprintln!("{name}: copying {system}");
    way.copy(name, system).await?;
    let number = number(now_ms(), last.as_ref())?;
    let order = Order::new(&board.node.id, system.as_str(), number, args.now);
    let order = order.map_err(|error| CommandError::Refused(error.to_string()))?;
    let signed = here.with_key(|_, registrar| registrar.order(&order))?;
    let (_, mut errand) = Way::open(board, here.now_s).await?;
    errand.update(&signed).await.map_err(|error| way::refused(name, &error))?;
    if args.no_wait {
        let (system, phase) = (system.to_string(), UpdatePhase::Ordered);
        let view = UpdateView { number, system, phase, reason: String::new() };
        return show(board, &view, args, out);
    }
    drop(errand);
    let view = Waiting { board, number, now_s: here.now_s }.end().await?;
    show(board, &view, args, out)?;
    match view.phase {
        UpdatePhase::Kept => Ok(()),
        _ => Err(CommandError::Refused(format!(
            "{name} does not run {system}: see the reason above"
        ))),
    }
}

/// The board that is meant, which has to be up.
fn chosen<'a>(boards: &'a [BoardView], called: &str) -> Result<&'a BoardView, CommandError> {
    let members: Vec<_> = boards.iter().filter(|it| it.reach != Reach::Pending).collect();
    let by_id: Vec<_> = members.iter().filter(|it| it.node.id == called).copied().collect();
    let found = match by_id.is_empty() {
        true => members.iter().filter(|it| it.node.name == called).copied().collect(),
        false => by_id,
    };
    let is_called = |it: &&BoardView| it.node.id == called || it.node.name == called;
    match (found.as_slice(), boards.iter().find(is_called)) {
        ([board], _) if board.reach == Reach::Up => Ok(board),
        ([board], _) => Err(CommandError::Refused(format!(
            "{called} is not connected ({}): switch it on, on this network, and try again",
            board.reason
        ))),
        ([], Some(pending)) => Err(CommandError::NoBoard(format!(
            "{called} does not belong to this fleet ({}); `roost seed` or `roost fleet approve` lets it in",
            pending.reason
        ))),
        ([], None) => Err(CommandError::NoBoard(format!(
            "no board of this fleet is called {called}; `roost status` lists them"
        ))),
        (several, _) => {
            let ids: Vec<_> = several.iter().map(|it| it.node.id.as_str()).collect();
            Err(CommandError::NoBoard(format!(
                "{} boards are called {called}; say which by its id: {}",
                several.len(),
                ids.join(" or ")
            )))
        }
    }
}

/// The number of the next order: a time, so that it counts up wherever the key is; and above the last
/// one, whatever the clocks say.
fn number(now_ms: u64, last: Option<&UpdateView>) -> Result<u64, CommandError> {
    let after = last.map_or(Some(0), |last| last.number.checked_add(1));
    let spent = || CommandError::Refused("the board's orders are counted to the end".to_owned());
    Ok(after.ok_or_else(spent)?.max(now_ms))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An update, as JSON.
#[derive(serde::Serialize)]
struct Shown<'a> {
    board: &'a str,
    id: &'a str,
    /// None if it was never updated.
    update: Option<&'a UpdateView>,
}

fn show_none(board: &BoardView, args: &Update, out: &mut impl Write) -> Done {
    let (name, id) = (&board.node.name, &board.node.id);
    if args.output.json {
        return print_json(&Shown { board: name, id, update: None }, out);
    }
    Ok(writeln!(out, "{name} was never updated by `roost update`")?)
}

fn show(board: &BoardView, view: &UpdateView, args: &Update, out: &mut impl Write) -> Done {
    let (name, id) = (&board.node.name, &board.node.id);
    if args.output.json {
        return print_json(&Shown { board: name, id, update: Some(view) }, out);
    }
    Ok(writeln!(out, "{name}: {}", words(view))?)
}

/// An update in words.
fn words(view: &UpdateView) -> String {
    let UpdateView { system, reason, .. } = view;
    match view.phase {
        UpdatePhase::Ordered => {
            format!("accepted {system}, and restarts when its builds have ended")
        }
        UpdatePhase::Applying => format!("restarts with {system}"),
        UpdatePhase::Trial => format!("is on trial with {system}"),
        UpdatePhase::RollingBack => format!("goes back from {system}: {reason}"),
        UpdatePhase::Kept => format!("runs {system}, and keeps it"),
        UpdatePhase::RolledBack => format!("went back from {system}: {reason}"),
        UpdatePhase::Failed => format!("could not change to {system}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    fn view(number: u64) -> UpdateView {
        let (system, reason) = ("/nix/store/x".to_owned(), String::new());
        UpdateView { number, system, phase: UpdatePhase::Kept, reason }
    }

    #[test]
    fn numbers_count_up_whatever_the_clock_says() {
        assert_eq!(number(1_790_000_000_000, None).unwrap(), 1_790_000_000_000);
        assert_eq!(number(5, Some(&view(4))).unwrap(), 5);
        assert_eq!(number(5, Some(&view(1_790_000_000_000))).unwrap(), 1_790_000_000_001);
        assert!(number(5, Some(&view(u64::MAX))).is_err());
    }

    #[test]
    fn a_board_has_to_be_a_member_and_up_and_the_only_one() {
        let mut boards = fixtures::boards();
        let error = |boards: &[BoardView], called| chosen(boards, called).unwrap_err().to_string();
        assert_eq!(chosen(&boards, "rock5").unwrap().node.name, "rock5");
        assert!(error(&boards, "nowhere").contains("roost status"));
        let pending = boards.iter().find(|it| it.reach == Reach::Pending).unwrap();
        let called = pending.node.name.clone();
        assert!(error(&boards, &called).contains("does not belong to this fleet"));
        let at = boards.iter().position(|it| it.node.name == "rock5").unwrap();
        let mut twin = boards[at].clone();
        twin.node.id = "twin".to_owned();
        boards.push(twin);
        assert!(error(&boards, "rock5").contains("say which by its id"));
        boards.pop();
        boards[at].reach = Reach::Away;
        assert!(error(&boards, "rock5").contains("switch it on"));
    }
}
