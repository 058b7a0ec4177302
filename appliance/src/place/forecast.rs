//! What would happen: jobs placed on nodes in virtual time, by the rules by which they are placed in truth.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use super::{
    Among, Decision, Given, JobFacts, NodeFacts, Plan, Policy, Times, Turn, left_s, order, recall,
};
use crate::model::{Demand, How, Size};

/// A job of a forecast.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// Nix's word for what it runs on.
    pub system: &'a str,
    /// `requiredSystemFeatures`.
    pub features: &'a BTreeSet<String>,
    /// Who asks.
    pub client: &'a str,
    /// The tasks, by their places, that must have ended before it can begin.
    pub needs: Vec<usize>,
    /// When it may be emulated.
    pub policy: Policy,
    /// Where it is to be built.
    pub demand: &'a Demand,
}

/// After so many tasks in a row that the same nodes could have and that wait, those behind them wait, too:
/// not each of a very great many is looked at whenever one has ended.
const MAX_WAITS: usize = 100;

/// Where the times of a forecast come from.
pub trait Timing {
    /// What is expected of a task.
    fn times(&self, task: usize) -> Times;
    /// As [`JobFacts::path_s`].
    fn path_s(&self, task: usize) -> f64;
    /// How long it really takes on a node, by its place, in seconds.
    fn takes_s(&self, task: usize, node: usize, how: How) -> f64;
    /// A task has ended.
    fn ended(&mut self, _task: usize, _node: usize, _took_s: f64) {}
    /// Whether the forecast has taken too long, and is to be given up.
    fn is_late(&self) -> bool {
        false
    }
}

/// A task that has run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The task, by its place.
    pub task: usize,
    /// The node, by its place.
    pub node: usize,
    /// When it could have begun, in seconds from the start.
    pub ready_s: f64,
    /// When it was begun.
    pub start_s: f64,
    /// When it ended.
    pub end_s: f64,
}

/// Why a forecast ends too early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// No node could have a task.
    #[error("{reason}")]
    Refused {
        /// The task, by its place.
        task: usize,
        /// Why.
        reason: String,
    },
    /// Nothing runs, and nothing can begin.
    #[error("{left} builds would wait for ever: {reason}")]
    Idle {
        /// Tasks that have not ended.
        left: usize,
        /// One of those that do not begin, by its place.
        task: usize,
        /// Why it does not begin.
        reason: String,
    },
    /// [`Timing::is_late`].
    #[error("it takes too long")]
    Late,
}

/// A task that a node has.
#[derive(Clone, Copy)]
struct Sent {
    task: usize,
    how: How,
}

/// A task that runs.
struct Running {
    given: Sent,
    start_s: f64,
    end_s: f64,
}

/// A job that a node has at the start, and when its slot is its own.
#[derive(Clone, Copy)]
struct Before {
    start_s: f64,
    end_s: f64,
    then_s: f64,
}

struct Node {
    running: Vec<Running>,
    queue: VecDeque<Sent>,
    /// What it has at the start.
    before: Vec<Before>,
}

struct World<'t, 'n, C> {
    tasks: &'t [Task<'t>],
    nodes: &'n [NodeFacts],
    timing: &'t mut C,
    now_s: f64,
    state: Vec<Node>,
    /// Tasks of one number are alike to placement, but for their times.
    kinds: Vec<usize>,
    /// When each task became ready; those that have been given away are not in it.
    ready: Vec<(usize, f64)>,
    ready_s: Vec<f64>,
    spans: Vec<Span>,
}

