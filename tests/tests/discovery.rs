//! Boards that announce themselves and workstations that find them, through real Avahi daemons.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use roost_lab::{Addressing, Host, HostSpec, Lan, Result, Running, Service};

const SOON: Duration = Duration::from_secs(30);
/// Where the announcing program reads its orders.
const ORDERS: &str = "/run/lan.in";

/// The program that announces and browses: `cargo test` builds examples, before it runs tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the running program has a path");
    let program = test.parent().and_then(|deps| deps.parent()).map(|dir| dir.join("examples/lan"));
    program.filter(|path| path.is_file()).expect("built with: cargo build -p roost --example lan")
}

fn host(lan: &Lan, name: &str) -> HostSpec {
    lan.host(name).services(&[Service::DBUS, Service::AVAHI]).install(&program(), "/usr/bin/lan")
}

/// A workstation that browses.
struct Browser<'a> {
    lan: &'a Lan,
    running: Running,
}

impl<'a> Browser<'a> {
    fn on(lan: &'a Lan, host: &Host) -> Result<Self> {
        Ok(Self { lan, running: host.spawn("exec lan browse")? })
    }

    /// What it knows now, as one line.
    fn line(&self) -> String {
        self.running.stdout().lines().last().unwrap_or_default().to_owned()
    }

    /// The addresses it knows of a board.
    fn addresses(&self, id: &str) -> Vec<SocketAddr> {
        let line = self.line();
        let board = line
            .trim_start_matches("boards: ")
            .split(", ")
            .find_map(|board| board.strip_prefix(id).and_then(|rest| rest.strip_prefix(' ')));
        board.into_iter().flat_map(str::split_whitespace).filter_map(|w| w.parse().ok()).collect()
    }

    fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<()> {
        let waited = self.lan.wait_until(SOON, what, || condition(self));
        if waited.is_err() {
            println!("{}{}", self.running.stdout(), self.running.stderr());
        }
        waited
    }
}

/// A board that announces itself.
struct Announcer<'a> {
    lan: &'a Lan,
    host: &'a Host,
    running: Running,
}

impl<'a> Announcer<'a> {
    fn on(lan: &'a Lan, host: &'a Host, name: &str, id: &str) -> Result<Self> {
        let systems = "aarch64-linux armv7l-linux";
        let script =
            format!("mkfifo {ORDERS}; exec lan announce '{name}' 22 {id} {systems} <>{ORDERS}");
        Ok(Self { lan, host, running: host.spawn(&script)? })
    }

    fn order(&self, line: &str) -> Result<()> {
        self.host.check(&format!("echo {line} >{ORDERS}")).map(drop)
    }

    /// How often it was published.
    fn times_published(&self) -> usize {
        self.running.stdout().matches("published as").count()
    }

    fn until(&self, what: &str, condition: impl Fn(&str) -> bool) -> Result<()> {
        let waited = self.lan.wait_until(SOON, what, || condition(&self.running.stdout()));
        if waited.is_err() {
            println!("{}{}", self.running.stdout(), self.running.stderr());
        }
        waited
    }

    fn until_published(&self, times: usize) -> Result<()> {
        let what = format!("{} has published {times} times", self.host.name());
        self.until(&what, |_| self.times_published() >= times)
    }
}

#[test]
fn a_board_is_found_followed_and_withdrawn() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([host(&lan, "ws"), host(&lan, "board")])?;
    let browser = Browser::on(&lan, &ws)?;
    let announcer = Announcer::on(&lan, &board, "board", "board-1")?;

    let v4 = IpAddr::from(board.ipv4().expect("dual"));
    let v6 = board.ipv6().expect("dual");
    browser.until("both addresses", |b| b.addresses("board-1").len() == 2)?;
    let addresses = browser.addresses("board-1");
    assert_eq!(addresses[0].ip(), v4, "routable before link-local");
    let SocketAddr::V6(link_local) = addresses[1] else { panic!("{addresses:?}") };
    assert_eq!(*link_local.ip(), v6);
    ws.check(&format!("ping -c 1 -W 2 {v6}%{}", link_local.scope_id()))?;

    // What everyone else sees.
    let plain = ws.check("avahi-browse -prt _nix-builder._tcp")?;
    assert!(plain.contains("txtvers=1") && plain.contains("id=board-1"), "{plain}");
    for system in ["aarch64-linux", "armv7l-linux"] {
        let subtype = ws.check(&format!("avahi-browse -pt _{system}._sub._nix-builder._tcp"))?;
        assert!(subtype.contains(";board;"), "{subtype}");
    }

    announcer.order("7")?;
    browser.until("the new number of slots", |b| b.line().contains("slots=7"))?;
    assert_eq!(announcer.times_published(), 1, "a new TXT record is no new registration");
    announcer.order("withdraw")?;
    browser.until("the board is gone", |b| b.line() == "boards: ")
}

