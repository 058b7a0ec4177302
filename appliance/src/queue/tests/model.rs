//! Random operations against a naive model, with kills, power cuts and clean restarts.

use std::{collections::BTreeMap, os::unix::fs::FileExt};

use proptest::prelude::*;
use tokio::runtime;

use super::*;

/// Jobs that operations choose from: few, so that they meet.
const JOBS: u32 = 6;

const LIMITS: Limits = Limits { max_jobs: 4, max_done: 2, done_age_s: 1_000 };

#[derive(Clone, Debug)]
enum Op {
    Accept {
        number: u32,
        bytes: usize,
    },
    Start {
        number: u32,
        durability: Durability,
    },
    Finish {
        number: u32,
        at_s: u64,
        durability: Durability,
    },
    Note {
        number: u32,
        bytes: usize,
        durability: Durability,
    },
    Remove {
        number: u32,
    },
    Prune {
        now_s: u64,
    },
    /// Close and open again.
    Restart,
    /// Open what a killed process leaves.
    Kill,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let number = 0..JOBS;
    let durability = prop_oneof![Just(Durability::Now), Just(Durability::Later)];
    let op = prop_oneof![
        6 => (number.clone(), prop_oneof![0..200_usize, 3_000..50_000_usize])
            .prop_map(|(number, bytes)| Op::Accept { number, bytes }),
        4 => (number.clone(), durability.clone())
            .prop_map(|(number, durability)| Op::Start { number, durability }),
        4 => (number.clone(), 1_900..4_000_u64, durability.clone())
            .prop_map(|(number, at_s, durability)| Op::Finish { number, at_s, durability }),
        2 => (number.clone(), 0..40_000_usize, durability)
            .prop_map(|(number, bytes, durability)| Op::Note { number, bytes, durability }),
        1 => number.prop_map(|number| Op::Remove { number }),
        1 => (2_000..5_000_u64).prop_map(|now_s| Op::Prune { now_s }),
        1 => Just(Op::Restart),
        1 => Just(Op::Kill),
    ];
    proptest::collection::vec(op, 1..40)
}

/// What the queue should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    jobs: BTreeMap<JobId, (Job, Payload)>,
}

impl Model {
    fn unfinished(&self) -> usize {
        self.jobs.values().filter(|(job, _)| !is_done(job)).count()
    }

    /// Applies an operation; what a kill could leave of it, in order, the last being all of it.
    fn apply(&mut self, op: &Op) -> Vec<Self> {
        match op {
            Op::Accept { number, bytes } => {
                let taken = self.jobs.get(&job(*number).id()).is_some_and(|(job, _)| !is_done(job));
                if !taken && self.unfinished() < LIMITS.max_jobs {
                    self.jobs.insert(job(*number).id(), (job(*number), payload(*number, *bytes)));
                }
            }
            Op::Start { number, .. } => {
                self.change(*number, |job| rules::start(job, "board", How::Native, 2_000));
            }
            Op::Finish { number, at_s, .. } => {
                self.change(*number, |job| rules::finish(job, built(*at_s), *at_s));
            }
            Op::Note { number, bytes, .. } => self.change(*number, |job| {
                job.note(2_000, "x".repeat(*bytes));
                Ok(())
            }),
            Op::Remove { number } => {
                self.jobs.remove(&job(*number).id());
            }
            Op::Prune { now_s } => return self.prune(*now_s),
            Op::Restart | Op::Kill => {
                for (job, _) in self.jobs.values_mut() {
                    // Only what runs can be interrupted.
                    let _ = rules::died(job, NOW_S, "the daemon stopped while it ran");
                }
            }
        }
        vec![self.clone()]
    }

    fn change(&mut self, number: u32, change: impl Fn(&mut Job) -> Result<(), rules::Impossible>) {
        if let Some((job, _)) = self.jobs.get_mut(&job(number).id()) {
            // What the rules forbid does not happen.
            let _ = change(job);
        }
    }

