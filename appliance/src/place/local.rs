//! Whether the local Nix should build something by itself, or leave it to the boards. Pure, as all of
//! placement.
//!
//! The local machine's CPU is one more node, of which less is known: its builds are Nix's, which asks for
//! each, and tells nobody when one begins or ends.

use std::collections::BTreeSet;

use super::{Among, Fit, Health, JobFacts, NodeFacts, Plan, Policy, Times};
use crate::model::{Advice, Emulation, How, Inquiry, Size};

/// What is known of the local Nix.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalFacts {
    /// This node's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// How fast the machine is, as [`NodeFacts::speed`].
    pub speed: f64,
    /// Systems that it builds and the CPU executes.
    pub systems: Vec<String>,
    /// Features that it accepts and the machine has.
    pub features: BTreeSet<String>,
    /// Why nothing is to be built by it; none if it may build.
    pub forbidden: Option<String>,
}

/// Advice, with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What the local Nix should do.
    pub advice: Advice,
    /// Why.
    pub reason: String,
}

/// What the local Nix was told a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Jobs of the same system that it is to give to boards, and that have not arrived.
    pub to_boards: u32,
    /// Builds that it is to begin by itself, and that do not run yet.
    pub to_begin: u32,
    /// How often it was told to build by itself, in the last second.
    pub here: u32,
}

/// How often a second one Nix is told so at most where boards could have the job. It asks again for all that
/// waits whenever one of its builds has ended, and each answer takes about half a millisecond.
const WAITS_A_SECOND: u32 = 200;

/// Decides where something should be built that the local Nix has asked for; `waiting` jobs for the same
/// system wait for boards, and `times` is what such builds take.
///
/// It is built where it is expected to be done first. That may be this machine though its slots are taken: then
/// it waits in Nix, which asks again when one of its builds has ended, and so for whichever slot is free next,
/// here or there; a job in the queue is the boards' alone. While nothing is known of such builds, a board's free
/// slot is taken first unless this machine is faster. What no board could ever build is left to Nix, which then
/// builds by itself anyway.
#[must_use]
pub fn judge(
    inquiry: &Inquiry,
    told: Told,
    local: &LocalFacts,
    nodes: &[NodeFacts],
    (times, waiting): (Times, u32),
) -> Judgement {
    let elsewhere = |reason: &str| judgement(Advice::Elsewhere, reason);
    let here = |reason: &str| judgement(Advice::Local, reason);
    let (system, asker) = (&inquiry.system, &inquiry.asker);
    if let Some(why) = &local.forbidden {
        return elsewhere(why);
    }
    if let Fit::Forbidden(why) = inquiry.demand.judge(&local.id, &local.name, &local.labels) {
        return elsewhere(&why);
    }
    if !local.systems.contains(system) || !inquiry.features.is_subset(&local.features) {
        return elsewhere("this machine is no native builder of it");
    }
    let boards: Vec<&NodeFacts> = nodes.iter().filter(|node| could(node, inquiry)).collect();
    if boards.is_empty() {
        return elsewhere("no board could build it");
    }
    let own = nodes.iter().find(|node| node.here);
    if own.is_some_and(|own| own.health != Health::Ready) {
        return elsewhere("this machine begins no builds now");
    }
    if !boards.iter().any(|node| node.health.is_alive()) {
        return here("no board is there");
    }
    if own.is_some_and(|own| !own.has_free()) {
        return elsewhere("this machine's slots are taken by jobs of others");
    }
    let before = told.to_boards.saturating_add(waiting);
    let Some(board) = best_board(inquiry, times, nodes, before) else {
        return here("no board begins it now");
    };
    let free = board.start_s <= 0.0;
    let ready = boards.iter().filter(|node| node.health == Health::Ready);
    let ahead: u32 = ready.map(|node| (node.slots + node.ahead).saturating_sub(node.taken())).sum();
    let running = asker.running.saturating_add(told.to_begin);
    let idle = asker.willing && running < asker.slots;
    let done = times.native.map(|work| {
        let takes_s = work.as_secs_f64() / local.speed;
        let waits = told.here.saturating_sub(told.to_begin);
        // Those that run have run for half of their time, on average.
        let turns = (f64::from(running) / 2.0 + f64::from(waits)) / f64::from(asker.slots.max(1));
        takes_s + if idle { 0.0 } else { takes_s * turns }
    });
    match (done.zip(board.finish_s), idle) {
        (Some((here_s, there_s)), true) if here_s <= there_s => here("it is done here first"),
        (Some((here_s, there_s)), false) if here_s <= there_s && told.here < WAITS_A_SECOND => {
            here("it is done here first, though it has to wait")
        }
        (None, true) if free && local.speed > board.speed => here("this machine is faster"),
        (_, _) if free => elsewhere("a board has a slot free"),
        (_, true) => here("no board has a slot free, and this machine has"),
        (_, false) if ahead > before => {
            elsewhere("nobody has a slot free, and a board is ready for the next job")
        }
        (_, false) if told.here >= WAITS_A_SECOND => {
            elsewhere("nobody has a slot free, and too much waits for one here")
        }
        (_, false) => here("nobody has a slot free"),
    }
}

