//! Both ends of the conversation, over a pipe.

mod errands;

use std::sync::atomic::{AtomicU32, Ordering};

use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey, rand_core::OsRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

use super::{AskError, Asked, Effects, Stage, Visited, answer, ask};
use crate::model::UpdateView;
use crate::trust::{
    Enrolment, LIFETIME_S, Order, Own, Places, Registrar, Role, Seed, Token, TokenId, Trust,
    fingerprint,
};

const NOW_S: u64 = 1_790_000_000;

/// A node's files.
struct Node {
    _folder: tempfile::TempDir,
    trust: Trust,
    role: Role,
}

fn key() -> PrivateKey {
    PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap()
}

fn public(key: &PrivateKey) -> PublicKey {
    PublicKey::from(key.public_key().key_data().clone())
}

impl Node {
    fn new(id: &str, role: Role) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = folder.path().join("id_ed25519");
        let (client, host) = (key(), key());
        std::fs::write(&identity, client.to_openssh(LineEnding::LF).unwrap()).unwrap();
        let own = Own {
            id: id.to_owned(),
            name: format!("the {id}"),
            host_key: (role == Role::Board).then(|| public(&host)),
            identity,
            client_key: public(&client),
        };
        let places =
            Places { trust: folder.path().join("trust"), fleet: folder.path().join("fleet") };
        let trust = Trust::open(places, own, NOW_S).unwrap();
        Self { _folder: folder, trust, role }
    }

    /// The workstation that holds a fleet's key.
    fn holder() -> Self {
        let node = Self::new("holder", Role::Workstation);
        Registrar::init(&node.trust.places().fleet, NOW_S).unwrap();
        node.trust.reload(NOW_S).unwrap();
        node.trust.certify_own(node.role, NOW_S).unwrap();
        node
    }

    /// A board that has taken a seed with this token.
    fn board(id: &str, holder: &Self, token: Option<&Token>) -> Self {
        let board = Self::new(id, Role::Board);
        let authority = holder.trust.look(|it| it.registrar.as_ref().unwrap().authority());
        let seed = Seed::new(authority, token, NOW_S);
        board.trust.change(NOW_S, |it| it.membership.adopt(seed)).unwrap();
        board
    }

    fn token(&self) -> Token {
        let issue = |it: &mut crate::trust::Trusted| {
            it.registrar.as_mut().unwrap().tokens.issue(3600, None, NOW_S)
        };
        self.trust.change(NOW_S, issue).unwrap()
    }

    fn asked(&self, token: Option<TokenId>) -> Asked {
        let own = self.trust.own();
        let host_key = fingerprint(own.host_key.as_ref().unwrap());
        Asked { id: own.id.clone(), host_key, token }
    }

    fn enrolment(&self, now_s: u64) -> Enrolment {
        self.trust.look(|it| it.membership.enrolment(now_s))
    }

    fn number(&self) -> u64 {
        self.trust.look(|it| it.membership.roster().map_or(0, |roster| roster.number))
    }

    fn has_token(&self) -> bool {
        self.trust.look(|it| it.membership.has_token())
    }

    fn members(&self) -> Vec<String> {
        self.trust.look(|it| {
            let roster = it.membership.roster().into_iter();
            roster.flat_map(|it| &it.members).map(|it| it.id.clone()).collect()
        })
    }
}

struct Board<'a> {
    reloads: &'a AtomicU32,
    now_s: u64,
}

impl Effects for Board<'_> {
    async fn show_certificate(&self) -> Result<(), String> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn told_time(&self, _time_s: u64) {}

    async fn update(&self, _order: Order) -> Result<(), String> {
        Err("this node is no board".to_owned())
    }

    fn last_update(&self) -> Result<Option<UpdateView>, String> {
        Ok(None)
    }

    fn now_s(&self) -> u64 {
        self.now_s
    }
}

/// One visit of a node at another, at a time.
async fn visit_at(
    from: &Node,
    to: &Node,
    token: Option<TokenId>,
    stage: Stage,
    now_s: u64,
) -> Result<(Visited, u32), AskError> {
    let (near, far) = duplex(1 << 16);
    let ((reader, writer), (far_reader, far_writer)) = (split(near), split(far));
    let reloads = AtomicU32::new(0);
    let effects = Board { reloads: &reloads, now_s };
    let asked = to.asked(token);
    let asking = ask(reader, writer, &from.trust, &asked, stage, now_s);
    let answering = answer(far_reader, far_writer, &to.trust, &effects);
    let visited = tokio::select! {
        visited = asking => visited?,
        ended = answering => panic!("the board ended it: {ended:?}"),
    };
    Ok((visited, reloads.load(Ordering::Relaxed)))
}

