//! Which board is meant, and whether an image is for it.

use board_support::boards::{BOARDS, Board};

use super::super::error::CommandError;
use crate::flash::{Label, Says};

/// Where each board has a page.
const DOCS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/boards");

/// The board that is meant; dashes do not matter.
pub(super) fn find(typed: &str) -> Result<&'static Board, CommandError> {
    by_id(typed).ok_or_else(|| {
        let ids = BOARDS.iter().map(|board| board.id).collect::<Vec<_>>().join(", ");
        CommandError::NoBoard(format!("there is no board {typed:?}; there are {ids}"))
    })
}

fn by_id(typed: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| plain(board.id) == plain(typed))
}

fn plain(id: &str) -> String {
    id.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect()
}

/// What a medium is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct For {
    /// The board, if anybody has said it.
    pub(super) id: Option<String>,
    /// The version of roost in the image, if it says it.
    pub(super) version: Option<String>,
    /// What whoever typed the command should know.
    pub(super) notice: Option<String>,
}

/// Holds what was typed against what the image says.
pub(super) fn agree(
    board: Option<&Board>,
    says: Says,
    with_seed: bool,
) -> Result<For, CommandError> {
    let id = board.map(|board| board.id.to_owned());
    match (says, board) {
        (Says::Label(Label { board: of, .. }), Some(board)) if plain(&of) != plain(board.id) => {
            Err(CommandError::Refused(format!(
                "the image is for the board {of}, and --board says {}; take the image for that one",
                board.id
            )))
        }
        (Says::Label(label), _) => {
            Ok(For { id: Some(label.board), version: Some(label.version), notice: None })
        }
        (Says::Nothing, _) => {
            let notice = "the image does not say which board it is for; whether it is the right one \
                          is not checked";
            Ok(For { id, version: None, notice: Some(notice.to_owned()) })
        }
        (Says::NoSeedVolume(why), _) if with_seed => Err(CommandError::Refused(format!(
            "{why}\nIf that is meant, --no-seed writes the image as it is"
        ))),
        (Says::NoSeedVolume(_), _) => {
            let notice = "the image was not made for roost: it has no place for a seed";
            Ok(For { id, version: None, notice: Some(notice.to_owned()) })
        }
    }
}

/// Refuses a board for which no image can be built.
pub(super) fn has_image(board: &Board) -> Result<(), CommandError> {
    let Board { id, name, missing, .. } = board;
    match missing {
        None => Ok(()),
        Some(why) => Err(CommandError::Refused(format!(
            "there is no image for {name}: {why}\n{} says how to use it all the same; --image FILE \
             writes an image of your own",
            page(id)
        ))),
    }
}

/// What to do with a board before it is powered on with a new medium.
pub(super) fn first_boot(id: &str) -> Option<&'static str> {
    by_id(id)?.first_boot
}

/// What a board is called by people; its id if this version of roost does not know it.
pub(super) fn name(id: &str) -> &str {
    by_id(id).map_or(id, |board| board.name)
}

/// Where it says how a board is started from a medium.
pub(super) fn page(id: &str) -> String {
    format!("{DOCS}/{}.md", by_id(id).map_or(id, |board| board.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaError;

    fn label(board: &str) -> Says {
        Says::Label(Label { board: board.to_owned(), version: "0.1.0".to_owned() })
    }

    #[test]
    fn dashes_and_case_do_not_matter_in_a_boards_name() {
        for typed in ["visionfive2", "visionfive-2", "VisionFive2"] {
            assert_eq!(find(typed).unwrap().id, "visionfive-2", "{typed}");
        }
        let error = find("visionfive").unwrap_err().to_string();
        assert!(error.contains("\"visionfive\"") && error.contains("visionfive-2"), "{error}");
    }

    #[test]
    fn a_board_without_an_image_is_refused_with_the_reason_and_a_way_on() {
        has_image(find("visionfive2").unwrap()).unwrap();
        let error = has_image(find("lichee-pi-4a").unwrap()).unwrap_err().to_string();
        for words in
            ["no image for Sipeed Lichee Pi 4A: ", "docs/boards/lichee-pi-4a.md", "--image"]
        {
            assert!(error.contains(words), "{error}");
        }
        assert!(first_boot("visionfive-2").unwrap().ends_with('.'));
        assert_eq!(first_boot("raspberry-pi-5"), None);
    }

    #[test]
    fn an_image_for_another_board_is_refused() {
        let board = find("rock-5b").unwrap();
        let error = agree(Some(board), label("star64"), true).unwrap_err().to_string();
        assert!(error.contains("star64") && error.contains("rock-5b"), "{error}");
        let of = agree(Some(board), label("rock-5b"), true).unwrap();
        assert_eq!((of.id.as_deref(), of.notice), (Some("rock-5b"), None));
        let of = agree(None, label("star64"), true).unwrap();
        assert_eq!((of.id.as_deref(), of.version.as_deref()), (Some("star64"), Some("0.1.0")));
    }

    #[test]
    fn an_image_that_says_nothing_is_taken_with_a_notice_and_one_without_a_place_is_not() {
        let board = find("rock-5b").unwrap();
        let of = agree(Some(board), Says::Nothing, true).unwrap();
        assert!(of.id.is_some() && of.notice.unwrap().contains("not checked"));
        let without =
            || Says::NoSeedVolume(MediaError::NoVolume { path: "a".into(), found: String::new() });
        let error = agree(Some(board), without(), true).unwrap_err().to_string();
        assert!(error.contains("ROOST_SEED") && error.contains("--no-seed"), "{error}");
        assert!(agree(None, without(), false).unwrap().notice.is_some());
    }
}
