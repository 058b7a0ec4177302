//! `roost machines`: the lines that tell Nix of the boards.

use std::{fs, io::Write, path::PathBuf};

use serde::Serialize;

use super::{args::Machines, commands::print_json, error::CommandError};
use crate::{
    bus::Client,
    fleet::machines,
    model::{BoardView, Reach},
    names,
};

/// What is printed of a board that has no line of its own, or of one that has.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Direct {
    /// The board's name.
    board: String,
    /// Its line, if it can have one.
    line: Option<String>,
    /// Why not, or what to mind; empty if there is nothing.
    note: String,
}

/// Prints the lines that this machine's Nix uses.
pub(super) fn own(json: bool, out: &mut impl Write) -> Result<(), CommandError> {
    let path = PathBuf::from(names::MACHINES_FILE);
    let text =
        fs::read_to_string(&path).map_err(|source| CommandError::Machines { path, source })?;
    if json {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        return print_json(&lines.collect::<Vec<_>>(), out);
    }
    Ok(out.write_all(text.as_bytes())?)
}

/// Prints a plain line for each board whose host key is known.
pub(super) async fn direct(
    client: &Client,
    args: Machines,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let lines: Vec<Direct> = client.boards().await?.iter().map(line).collect();
    if args.output.json {
        return print_json(&lines, out);
    }
    for Direct { board, line, note } in lines {
        if !note.is_empty() {
            writeln!(out, "# {board}: {note}")?;
        }
        if let Some(line) = line {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn line(board: &BoardView) -> Direct {
    let name = board.node.name.clone();
    let without = |note: String| Direct { board: name.clone(), line: None, note };
    if board.reach == Reach::Pending {
        return without(board.reason.clone());
    }
    let Some(key) = &board.host_key else {
        return without("it is not on this network now".to_owned());
    };
    // A link-local address means something on this machine's interfaces only.
    let Some(address) = board.addresses.iter().find(|address| !address.contains('%')) else {
        return without("no address that means something on another machine".to_owned());
    };
    let note = match board.port {
        22 => String::new(),
        port => format!("listens on port {port}, which Nix up to 2.30 takes from ssh_config only"),
    };
    let line = machines::direct(&board.node, address, board.port, key);
    Direct { board: name, line: Some(line), note }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    #[test]
    fn a_known_board_has_a_line_with_its_host_key() {
        let [up, away, pending]: [BoardView; 3] = fixtures::boards().try_into().unwrap();
        assert_eq!(
            line(&up).line.unwrap(),
            "ssh-ng://roost@192.168.1.7 aarch64-linux - 4 1 big-parallel - \
             c3NoLWVkMjU1MTkgQUFBQUMzTno="
        );
        assert_eq!(line(&away).line, None, "its only address is link-local");
        assert_eq!(line(&pending).note, "it belongs to another fleet");
        assert_eq!(line(&pending).line, None);
        let gone = BoardView { host_key: None, ..up.clone() };
        assert_eq!(line(&gone).note, "it is not on this network now");
        let other_port = BoardView { port: 2222, ..up };
        assert!(line(&other_port).note.contains("2222"));
    }
}
