//! Tokens, and the proofs that are made with them.

use board_support::Proof;
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;

use super::*;

struct Given {
    node: Node,
    tokens: Tokens,
    dir: TempDir,
}

fn given() -> Given {
    let dir = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(&dir.path().join("fleet"), NOW_S).unwrap();
    Given { node: Node::board("b1", 1), tokens, dir }
}

impl Given {
    fn issue(&mut self, valid_s: u64, for_board: Option<&str>) -> Token {
        self.tokens.issue(valid_s, for_board.map(str::to_owned), NOW_S).unwrap()
    }

    /// As it is read after a restart.
    fn reopen(&mut self, now_s: u64) {
        self.tokens = Tokens::open(&self.dir.path().join("fleet"), now_s).unwrap();
    }

    fn file(&self, token: &Token) -> std::path::PathBuf {
        self.dir.path().join(format!("fleet/{}.json", token.key().id()))
    }
}

/// What a board that has the token announces.
fn announced(node: &Node, token: &Token) -> Announcement {
    node.announcement(token.key().proof(&node.own.id, &node.host_print()))
}

fn holder(node: &Node) -> Holder {
    Holder::new(&node.own.id, &node.host_print())
}

#[test]
fn a_proof_of_a_token_lets_its_board_in_until_the_token_expires() {
    let mut it = given();
    let token = it.issue(60, None);
    let board = announced(&it.node, &token);
    assert_eq!(it.tokens.judge(&board, NOW_S + 59), Ok(token.key().id()));
    assert_eq!(it.tokens.judge(&board, NOW_S + 60), Err(Refusal::Expired));
}

#[test]
fn every_other_proof_is_refused_with_its_reason() {
    let mut it = given();
    let token = it.issue(60, Some("radxa,rock-5b"));
    let board = announced(&it.node, &token);
    let judge = |board: &Announcement| it.tokens.judge(board, NOW_S);
    assert!(judge(&board).is_ok());

    assert_eq!(judge(&it.node.announcement(None)), Err(Refusal::Unknown));
    let stranger = announced(&it.node, &Token::random().unwrap());
    assert_eq!(judge(&stranger), Err(Refusal::Unknown));
    let short = Announcement { proof: Some(Proof::new("AAAA").unwrap()), ..board.clone() };
    assert_eq!(judge(&short), Err(Refusal::Unknown));

    let other_id = Announcement { id: NodeId::new("b2").unwrap(), ..board.clone() };
    assert_eq!(judge(&other_id), Err(Refusal::Wrong));
    let other_key = Announcement { host_key: HostKeyHash([7; 32]), ..board.clone() };
    assert_eq!(judge(&other_key), Err(Refusal::Wrong));

    for found in [None, Some(Compatible::new("radxa,rock-5a").unwrap())] {
        let other_board = Announcement { board: found, ..board.clone() };
        let refusal = judge(&other_board).unwrap_err();
        assert!(matches!(refusal, Refusal::OtherBoard { .. }), "{refusal}");
        assert!(refusal.to_string().contains("radxa,rock-5b"), "{refusal}");
    }
}

#[test]
fn a_token_belongs_to_the_first_board_that_proves_it() {
    let mut it = given();
    let token = it.issue(60, None);
    let id = token.key().id();
    let (second, second_board) = (Node::board("b2", 2), holder(&Node::board("b2", 2)));
    let (first, second) = (announced(&it.node, &token), announced(&second, &token));
    let me = holder(&it.node);
    let late = it.tokens.bind(id, me.clone(), NOW_S + 60);
    assert!(matches!(late, Err(TrustError::Token(Refusal::Expired))));
    it.tokens.bind(id, me.clone(), NOW_S + 59).unwrap();
    it.tokens.bind(id, me.clone(), NOW_S + 60).unwrap();
    let taken = it.tokens.bind(id, second_board.clone(), NOW_S);
    assert!(matches!(taken, Err(TrustError::Token(Refusal::Taken(_)))));
    for state in ["bound", "spent"] {
        it.reopen(NOW_S);
        assert_eq!(it.tokens.list()[0].state, state);
        assert_eq!(it.tokens.list()[0].holder, Some(me.clone()));
        // Its time is over only for those who come first.
        assert_eq!(it.tokens.judge(&first, NOW_S + 61), Ok(id), "{state}");
        assert_eq!(it.tokens.judge(&second, NOW_S), Err(Refusal::Taken(me.clone())), "{state}");
        assert_eq!(it.tokens.awaits(&me), state == "bound");
        assert_eq!(it.tokens.is_spent(id), state == "spent");
        assert!(!it.tokens.awaits(&second_board));
        it.tokens.spend(&second_board).unwrap();
        it.tokens.spend(&me).unwrap();
        it.tokens.spend(&me).unwrap();
    }
    assert!(matches!(it.tokens.bind(id, second_board, NOW_S), Err(TrustError::Token(_))));
    it.tokens.bind(id, me, NOW_S).unwrap();
}

