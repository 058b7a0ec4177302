//! Orders that are not taken, and states that are not believed.

use super::*;
use crate::model::UpdatePhase;

#[tokio::test(start_paused = true)]
async fn an_order_is_taken_once_and_none_before_it() {
    let world = World::new(well);
    world.accept(order(5)).await.unwrap();
    world.systemd(false).await;
    for number in [0, 4, 5] {
        let error = world.accept(order(number)).await.unwrap_err().to_string();
        assert!(error.contains("not newer than the last one, 5"), "{error}");
    }
    assert_eq!(world.progress(), Some(Progress::Kept));
    world.accept(order(6)).await.unwrap();
    assert_eq!(world.progress(), Some(Progress::Ordered));
}

#[tokio::test(start_paused = true)]
async fn one_update_at_a_time() {
    let world = World::new(well);
    world.accept(order(1)).await.unwrap();
    let error = world.accept(order(2)).await.unwrap_err().to_string();
    assert!(error.contains("is under way") && error.contains(NEW), "{error}");
    assert_eq!(world.apply().await, Ended::Restarted);
    assert!(world.accept(order(2)).await.is_err());
    let held = world.store.hold().unwrap();
    assert!(matches!(world.accept(order(2)).await, Err(UpdateError::Busy)));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_system_that_cannot_be_used_is_refused_and_not_held() {
    let world = World::new(well);
    let held = world.store.hold().unwrap();
    let usable = async {
        // It is held against garbage collection before it is looked at.
        assert!(world.has_root());
        Err("it is not in this store".to_owned())
    };
    let error = held.accept(order(1), usable).await.unwrap_err().to_string();
    assert_eq!(error, "it is not in this store");
    assert!(!world.has_root() && !world.flag("order") && world.progress().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_state_is_reported_and_nothing_is_done() {
    let world = World::new(well);
    world.accept(order(1)).await.unwrap();
    let good = std::fs::read_to_string(world.store.file()).unwrap();
    let later = good.replacen("\"version\":1", "\"version\":2", 1);
    let unknown = good.replacen("\"ordered\"", "\"unheard-of\"", 1);
    let more = good.replacen('{', "{\"more\":1,", 1);
    let long = " ".repeat(70_000) + &good;
    for bad in ["", "{", &good[..good.len() - 1], &later, &unknown, &more, &long] {
        std::fs::write(world.store.file(), bad).unwrap();
        for ended in [world.apply().await, world.settle().await] {
            let Ended::Again(why) = ended else { panic!("{ended:?}") };
            assert!(why.contains("state.json makes no sense"), "{why}");
        }
        let error = world.accept(order(9)).await.unwrap_err();
        assert!(matches!(error, UpdateError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(world.store.file()).unwrap(), bad);
    }
    assert_eq!((world.boot.get(), world.next.borrow().as_str()), (1, OLD));
    // The order stays in sight: once the state is right again, it goes on.
    std::fs::write(world.store.file(), good).unwrap();
    world.systemd(false).await;
    assert_eq!(world.progress(), Some(Progress::Kept));
}

#[tokio::test(start_paused = true)]
async fn others_are_told_how_far_it_is() {
    let world = World::new(ill);
    let phase = || world.store.read().unwrap().unwrap().view().phase;
    world.accept(order(3)).await.unwrap();
    assert_eq!(phase(), UpdatePhase::Ordered);
    world.apply().await;
    assert_eq!(phase(), UpdatePhase::Applying);
    world.start();
    assert_eq!(world.settle().await, Ended::Restarted);
    assert_eq!(phase(), UpdatePhase::RollingBack);
    world.start();
    world.systemd(true).await;
    let view = world.store.read().unwrap().unwrap().view();
    assert_eq!((view.phase, view.number, view.system.as_str()), (UpdatePhase::RolledBack, 3, NEW));
    assert!(view.phase.is_over() && view.reason.contains("no node of the fleet"), "{view:?}");
}