/// Runs all tasks on nodes that are otherwise as they are given, to the end.
///
/// # Errors
/// [`Stuck`].
pub fn forecast<C: Timing>(
    tasks: &[Task<'_>],
    nodes: &[NodeFacts],
    timing: &mut C,
) -> Result<Vec<Span>, Stuck> {
    let mut missing: Vec<usize> = tasks.iter().map(|task| task.needs.len()).collect();
    let mut needed_by = vec![Vec::new(); tasks.len()];
    for (at, task) in tasks.iter().enumerate() {
        for need in &task.needs {
            needed_by[*need].push(at);
        }
    }
    let ready =
        (0..tasks.len()).filter(|&task| missing[task] == 0).map(|task| (task, 0.0)).collect();
    let state = nodes.iter().map(Node::of).collect();
    let (kinds, ready_s, spans) = (kinds(tasks), vec![0.0; tasks.len()], Vec::new());
    let mut world = World { tasks, nodes, timing, now_s: 0.0, state, kinds, ready, ready_s, spans };
    while world.spans.len() < tasks.len() {
        let (mut again_s, mut waits) = world.place()?;
        if world.recall() {
            (again_s, waits) = world.place()?;
        }
        world.begin();
        let Some(next_s) = world.next_s(again_s) else {
            let left = tasks.len() - world.spans.len();
            let (task, reason) = waits.unwrap_or_default();
            return Err(Stuck::Idle { left, task, reason });
        };
        world.now_s = next_s;
        for task in world.end() {
            for &next in &needed_by[task] {
                missing[next] -= 1;
                if missing[next] == 0 {
                    world.ready.push((next, next_s));
                    world.ready_s[next] = next_s;
                }
            }
        }
    }
    Ok(world.spans)
}

/// The numbers of the tasks' kinds.
fn kinds(tasks: &[Task<'_>]) -> Vec<usize> {
    let mut known = HashMap::new();
    let mut kinds = Vec::with_capacity(tasks.len());
    for task in tasks {
        let next = known.len();
        kinds.push(*known.entry((task.system, task.features, task.demand)).or_insert(next));
    }
    kinds
}

/// When to look again even if nothing ends, and a task that waits, with why.
type Waits = (Option<f64>, Option<(usize, String)>);

impl<'t, C: Timing> World<'t, '_, C> {
    /// Gives ready tasks to nodes.
    fn place(&mut self) -> Result<Waits, Stuck> {
        let facts = self.facts();
        let mut plan = Plan::new(&facts);
        let mut has: HashMap<&str, u32> = HashMap::new();
        for given in self.state.iter().flat_map(Node::tasks) {
            *has.entry(self.tasks[given.task].client).or_default() += 1;
        }
        let turns: Vec<_> = self
            .ready
            .iter()
            .map(|&(task, since_s)| Turn {
                client: self.tasks[task].client,
                path_s: self.timing.path_s(task),
                waited: seconds(self.now_s - since_s),
                accepted: task as u64,
            })
            .collect();
        let (mut again_s, mut waits): (Option<f64>, _) = (None, None);
        let mut gone = BTreeSet::new();
        let mut in_a_row: HashMap<usize, usize> = HashMap::new();
        for at in order(&turns, &has) {
            if self.timing.is_late() {
                return Err(Stuck::Late);
            }
            let (task, since_s) = self.ready[at];
            let in_a_row = in_a_row.entry(self.kinds[task]).or_default();
            if *in_a_row >= MAX_WAITS {
                continue;
            }
            *in_a_row += 1;
            match plan.place(&self.job(task, since_s)) {
                Decision::Run { node, how, .. } => {
                    let node = facts.iter().position(|facts| facts.id == node).unwrap_or_default();
                    self.state[node].queue.push_back(Sent { task, how });
                    gone.insert(at);
                    *in_a_row = 0;
                }
                Decision::Wait { again, reason, .. } => {
                    let next_s = again.map(|again| self.now_s + again.as_secs_f64());
                    again_s = [again_s, next_s].into_iter().flatten().min_by(f64::total_cmp);
                    waits = Some((task, reason));
                }
                Decision::Refuse { reason } => return Err(Stuck::Refused { task, reason }),
            }
        }
        let mut at = 0;
        self.ready.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
        Ok((again_s, waits))
    }

    fn job(&self, task: usize, since_s: f64) -> JobFacts<'t> {
        let Task { system, features, client, policy, demand, .. } = &self.tasks[task];
        JobFacts {
            system,
            features,
            among: Among::All,
            demand,
            policy: *policy,
            waited: seconds(self.now_s - since_s),
            times: self.timing.times(task),
            client,
            big: features.contains(Size::BIG),
            path_s: self.timing.path_s(task),
            avoid: None,
            misses: 0,
            inputs: &[],
        }
    }

    /// The nodes as placement sees them now.
    fn facts(&self) -> Vec<NodeFacts> {
        let with =
            |(facts, node): (&NodeFacts, &Node)| {
                let running = node.running.iter().map(|it| {
                    let elapsed = seconds(self.now_s - it.start_s);
                    let work_s =
                        self.timing.times(it.given.task).native.unwrap_or_default().as_secs_f64();
                    let then_s = (self.timing.path_s(it.given.task) - work_s).max(0.0);
                    Given { left_s: left_s(self.expected(facts, it.given), elapsed), then_s }
                });
                let mut jobs: Vec<Given> = running.collect();
                let now_s = self.now_s;
                let left = || node.before.iter().filter(|it| it.end_s > now_s);
                jobs.extend(left().map(|it| Given {
                    left_s: it.end_s - it.start_s.max(now_s),
                    then_s: it.then_s,
                }));
                let over = u32::try_from(node.before.len() - left().count()).unwrap_or(u32::MAX);
                jobs.sort_by(|a, b| a.left_s.total_cmp(&b.left_s));
                let queued = node.queue.iter().map(|it| self.expected(facts, *it));
                jobs.extend(queued.map_while(|expected| {
                    expected.map(|it| Given { left_s: it.as_secs_f64(), then_s: 0.0 })
                }));
                let has = u32::try_from(node.tasks().count()).unwrap_or(u32::MAX);
                NodeFacts {
                    jobs,
                    assigned: facts.assigned.saturating_sub(over) + has,
                    busy: facts.busy.saturating_sub(over) + has,
                    ..facts.clone()
                }
            };
        self.nodes.iter().zip(&self.state).map(with).collect()
    }

    fn expected(&self, node: &NodeFacts, given: Sent) -> Option<Duration> {
        let Times { native, emulated } = self.timing.times(given.task);
        match given.how {
            How::Native => native.map(|work| node.takes(work)),
            How::Emulated => emulated,
        }
    }

    /// Takes back what waits at a node and could begin at once at another one: whether there was such. One at
    /// a time: the facts are not true any more then.
    fn recall(&mut self) -> bool {
        let facts = self.facts();
        for (at, node) in facts.iter().enumerate() {
            let Some(&last) = self.state[at].queue.back() else { continue };
            let since_s = self.ready_s[last.task];
            if self.state[at].taken(self.now_s) >= node.slots as usize
                && recall(&self.job(last.task, since_s), &node.id, &facts).is_some()
            {
                self.state[at].queue.pop_back();
                self.ready.push((last.task, since_s));
                return true;
            }
        }
        false
    }

    /// Begins what has a slot.
    fn begin(&mut self) {
        for (at, node) in self.state.iter_mut().enumerate() {
            while node.taken(self.now_s) < self.nodes[at].slots as usize {
                let Some(given) = node.queue.pop_front() else { break };
                let start_s = self.now_s;
                let end_s = start_s + self.timing.takes_s(given.task, at, given.how);
                node.running.push(Running { given, start_s, end_s });
            }
        }
    }

    /// When something happens next.
    fn next_s(&self, again_s: Option<f64>) -> Option<f64> {
        let ends = self.state.iter().flat_map(|node| &node.running).map(|it| it.end_s);
        let before = self.state.iter().flat_map(|node| &node.before).map(|it| it.end_s);
        let ends = ends.chain(before.filter(|end_s| *end_s > self.now_s));
        let ends: Option<f64> = ends.min_by(f64::total_cmp);
        match (ends, again_s) {
            (Some(end_s), Some(again_s)) => Some(end_s.min(again_s)),
            // What waits for time alone waits while something runs.
            (ends, _) => ends,
        }
    }

    /// Ends what has ended by now; which tasks.
    fn end(&mut self) -> Vec<usize> {
        let mut ended = Vec::new();
        for (at, node) in self.state.iter_mut().enumerate() {
            let now_s = self.now_s;
            node.running.retain(|it| {
                let over = it.end_s <= now_s;
                if over {
                    ended.push((it.end_s, at, it.given.task, it.start_s));
                }
                !over
            });
        }
        ended.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(end_s, node, task, start_s) in &ended {
            self.spans.push(Span { task, node, ready_s: self.ready_s[task], start_s, end_s });
            self.timing.ended(task, node, end_s - start_s);
        }
        ended.into_iter().map(|(_, _, task, _)| task).collect()
    }
}

impl Node {
    /// As it is at the start: its jobs have its slots in their order.
    fn of(facts: &NodeFacts) -> Self {
        let mut free_s = vec![0.0_f64; facts.slots as usize];
        let unknown = Given { left_s: left_s(None, Duration::ZERO), then_s: 0.0 };
        let has = facts.busy.max(facts.assigned) as usize;
        let jobs = facts.jobs.iter().copied().chain(std::iter::repeat(unknown)).take(has);
        let before = jobs.filter_map(|job| {
            let slot = free_s.iter_mut().min_by(|a, b| a.total_cmp(b))?;
            let start_s = *slot;
            *slot += job.left_s;
            Some(Before { start_s, end_s: *slot, then_s: job.then_s })
        });
        let before = before.collect();
        Self { running: Vec::new(), queue: VecDeque::new(), before }
    }

    /// The slots that are taken.
    fn taken(&self, now_s: f64) -> usize {
        let before = self.before.iter().filter(|it| it.start_s <= now_s && now_s < it.end_s);
        self.running.len() + before.count()
    }

    fn tasks(&self) -> impl Iterator<Item = &Sent> {
        self.running.iter().map(|it| &it.given).chain(&self.queue)
    }
}

fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX)
}