    fn prune(&mut self, now_s: u64) -> Vec<Self> {
        let mut done: Vec<_> = self
            .jobs
            .iter()
            .filter_map(|(id, (job, _))| match job.state {
                JobState::Done { at_s, .. } => Some((at_s, id.clone())),
                JobState::Queued | JobState::Running { .. } => None,
            })
            .collect();
        done.sort();
        let mut steps = Vec::new();
        while let Some((at_s, id)) = done.first().cloned() {
            if done.len() <= LIMITS.max_done && now_s - at_s.min(now_s) <= LIMITS.done_age_s {
                break;
            }
            done.remove(0);
            self.jobs.remove(&id);
            steps.push(self.clone());
        }
        if steps.is_empty() { vec![self.clone()] } else { steps }
    }

    /// What opening makes of it.
    fn recovered(mut self) -> Self {
        self.apply(&Op::Restart);
        self
    }
}

fn is_done(job: &Job) -> bool {
    matches!(job.state, JobState::Done { .. })
}

/// The queue beside its model.
struct Pair {
    dir: tempfile::TempDir,
    generation: u32,
    queue: Queue,
    model: Model,
    /// What a kill may leave, oldest first: the last durable state and all since.
    possible: Vec<Model>,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (queue, _) = Queue::open(&dir.path().join("0"), LIMITS, &own(), NOW_S).unwrap();
        Self {
            dir,
            generation: 0,
            queue,
            model: Model::default(),
            possible: vec![Model::default()],
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(self.generation.to_string())
    }

    async fn apply(&mut self, op: &Op) {
        let durable = self.perform(op).await;
        let steps = self.model.apply(op);
        if durable {
            self.possible = vec![self.model.clone()];
        } else {
            self.possible.extend(steps);
        }
    }

    /// Does it to the queue; whether everything so far is on disk now.
    async fn perform(&mut self, op: &Op) -> bool {
        match op {
            Op::Accept { number, bytes } => {
                let before = self.model.jobs.get(&job(*number).id()).map(|(job, _)| is_done(job));
                let accepted = self.queue.accept(&job(*number), &payload(*number, *bytes)).await;
                match accepted {
                    Ok(()) => return true,
                    Err(QueueError::Exists(_)) => assert_eq!(before, Some(false)),
                    Err(QueueError::Full { held }) => {
                        assert_eq!(held, LIMITS.max_jobs);
                        assert_eq!(held, self.model.unfinished());
                    }
                    Err(error) => panic!("{error}"),
                }
                false
            }
            Op::Start { number, durability }
            | Op::Finish { number, durability, .. }
            | Op::Note { number, durability, .. } => {
                let mut changed = self.model.clone();
                changed.apply(op);
                let id = job(*number).id();
                let Some((job, _)) = changed.jobs.get(&id) else { return false };
                self.queue.update(job, *durability).await.unwrap();
                *durability == Durability::Now
            }
            Op::Remove { number } => {
                self.queue.remove(&job(*number).id()).await.unwrap();
                true
            }
            Op::Prune { now_s } => {
                let before = self.model.jobs.len();
                let mut after = self.model.clone();
                after.apply(op);
                let pruned = self.queue.prune(*now_s).await.unwrap();
                assert_eq!(pruned.len(), before - after.jobs.len());
                assert!(pruned.iter().all(|id| !after.jobs.contains_key(id)));
                false
            }
            Op::Restart => {
                self.queue.clone().close().await.unwrap();
                let expected = self.model.clone().recovered();
                self.reopen(&[expected]).await;
                true
            }
            Op::Kill => {
                let old = self.path();
                self.generation += 1;
                copy(&old, &self.path());
                let possible: Vec<_> = self.possible.drain(..).map(Model::recovered).collect();
                self.reopen(&possible).await;
                // Applying the kill to the model again must change nothing.
                self.model.jobs.values().for_each(|(job, _)| {
                    assert!(!matches!(job.state, JobState::Running { .. }));
                });
                true
            }
        }
    }

