//! Orders to update.

use std::sync::Mutex;

use super::*;
use crate::{enrol::Errand, model::UpdatePhase, trust::SignedOrder};

const SYSTEM: &str = "/nix/store/0c2rnmvx8q4kbqh1sb0bsqm5xsbv8sqq-nixos-system-board";

/// A board that takes orders.
#[derive(Default)]
struct Updated(Mutex<Vec<Order>>);

impl Effects for Updated {
    async fn show_certificate(&self) -> Result<(), String> {
        Ok(())
    }

    fn told_time(&self, _time_s: u64) {}

    async fn update(&self, order: Order) -> Result<(), String> {
        self.0.lock().unwrap().push(order);
        Ok(())
    }

    fn last_update(&self) -> Result<Option<UpdateView>, String> {
        let last = self.0.lock().unwrap().last().cloned();
        Ok(last.map(|order| UpdateView {
            number: order.number,
            system: order.system.to_string(),
            phase: UpdatePhase::RolledBack,
            reason: "nix-env \x1b[31mfailed\x1b[0m\n  no \x07space".to_owned(),
        }))
    }

    fn now_s(&self) -> u64 {
        NOW_S
    }
}

fn order(by: &Node, board: &str, number: u64) -> SignedOrder {
    let order = Order::new(board, SYSTEM, number, false).unwrap();
    by.trust.look(|it| it.registrar.as_ref().unwrap().order(&order)).unwrap()
}

/// What a board says to an order, and how its last update went then.
async fn ordered(
    board: &Node,
    effects: &Updated,
    order: &SignedOrder,
) -> (Result<(), AskError>, Option<UpdateView>) {
    let (near, far) = duplex(1 << 16);
    let ((reader, writer), (far_reader, far_writer)) = (split(near), split(far));
    let visit = async {
        let mut errand = Errand::begin(reader, writer, "b1", NOW_S).await.unwrap();
        let done = errand.update(order).await;
        (done, errand.last_update().await.unwrap())
    };
    tokio::select! {
        said = visit => said,
        ended = answer(far_reader, far_writer, &board.trust, effects) => panic!("{ended:?}"),
    }
}

#[tokio::test]
async fn a_board_takes_an_order_of_its_fleets_key_and_tells_how_it_went() {
    let (holder, board) = enrolled().await;
    let effects = Updated::default();
    let (done, last) = ordered(&board, &effects, &order(&holder, "b1", 7)).await;
    done.unwrap();
    let last = last.unwrap();
    assert_eq!((last.number, last.system.as_str()), (7, SYSTEM));
    // What comes from a board is shown at a terminal.
    assert_eq!(last.reason, "nix-env failed\n  no space");
}

#[tokio::test]
async fn an_order_of_another_key_or_for_another_board_is_refused() {
    let (holder, board) = enrolled().await;
    let stranger = Node::holder();
    let effects = Updated::default();
    for (bad, why) in [
        (order(&stranger, "b1", 7), "not signed by the fleet's key"),
        (order(&holder, "b2", 7), "is for the board b2"),
    ] {
        let (done, last) = ordered(&board, &effects, &bad).await;
        let error = done.unwrap_err().to_string();
        assert!(error.contains("refuses to take the update") && error.contains(why), "{error}");
        assert_eq!(last, None);
    }
    assert!(effects.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_board_whose_roost_knows_no_updates_is_said_to_be_too_old() {
    let (near, far) = duplex(1 << 16);
    let (reader, writer) = split(near);
    // It answers the first line as ever, and ends the conversation at the second.
    let (_holder, board) = enrolled().await;
    let old = async {
        let (reader, mut writer) = split(far);
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(reader));
        lines.next_line().await.unwrap();
        let hello = format!("{{\"hello\":{{\"version\":1,\"time_s\":{NOW_S}}}}}\n");
        writer.write_all(say(&board, hello.as_bytes()).await.as_bytes()).await.unwrap();
        lines.next_line().await.unwrap();
    };
    let visit = async {
        let mut errand = Errand::begin(reader, writer, "b1", NOW_S).await.unwrap();
        errand.last_update().await.unwrap_err()
    };
    let ((), error) = tokio::join!(old, visit);
    assert!(matches!(error, AskError::TooOld), "{error}");
}