#[test]
fn nobody_binds_a_token_that_there_is_not() {
    let mut it = given();
    let me = holder(&it.node);
    assert!(it.tokens.bind(Token::random().unwrap().key().id(), me, NOW_S).is_err());
}

#[test]
fn the_secret_is_in_a_file_for_root_alone_and_gone_once_it_is_spent() {
    let mut it = given();
    let token = it.issue(60, None);
    let (file, key) = (it.file(&token), token.key().to_text());
    let text = || fs::read_to_string(&file).unwrap();
    assert_eq!((mode(&file), mode(&it.dir.path().join("fleet"))), (0o600, 0o700));
    assert!(text().contains(&*key) && !text().contains(&*token.to_text()));
    let me = holder(&it.node);
    it.tokens.bind(token.key().id(), me.clone(), NOW_S).unwrap();
    assert!(text().contains(&*key) && mode(&file) == 0o600);
    it.tokens.spend(&me).unwrap();
    assert!(!text().contains(&*key) && mode(&file) == 0o600);
}

#[test]
fn what_is_old_is_forgotten_and_who_used_a_token_is_remembered_for_a_month() {
    let mut it = given();
    let unused = it.issue(60, None);
    let bound = it.issue(60, None);
    let me = holder(&it.node);
    it.tokens.bind(bound.key().id(), me, NOW_S).unwrap();
    it.reopen(NOW_S + 59);
    assert_eq!(it.tokens.list().len(), 2);
    it.reopen(NOW_S + 60);
    assert!(!it.file(&unused).exists());
    assert_eq!(it.tokens.list()[0].id, bound.key().id().to_string());
    it.reopen(NOW_S + 60 + 30 * DAY_S - 1);
    assert_eq!(it.tokens.list().len(), 1);
    it.reopen(NOW_S + 60 + 30 * DAY_S);
    assert_eq!(it.tokens.list(), []);
    assert!(!it.file(&bound).exists());
}

#[test]
fn a_withdrawn_token_lets_nobody_in() {
    let mut it = given();
    let token = it.issue(60, None);
    let board = announced(&it.node, &token);
    assert!(it.tokens.withdraw(token.key().id()).unwrap());
    assert!(!it.tokens.withdraw(token.key().id()).unwrap());
    it.reopen(NOW_S);
    assert_eq!(it.tokens.judge(&board, NOW_S), Err(Refusal::Unknown));
}

