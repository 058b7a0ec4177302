//! Announces a board that is not there, or lists those that are: for trying out a LAN by hand.
//!
//! ```text
//! lan announce NAME PORT ID SYSTEM...   until its input ends or says `withdraw`; other lines are
//!                                       new numbers of slots; prints where publishing stands
//! lan browse                            prints all boards in one line, whenever they change
//! ```

use std::{env, error::Error};

use board_support::{Announcement, HostKeyHash, List, NodeId};
use roost::{
    bus::SystemBus,
    discover::{Avahi, Board, Directory, Service},
};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["announce", name, port, id, systems @ ..] => {
            let announcement = Announcement {
                id: id.parse()?,
                systems: List::of(systems.iter().copied()),
                emulated: List::new(),
                features: List::new(),
                slots: 1,
                cores: 1,
                memory_gib: 1,
                board: None,
                host_key: HostKeyHash([7; 32]),
                fleet: None,
                proof: None,
                more: false,
            };
            announce(Service { instance: (*name).to_owned(), port: port.parse()?, announcement })
                .await
        }
        ["browse"] => {
            browse().await;
            Ok(())
        }
        _ => Err("usage: lan announce NAME PORT ID SYSTEM... | lan browse".into()),
    }
}

async fn announce(mut service: Service) -> Result<(), Box<dyn Error>> {
    let announcer = Avahi::on(SystemBus::new()).announce(service.clone());
    let mut state = announcer.state();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            Ok(()) = state.changed() => println!("{}", *state.borrow_and_update()),
            line = lines.next_line() => match line? {
                Some(line) if line == "withdraw" => break,
                Some(slots) => {
                    service.announcement.slots = slots.trim().parse()?;
                    announcer.update(service.clone());
                }
                None => break,
            }
        }
    }
    announcer.withdraw().await;
    println!("{}", *state.borrow());
    Ok(())
}

async fn browse() {
    let mut sightings =
        Avahi::on(SystemBus::new()).browse(|board| board.id.as_str().starts_with("board"));
    let mut lan = Directory::new();
    while let Some(sighting) = sightings.recv().await {
        if lan.apply(sighting).is_empty() {
            continue;
        }
        let boards: Vec<_> = lan.boards().map(|(key, board)| describe(&key.id, board)).collect();
        println!("boards: {}", boards.join(", "));
    }
}

fn describe(id: &NodeId, board: &Board) -> String {
    let addresses: Vec<_> = board.addresses.iter().map(ToString::to_string).collect();
    format!("{id} slots={} {}", board.announcement.slots, addresses.join(" "))
}