    /// Opens the queue and takes on whichever of the possible states it is in.
    async fn reopen(&mut self, possible: &[Model]) {
        let (queue, recovery) = Queue::open(&self.path(), LIMITS, &own(), NOW_S).unwrap();
        self.queue = queue;
        self.model = held(&self.queue, &recovery, possible).await;
    }
}

/// The state that a queue just opened is in; panics if it is none of the possible ones.
async fn held(queue: &Queue, recovery: &Recovery, possible: &[Model]) -> Model {
    assert!(recovery.damage.is_none() && recovery.set_aside.is_empty(), "{recovery:?}");
    let jobs: BTreeMap<_, _> = recovery.jobs.iter().map(|job| (job.id(), job)).collect();
    let model = possible.iter().rev().find(|model| {
        model.jobs.len() == jobs.len()
            && model.jobs.iter().all(|(id, (job, _))| jobs.get(id) == Some(&job))
    });
    let model = model.unwrap_or_else(|| panic!("{jobs:#?}\nis none of\n{possible:#?}"));
    for (id, (job, payload)) in &model.jobs {
        let expected = (!is_done(job)).then_some(payload);
        assert_eq!(queue.payload(id).await.unwrap().as_ref(), expected);
    }
    model.clone()
}

fn block_on(future: impl Future<Output = ()>) {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// A file of which some blocks were written when the power went and others not, in no order.
fn tear(old: &Path, new: &Path, torn: &Path, blocks: &[bool]) {
    const BLOCK: usize = 4096;
    copy(new, torn);
    let before = fs::read(old.join("db")).unwrap();
    let after = fs::read(new.join("db")).unwrap();
    let file = fs::File::options().write(true).open(torn.join("db")).unwrap();
    let mut choices = blocks.iter().cycle();
    for (number, block) in after.chunks(BLOCK).enumerate() {
        let start = number * BLOCK;
        let old_block = before.get(start..(start + block.len()).min(before.len()));
        if old_block == Some(block) || *choices.next().unwrap() {
            continue;
        }
        // A block that was never written reads as zeros.
        let mut lost = vec![0; block.len()];
        if let Some(old_block) = old_block {
            lost[..old_block.len()].copy_from_slice(old_block);
        }
        file.write_all_at(&lost, start as u64).unwrap();
    }
}

/// A case opens many queues: a part of the usual number will do, more with `PROPTEST_CASES`.
fn fewer(part: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases / part, ..usual }
}

proptest! {
    #![proptest_config(fewer(12))]

    #[test]
    fn what_was_promised_is_kept_across_kills_and_restarts(ops in ops()) {
        block_on(async {
            let mut pair = Pair::new();
            for op in &ops {
                pair.apply(op).await;
            }
            pair.apply(&Op::Kill).await;
        });
    }

}

proptest! {
    #![proptest_config(fewer(32))]

    /// The power goes while an operation is under way: what was durable before it is there, the
    /// operation itself is there or is not, and nothing else is.
    #[test]
    fn a_power_cut_loses_at_most_what_was_not_answered(
        ops in ops(),
        blocks in proptest::collection::vec(any::<bool>(), 1..64),
    ) {
        block_on(async {
            let mut pair = Pair::new();
            for (number, op) in ops.iter().enumerate() {
                let (before, old) = (pair.possible.clone(), pair.dir.path().join(format!("old{number}")));
                let generation = pair.generation;
                copy(&pair.path(), &old);
                pair.apply(op).await;
                if generation != pair.generation || matches!(op, Op::Restart) {
                    continue;
                }
                let torn = pair.dir.path().join(format!("torn{number}"));
                tear(&old, &pair.path(), &torn, &blocks);
                let possible: Vec<_> = before
                    .into_iter()
                    .chain(pair.possible.iter().cloned())
                    .map(Model::recovered)
                    .collect();
                let (queue, recovery) = Queue::open(&torn, LIMITS, &own(), NOW_S).unwrap();
                held(&queue, &recovery, &possible).await;
                queue.close().await.unwrap();
                fs::remove_dir_all(&old).unwrap();
                fs::remove_dir_all(&torn).unwrap();
            }
        });
    }
}
