//! A small fleet, as the tests of what is printed see it.

use std::collections::BTreeSet;

use crate::model::{BoardView, Candidate, Course, JobView, NodeView, Reach, Why};

/// The moment at which everything is shown, in seconds since 1970.
pub(super) const NOW_S: u64 = 1_700_000_000;

/// A workstation.
pub(super) fn node() -> NodeView {
    NodeView {
        id: "desk-1c2d".into(),
        name: "desk".into(),
        version: "0.1.0".into(),
        systems: vec!["x86_64-linux".into()],
        cores: 16,
        mem_mib: 32_000,
        running: 1,
        queued: 1,
        nix_version: "2.26.3".into(),
        ..NodeView::default()
    }
}

fn described(id: &str, name: &str, system: &str, slots: u32) -> NodeView {
    NodeView {
        id: id.into(),
        name: name.into(),
        version: "0.1.0".into(),
        systems: vec![system.into()],
        features: BTreeSet::from(["big-parallel".into()]),
        slots,
        cores: 2 * slots,
        mem_mib: 8192,
        nix_version: "2.26.3".into(),
        ..NodeView::default()
    }
}

/// A board in each state.
pub(super) fn boards() -> Vec<BoardView> {
    vec![
        BoardView {
            node: NodeView {
                running: 2,
                queued: 1,
                emulated: vec!["riscv64-linux".into()],
                temperature_mc: Some(52_300),
                ..described("rock5-0a1b", "rock5", "aarch64-linux", 4)
            },
            addresses: vec!["192.168.1.7".into(), "fe80::1%eth0".into()],
            port: 22,
            host_key: Some("ssh-ed25519 AAAAC3Nz".into()),
            fingerprint: "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDvrQXRVrvXfQyiq0g".into(),
            reach: Reach::Up,
            reason: String::new(),
            ours: 1,
        },
        BoardView {
            node: described("vf2-77aa", "vf2", "riscv64-linux", 2),
            addresses: vec!["fe80::2%eth0".into()],
            port: 2222,
            host_key: Some("ssh-ed25519 AAAAC3Nz".into()),
            fingerprint: "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDvrQXRVrvXfQyiq0g".into(),
            reach: Reach::Away,
            reason: "no answer for 3 min".into(),
            ours: 0,
        },
        BoardView {
            node: described("pi4-9e00", "pi4", "aarch64-linux", 2),
            addresses: vec![],
            port: 22,
            host_key: None,
            fingerprint: "SHA256:qUvRPUZTj1pbyuvdkeZzTmHAQ2HKtfLxPuCzjnfaMq8".into(),
            reach: Reach::Pending,
            reason: "it belongs to another fleet".into(),
            ours: 0,
        },
    ]
}

/// One running, one waiting and one ended job.
pub(super) fn jobs() -> Vec<JobView> {
    vec![
        JobView {
            id: "0f3k9x2a1b4c5d6f".into(),
            name: "hello-2.12".into(),
            drv_path: "/nix/store/7h3x0f1k2l4m5n6p8q9r0s1v2w3x4y5z-hello-2.12.drv".into(),
            system: "aarch64-linux".into(),
            state: "running".into(),
            node: Some("rock5".into()),
            emulated: false,
            forwarded: false,
            client: "alice (pid 4711)".into(),
            attached: 1,
            accepted_s: NOW_S - 200,
            started_s: Some(NOW_S - 190),
            ended_s: None,
            reason: "fastest free board".into(),
            course: Course::default(),
            steps_after: None,
        },
        JobView {
            id: "1a2b3c4d5f6g7h8i".into(),
            name: "linux-6.12".into(),
            drv_path: "/nix/store/8h3x0f1k2l4m5n6p8q9r0s1v2w3x4y5z-linux-6.12.drv".into(),
            system: "riscv64-linux".into(),
            state: "queued".into(),
            node: None,
            emulated: false,
            forwarded: false,
            client: "bob (pid 99)".into(),
            attached: 0,
            accepted_s: NOW_S - 45,
            started_s: None,
            ended_s: None,
            reason: "waits for vf2, which is away".into(),
            course: Course::default(),
            steps_after: None,
        },
        JobView {
            id: "9z8y7x6w5v4s3r2q".into(),
            name: "broken-1".into(),
            drv_path: "/nix/store/9h3x0f1k2l4m5n6p8q9r0s1v2w3x4y5z-broken-1.drv".into(),
            system: "aarch64-linux".into(),
            state: "failed".into(),
            node: Some("rock5".into()),
            emulated: false,
            forwarded: false,
            client: "alice (pid 4000)".into(),
            attached: 0,
            accepted_s: NOW_S - 9000,
            started_s: Some(NOW_S - 8990),
            ended_s: Some(NOW_S - 5000),
            reason: "builder failed with exit code 1".into(),
            course: Course::default(),
            steps_after: None,
        },
    ]
}

/// The running job's story.
pub(super) fn why() -> Why {
    Why {
        job: jobs().swap_remove(0),
        notes: vec![
            (NOW_S - 200, "accepted".into()),
            (NOW_S - 200, "waits: all 4 slots of rock5 are busy".into()),
            (NOW_S - 190, "runs on rock5: fastest free board".into()),
        ],
        candidates: vec![],
    }
}

/// The nodes for a job: one is chosen, one is slower, one would emulate, and one is away.
pub(super) fn candidates() -> Vec<Candidate> {
    let node = |name: &str, emulated, times: Option<(f64, f64)>, reason: &str| Candidate {
        node: name.into(),
        emulated,
        start_s: times.map(|(start_s, _)| start_s),
        finish_s: times.map(|(_, finish_s)| finish_s),
        chosen: false,
        reason: reason.into(),
    };
    vec![
        Candidate { chosen: true, ..node("rock5", false, Some((45.0, 190.0)), "") },
        node("pi4", false, Some((0.0, 300.0)), ""),
        node("vf2", true, Some((0.0, 7400.0)), ""),
        node("star64", false, None, "away: no answer for 3 min"),
    ]
}

/// Jobs of the last ten minutes, with what is known of their times.
pub(super) fn timeline() -> Vec<JobView> {
    let at = |seconds: u64| Some((NOW_S - 600 + seconds) * 1000);
    let job = |name: &str, state: &str, node: Option<&str>, stages: [u64; 7]| {
        let node: Option<String> = node.map(str::to_owned);
        let [accepted_ms, placed_ms, shipping_ms, shipped_ms, building_ms, built_ms, ended_ms] =
            stages.map(|seconds| at(seconds).filter(|_| seconds > 0));
        let fetched_ms = ended_ms.filter(|_| state == "built").map(|ms| ms + 9000);
        let course = Course {
            accepted_ms,
            node: node.clone(),
            placed_ms,
            shipping_ms,
            shipped_ms,
            building_ms,
            built_ms,
            ended_ms,
            fetched_ms,
        };
        let (name, state) = (name.to_owned(), state.to_owned());
        JobView { id: name.clone(), name, state, node, course, ..jobs().swap_remove(0) }
    };
    vec![
        job("hello-2.12", "built", Some("rock5"), [30, 31, 32, 50, 51, 240, 241]),
        job("broken-1", "failed", Some("rock5"), [30, 40, 0, 0, 42, 150, 151]),
        job("zlib-1.3", "built", Some("vf2"), [35, 60, 61, 90, 120, 400, 402]),
        job("linux-6.12", "running", Some("rock5"), [36, 245, 246, 280, 284, 0, 0]),
        job("queued-1", "queued", None, [290, 0, 0, 0, 0, 0, 0]),
    ]
}
