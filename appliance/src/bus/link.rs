//! The way to the system bus, and how long to wait when it is not there.

use std::time::Duration;

use tokio::time::timeout;
use zbus::{Connection, connection};

/// Longest time that connecting, or a method call, may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the system bus is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemBus {
    address: Option<String>,
}

impl SystemBus {
    /// The bus at the usual place: `$DBUS_SYSTEM_BUS_ADDRESS`, else
    /// `/run/dbus/system_bus_socket`.
    #[must_use]
    pub const fn new() -> Self {
        Self { address: None }
    }

    /// A bus at another place, in the D-Bus Specification's notation, such as
    /// `unix:path=/tmp/bus`.
    #[must_use]
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: Some(address.into()) }
    }

    /// Whether it accepts us.
    ///
    /// # Errors
    ///
    /// If it does not, or not within 10 s.
    pub async fn check(&self) -> zbus::Result<()> {
        self.connect().await.map(drop)
    }

    /// A builder for a connection whose calls all end in time.
    pub(crate) fn builder(&self) -> zbus::Result<connection::Builder<'_>> {
        let builder = match &self.address {
            Some(address) => connection::Builder::address(address.as_str())?,
            None => connection::Builder::system()?,
        };
        Ok(builder.method_timeout(CALL_TIMEOUT))
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> zbus::Result<Connection> {
        in_time(self.builder()?.build()).await
    }
}

/// Ends `future` with an error after [`CALL_TIMEOUT`].
pub(crate) async fn in_time<T>(future: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    timeout(CALL_TIMEOUT, future).await.unwrap_or_else(|_| Err(timed_out()))
}

fn timed_out() -> zbus::Error {
    let text = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
    std::io::Error::new(std::io::ErrorKind::TimedOut, text).into()
}

/// The error of a connection that has ended.
pub(crate) fn hung_up() -> zbus::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the bus closed the connection").into()
}

/// Waiting times that double from one second to one minute.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    pub(crate) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// How long to wait now.
    pub(crate) fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(Self::LONGEST);
        now
    }

    /// It worked: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_up_to_a_bound_and_starts_anew_after_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..10).map(|_| backoff.step().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.step().as_secs(), 1);
    }

    #[tokio::test]
    async fn a_bus_that_is_not_there_is_an_error() {
        let bus = SystemBus::at("unix:path=/nonexistent/roost/bus");
        assert!(bus.connect().await.is_err());
    }
}
