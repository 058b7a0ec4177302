//! A board gets another system: by an order of the fleet's key, with a way back.
//!
//! [`Store`] keeps how far the update is, durably: a process can be killed between any two steps, and
//! the next one goes on. The daemon accepts an order ([`Held::accept`]) and does nothing more, since it is
//! sealed. systemd starts [`apply`], which makes the system the one that is started next and restarts the
//! machine, and after that [`settle`], which keeps it if the board works and goes back if it does not.
//! What comes next is decided in `decide`, and done by a [`Machine`].

mod apply;
mod command;
mod decide;
mod machine;
mod settle;
mod state;
mod store;
#[cfg(test)]
mod tests;

pub use apply::apply;
pub use command::run;
pub use decide::Refusal;
pub use machine::{Machine, Switch};
pub use settle::settle;
pub use state::{Progress, Update};
pub use store::{Held, Store, UpdateError};

use std::time::Duration;

/// Within which time after it was started a system has to show that the board works with it.
pub const HEALTHY_WITHIN: Duration = Duration::from_secs(300);
/// How long builds that run are waited for before the machine is restarted. They are begun again then.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(600);
/// The start in which a system is given up that was started that often and has not shown it yet.
pub const LAST_BOOT: u32 = 3;