#[test]
fn a_board_without_any_routable_address_is_found_by_its_scoped_one() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([host(&lan, "ws"), host(&lan, "board").addressing(Addressing::V6Only)])?;
    let browser = Browser::on(&lan, &ws)?;
    let _announcer = Announcer::on(&lan, &board, "board", "board-1")?;
    browser.until("an address", |b| !b.addresses("board-1").is_empty())?;
    let [SocketAddr::V6(address)] = browser.addresses("board-1")[..] else { panic!() };
    assert_ne!(address.scope_id(), 0);
    ws.check(&format!("ping -c 1 -W 2 {}%{}", address.ip(), address.scope_id())).map(drop)
}

#[test]
fn announcements_and_browsing_survive_avahi() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([host(&lan, "ws"), host(&lan, "board")])?;
    let browser = Browser::on(&lan, &ws)?;
    let announcer = Announcer::on(&lan, &board, "board", "board-1")?;
    browser.until("both addresses", |b| b.addresses("board-1").len() == 2)?;

    board.kill9(Service::AVAHI)?;
    announcer.until("the board notices", |out| out.contains("Avahi is not running"))?;
    board.start_service(Service::AVAHI)?;
    announcer.until_published(2)?;
    // A killed Avahi says no goodbye: change something, to see that it is the new one that is heard.
    announcer.order("3")?;
    browser.until("the board announced anew", |b| b.line().contains("slots=3"))?;

    let before = browser.running.stdout();
    ws.restart_service(Service::AVAHI)?;
    announcer.order("4")?;
    browser.until("the board after a restart here", |b| b.line().contains("slots=4"))?;
    let since = browser.running.stdout()[before.len()..].to_owned();
    assert!(!since.contains("boards: \n"), "boards stay while Avahi restarts: {since}");
    Ok(())
}

#[test]
fn announcements_and_browsing_survive_the_bus() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([host(&lan, "ws"), host(&lan, "board")])?;
    let browser = Browser::on(&lan, &ws)?;
    let announcer = Announcer::on(&lan, &board, "board", "board-1")?;
    browser.until("the board", |b| !b.addresses("board-1").is_empty())?;
    for host in [&board, &ws] {
        host.kill9(Service::DBUS)?;
        // As its unit would be started again: it does not outlive the bus.
        lan.wait_until(SOON, "Avahi ends", || !host.service_runs(Service::AVAHI))?;
        host.start_service(Service::DBUS)?;
        host.start_service(Service::AVAHI)?;
    }
    announcer.until_published(2)?;
    announcer.order("5")?;
    browser.until("the board announced anew", |b| b.line().contains("slots=5"))
}

#[test]
fn boards_with_one_name_are_both_found() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, one, two] = lan.start(["ws", "one", "two"].map(|name| host(&lan, name)))?;
    let browser = Browser::on(&lan, &ws)?;
    let announcers = [
        Announcer::on(&lan, &one, "builder", "board-1")?,
        Announcer::on(&lan, &two, "builder", "board-2")?,
    ];
    for announcer in &announcers {
        announcer.until_published(1)?;
    }
    browser.until("both boards", |b| {
        ["board-1", "board-2"].iter().all(|id| !b.addresses(id).is_empty())
    })?;
    lan.wait_until(SOON, "one of them is #2", || {
        announcers.iter().any(|a| a.running.stdout().contains("published as \"builder #2\""))
    })
}

