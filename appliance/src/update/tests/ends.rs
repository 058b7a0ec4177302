//! How updates end.

use super::*;

/// One update, from its order to its end.
async fn updated(world: &World) -> Progress {
    world.accept(order(1)).await.unwrap();
    world.systemd(false).await;
    let progress = world.progress().unwrap();
    assert!(progress.is_over(), "{progress:?}");
    assert!(!world.flag("order") && !world.flag("trial") && !world.has_root());
    progress
}

fn reason(progress: &Progress) -> &str {
    match progress {
        Progress::RolledBack { reason } | Progress::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_with_which_the_board_works_is_kept() {
    // After a while: sshd, the network and the fleet take their time.
    let world = World::new(|system, uptime| match (system, uptime.as_secs()) {
        (NEW, 0..290) => Err("the roost daemon does not answer".to_owned()),
        _ => Ok(()),
    });
    assert_eq!(updated(&world).await, Progress::Kept);
    assert_eq!((world.boot.get(), world.next.borrow().as_str()), (2, NEW));
    assert_eq!((world.drained.get(), world.resumed.get()), (1, 0));
    assert!(world.uptime() >= Duration::from_secs(290));
}

#[tokio::test(start_paused = true)]
async fn a_system_with_which_it_does_not_work_in_time_is_undone() {
    let world = World::new(|system, uptime| match (system, uptime.as_secs()) {
        (NEW, 0..310) => Err("no node of the fleet has connected".to_owned()),
        _ => Ok(()),
    });
    let progress = updated(&world).await;
    assert!(matches!(progress, Progress::RolledBack { .. }), "{progress:?}");
    let why = reason(&progress);
    assert!(why.contains("300 s") && why.contains("no node of the fleet"), "{why}");
    assert_eq!((world.boot.get(), world.booted().as_deref()), (3, Some(OLD)));
    assert_eq!(world.next.borrow().as_str(), OLD);
}

#[tokio::test(start_paused = true)]
async fn a_boot_loader_that_starts_another_system_ends_the_trial() {
    let world = World::new(well);
    world.stubborn.replace(Some(path(OTHER)));
    let progress = updated(&world).await;
    let why = reason(&progress);
    assert!(why.contains(OTHER) && why.contains("boot loader"), "{why}");
    assert!(matches!(progress, Progress::RolledBack { .. }));
    // What is started next is what was before, and the machine is not restarted for it.
    assert_eq!((world.boot.get(), world.next.borrow().as_str()), (2, OLD));
}

#[tokio::test(start_paused = true)]
async fn a_boot_loader_that_does_not_go_back_is_reported_and_restarted_once() {
    let world = World::new(ill);
    world.accept(order(1)).await.unwrap();
    assert_eq!(world.apply().await, Ended::Restarted);
    world.start();
    world.stubborn.replace(Some(path(NEW)));
    world.systemd(true).await;
    let progress = world.progress().unwrap();
    assert!(reason(&progress).contains("still runs it"), "{progress:?}");
    assert_eq!(world.boot.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_tell_its_system_is_judged_by_its_health() {
    for (health, expected) in [(well as fn(&_, _) -> _, NEW), (ill, OLD)] {
        let world = World::new(health);
        world.tells.set(false);
        updated(&world).await;
        assert_eq!(world.next.borrow().as_str(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_that_cannot_be_installed_leaves_the_board_as_it_was() {
    let world = World::new(well);
    world.broken.borrow_mut().push(path(NEW));
    let progress = updated(&world).await;
    assert!(reason(&progress).contains("no space"), "{progress:?}");
    assert!(matches!(progress, Progress::Failed { .. }));
    assert_eq!((world.boot.get(), world.next.borrow().as_str()), (1, OLD));
    assert_eq!(world.resumed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_restart_is_as_it_was() {
    let world = World::new(well);
    world.restarts.set(false);
    let progress = updated(&world).await;
    assert_eq!(reason(&progress), "systemctl failed");
    assert_eq!((world.boot.get(), world.next.borrow().as_str()), (1, OLD));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_is_tried_again_and_not_called_undone() {
    let world = World::new(well);
    world.broken.borrow_mut().extend([path(NEW), path(OLD)]);
    world.accept(order(1)).await.unwrap();
    let Ended::Again(why) = world.apply().await else { panic!() };
    assert!(why.contains("cannot go back to") && why.contains("no space"), "{why}");
    assert!(matches!(world.progress(), Some(Progress::Undoing { tried: false, .. })));
    assert!(world.flag("order"));
    world.broken.borrow_mut().clear();
    world.systemd(false).await;
    assert!(matches!(world.progress(), Some(Progress::Failed { .. })));
    assert_eq!(world.next.borrow().as_str(), OLD);
}

#[tokio::test(start_paused = true)]
async fn a_system_that_is_started_a_third_time_is_given_up_at_once() {
    let world = World::new(ill);
    world.accept(order(1)).await.unwrap();
    assert_eq!(world.apply().await, Ended::Restarted);
    // A watchdog restarts the machine, and again.
    for _ in 0..2 {
        world.start();
        tokio::select! {
            ended = world.settle() => panic!("{ended:?}"),
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
    }
    world.start();
    let begun = Instant::now();
    assert_eq!(world.settle().await, Ended::Restarted);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    world.start();
    world.systemd(true).await;
    let progress = world.progress().unwrap();
    assert!(reason(&progress).contains("3 times"), "{progress:?}");
    assert_eq!(world.booted().as_deref(), Some(OLD));
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_hurry_does_not_wait_for_builds() {
    let world = World::new(well);
    world.accept(Order::new("b1", NEW, 1, true).unwrap()).await.unwrap();
    world.systemd(false).await;
    assert_eq!((world.progress(), world.drained.get()), (Some(Progress::Kept), 0));
}

#[tokio::test(start_paused = true)]
async fn without_an_update_nothing_is_done() {
    let world = World::new(well);
    world.store.make().unwrap();
    std::fs::write(world.folder.path().join("update/order"), "").unwrap();
    assert_eq!((world.apply().await, world.settle().await), (Ended::Done, Ended::Done));
    assert!(!world.flag("order"));
    // Whoever is started by a person while the machine is to be restarted changes nothing.
    world.accept(order(1)).await.unwrap();
    assert_eq!(world.settle().await, Ended::Done);
    assert_eq!(world.progress(), Some(Progress::Ordered));
    assert_eq!(world.apply().await, Ended::Restarted);
    let before = world.progress();
    assert_eq!(world.settle().await, Ended::Done);
    assert_eq!(world.progress(), before);
}
