//! A LAN on one machine: hosts that are network, mount, pid, uts and ipc namespaces over one cached
//! Debian root, joined by a bridge, each with real D-Bus, Avahi, sshd and Nix. Needs root.
//!
//! ```no_run
//! use std::time::Duration;
//! use roost_lab::{Lan, Service};
//!
//! # fn main() -> roost_lab::Result<()> {
//! let lan = Lan::new()?;
//! let [ws, board] = lan.start([
//!     lan.host("ws"),
//!     lan.host("board").system("aarch64-linux").max_jobs(2),
//! ])?;
//!
//! let version = ws.check("nix --version")?;              // must succeed; its output
//! let output = ws.sh("ping -c 1 10.42.0.99")?;           // any status; `.ok()?` to insist
//! let mut build = ws.spawn("nix-build /root/a.nix")?;    // runs on; dropping it kills it
//! board.cut_link()?;
//! board.restore_link()?;
//! board.kill9(Service::NIX_DAEMON)?;
//! board.start_service(Service::NIX_DAEMON)?;
//! board.signal_matching("KILL", "of a build", |p| p.command().contains("sleep"))?;
//! board.power_off()?;                                    // its disk stays
//! board.power_on()?;
//! lan.wait_until(Duration::from_secs(20), "ws sees the board", || {
//!     ws.sh("avahi-resolve -4 -n board.local").is_ok_and(|o| o.stdout.contains("10.42."))
//! })?;
//! let output = build.wait(Duration::from_secs(60))?;
//! # let _ = (version, output); Ok(())
//! # }
//! ```
//!
//! Nothing appears in the machine's own namespaces, and nothing is left behind: everything lives
//! in the namespaces of one process, which ends when the test process does, however that ends.
//!
//! Nix builds in its sandbox (`sandbox = true` works, being real root in plain namespaces). A host
//! plays another architecture by its nix.conf alone: builders are the machine's own programs. Programs
//! of another architecture run, too, where a host emulates it ([`HostSpec::emulates`]) or plays
//! hardware that has it ([`HostSpec::runs`]).

mod beside;
mod clock;
mod command;
mod error;
pub mod fixtures;
mod hardware;
mod host;
mod lan;
mod process;
mod processes;
mod root;
mod service;
mod spec;
mod supervise;

pub use beside::{Beside, Streams};
pub use clock::{now, poll};
pub use command::{Command, DEFAULT_TIMEOUT};
pub use error::{Error, Result};
pub use host::Host;
pub use lan::Lan;
pub use process::{Output, Running};
pub use processes::{Memory, ProcessInfo};
pub use root::{Release, target_folder};
pub use rustix::process::Signal;
pub use service::{Ready, Service};
pub use spec::{Addressing, Disk, HostSpec, runs_foreign_programs};
