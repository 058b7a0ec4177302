//! One round of placement: the nodes as they are, and what has been given to them in it.
//!
//! Each job goes where it is expected to be finished first, which may be a node that is still busy: the
//! job then waits for that node, and its slot is taken as far as the jobs after it are concerned. This is
//! list scheduling by earliest finish time (HEFT: Topcuoglu, Hariri, Wu, 2002), made anew whenever
//! something has changed. Without an expectation of how long a job takes, it is given to the fastest node
//! that is free: earliest finish times of nothing but guesses are worse than none.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Among, Decision, Given, Health, JobFacts, NodeFacts, Times, WaitFor,
    slots::{Slots, UNKNOWN_S},
    words,
};
use crate::model::{Candidate, Demand, Emulation, How};

/// A job is sent to a node whose slot will be free within so many seconds, or within the time that its
/// inputs need, to wait there: its inputs are on their way meanwhile, and the slot does not idle for a round
/// trip. One of which nothing is known is sent in any case: it can be taken back.
const SOON_S: f64 = 2.0;

/// Speeds that differ by less than this share are equal, and so are finish times that differ by less than this
/// share of what the job takes, if what follows is not held up: they are not known better.
const EQUAL: f64 = 0.1;

/// How many of the jobs that run are looked at for what follows them: those with the longest path.
const RIVALS: usize = 8;

/// Times that differ by less are equal.
const ROUNDING_S: f64 = 1e-6;

/// The nodes that could have a job, as far as system and features go, by their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Able {
    pub(super) native: Vec<usize>,
    pub(super) emulating: Vec<usize>,
    /// Those of both where the job is rather wanted than on others.
    preferred: Vec<usize>,
}

/// What jobs have in common that the same nodes could have.
struct Kind<'j> {
    among: Among,
    system: &'j str,
    features: &'j BTreeSet<String>,
    demand: &'j Demand,
    able: Able,
}

/// A node for a job, and when it begins and ends there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) node: usize,
    pub(super) how: How,
    /// In how many seconds a slot is free.
    pub(super) free_s: f64,
    /// In how many seconds it has all inputs, if they are sent now.
    pub(super) sent_s: f64,
    /// In how many seconds the job begins: both have come.
    pub(super) start_s: f64,
    takes_s: Option<f64>,
    pub(super) finish_s: Option<f64>,
}

impl Choice {
    /// How long before a slot is free a job is sent there.
    fn soon_s(&self) -> f64 {
        SOON_S.max(self.sent_s)
    }
}

/// See the module.
pub struct Plan<'n, 'j> {
    pub(super) nodes: &'n [NodeFacts],
    slots: Vec<Slots>,
    /// What follows the jobs that run, the longest path first.
    following: Vec<Given>,
    kinds: Vec<Kind<'j>>,
}

impl<'n, 'j> Plan<'n, 'j> {
    /// Nothing is placed yet.
    #[must_use]
    pub fn new(nodes: &'n [NodeFacts]) -> Self {
        let mut following: Vec<_> = nodes.iter().flat_map(|node| &node.jobs).copied().collect();
        following.sort_by(|a, b| b.then_s.total_cmp(&a.then_s));
        following.truncate(RIVALS);
        Self { nodes, slots: nodes.iter().map(Slots::of).collect(), following, kinds: Vec::new() }
    }

    /// Decides where a job should go, and takes its slot. A job that is to run counts as one that the
    /// node has.
    ///
    /// A native node comes first while one is alive; how long a busy one is waited for, and whether
    /// emulation is allowed at all, is the job's policy.
    pub fn place(&mut self, job: &JobFacts<'j>) -> Decision {
        self.place_and_tell(job, |_| false).0
    }

