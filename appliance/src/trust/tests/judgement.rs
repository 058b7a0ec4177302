//! Who may be used.

use board_support::FleetTag;

use super::*;

/// A fleet's holder, with a member and one that was sent away.
struct Fleet {
    membership: Membership,
    registrar: Registrar,
    member: Node,
    gone: Node,
    _holder: Node,
}

fn fleet() -> Fleet {
    let holder = Node::workstation("desk", 5);
    let (mut membership, registrar) = holder.holder();
    let (member, gone) = (Node::board("b1", 1), Node::board("b2", 2));
    for board in [&member, &gone] {
        registrar.enlist(&mut membership, board.member(&registrar), NOW_S).unwrap();
    }
    registrar.revoke(&mut membership, "b2", NOW_S).unwrap();
    Fleet { membership, registrar, member, gone, _holder: holder }
}

impl Fleet {
    fn issue(&mut self) -> Token {
        self.registrar.tokens.issue(60, None, NOW_S).unwrap()
    }

    /// As the holder of the key sees it.
    fn judge(&self, board: &Announcement) -> Verdict {
        judge(&self.membership, Some(&self.registrar), board, NOW_S)
    }

    /// As another node of the fleet does.
    fn judge_elsewhere(&self, board: &Announcement) -> Verdict {
        judge(&self.membership, None, board, NOW_S)
    }

    fn tag(&self) -> Option<FleetTag> {
        self.membership.tag()
    }
}

fn proof(board: &Node, token: &Token) -> Option<Proof> {
    token.key().proof(&board.own.id, &board.host_print())
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Verdict::Stranger { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_and_those_sent_away_are_known_by_their_keys() {
    let it = fleet();
    for judge in [Fleet::judge, Fleet::judge_elsewhere] {
        assert_eq!(judge(&it, &it.member.announcement(None)), Verdict::Member);
        let gone = Verdict::Revoked { name: "the-b2".to_owned() };
        assert_eq!(judge(&it, &it.gone.announcement(None)), gone);
        // Whatever else it says of itself.
        let renamed =
            Node { own: Own { id: "b1".into(), ..it.gone.own.clone() }, ..Node::board("", 0) };
        assert_eq!(judge(&it, &renamed.announcement(None)), gone);
    }
}

#[test]
fn a_member_announces_with_another_key_in_vain() {
    let it = fleet();
    let liar = Announcement { fleet: it.tag(), ..Node::board("b1", 7).announcement(None) };
    for judge in [Fleet::judge, Fleet::judge_elsewhere] {
        assert!(why(judge(&it, &liar)).contains("its id belongs to the-b1"));
    }
}

#[test]
fn a_board_with_a_token_may_join_where_the_token_was_made() {
    let mut it = fleet();
    let token = it.issue();
    let new = Node::board("b3", 3);
    let board = Announcement { fleet: it.tag(), ..new.announcement(proof(&new, &token)) };
    assert_eq!(it.judge(&board), Verdict::Enrol { token: Some(token.key().id()) });
    assert!(why(it.judge_elsewhere(&board)).contains("waits for the workstation"));
}

#[test]
fn a_board_with_a_token_that_is_no_good_is_told_why() {
    let mut it = fleet();
    let (new, token) = (Node::board("b3", 3), it.issue());
    let of = |fleet: Option<FleetTag>, proof: Option<Proof>| {
        why(it.judge(&Announcement { fleet, ..new.announcement(proof) }))
    };
    let unknown = proof(&new, &Token::random().unwrap());
    assert!(of(it.tag(), unknown.clone()).contains("no token that this workstation knows"));
    assert!(of(fleet_tag(&public(8)), unknown.clone()).contains("seeded for another fleet"));
    let copied = proof(&Node::board("b4", 4), &token);
    assert!(of(it.tag(), copied).contains("copied or made up"));
    // It was sent away, and a new token does not help its old keys.
    let gone = it.gone.announcement(proof(&it.gone, &token));
    assert!(matches!(it.judge(&gone), Verdict::Revoked { .. }));
}

#[test]
fn a_board_with_the_id_of_another_does_not_join() {
    let mut it = fleet();
    let token = it.issue();
    let twin = Node::board("b1", 7);
    let told = why(it.judge(&twin.announcement(proof(&twin, &token))));
    assert!(told.contains("the-b1") && told.contains("roost fleet revoke b1"), "{told}");
    it.registrar.approve(Holder::new("b1", &twin.host_print())).unwrap();
    assert!(why(it.judge(&twin.announcement(None))).contains("its id belongs to"));
}

#[test]
fn an_approved_board_may_join_with_that_key_only() {
    let mut it = fleet();
    let new = Node::board("b3", 3);
    it.registrar.approve(Holder::new("b3", &new.host_print())).unwrap();
    assert_eq!(it.judge(&new.announcement(None)), Verdict::Enrol { token: None });
    // A token that is no good does not take that away.
    let bad = proof(&new, &Token::random().unwrap());
    assert_eq!(it.judge(&new.announcement(bad)), Verdict::Enrol { token: None });
    let told = why(it.judge(&Node::board("b3", 4).announcement(None)));
    assert!(told.contains("needs a seed"), "{told}");
}

#[test]
fn a_member_with_a_new_seed_is_certified_anew() {
    let mut it = fleet();
    let token = it.issue();
    let id = token.key().id();
    let board = it.member.announcement(proof(&it.member, &token));
    assert_eq!(it.judge(&board), Verdict::Enrol { token: Some(id) });
    assert_eq!(it.judge_elsewhere(&board), Verdict::Member);
    let me = Holder::new("b1", &it.member.host_print());
    it.registrar.tokens.bind(id, me.clone(), NOW_S).unwrap();
    assert_eq!(it.judge(&board), Verdict::Enrol { token: Some(id) });
    // Once it has shown its certificate it is a member as any other.
    it.registrar.settle(&me).unwrap();
    assert_eq!(it.judge(&board), Verdict::Member);
    let bad = it.member.announcement(proof(&it.member, &Token::random().unwrap()));
    assert_eq!(it.judge(&bad), Verdict::Member);
    it.registrar.approve(me).unwrap();
    assert_eq!(it.judge(&it.member.announcement(None)), Verdict::Enrol { token: None });
}

#[test]
fn whoever_says_that_it_belongs_here_has_to_show_it() {
    let it = fleet();
    let new = Node::board("b3", 3);
    let of = |fleet| Announcement { fleet, ..new.announcement(None) };
    for judge in [Fleet::judge, Fleet::judge_elsewhere] {
        assert_eq!(judge(&it, &of(it.tag())), Verdict::Claims);
        assert!(why(judge(&it, &of(fleet_tag(&public(8))))).contains("another fleet"));
        assert!(why(judge(&it, &of(None))).contains("roost seed"));
    }
}

#[test]
fn a_machine_without_a_fleet_uses_nobody() {
    let alone = Node::workstation("laptop", 3).membership();
    let told = why(judge(&alone, None, &Node::board("b1", 1).announcement(None), NOW_S));
    assert!(told.contains("roost fleet init") && told.contains("roost fleet join"), "{told}");
}

#[test]
fn both_keys_of_a_fleet_are_its_own_while_one_replaces_the_other() {
    let mut it = fleet();
    let old = it.tag();
    it.registrar.rotate(&mut it.membership, NOW_S).unwrap();
    assert_ne!(it.tag(), old);
    let new = Node::board("b3", 3);
    for fleet in [old, it.tag()] {
        let board = Announcement { fleet, ..new.announcement(None) };
        assert_eq!(it.judge(&board), Verdict::Claims);
    }
}