async fn visit(
    from: &Node,
    to: &Node,
    token: Option<TokenId>,
    stage: Stage,
) -> Result<(Visited, u32), AskError> {
    visit_at(from, to, token, stage, NOW_S).await
}

/// A fleet of a holder and one board, enrolled.
async fn enrolled() -> (Node, Node) {
    let holder = Node::holder();
    let token = holder.token();
    let board = Node::board("b1", &holder, Some(&token));
    visit(&holder, &board, Some(token.key().id()), Stage::Key).await.unwrap();
    visit(&holder, &board, None, Stage::Certificate).await.unwrap();
    (holder, board)
}

#[tokio::test]
async fn a_seeded_board_is_enrolled_in_two_visits_and_only_then_drops_its_token() {
    let holder = Node::holder();
    let token = holder.token();
    let board = Node::board("b1", &holder, Some(&token));
    assert_eq!(board.enrolment(NOW_S), Enrolment::Waiting { token: true });

    let (_, reloads) = visit(&holder, &board, Some(token.key().id()), Stage::Key).await.unwrap();
    assert_eq!(reloads, 1);
    // It has shown nothing yet: it is in nobody's roster, and both keep what they have.
    assert!(board.has_token());
    assert_eq!(holder.members(), ["holder"]);

    let (visited, reloads) = visit(&holder, &board, None, Stage::Certificate).await.unwrap();
    assert_eq!(reloads, 0);
    assert!(!board.has_token());
    assert_eq!(holder.members(), ["b1", "holder"]);
    assert_eq!(board.members(), ["b1", "holder"]);
    assert_eq!(visited.due_s, NOW_S + LIFETIME_S / 2);
    assert_eq!(board.enrolment(NOW_S), Enrolment::Enrolled { until_s: NOW_S + LIFETIME_S });
    let spent = holder.trust.look(|it| it.registrar.as_ref().unwrap().tokens.list());
    assert_eq!(spent[0].state, "spent");
}

#[tokio::test]
async fn a_visit_with_nothing_new_writes_nothing() {
    let (holder, board) = enrolled().await;
    let before = (holder.number(), board.number());
    let (_, reloads) = visit(&holder, &board, None, Stage::Certificate).await.unwrap();
    assert_eq!(reloads, 0);
    assert_eq!((holder.number(), board.number()), before);
}

#[tokio::test]
async fn a_second_board_with_the_same_token_gets_no_certificate() {
    let holder = Node::holder();
    let token = holder.token();
    let [one, two] = ["b1", "b2"].map(|id| Node::board(id, &holder, Some(&token)));
    let id = Some(token.key().id());
    visit(&holder, &one, id, Stage::Key).await.unwrap();
    let error = visit(&holder, &two, id, Stage::Key).await.unwrap_err().to_string();
    assert!(error.contains("belongs to board b1"), "{error}");
    assert_eq!(two.enrolment(NOW_S), Enrolment::Waiting { token: true });
    // The first one may ask again, as often as it takes.
    visit(&holder, &one, id, Stage::Key).await.unwrap();
}

#[tokio::test]
async fn certificates_are_renewed_when_half_of_their_time_is_over_and_not_before() {
    let (holder, board) = enrolled().await;
    let later_s = NOW_S + LIFETIME_S / 2 - 10;
    let (_, reloads) = visit_at(&holder, &board, None, Stage::Certificate, later_s).await.unwrap();
    assert_eq!(reloads, 0);
    let later_s = NOW_S + LIFETIME_S / 2;
    let (_, reloads) = visit_at(&holder, &board, None, Stage::Certificate, later_s).await.unwrap();
    assert_eq!(reloads, 1);
    assert_eq!(board.enrolment(later_s), Enrolment::Enrolled { until_s: later_s + LIFETIME_S });
}

