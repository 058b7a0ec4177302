//! A model of how stock Nix hands out builds: in the order of their names, to the builder with the fewest
//! jobs for its speed, and what no builder has room for is offered again every five seconds. The local
//! machine builds only what no other has room for.

use std::collections::BTreeSet;

use crate::{cluster::Machine, graph::Graph};

/// `build-poll-interval`.
const POLL_S: f64 = 5.0;

struct Running {
    end_s: f64,
    task: usize,
    machine: usize,
}

/// How long the whole graph takes.
pub(crate) fn makespan_s(graph: &Graph, machines: &[Machine]) -> f64 {
    let mut missing: Vec<usize> = graph.nodes.iter().map(|node| node.needs.len()).collect();
    let mut needed_by = vec![Vec::new(); graph.nodes.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        node.needs.iter().for_each(|&need| needed_by[need].push(at));
    }
    let key = |task: usize| (graph.nodes[task].name.as_str(), task);
    // What is new is offered at once, what was postponed at the next poll.
    let mut fresh: BTreeSet<_> = (0..missing.len()).filter(|&t| missing[t] == 0).map(key).collect();
    let mut postponed = BTreeSet::new();
    let mut busy = vec![0; machines.len()];
    let mut running: Vec<Running> = Vec::new();
    let (mut now_s, mut next_poll_s, mut ended) = (0.0, POLL_S, 0);
    while ended < graph.nodes.len() {
        for (name, task) in std::mem::take(&mut fresh) {
            match offer(machines, &busy) {
                Some(machine) => {
                    busy[machine] += 1;
                    let end_s = now_s + graph.nodes[task].seconds() / machines[machine].speed;
                    running.push(Running { end_s, task, machine });
                }
                None => drop(postponed.insert((name, task))),
            }
        }
        let first_s = running.iter().map(|it| it.end_s).fold(f64::INFINITY, f64::min);
        now_s = if postponed.is_empty() { first_s } else { first_s.min(next_poll_s) };
        if now_s >= next_poll_s {
            next_poll_s = now_s + POLL_S;
            fresh.append(&mut postponed);
        }
        running.retain(|it| {
            let over = it.end_s <= now_s;
            if over {
                ended += 1;
                busy[it.machine] -= 1;
                for &next in &needed_by[it.task] {
                    missing[next] -= 1;
                    if missing[next] == 0 {
                        fresh.insert(key(next));
                    }
                }
            }
            !over
        });
    }
    now_s
}

/// The remote builder with the fewest jobs for its speed that has room, else the local machine.
fn offer(machines: &[Machine], busy: &[u32]) -> Option<usize> {
    let free = |at: &usize| busy[*at] < machines[*at].slots;
    let load = |at: usize| f64::from(busy[at]) / machines[at].speed;
    let remote = (0..machines.len()).filter(|&at| !machines[at].local).filter(free);
    remote
        .min_by(|&a, &b| {
            load(a).total_cmp(&load(b)).then(machines[b].speed.total_cmp(&machines[a].speed))
        })
        .or_else(|| (0..machines.len()).filter(|&at| machines[at].local).find(free))
}