    /// The same, and, if that is wanted of such a decision, every node that was considered.
    pub fn place_and_tell(
        &mut self,
        job: &JobFacts<'j>,
        wanted: impl FnOnce(&Decision) -> bool,
    ) -> (Decision, Vec<Candidate>) {
        let (decision, choice) = self.pick(job);
        let mut told = Vec::new();
        if wanted(&decision) {
            told = self.candidates(job, choice.map(|choice| (choice.node, choice.how)));
        }
        if let Some(choice) = choice {
            let slots = &mut self.slots[choice.node];
            slots.reserve(choice.takes_s, choice.sent_s);
            slots.big += u32::from(job.big);
            if matches!(decision, Decision::Run { .. }) {
                slots.assigned += 1;
                slots.busy += 1;
            }
        }
        (decision, told)
    }

    /// Where a job should go, and the node whose slot it takes.
    fn pick(&mut self, job: &JobFacts<'j>) -> (Decision, Option<Choice>) {
        let kind = self.kind(job);
        let avoid = job.avoid.and_then(|avoid| self.nodes.iter().position(|n| n.id == avoid));
        let (decision, choice) = self.decide(job, kind, None);
        match avoid {
            None => (decision, choice),
            // Rather not on the node where the last run had no result: a node that takes everything and
            // builds nothing must not swallow a queue. The first time that is no reason to emulate: a
            // native node whose cable was pulled is as good as ever when it is back.
            Some(_) => {
                let (elsewhere, other) = self.decide(job, kind, avoid);
                let emulated =
                    |choice: Option<Choice>| choice.is_some_and(|c| c.how == How::Emulated);
                let worse = emulated(other) && !emulated(choice) && job.misses <= 1;
                let runs = matches!(elsewhere, Decision::Run { .. });
                if runs && !worse { (elsewhere, other) } else { (decision, choice) }
            }
        }
    }

    /// Every node that could have a job and is ready, the best one first.
    pub(super) fn choices(&mut self, job: &JobFacts<'j>) -> Vec<Choice> {
        let kind = self.kind(job);
        let able = &self.kinds[kind].able;
        let of = |how, nodes: &[usize]| -> Vec<Choice> {
            let ready = nodes.iter().filter(|&&n| self.nodes[n].health == Health::Ready);
            ready.map(|&node| self.choice(job, node, how)).collect()
        };
        let mut choices = of(How::Native, &able.native);
        choices.extend(of(How::Emulated, &able.emulating));
        choices.sort_by(|a, b| {
            let at = |choice: &Choice| choice.finish_s.unwrap_or(choice.start_s);
            (a.how == How::Emulated)
                .cmp(&(b.how == How::Emulated))
                .then(at(a).total_cmp(&at(b)))
                .then_with(|| self.nodes[a.node].name.cmp(&self.nodes[b.node].name))
        });
        choices
    }