#[tokio::test]
async fn a_holder_that_lost_everything_but_its_key_learns_its_fleet_from_a_board() {
    let (holder, board) = enrolled().await;
    let restored = Node::new("new", Role::Workstation);
    let key = Registrar::key_file(&holder.trust.places().fleet);
    let there = Registrar::key_file(&restored.trust.places().fleet);
    std::fs::create_dir_all(there.parent().unwrap()).unwrap();
    std::fs::copy(key, there).unwrap();
    restored.trust.reload(NOW_S).unwrap();
    restored.trust.certify_own(Role::Workstation, NOW_S).unwrap();
    assert_eq!(restored.members(), ["new"]);
    visit(&restored, &board, None, Stage::Certificate).await.unwrap();
    assert_eq!(restored.members(), ["b1", "holder", "new"]);
    assert_eq!(board.members(), ["b1", "holder", "new"]);
}

#[tokio::test]
async fn who_was_revoked_stays_out_whoever_carries_the_news() {
    let (holder, board) = enrolled().await;
    let token = holder.token();
    let other = Node::board("b2", &holder, Some(&token));
    visit(&holder, &other, Some(token.key().id()), Stage::Key).await.unwrap();
    visit(&holder, &other, None, Stage::Certificate).await.unwrap();
    let revoke = |it: &mut crate::trust::Trusted| {
        it.registrar.as_ref().unwrap().revoke(&mut it.membership, "the b1", NOW_S)
    };
    holder.trust.change(NOW_S, revoke).unwrap();
    visit(&holder, &other, None, Stage::Certificate).await.unwrap();
    let lost = board.asked(None).host_key;
    assert!(other.trust.look(|it| it.membership.is_revoked(&lost)));
    // A third node hears of it from the second.
    let token = holder.token();
    let third = Node::board("b3", &holder, Some(&token));
    visit(&other, &third, None, Stage::Certificate).await.unwrap();
    assert!(third.trust.look(|it| it.membership.is_revoked(&lost)));
    let error = visit(&holder, &board, None, Stage::Certificate).await.unwrap_err().to_string();
    assert!(error.contains("was revoked"), "{error}");
}

#[tokio::test]
async fn a_board_of_another_fleet_takes_nothing() {
    let (holder, stranger) = (Node::holder(), Node::holder());
    let token = stranger.token();
    let board = Node::board("b1", &stranger, Some(&token));
    let error = visit(&holder, &board, None, Stage::Key).await.unwrap_err().to_string();
    assert!(
        error.contains("not of a key that this node trusts") || error.contains("not signed"),
        "{error}"
    );
    assert_eq!(board.enrolment(NOW_S), Enrolment::Waiting { token: true });
}

#[tokio::test]
async fn a_board_that_calls_itself_otherwise_than_announced_is_left() {
    let (holder, board) = enrolled().await;
    let (near, far) = duplex(1 << 16);
    let ((reader, writer), (far_reader, far_writer)) = (split(near), split(far));
    let reloads = AtomicU32::new(0);
    let effects = Board { reloads: &reloads, now_s: NOW_S };
    let asked = Asked { id: "b9".to_owned(), ..board.asked(None) };
    let error = tokio::select! {
        visited = ask(reader, writer, &holder.trust, &asked, Stage::Certificate, NOW_S) => {
            visited.unwrap_err().to_string()
        }
        _ = answer(far_reader, far_writer, &board.trust, &effects) => panic!("the board left"),
    };
    assert!(error.contains("announced b9"), "{error}");
    assert!(!holder.members().contains(&"b9".to_owned()));
}

#[tokio::test]
async fn a_token_is_kept_until_there_is_a_certificate_whoever_says_otherwise() {
    let holder = Node::holder();
    let token = holder.token();
    let board = Node::board("b1", &holder, Some(&token));
    let said = say(&board, b"\"confirm\"\n").await;
    assert!(said.contains("refused") && board.has_token(), "{said}");
}

#[tokio::test]
async fn nonsense_ends_the_conversation_and_changes_nothing() {
    let (_holder, board) = enrolled().await;
    for nonsense in [&b"{}\n"[..], b"\"unheard-of\"\n", b"{\"roster\":{}}\n", b"\xff\xfe\n"] {
        assert_eq!(say(&board, nonsense).await, "");
    }
    assert!(matches!(board.enrolment(NOW_S), Enrolment::Enrolled { .. }));
}

