//! Several who change the same files.

use std::{thread, time::Duration};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::time::timeout;

use super::*;

fn holder() -> (Node, Trust) {
    let node = Node::workstation("desk", 5);
    let trust = node.trust();
    Registrar::init(&node.places().fleet, NOW_S).unwrap();
    trust.certify_own(Role::Workstation, NOW_S).unwrap();
    trust.reload(NOW_S).unwrap();
    trust.certify_own(Role::Workstation, NOW_S).unwrap();
    (node, trust)
}

#[test]
fn folders_are_made_for_root_alone() {
    let node = Node::workstation("desk", 5);
    node.trust();
    assert_eq!((mode(&node.places().trust), mode(&node.places().fleet)), (0o700, 0o700));
}

#[test]
fn changes_of_several_processes_are_all_kept() {
    let (node, _trust) = holder();
    thread::scope(|scope| {
        for number in 0..8 {
            let node = &node;
            scope.spawn(move || {
                // Each has read the files before the others have changed them.
                let trust = node.trust();
                let board = Node::board(&format!("b{number}"), number + 10);
                trust
                    .change(NOW_S, |it| {
                        let registrar = it.registrar.as_ref().unwrap();
                        let member = board.member(registrar);
                        registrar.enlist(&mut it.membership, member, NOW_S)
                    })
                    .unwrap();
            });
        }
    });
    assert_eq!(node.trust().look(|it| ids(it.membership.roster().unwrap()).len()), 9);
}

#[test]
fn what_fails_is_told_and_changes_nothing() {
    let (_node, trust) = holder();
    let number = trust.look(|it| it.membership.roster().unwrap().number);
    let error = trust.change(NOW_S, |it| {
        let registrar = it.registrar.as_ref().unwrap();
        registrar.revoke(&mut it.membership, "nobody", NOW_S)
    });
    assert!(matches!(error, Err(TrustError::Unknown(_))));
    assert_eq!(trust.look(|it| it.membership.roster().unwrap().number), number);
}

#[test]
fn a_node_without_the_key_certifies_nobody() {
    let node = Node::workstation("laptop", 3);
    let trust = node.trust();
    trust.certify_own(Role::Workstation, NOW_S).unwrap();
    assert_eq!(trust.look(|it| it.membership.enrolment(NOW_S)), Enrolment::None { problem: None });
}

#[test]
fn an_invited_node_takes_its_new_certificate_out_of_the_roster() {
    let (_desk, desk) = holder();
    let laptop = Node::workstation("laptop", 3);
    let trust = laptop.trust();
    let request = JoinRequest::new("laptop".into(), "laptop".into(), laptop.own.client_key.clone());
    let invite = |now_s: u64| {
        let invite = |it: &mut Trusted| {
            it.registrar.as_ref().unwrap().invite(&mut it.membership, &request, now_s)
        };
        desk.change(NOW_S, invite).unwrap()
    };
    let invitation = invite(NOW_S);
    trust.change(NOW_S, |it| it.membership.join(&invitation, NOW_S)).unwrap();
    trust.take_own_certificate(NOW_S).unwrap();
    let until_s = || trust.look(|it| it.membership.user_certificate(NOW_S).unwrap().until_s);
    assert_eq!(until_s(), NOW_S + LIFETIME_S);
    let renewed = invite(NOW_S + 100);
    trust.change(NOW_S, |it| it.accept(&renewed.roster, NOW_S)).unwrap();
    trust.take_own_certificate(NOW_S).unwrap();
    assert_eq!(until_s(), NOW_S + 100 + LIFETIME_S);
}

#[test]
fn the_holder_of_the_key_merges_and_others_accept() {
    let (_desk, desk) = holder();
    let roster = |trust: &Trust| trust.look(|it| it.membership.signed().unwrap().clone());
    let laptop = Node::workstation("laptop", 3);
    let trust = laptop.trust();
    let authority = desk.look(|it| it.registrar.as_ref().unwrap().authority());
    trust.change(NOW_S, |it| it.membership.adopt(Seed::new(authority, None, NOW_S))).unwrap();
    assert!(trust.change(NOW_S, |it| it.accept(&roster(&desk), NOW_S)).unwrap());
    assert!(!trust.change(NOW_S, |it| it.accept(&roster(&desk), NOW_S)).unwrap());
    assert!(!desk.change(NOW_S, |it| it.accept(&roster(&trust), NOW_S)).unwrap());
    let foreign = authority_roster();
    assert!(trust.change(NOW_S, |it| it.accept(&foreign, NOW_S)).is_err());
}

fn authority_roster() -> SignedRoster {
    authority(8).sign(&roster(8, &[])).unwrap()
}

/// What the daemon watches tells of every change that a command makes, tokens included, and of nothing
/// that is no change: or it would wake itself for ever.
#[tokio::test]
async fn whoever_watches_the_folders_is_told_of_changes_and_only_of_those() {
    let (node, trust) = holder();
    let places = node.places();
    let watch =
        || [&places.trust, &places.fleet].map(|it| FileWatch::new(&it.join("any")).unwrap());
    let [mut trusted, mut fleet] = watch();
    let noticed = Duration::from_secs(10);
    let issue = |it: &mut Trusted| it.registrar.as_mut().unwrap().tokens.issue(60, None, NOW_S);
    let token = trust.change(NOW_S, issue).unwrap();
    timeout(noticed, fleet.changed()).await.unwrap().unwrap();
    let holder = Holder::new("b1", &[1; 32]);
    trust.change(NOW_S, |it| it.registrar.as_mut().unwrap().approve(holder)).unwrap();
    timeout(noticed, fleet.changed()).await.unwrap().unwrap();
    let id = token.key().id();
    trust.change(NOW_S, |it| it.registrar.as_mut().unwrap().tokens.withdraw(id)).unwrap();
    timeout(noticed, fleet.changed()).await.unwrap().unwrap();
    let rotate =
        |it: &mut Trusted| it.registrar.as_mut().unwrap().rotate(&mut it.membership, NOW_S);
    trust.change(NOW_S, rotate).unwrap();
    timeout(noticed, trusted.changed()).await.unwrap().unwrap();

    trust.certify_own(Role::Workstation, NOW_S).unwrap();
    let quiet = [&places.trust, &places.fleet].map(|it| Events::of(it));
    trust.certify_own(Role::Workstation, NOW_S).unwrap();
    trust.take_own_certificate(NOW_S).unwrap();
    trust.reload(NOW_S).unwrap();
    trust.change(NOW_S, |_| Ok(())).unwrap();
    drop(node.trust());
    assert_eq!(quiet.map(|it| it.any()), [false, false]);
}

/// What the kernel has to tell of a folder: it is there as soon as the change is made.
struct Events(std::os::fd::OwnedFd);

impl Events {
    fn of(folder: &Path) -> Self {
        let events = inotify::init(CreateFlags::NONBLOCK).unwrap();
        let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        inotify::add_watch(&events, folder, changes).unwrap();
        Self(events)
    }

    fn any(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 4096][..]).is_ok()
    }
}