    /// The place of the job's kind.
    fn kind(&mut self, job: &JobFacts<'j>) -> usize {
        let same = |kind: &Kind<'_>| {
            kind.among == job.among
                && kind.system == job.system
                && (std::ptr::eq(kind.features, job.features) || kind.features == job.features)
                && (std::ptr::eq(kind.demand, job.demand) || kind.demand == job.demand)
        };
        self.kinds.iter().position(same).unwrap_or_else(|| {
            let JobFacts { among, system, features, demand, .. } = *job;
            let able = able(job, self.nodes);
            self.kinds.push(Kind { among, system, features, demand, able });
            self.kinds.len() - 1
        })
    }

    fn decide(
        &self,
        job: &JobFacts<'_>,
        kind: usize,
        avoid: Option<usize>,
    ) -> (Decision, Option<Choice>) {
        let all = &self.kinds[kind].able;
        let without =
            |nodes: &[usize]| nodes.iter().copied().filter(|n| Some(*n) != avoid).collect();
        let left;
        let able = match avoid {
            None => all,
            Some(_) => {
                left = Able {
                    native: without(&all.native),
                    emulating: without(&all.emulating),
                    preferred: all.preferred.clone(),
                };
                &left
            }
        };
        if able.native.is_empty() && able.emulating.is_empty() {
            let among: Vec<_> = self.among(job.among).map(|n| &self.nodes[n]).collect();
            return (Decision::Refuse { reason: words::nobody(job, &among, self.nodes) }, None);
        }
        let may_emulate = job.policy.emulation != Emulation::Never && !able.emulating.is_empty();
        if !may_emulate && able.native.is_empty() {
            let reason = words::forbidden(job, &self.facts(&able.emulating));
            return (Decision::Refuse { reason }, None);
        }
        let native = self.best(job, able, How::Native);
        let emulated = if may_emulate { self.best(job, able, How::Emulated) } else { None };
        if let Some(choice) = emulated.filter(|it| self.emulates_sooner(job, able, native, *it)) {
            let finish_s = native.and_then(|it| it.finish_s).unwrap_or_default();
            return self.run(choice, words::sooner(&self.nodes[choice.node], job, finish_s));
        }
        let alive = able.native.iter().any(|&n| self.nodes[n].health.is_alive());
        let left = match (alive, job.policy.native_wait) {
            (false, _) => Some(Duration::ZERO),
            (true, None) => None,
            (true, Some(wait)) => Some(wait.saturating_sub(job.waited)),
        };
        match (native, emulated) {
            (Some(choice), _) if self.begins(choice) => {
                self.run(choice, words::native(self, job, able, choice.node, choice.finish_s))
            }
            (_, Some(choice)) if left == Some(Duration::ZERO) => {
                if self.begins(choice) {
                    let native = self.facts(&able.native);
                    self.run(choice, words::fallback(&self.nodes[choice.node], job, &native))
                } else {
                    self.wait(job, &[&*able.native, &able.emulating].concat(), Some(choice), None)
                }
            }
            (native, _) => {
                let all = [&*able.native, &able.emulating].concat();
                let over = left == Some(Duration::ZERO) && may_emulate;
                let nodes = if over { &all } else { &able.native };
                self.wait(job, nodes, native, left.filter(|left| may_emulate && !left.is_zero()))
            }
        }
    }

    fn run(&self, choice: Choice, reason: String) -> (Decision, Option<Choice>) {
        let node = self.nodes[choice.node].id.clone();
        (Decision::Run { node, how: choice.how, reason }, Some(choice))
    }

    fn wait(
        &self,
        job: &JobFacts<'_>,
        able: &[usize],
        choice: Option<Choice>,
        again: Option<Duration>,
    ) -> (Decision, Option<Choice>) {
        let nodes = self.facts(able);
        let waits_on = |health: fn(&Health) -> bool| nodes.iter().any(|n| health(&n.health));
        let on = if waits_on(Health::is_alive) {
            WaitFor::Slot
        } else if waits_on(|health| *health == Health::Draining) {
            WaitFor::Resume
        } else {
            WaitFor::Return
        };
        // A node that is worth waiting for while others are free.
        let faster = choice.filter(|_| {
            nodes.iter().any(|n| n.health == Health::Ready)
                && able.iter().any(|&n| self.takes(n) && self.slots[n].has_free())
        });
        let reason = match faster {
            Some(choice) => words::worth_waiting(&self.nodes[choice.node], job),
            None => words::waiting(job, &nodes, on),
        };
        // When it could be sent there to wait: nothing else may happen until then.
        let soon = choice
            .filter(|choice| self.has_room(choice.node))
            .map(|choice| choice.free_s - choice.soon_s());
        let soon =
            soon.filter(|s| s.is_finite()).map(|s| Duration::from_secs_f64(s.clamp(1.0, 3600.0)));
        let again = match (again, soon) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        (Decision::Wait { on, reason, again }, choice)
    }

    /// The nodes that a job may have at all.
    fn among(&self, among: Among) -> impl Iterator<Item = usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(move |(_, node)| among.allows(node)).map(|(at, _)| at)
    }

    pub(super) fn facts(&self, nodes: &[usize]) -> Vec<&'n NodeFacts> {
        nodes.iter().map(|&n| &self.nodes[n]).collect()
    }

    /// The best of some nodes for a job, whether it could begin there now or later.
    fn best(&self, job: &JobFacts<'_>, able: &Able, how: How) -> Option<Choice> {
        let nodes = if how == How::Native { &able.native } else { &able.emulating };
        let ready = nodes.iter().filter(|&&n| self.takes(n));
        let mut choices: Vec<_> = ready.map(|&node| self.choice(job, node, how)).collect();
        let wanted =
            |it: &Choice| able.preferred.contains(&it.node) && self.slots[it.node].has_free();
        if choices.iter().any(wanted) {
            choices.retain(wanted);
        }
        let rivals = Rivals::of(self, job, &choices);
        let costs = choices.iter().filter_map(|it| Some((rivals.cost_s(self, it)?, it.finish_s?)));
        let least = costs.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let Some((cost_s, first_s)) = least else {
            return choices.into_iter().min_by(|a, b| self.fastest_free(job, a, b));
        };
        let equal = |it: &Choice| {
            let slack_s = EQUAL * it.takes_s.unwrap_or_default();
            it.finish_s.is_some_and(|s| s <= first_s + slack_s)
                && rivals.cost_s(self, it).is_some_and(|s| s <= cost_s + ROUNDING_S)
        };
        choices.into_iter().filter(equal).min_by(|a, b| {
            let free = |it: &Choice| self.slots[it.node].has_free();
            free(b).cmp(&free(a)).then_with(|| self.by_load(job, a, b))
        })
    }

    /// Without times: what is free, and of that what is fastest, unless inputs have to be sent there for
    /// longer than that is worth; else what is free first.
    fn fastest_free(&self, job: &JobFacts<'_>, a: &Choice, b: &Choice) -> std::cmp::Ordering {
        let free = |it: &Choice| self.slots[it.node].has_free();
        let when = |it: &Choice| if free(it) { 0.0 } else { it.free_s };
        // Most of what is not known is small.
        let after = |it: &Choice| it.sent_s + UNKNOWN_S / self.nodes[it.node].speed;
        free(b)
            .cmp(&free(a))
            .then(when(a).total_cmp(&when(b)))
            .then(after(a).total_cmp(&after(b)))
            .then_with(|| self.by_load(job, a, b))
    }

    /// For a big job one that has no other such first: each gets all cores. Then the less loaded one, then
    /// this node, where nothing has to be sent. Names break ties, so that equal facts give equal decisions.
    fn by_load(&self, job: &JobFacts<'_>, a: &Choice, b: &Choice) -> std::cmp::Ordering {
        let rank = |it: &Choice| {
            let node = &self.nodes[it.node];
            let slots = &self.slots[it.node];
            (job.big && slots.big > 0, slots.load(), !node.here, &node.name, &node.id)
        };
        rank(a).cmp(&rank(b))
    }

    fn choice(&self, job: &JobFacts<'_>, node: usize, how: How) -> Choice {
        let takes_s = self.takes_s(job, node, how);
        let free_s = self.slots[node].free_s(takes_s);
        let sent_s = self.nodes[node].supply.takes_s(job.inputs);
        // They are sent while the slot is busy.
        let start_s = free_s.max(sent_s);
        let finish_s = takes_s.map(|takes_s| start_s + takes_s);
        Choice { node, how, free_s, sent_s, start_s, takes_s, finish_s }
    }

    /// How long a job takes on a node, in seconds.
    fn takes_s(&self, job: &JobFacts<'_>, node: usize, how: How) -> Option<f64> {
        let Times { native, emulated } = job.times;
        match how {
            How::Native => native.map(|work| self.nodes[node].takes(work).as_secs_f64()),
            How::Emulated => emulated.map(|time| time.as_secs_f64()),
        }
    }

    /// Whether a job would be sent now.
    fn begins(&self, choice: Choice) -> bool {
        let soon = choice.takes_s.is_none() || choice.free_s < choice.soon_s();
        self.has_room(choice.node) && soon
    }

    fn has_room(&self, node: usize) -> bool {
        let NodeFacts { slots, ahead, .. } = self.nodes[node];
        self.slots[node].assigned < slots + ahead
    }

    /// Whether a node takes jobs, now or when it has a slot free.
    fn takes(&self, node: usize) -> bool {
        self.nodes[node].health == Health::Ready && self.nodes[node].slots > 0
    }

    pub(super) fn slots(&self, node: usize) -> &Slots {
        &self.slots[node]
    }

    /// Whether emulation ends sooner than the native nodes that are alive would; not known without a
    /// history of both.
    fn emulates_sooner(
        &self,
        job: &JobFacts<'_>,
        able: &Able,
        native: Option<Choice>,
        emulated: Choice,
    ) -> bool {
        let alive = able.native.iter().any(|&n| self.nodes[n].health.is_alive());
        let both = native.and_then(|it| it.finish_s).zip(emulated.finish_s);
        job.policy.emulation == Emulation::WhenFaster
            && alive
            && self.begins(emulated)
            && both.is_some_and(|(native_s, emulated_s)| emulated_s < native_s)
    }
}