#[test]
fn there_is_an_end_to_tokens() {
    let mut it = given();
    let text = fs::read_to_string({
        let token = it.issue(60, None);
        it.file(&token)
    })
    .unwrap();
    for number in 0..1000_u32 {
        fs::write(it.dir.path().join(format!("fleet/{number:012x}.json")), &text).unwrap();
    }
    it.reopen(NOW_S);
    let error = it.tokens.issue(60, None, NOW_S).unwrap_err().to_string();
    assert!(error.contains("1000 tokens"), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_not_quoted() {
    let mut it = given();
    let token = it.issue(60, None);
    let (file, key) = (it.file(&token), token.key().to_text());
    fs::write(&file, format!("{{\"made_s\":{:?}}}", &*key)).unwrap();
    let error = Tokens::open(&it.dir.path().join("fleet"), NOW_S).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert!(!error.contains(&*key), "{error}");
}

#[test]
fn what_is_no_token_is_left_alone() {
    let mut it = given();
    for name in ["ca", "approved", "0123.json", "README"] {
        fs::write(it.dir.path().join("fleet").join(name), "x").unwrap();
    }
    it.reopen(NOW_S);
    assert_eq!(it.tokens.list(), []);
    assert!(it.dir.path().join("fleet/README").exists());
}

#[test]
fn no_secret_is_shown_by_debugging() {
    let mut it = given();
    let token = it.issue(60, None);
    let key = token.key();
    let shown = format!("{token:?} {key:?} {:?}", it.tokens);
    for secret in [token.to_text(), key.to_text()] {
        assert!(!shown.contains(&*secret), "{shown}");
    }
    assert!(shown.contains(&key.id().to_string()), "{shown}");
}

#[test]
fn tokens_are_read_as_they_are_written() {
    let token = Token::random().unwrap();
    let again = Token::parse(&token.to_text()).unwrap();
    assert_eq!(again.to_text(), token.to_text());
    assert_eq!(token.to_text().len(), 43);
    let key = token.key();
    let again = TokenKey::parse(key.id(), &key.to_text()).unwrap();
    assert_eq!(again.proof("a", &[1; 32]), key.proof("a", &[1; 32]));
    assert_eq!(TokenId::parse(&key.id().to_string()), Some(key.id()));
    let text = token.to_text();
    for wrong in ["", &text[1..], &format!("{}=", &*text), &format!("{}A", &*text)] {
        assert!(Token::parse(wrong).is_none(), "{wrong:?}");
    }
    for wrong in ["", "0a1b2c3d4e5", "0A1B2C3D4E5F", "0a1b2c3d4e5f0a", "../../../../x"] {
        assert!(TokenId::parse(wrong).is_none(), "{wrong:?}");
    }
}

#[test]
fn what_is_derived_stays_the_same() {
    // Seeds that are on their way are worthless if this changes.
    let token = Token::parse(&BASE64URL_NOPAD.encode(&[0; 32])).unwrap();
    let key = token.key();
    assert_eq!(key.id().to_string(), "69cb350f2f4c");
    assert_eq!(
        key.proof("b1", &[0; 32]).unwrap().as_str(),
        "acs1Dy9MHKS11kZ63iwt5hTitr9O-vj3tfO0sOqbqBA6Dz68Eig"
    );
}

proptest! {
    #[test]
    fn a_proof_with_any_bit_flipped_is_refused(bit in 0_usize..38 * 8, token: [u8; 32]) {
        let token = Token::parse(&BASE64URL_NOPAD.encode(&token)).unwrap();
        let (key, host_key) = (token.key(), [9; 32]);
        let proof = key.proof("b1", &host_key).unwrap();
        prop_assert!(key.verify("b1", &host_key, &proof));
        let mut bytes = BASE64URL_NOPAD.decode(proof.as_str().as_bytes()).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = Proof::new(&BASE64URL_NOPAD.encode(&bytes)).unwrap();
        prop_assert!(!key.verify("b1", &host_key, &flipped));
    }

    #[test]
    fn a_proof_is_good_for_one_id_and_one_key(
        id in "[a-z0-9-]{1,63}", other in "[a-z0-9-]{1,63}", key: [u8; 32], bit in 0_usize..256,
    ) {
        prop_assume!(id != other);
        let token = Token::random().unwrap();
        let proof = token.key().proof(&id, &key).unwrap();
        prop_assert!(token.key().verify(&id, &key, &proof));
        prop_assert!(!token.key().verify(&other, &key, &proof));
        prop_assert!(!Token::random().unwrap().key().verify(&id, &key, &proof));
        let mut other_key = key;
        other_key[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!token.key().verify(&id, &other_key, &proof));
    }

    #[test]
    fn any_proof_is_judged_without_harm(text in "[A-Za-z0-9_-]{1,51}") {
        let dir = tempfile::tempdir().unwrap();
        let mut tokens = Tokens::open(dir.path(), NOW_S).unwrap();
        let token = tokens.issue(60, None, NOW_S).unwrap();
        let proof = Proof::new(&text).unwrap();
        prop_assert!(!token.key().verify("b1", &[0; 32], &proof));
        let board = Node::board("b1", 1).announcement(Some(proof));
        prop_assert!(tokens.judge(&board, NOW_S).is_err());
    }
}
