//! What is printed.

use super::*;

#[track_caller]
fn same(given: &str, expected: &str) {
    assert!(given == expected, "--- printed\n{given}--- expected\n{expected}");
}

fn listed(name: &str, id: &str, role: Role) -> Listed {
    Listed {
        name: name.into(),
        id: id.into(),
        role,
        since_s: NOW_S - 90_000,
        host_key: None,
        client_key: "SHA256:client".into(),
        current: true,
        until_s: None,
    }
}

#[test]
fn members_are_a_line_each() {
    let old =
        Listed { current: false, since_s: NOW_S - 5, ..listed("vf2", "vf2-77aa", Role::Board) };
    let until_s = Some(NOW_S + 7 * 24 * 3600);
    let invited = Listed { until_s, ..listed("hydra", "hydra", Role::Workstation) };
    same(
        &render::members(&[listed("rock5", "rock5-0a1b", Role::Board), old, invited], NOW_S),
        "\
NAME   ID          ROLE         MEMBER FOR  CERTIFICATE
rock5  rock5-0a1b  board        1 d 1 h     current
vf2    vf2-77aa    board        5 s         of the old key
hydra  hydra       workstation  1 d 1 h     current, ends in 7 d 0 h
",
    );
    assert!(render::members(&[], NOW_S).contains("roost fleet init"));
}

#[test]
fn those_who_are_gone_and_tokens_are_a_line_each() {
    let gone = Gone {
        name: "pi4".into(),
        id: "pi4-9e00".into(),
        at_s: NOW_S - 3600,
        keys: vec!["SHA256:one".into(), "SHA256:two".into()],
    };
    same(
        &render::revoked(&[gone], NOW_S),
        "\
NAME  ID        GONE FOR    KEYS
pi4   pi4-9e00  1 h 00 min  SHA256:one SHA256:two
",
    );
    same(&render::revoked(&[], NOW_S), "Nobody was sent away.\n");
    let unused = TokenView {
        id: "0a1b2c3d4e5f".into(),
        made_s: NOW_S - 60,
        expires_s: NOW_S + 3600,
        for_board: Some("radxa,rock-5b".into()),
        state: "unused",
        holder: None,
    };
    let holder = Some(Holder { id: "rock5-0a1b".into(), host_key: "SHA256:x".into() });
    let spent = TokenView { for_board: None, state: "spent", holder, ..unused.clone() };
    let late = TokenView { expires_s: NOW_S, for_board: None, ..unused.clone() };
    same(
        &render::tokens(&[unused, spent, late], NOW_S),
        "\
TOKEN         MADE            EXPIRES        FOR BOARD      STATE
0a1b2c3d4e5f  1 min 00 s ago  in 1 h 00 min  radxa,rock-5b  unused
0a1b2c3d4e5f  1 min 00 s ago  -              any            spent by rock5-0a1b (SHA256:x)
0a1b2c3d4e5f  1 min 00 s ago  expired        any            unused
",
    );
    assert!(render::tokens(&[], NOW_S).contains("roost seed"));
}

#[test]
fn a_node_shows_its_fleet() {
    let shown = Shown {
        id: "desk-1c2d".into(),
        name: "desk".into(),
        role: Role::Workstation,
        fleet: vec!["SHA256:new".into(), "SHA256:old".into()],
        holds_key: true,
        rotating: true,
        enrolment: "enrolled",
        problem: None,
        until_s: Some(NOW_S + 24 * 3600),
        roster: 7,
        members: 3,
        revoked: 1,
    };
    same(
        &render::show(&shown, NOW_S),
        "\
desk (desk-1c2d) is of the fleet
SHA256:new
SHA256:old, which is being replaced
enrolled until 2026-09-22 14:13:20 UTC, in 1 d 0 h
this machine holds the fleet's key
the key is being replaced: `roost fleet rotate --finish` ends that
roster 7: 3 nodes, 1 sent away
",
    );
    let problem = Some("the seed is not usable: x".to_owned());
    let (fleet, role) = (vec![], Role::Board);
    let none = Shown { fleet, role, problem, enrolment: "none", until_s: None, ..shown };
    same(
        &render::show(&none, NOW_S),
        "\
desk (desk-1c2d) belongs to no fleet.
the seed is not usable: x.
`roost seed` on the workstation lets it in.
",
    );
}