/// What would be held up if a job were given one of the fastest nodes: what follows the jobs that run, and
/// has a longer way to go.
struct Rivals<'p> {
    /// The fastest node's speed.
    fastest: f64,
    /// The job's path behind it.
    then_s: f64,
    following: &'p [Given],
    /// The fastest node that is free first, and when; and when the next one is.
    first: (usize, f64),
    second_s: f64,
}

impl<'p> Rivals<'p> {
    fn of(plan: &'p Plan<'_, '_>, job: &JobFacts<'_>, choices: &[Choice]) -> Self {
        let speed = |it: &Choice| plan.nodes[it.node].speed;
        let fastest = choices.iter().map(speed).fold(0.0, f64::max);
        let (mut first, mut second_s) = ((usize::MAX, f64::INFINITY), f64::INFINITY);
        for it in choices.iter().filter(|it| speed(it) >= fastest * (1.0 - EQUAL)) {
            if it.free_s < first.1 {
                (first, second_s) = ((it.node, it.free_s), first.1);
            } else {
                second_s = second_s.min(it.free_s);
            }
        }
        let work_s = job.times.native.map_or(0.0, |time| time.as_secs_f64());
        let longer = plan.following.partition_point(|it| it.then_s > job.path_s);
        let following = &plan.following[..longer];
        Self { fastest, then_s: (job.path_s - work_s).max(0.0), following, first, second_s }
    }