/// What a board answers to somebody who says this and leaves.
async fn say(board: &Node, text: &[u8]) -> String {
    let (mut near, far): (DuplexStream, DuplexStream) = duplex(1 << 16);
    let (reader, writer) = split(far);
    let reloads = AtomicU32::new(0);
    near.write_all(text).await.unwrap();
    near.shutdown().await.unwrap();
    // An error is what nonsense comes to.
    let effects = Board { reloads: &reloads, now_s: NOW_S };
    drop(answer(reader, writer, &board.trust, &effects).await);
    let mut said = String::new();
    near.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn both_keys_count_while_the_fleets_key_is_replaced() {
    let (holder, board) = enrolled().await;
    let rotate = |it: &mut crate::trust::Trusted| {
        it.registrar.as_mut().unwrap().rotate(&mut it.membership, NOW_S)
    };
    holder.trust.change(NOW_S, rotate).unwrap();
    holder.trust.certify_own(Role::Workstation, NOW_S).unwrap();
    let (_, reloads) = visit(&holder, &board, None, Stage::Certificate).await.unwrap();
    assert_eq!(reloads, 1);
    let finish = |it: &mut crate::trust::Trusted| {
        it.registrar.as_mut().unwrap().finish_rotation(&mut it.membership, false, NOW_S)
    };
    holder.trust.change(NOW_S, finish).unwrap();
    visit(&holder, &board, None, Stage::Certificate).await.unwrap();
    assert!(matches!(board.enrolment(NOW_S), Enrolment::Enrolled { .. }));
    assert_eq!(board.trust.look(|it| it.membership.authorities().len()), 1);
}

impl Node {
    /// The same node after its daemon was killed: all that is left is its files.
    fn killed(&self) -> Trust {
        Trust::open(self.trust.places().clone(), self.trust.own().clone(), NOW_S).unwrap()
    }
}

/// A visit that is cut off when so many bytes have gone each way; whether it came to its end.
async fn cut_visit(
    from: &Trust,
    to: &Trust,
    asked: &Asked,
    stage: Stage,
    (there, back): (u64, u64),
) -> bool {
    let ((near, far), (back_near, back_far)) = (duplex(1 << 16), duplex(1 << 16));
    let reloads = AtomicU32::new(0);
    let effects = Board { reloads: &reloads, now_s: NOW_S };
    let asking = ask(back_near.take(back), near, from, asked, stage, NOW_S);
    let answering = answer(far.take(there), back_far, to, &effects);
    let (asked, answered) = tokio::join!(asking, answering);
    drop(answered);
    asked.is_ok()
}

/// What has to hold whenever a daemon is killed: the board is enrolled or waits with its token, and a
/// token is spent only if its board is in the roster and has certificates.
fn nothing_is_half(holder: &Trust, board: &Trust) {
    let (enrolment, token) =
        board.look(|it| (it.membership.enrolment(NOW_S), it.membership.has_token()));
    let id = &board.own().id;
    let listed = holder.look(|it| it.membership.roster().unwrap().member(id).is_some());
    let spent = holder.look(|it| it.registrar.as_ref().unwrap().tokens.list()[0].state == "spent");
    match enrolment {
        Enrolment::Waiting { token: has } => {
            assert!(has && token && !spent, "a token is spent too early");
        }
        Enrolment::Enrolled { .. } => {
            assert!(listed && !token, "its token is gone, and nobody knows it");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_kill_at_any_byte_of_the_conversation_leaves_nothing_half_and_it_ends_well_after_all() {
    // Every length at which a message begins or ends, and some between, each way.
    let lengths: Vec<u64> = (0..40).map(|n| n * 150).collect();
    let cuts = lengths.iter().map(|&n| (n, u64::MAX)).chain(lengths.iter().map(|&n| (u64::MAX, n)));
    for cut in cuts {
        let holder = Node::holder();
        let token = holder.token();
        let board = Node::board("b1", &holder, Some(&token));
        let (new, old) = (board.asked(Some(token.key().id())), board.asked(None));
        for (asked, stage) in [(&new, Stage::Key), (&old, Stage::Certificate)] {
            cut_visit(&holder.killed(), &board.killed(), asked, stage, cut).await;
            nothing_is_half(&holder.killed(), &board.killed());
            let (from, to) = (holder.killed(), board.killed());
            assert!(cut_visit(&from, &to, asked, stage, (u64::MAX, u64::MAX)).await, "{cut:?}");
            nothing_is_half(&holder.killed(), &board.killed());
        }
        let end = board.killed();
        assert!(!end.look(|it| it.membership.has_token()));
        assert!(matches!(
            end.look(|it| it.membership.enrolment(NOW_S)),
            Enrolment::Enrolled { .. }
        ));
    }
}
