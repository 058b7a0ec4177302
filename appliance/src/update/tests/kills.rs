//! Whatever is killed, and whenever the power fails, an update ends as it would have.

use super::*;

/// More steps than any update has.
const STEPS: u32 = 60;

/// What ends a process.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Kill,
    PowerCut,
}

/// An update in which something happens after so many steps; whether there were so many.
async fn cut(world: &World, end: End, steps: u32) -> bool {
    kill_after(Some(steps));
    let accepted = world.accept(order(1)).await;
    let mut restarted = false;
    let was_cut = accepted.is_err()
        || loop {
            let ended = match restarted && world.flag("trial") {
                true => world.settle().await,
                false if world.flag("order") => world.apply().await,
                false => break false,
            };
            match ended {
                Ended::Restarted => {
                    world.start();
                    restarted = true;
                }
                Ended::Done => restarted = false,
                Ended::Killed => break true,
                Ended::Again(why) => panic!("{why}"),
            }
        };
    kill_after(None);
    if !was_cut {
        return false;
    }
    if end == End::PowerCut {
        world.start();
        restarted = true;
    }
    // Nobody was told that it was accepted: it is given again, if it was not.
    world.systemd(restarted).await;
    if world.progress().is_none() {
        world.accept(order(1)).await.unwrap();
        world.systemd(false).await;
    }
    true
}

/// Cuts an update at each of its steps.
async fn at_every_step(world: impl Fn() -> World, check: impl Fn(&World, &str)) {
    for end in [End::Kill, End::PowerCut] {
        let mut steps = 0;
        loop {
            let world = world();
            if !cut(&world, end, steps).await {
                break;
            }
            let when = format!("{end:?} after {steps} steps");
            check(&world, &when);
            assert!(!world.flag("order") && !world.flag("trial"), "{when}");
            assert!(!world.has_root(), "{when}");
            steps += 1;
        }
        assert!((12..STEPS).contains(&steps), "{steps} steps");
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_system_is_kept() {
    at_every_step(
        || World::new(well),
        |world, when| {
            assert_eq!(world.progress(), Some(Progress::Kept), "{when}");
            assert_eq!(world.next.borrow().as_str(), NEW, "{when}");
            assert_eq!(world.booted().as_deref(), Some(NEW), "{when}");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_system_is_undone() {
    at_every_step(
        || {
            let world = World::new(ill);
            world.slow.set(Duration::from_secs(291));
            world
        },
        |world, when| {
            let progress = world.progress();
            let Some(Progress::RolledBack { reason }) = &progress else {
                panic!("{when}: {progress:?}")
            };
            assert!(reason.contains("no node of the fleet"), "{when}: {reason}");
            assert_eq!(world.next.borrow().as_str(), OLD, "{when}");
            assert_eq!(world.booted().as_deref(), Some(OLD), "{when}");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_system_that_cannot_be_installed_is_not_started_next() {
    let broken = || {
        let world = World::new(ill);
        world.broken.borrow_mut().push(path(NEW));
        world
    };
    at_every_step(broken, |world, when| {
        let progress = world.progress().unwrap();
        // It was started if the power failed when half of it was there.
        let over = matches!(progress, Progress::Failed { .. } | Progress::RolledBack { .. });
        assert!(over, "{when}: {progress:?}");
        assert_eq!(world.next.borrow().as_str(), OLD, "{when}");
    })
    .await;
}