    /// When the longest of the paths through the job and its rivals would end at the earliest.
    fn cost_s(&self, plan: &Plan<'_, '_>, choice: &Choice) -> Option<f64> {
        let own_s = choice.finish_s? + self.then_s / self.fastest;
        let free_s = if choice.node == self.first.0 {
            self.second_s.min(plan.slots[choice.node].free_after_s(choice.takes_s?))
        } else {
            self.first.1
        };
        let ends = self.following.iter().map(|it| free_s.max(it.left_s) + it.then_s / self.fastest);
        Some(ends.fold(own_s, f64::max))
    }
}

/// The nodes that could have a job.
fn able(job: &JobFacts<'_>, nodes: &[NodeFacts]) -> Able {
    let able = |how| {
        let fits = |node: &NodeFacts| {
            job.among.allows(node)
                && node.runs(job.system) == Some(how)
                && node.lacks(how, job.features).is_empty()
                && node.may_have(job.demand)
        };
        let nodes = nodes.iter().enumerate();
        nodes.filter(|(_, node)| fits(node)).map(|(at, _)| at).collect::<Vec<_>>()
    };
    let (mut native, emulating) = (able(How::Native), able(How::Emulated));
    let is_preferred = |n: usize| nodes[n].is_preferred(job.demand);
    // What this node does natively it does itself as long as it works: nothing has to be sent. But others
    // may be preferred.
    if let Some(here) =
        native.iter().copied().find(|&n| nodes[n].here && nodes[n].health.is_alive())
    {
        let first = is_preferred(here);
        native.retain(|&n| nodes[n].here || (!first && is_preferred(n)));
    }
    let both = native.iter().chain(&emulating).copied();
    let preferred = both.filter(|_| !job.demand.is_empty()).filter(|&n| is_preferred(n)).collect();
    Able { native, emulating, preferred }
}
