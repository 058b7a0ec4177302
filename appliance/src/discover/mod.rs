//! Avahi: announce, browse, resolve.
//!
//! Boards are DNS-SD services of type [`SERVICE_TYPE`](crate::names::SERVICE_TYPE), published and
//! found through avahi-daemon's D-Bus API. [`Avahi`] is one connection to the system bus that
//! comes back by itself, when the bus or avahi-daemon does; announcing and browsing start anew
//! then. When nothing happens on the LAN, nothing runs here.
//!
//! Everything found is a hint: it may be wrong, hostile, or too much. It is checked, bounded, and
//! never trusted.

mod announce;
mod avahi;
mod browse;
mod complaints;
mod directory;
mod outbox;
mod places;
mod presence;
mod probe;
mod sighting;

use board_support::Announcement;
use tokio::sync::{mpsc, watch};

pub use announce::{AnnounceState, Announcer, Service, subtype};
pub use complaints::Complaints;
pub use directory::{Board, BoardKey, Change, Directory};
pub use probe::{Probe, probe};
pub use sighting::{Protocol, Seen, Sighting, Source};

use crate::bus::SystemBus;
use presence::Presence;

/// The way to Avahi. What was started through it goes on without it.
#[derive(Clone, Debug)]
pub struct Avahi {
    presence: watch::Receiver<Presence>,
}

impl Avahi {
    /// Starts to connect. Must be called within a tokio runtime.
    #[must_use]
    pub fn on(bus: SystemBus) -> Self {
        let (tell, presence) = watch::channel(Presence::Unknown);
        tokio::spawn(presence::watch_avahi(bus, tell));
        Self { presence }
    }

    /// Publishes a service as soon as it is possible, and keeps it published.
    #[must_use = "a service is withdrawn when its announcer is dropped"]
    pub fn announce(&self, service: Service) -> Announcer {
        Announcer::start(self.presence.clone(), service)
    }

    /// Tells of boards on the LAN, but not of this host's own services. A receiver that is slow
    /// gets the latest of each source; one that is dropped ends the browsing.
    ///
    /// However many services are announced, those that `matters` likes are seen: they are kept, and
    /// others make room for newcomers.
    #[must_use]
    pub fn browse(
        &self,
        matters: impl Fn(&Announcement) -> bool + Send + Sync + 'static,
    ) -> mpsc::Receiver<Sighting> {
        let (tell, sightings) = mpsc::channel(16);
        tokio::spawn(browse::keep_browsing(self.presence.clone(), tell, Box::new(matters)));
        sightings
    }
}
