//! What this folder promises, on real files.

mod certificates;
mod judgement;
mod memberships;
mod orders;
mod registrars;
mod rosters;
mod seeds;
mod sharing;
mod tokens;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use board_support::{Announcement, Compatible, HostKeyHash, List, NodeId, Proof};
use ssh_key::{LineEnding, PrivateKey, PublicKey, private::Ed25519Keypair};
use tempfile::TempDir;

use super::*;

const NOW_S: u64 = 1_790_000_000;
const DAY_S: u64 = 24 * 3600;

/// The same key for the same number.
fn private(number: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32]))
}

fn public(number: u8) -> PublicKey {
    PublicKey::from(private(number).public_key().key_data().clone())
}

/// The fleet's key with this number, as a file has it.
fn authority(number: u8) -> Authority {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca");
    write_key(&path, number);
    Authority::load(&path).unwrap().unwrap()
}

fn write_key(path: &Path, number: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, private(number).to_openssh(LineEnding::LF).unwrap()).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// A node's folders.
struct Node {
    dir: TempDir,
    own: Own,
}

impl Node {
    /// Its host key has this number, its client key one that is 100 higher.
    fn board(id: &str, number: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("id_ed25519");
        let own = Own {
            id: id.to_owned(),
            name: format!("the-{id}"),
            host_key: Some(public(number)),
            identity,
            client_key: public(number + 100),
        };
        Self { dir, own }
    }

    fn workstation(id: &str, number: u8) -> Self {
        let Self { dir, own } = Self::board(id, number);
        Self { dir, own: Own { host_key: None, ..own } }
    }

    fn places(&self) -> Places {
        Places { trust: self.dir.path().join("trust"), fleet: self.dir.path().join("fleet") }
    }

    fn membership(&self) -> Membership {
        Membership::open(&self.places().trust, self.own.clone()).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::open(self.places(), self.own.clone(), NOW_S).unwrap()
    }

    /// It holds a fleet's key from now on.
    fn holder(&self) -> (Membership, Registrar) {
        let registrar = Registrar::init(&self.places().fleet, NOW_S).unwrap();
        let mut membership = self.membership();
        registrar.certify_own(&mut membership, self.role(), NOW_S).unwrap();
        (membership, registrar)
    }

    fn registrar(&self) -> Registrar {
        Registrar::open(&self.places().fleet, NOW_S).unwrap().unwrap()
    }

    fn role(&self) -> Role {
        if self.own.host_key.is_some() { Role::Board } else { Role::Workstation }
    }

    fn host_print(&self) -> Fingerprint {
        fingerprint(self.own.host_key.as_ref().unwrap())
    }

    /// What it has to show to a registrar.
    fn member(&self, registrar: &Registrar) -> Member {
        let Own { id, name, host_key, client_key, .. } = self.own.clone();
        registrar.member(&id, &name, self.role(), host_key, client_key)
    }

    /// Gives it certificates of a registrar, as a visit does.
    fn certify(&self, membership: &mut Membership, registrar: &Registrar, now_s: u64) {
        let Own { id, host_key, client_key, .. } = &self.own;
        let Certificates { host, user } =
            registrar.certify(id, host_key.as_ref(), client_key, now_s).unwrap();
        membership.install(host.as_deref(), &user, now_s).unwrap();
    }

    fn announcement(&self, proof: Option<Proof>) -> Announcement {
        Announcement {
            id: NodeId::new(&self.own.id).unwrap(),
            systems: List::of(["aarch64-linux"]),
            emulated: List::default(),
            features: List::default(),
            slots: 1,
            cores: 1,
            memory_gib: 1,
            board: Some(Compatible::new("radxa,rock-5b").unwrap()),
            host_key: HostKeyHash(self.host_print()),
            fleet: None,
            proof,
            more: false,
        }
    }
}

/// A roster of the fleet whose key has this number.
fn roster(number: u8, members: &[(&str, u8)]) -> Roster {
    let mut roster = Roster::new(public(number), NOW_S);
    for (id, key) in members {
        let member = Member {
            id: (*id).to_owned(),
            name: format!("the-{id}"),
            role: Role::Board,
            host_key: Some(public(*key)),
            client_key: public(*key + 100),
            since_s: NOW_S,
            signed_by: fingerprint_text(&public(number)),
            certificate: None,
        };
        roster = roster.with(member).unwrap();
    }
    roster
}

fn ids(roster: &Roster) -> Vec<&str> {
    roster.members.iter().map(|it| it.id.as_str()).collect()
}