#[test]
fn a_host_that_may_not_publish_is_told_how_to() -> Result<()> {
    let lan = Lan::new()?;
    let board = host(&lan, "board").start()?;
    let configuration = "/etc/avahi/avahi-daemon.conf";
    let ours = board.read(configuration)?;
    board.write(configuration, 0o644, "[publish]\ndisable-user-service-publishing=yes\n")?;
    board.restart_service(Service::AVAHI)?;
    let announcer = Announcer::on(&lan, &board, "board", "board-1")?;
    announcer.until("it is told", |out| {
        out.contains("disable-user-service-publishing=no") && out.contains("userServices = true")
    })?;
    board.write(configuration, 0o644, ours)?;
    board.restart_service(Service::AVAHI)?;
    announcer.until_published(1)
}

#[test]
fn boards_go_and_come_back_with_the_interface() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([host(&lan, "ws"), host(&lan, "board")])?;
    let browser = Browser::on(&lan, &ws)?;
    let _announcer = Announcer::on(&lan, &board, "board", "board-1")?;
    browser.until("the board", |b| !b.addresses("board-1").is_empty())?;
    ws.check("ip link set eth0 down")?;
    browser.until("nobody is there without an interface", |b| b.line() == "boards: ")?;
    ws.check("ip link set eth0 up")?;
    browser.until("the board is back", |b| !b.addresses("board-1").is_empty())
}

#[test]
fn what_is_no_board_is_told_of_once_and_ignored() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board, other] = lan.start(["ws", "board", "other"].map(|name| host(&lan, name)))?;
    let browser = Browser::on(&lan, &ws)?;
    let _foreign: Vec<_> = ["", "txtvers=9", "txtvers=1 id=UPPER", "txtvers=1 id=a sys=../../etc"]
        .iter()
        .enumerate()
        .map(|(number, txt)| {
            other
                .spawn(&format!("exec avahi-publish -s printer{number} _nix-builder._tcp 22 {txt}"))
        })
        .collect::<Result<_>>()?;
    let _announcer = Announcer::on(&lan, &board, "board", "board-1")?;
    browser.until("the board", |b| !b.addresses("board-1").is_empty())?;
    lan.wait_until(SOON, "the others are told of", || {
        browser.running.stderr().contains("ignoring the board printer")
    })?;
    assert!(!browser.running.stdout().contains("boards: a "), "{}", browser.running.stdout());
    assert_eq!(browser.running.stderr().matches("ignoring the board").count(), 1);
    Ok(())
}

#[test]
fn a_flood_of_strangers_hides_no_board_that_matters_be_it_known_or_new() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board, flood, late] =
        lan.start(["ws", "board", "flood", "late"].map(|name| host(&lan, name)))?;
    let browser = Browser::on(&lan, &ws)?;
    let announcer = Announcer::on(&lan, &board, "board", "board-1")?;
    browser.until("the board", |b| b.addresses("board-1").len() == 2)?;
    // Services from files have no limit of their number.
    flood.check(
        "for n in $(seq 1200); do cat >/etc/avahi/services/$n.service <<END
<?xml version='1.0'?><!DOCTYPE service-group SYSTEM 'avahi-service.dtd'>
<service-group><name>flood-$n</name><service><type>_nix-builder._tcp</type><port>22</port>
<txt-record>txtvers=1</txt-record><txt-record>id=flood-$n</txt-record>
<txt-record>sys=riscv64-linux</txt-record>
<txt-record>hk=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA</txt-record></service></service-group>
END
        done",
    )?;
    // It may be busy with the first of them already, and would take its time to end.
    flood.kill9(Service::AVAHI)?;
    flood.start_service(Service::AVAHI)?;
    lan.wait_until(3 * SOON, "the flood is on", || {
        let found = ws.check("avahi-browse -ptk _nix-builder._tcp | grep -c ';flood'");
        found.is_ok_and(|count| count.parse().is_ok_and(|count: u32| count >= 1200))
    })?;
    announcer.order("9")?;
    browser.until("news of the known board", |b| b.line().contains("board-1 slots=9 "))?;
    let _late = Announcer::on(&lan, &late, "late", "board-2")?;
    browser.until("a board that comes late", |b| !b.addresses("board-2").is_empty())
}