/// What is expected of a board.
struct Begins {
    /// In how many seconds it would begin.
    start_s: f64,
    /// In how many seconds it would be done, if something is known of such builds.
    finish_s: Option<f64>,
    /// How fast it is.
    speed: f64,
}

/// The board that is expected to be done first, after so many jobs that come before.
fn best_board(inquiry: &Inquiry, times: Times, nodes: &[NodeFacts], before: u32) -> Option<Begins> {
    let job = JobFacts {
        system: &inquiry.system,
        features: &inquiry.features,
        among: Among::Others,
        demand: &inquiry.demand,
        policy: Policy { emulation: Emulation::Never, native_wait: None },
        waited: std::time::Duration::ZERO,
        times,
        client: &inquiry.client.label,
        big: inquiry.features.contains(Size::BIG),
        path_s: 0.0,
        avoid: None,
        misses: 0,
        inputs: &[],
    };
    let mut plan = Plan::new(nodes);
    for _ in 0..before {
        plan.place(&job);
    }
    let choice = plan.choices(&job).into_iter().find(|it| it.how == How::Native)?;
    let start_s = if plan.slots(choice.node).has_free() { 0.0 } else { choice.start_s };
    Some(Begins { start_s, finish_s: choice.finish_s, speed: nodes[choice.node].speed })
}

fn judgement(advice: Advice, reason: &str) -> Judgement {
    Judgement { advice, reason: reason.to_owned() }
}

