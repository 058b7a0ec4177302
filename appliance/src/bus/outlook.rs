//! What is planned, as it is on the bus: tuples, since there may be 20,000 of them.

use crate::model::{Expected, Outlook, Planned};

/// A [`Planned`], with its fields in their order.
pub(super) type PlannedTuple = (String, String, Vec<String>, bool, bool, Vec<u32>);

/// An [`Expected`], with its fields in their order.
type ExpectedTuple = (u32, bool, bool, f64, f64, f64);

/// An [`Outlook`], with its fields in their order.
pub(super) type OutlookTuple = (Vec<ExpectedTuple>, Vec<(String, u32)>, f64, f64);

pub(super) fn planned(it: PlannedTuple) -> Planned {
    let (drv_path, system, features, fixed_output, prefer_local, needs) = it;
    let features = features.into_iter().collect();
    Planned { drv_path, system, features, fixed_output, prefer_local, needs }
}

pub(super) fn planned_tuple(it: &Planned) -> PlannedTuple {
    let Planned { drv_path, system, features, fixed_output, prefer_local, needs } = it.clone();
    let features = features.into_iter().collect();
    (drv_path, system, features, fixed_output, prefer_local, needs)
}

pub(super) fn outlook(it: OutlookTuple) -> Outlook {
    let (builds, nodes, by_work_s, by_chain_s) = it;
    let build = |it| {
        let (node, emulated, known, ready_s, start_s, end_s) = it;
        Expected { node, emulated, known, ready_s, start_s, end_s }
    };
    let builds = builds.into_iter().map(build).collect();
    Outlook { builds, nodes, by_work_s, by_chain_s }
}

pub(super) fn outlook_tuple(it: Outlook) -> OutlookTuple {
    let Outlook { builds, nodes, by_work_s, by_chain_s } = it;
    let build = |it| {
        let Expected { node, emulated, known, ready_s, start_s, end_s } = it;
        (node, emulated, known, ready_s, start_s, end_s)
    };
    (builds.into_iter().map(build).collect(), nodes, by_work_s, by_chain_s)
}
