//! The clusters.

use std::collections::BTreeSet;

use roost::{
    model::Supply,
    place::{Health, NodeFacts},
};

use crate::graph::SYSTEM;

/// A machine of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) speed: f64,
    pub(crate) slots: u32,
    /// The client's own.
    pub(crate) local: bool,
}

/// A cluster and what it is called.
pub(crate) struct Cluster {
    pub(crate) name: &'static str,
    pub(crate) machines: Vec<Machine>,
}

impl Cluster {
    pub(crate) fn all() -> Vec<Self> {
        let of = |name, boards: &[(usize, f64, u32)], local: Option<f64>| {
            let boards = boards
                .iter()
                .flat_map(|&(count, speed, slots)| (0..count).map(move |_| (speed, slots, false)));
            let machines = boards.chain(local.map(|speed| (speed, 1, true)));
            let machine = |(at, (speed, slots, local)): (usize, (f64, u32, bool))| {
                let name = if local { "local".to_owned() } else { format!("board{at}") };
                Machine { name, speed, slots, local }
            };
            Self { name, machines: machines.enumerate().map(machine).collect() }
        };
        vec![
            of("4x1 + local 2", &[(4, 1.0, 1)], Some(2.0)),
            of("8x1", &[(8, 1.0, 1)], None),
            of("3x1 + 2x0.5 + local 2", &[(3, 1.0, 1), (2, 0.5, 1)], Some(2.0)),
            of("2x1 + 2x0.4, 2 slots each", &[(2, 1.0, 2), (2, 0.4, 2)], None),
        ]
    }

    /// The speed of each slot.
    pub(crate) fn speeds(&self) -> Vec<f64> {
        let slots = |machine: &Machine| vec![machine.speed; machine.slots as usize];
        self.machines.iter().flat_map(slots).collect()
    }

    /// The speed of each machine.
    pub(crate) fn machine_speeds(&self) -> Vec<f64> {
        self.machines.iter().map(|machine| machine.speed).collect()
    }

    /// The same for placement.
    pub(crate) fn nodes(&self) -> Vec<NodeFacts> {
        let node = |machine: &Machine| NodeFacts {
            id: machine.name.clone(),
            name: machine.name.clone(),
            here: false,
            systems: vec![SYSTEM.to_owned()],
            emulated: Vec::new(),
            features: ["big-parallel".to_owned()].into(),
            labels: BTreeSet::new(),
            slots: machine.slots,
            // What the daemon lets a board have beyond its slots; Nix itself begins what is local.
            ahead: if machine.local { 0 } else { machine.slots.max(2) },
            assigned: 0,
            big: 0,
            busy: 0,
            jobs: Vec::new(),
            supply: Supply::default(),
            speed: machine.speed,
            health: Health::Ready,
        };
        self.machines.iter().map(node).collect()
    }
}