/// Whether another node builds such things natively, as it is, were it there.
fn could(node: &NodeFacts, inquiry: &Inquiry) -> bool {
    let native = node.runs(&inquiry.system) == Some(How::Native);
    let able = native && node.lacks(How::Native, &inquiry.features).is_empty();
    !node.here && able && node.may_have(&inquiry.demand)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Asker, Client, Demand, Origin, Supply, Want, Wish};

    const ARM: &str = "aarch64-linux";

    /// Nothing is known of such builds, and nothing waits.
    const UNKNOWN: (Times, u32) = (Times { native: None, emulated: None }, 0);

    fn words<C: FromIterator<String>>(text: &str) -> C {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn inquiry(system: &str, features: &str) -> Inquiry {
        Inquiry {
            drv_path: "/nix/store/00000000000000000000000000000000-a.drv".to_owned(),
            system: system.to_owned(),
            features: words(features),
            demand: Demand::default(),
            client: Client { label: "me".to_owned() },
            asker: Asker { pid: 1, willing: true, slots: 2, running: 1 },
        }
    }

    fn local() -> LocalFacts {
        LocalFacts {
            id: "own".to_owned(),
            name: "desk".to_owned(),
            labels: BTreeSet::new(),
            speed: 1.0,
            systems: words(ARM),
            features: words("benchmark kvm"),
            forbidden: None,
        }
    }

    /// A board with two slots.
    fn board(name: &str, busy: u32) -> NodeFacts {
        NodeFacts {
            id: name.to_owned(),
            name: name.to_owned(),
            here: false,
            systems: words(ARM),
            emulated: words("riscv64-linux"),
            features: words("benchmark"),
            labels: BTreeSet::new(),
            slots: 2,
            ahead: 2,
            assigned: 0,
            big: 0,
            busy,
            jobs: Vec::new(),
            supply: Supply::default(),
            speed: 1.0,
            health: Health::Ready,
        }
    }

    fn away(name: &str) -> NodeFacts {
        NodeFacts { health: Health::Away("gone".to_owned()), ..board(name, 0) }
    }

    fn advice(system: &str, features: &str, to_boards: u32, nodes: &[NodeFacts]) -> Advice {
        let told = Told { to_boards, ..Told::default() };
        judge(&inquiry(system, features), told, &local(), nodes, UNKNOWN).advice
    }

    #[test]
    fn a_board_with_a_free_slot_has_it() {
        assert_eq!(advice(ARM, "", 0, &[board("a", 1)]), Advice::Elsewhere);
        assert_eq!(advice(ARM, "", 1, &[board("a", 0)]), Advice::Elsewhere);
    }

    #[test]
    fn what_is_done_first_here_is_built_here_and_a_slower_machine_takes_what_boards_would_keep_waiting()
     {
        let known =
            (Times { native: Some(std::time::Duration::from_secs(100)), emulated: None }, 0);
        let advised = |speed: f64, running, here, nodes: &[NodeFacts]| {
            let asker = Asker { running, willing: running < 2, ..inquiry(ARM, "").asker };
            let told = Told { here, ..Told::default() };
            let local = LocalFacts { speed, ..local() };
            judge(&Inquiry { asker, ..inquiry(ARM, "") }, told, &local, nodes, known).advice
        };
        let free = [board("a", 0)];
        assert_eq!(advised(2.0, 0, 0, &free), Advice::Local, "50 s here, 100 s there");
        assert_eq!(advised(0.5, 0, 0, &free), Advice::Elsewhere, "200 s here, 100 s there");
        assert_eq!(advised(2.0, 2, 0, &free), Advice::Local, "75 s here: it waits");
        assert_eq!(advised(2.0, 2, 2, &free), Advice::Elsewhere, "125 s here: two wait already");
        // 100 s until the board's slot is free, as far as is known.
        let busy = [board("a", 2)];
        assert_eq!(advised(0.5, 0, 0, &busy), Advice::Local, "200 s here and there");
        assert_eq!(
            advised(0.4, 0, 0, &busy),
            Advice::Local,
            "an idle slot is worth more than a guess"
        );
    }

    #[test]
    fn while_nothing_is_known_the_faster_one_has_it() {
        let fast = LocalFacts { speed: 1.5, ..local() };
        let judged = judge(&inquiry(ARM, ""), Told::default(), &fast, &[board("a", 0)], UNKNOWN);
        assert_eq!(judged.advice, Advice::Local, "{judged:?}");
    }

    #[test]
    fn it_is_built_here_if_no_board_could_begin_it_now() {
        assert_eq!(advice(ARM, "", 0, &[board("a", 2), board("b", 3)]), Advice::Local);
        assert_eq!(advice(ARM, "", 0, &[away("a")]), Advice::Local);
        let paused = NodeFacts { health: Health::Paused("hot".to_owned()), ..board("a", 0) };
        assert_eq!(advice(ARM, "", 0, &[paused]), Advice::Local);
    }

    #[test]
    fn what_is_on_its_way_to_boards_takes_their_slots() {
        assert_eq!(advice(ARM, "", 2, &[board("a", 0)]), Advice::Local);
        assert_eq!(advice(ARM, "", 1, &[board("a", 1)]), Advice::Local);
    }

    #[test]
    fn what_nobody_has_a_slot_for_is_sent_ahead_to_a_board_or_waits_for_any_slot() {
        let asked = |willing, running, told, nodes: &[NodeFacts]| {
            let asker = Asker { willing, running, ..inquiry(ARM, "").asker };
            judge(&Inquiry { asker, ..inquiry(ARM, "") }, told, &local(), nodes, UNKNOWN).advice
        };
        let told = Told::default();
        let busy = [board("a", 2)];
        assert_eq!(asked(false, 2, told, &busy), Advice::Elsewhere, "a place ahead is free");
        assert_eq!(asked(true, 2, told, &busy), Advice::Elsewhere);
        let one = Told { to_begin: 1, ..told };
        assert_eq!(asked(true, 1, one, &busy), Advice::Elsewhere, "its last slot is taken");
        assert_eq!(asked(true, 0, one, &busy), Advice::Local);
        let full = [board("a", 4)];
        assert_eq!(asked(false, 2, told, &full), Advice::Local);
        assert_eq!(asked(false, 2, Told { to_boards: 2, ..told }, &busy), Advice::Local);
        let often = Told { here: WAITS_A_SECOND, ..told };
        assert_eq!(asked(false, 2, often, &full), Advice::Elsewhere, "asking takes time, too");
        assert_eq!(asked(false, 2, often, &[away("a")]), Advice::Local);
    }

    #[test]
    fn only_boards_that_could_build_it_count() {
        let free = board("a", 0);
        assert_eq!(
            advice(ARM, "kvm", 0, std::slice::from_ref(&free)),
            Advice::Elsewhere,
            "no board has kvm"
        );
        let kvm = NodeFacts { features: words("kvm"), ..board("b", 2) };
        assert_eq!(advice(ARM, "kvm", 0, &[free, kvm]), Advice::Local);
    }

    #[test]
    fn what_is_wanted_on_a_board_is_not_built_here() {
        let on = |board: &str| {
            let nodes = [board.to_owned()].into();
            let demand = Wish { origin: Origin::On, want: Want::Require, nodes }.into();
            let nodes = [board_of(board), away("other")];
            judge(
                &Inquiry { demand, ..inquiry(ARM, "") },
                Told::default(),
                &local(),
                &nodes,
                UNKNOWN,
            )
        };
        let board_of_it = on("a");
        assert_eq!(board_of_it.advice, Advice::Elsewhere);
        assert!(board_of_it.reason.contains("--on asks for a"), "{board_of_it:?}");
    }

    /// A board that is busy.
    fn board_of(name: &str) -> NodeFacts {
        board(name, 4)
    }

    #[test]
    fn what_this_machine_does_not_build_natively_is_left_to_nix() {
        let nodes = [board("a", 2)];
        assert_eq!(advice("riscv64-linux", "", 0, &nodes), Advice::Elsewhere);
        assert_eq!(advice(ARM, "big-parallel", 0, &nodes), Advice::Elsewhere);
        assert_eq!(advice("builtin", "", 0, &nodes), Advice::Elsewhere);
    }

    #[test]
    fn what_no_board_could_build_is_left_to_nix() {
        assert_eq!(advice(ARM, "", 0, &[]), Advice::Elsewhere);
    }

    #[test]
    fn nothing_is_built_here_where_it_is_forbidden() {
        let forbidden = Some("workstation.build_here is false".to_owned());
        let local = LocalFacts { forbidden: forbidden.clone(), ..local() };
        let judgement =
            judge(&inquiry(ARM, ""), Told::default(), &local, &[board("a", 2)], UNKNOWN);
        assert_eq!(judgement.advice, Advice::Elsewhere);
        assert_eq!(Some(judgement.reason), forbidden);
    }

    #[test]
    fn a_machine_that_is_a_board_too_builds_nothing_more_than_a_board_would() {
        let here = |busy, health| NodeFacts { here: true, health, ..board("own", busy) };
        let full = board("a", 4);
        for (own, expected) in [
            (here(0, Health::Ready), Advice::Local),
            (here(2, Health::Ready), Advice::Elsewhere),
            (here(0, Health::Draining), Advice::Elsewhere),
            (here(0, Health::Paused("hot".to_owned())), Advice::Elsewhere),
        ] {
            assert_eq!(advice(ARM, "", 0, &[own.clone(), full.clone()]), expected, "{own:?}");
        }
        let alone = advice(ARM, "", 0, &[here(2, Health::Ready), away("a")]);
        assert_eq!(alone, Advice::Local, "nobody else is there");
    }
}
