//! What browsing finds.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use board_support::Announcement;

/// The protocol over which a service was found, numbered as Avahi does (`AVAHI_PROTO_INET`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum Protocol {
    /// mDNS over IPv4.
    Ipv4 = 0,
    /// mDNS over IPv6.
    Ipv6 = 1,
}

/// Where a service was found. One board has several: one for each of its services' names, of our
/// interfaces and of the protocols.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The service's name: any text of at most 63 bytes; shown, control characters are escaped.
    pub instance: String,
    /// The domain, usually `local`.
    pub domain: String,
    /// Index of our network interface.
    pub interface: u32,
    /// How.
    pub protocol: Protocol,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, domain, interface, .. } = self;
        write!(
            f,
            "{} in {} on interface {interface}",
            instance.escape_debug(),
            domain.escape_debug()
        )
    }
}

/// A board, as one source shows it. Nothing of it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub source: Source,
    /// What it says of itself.
    pub announcement: Announcement,
    /// Where its sshd listens: newest address first, link-local ones of IPv6 with the interface as
    /// their scope. Not empty.
    pub addresses: Vec<SocketAddr>,
    /// sshd's port, the same as in every address.
    pub port: u16,
}

/// What happened at one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A board is there, or is now different.
    Seen(Box<Seen>),
    /// It is there no longer.
    Gone(Source),
}

/// How well an address serves to connect to another host, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Routable,
    Ipv6LinkLocal,
    Ipv4LinkLocal,
}

/// The rank of a service's address, or nothing if no other host can have it.
pub(super) fn rank(address: &SocketAddr) -> Option<Rank> {
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || address.port() == 0 {
        return None;
    }
    match address {
        SocketAddr::V4(v4) if v4.ip().is_broadcast() => None,
        SocketAddr::V4(v4) if v4.ip().is_link_local() => Some(Rank::Ipv4LinkLocal),
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => None,
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            (v6.scope_id() != 0).then_some(Rank::Ipv6LinkLocal)
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Some(Rank::Routable),
    }
}

/// The address of a service that was found on `interface`; only link-local ones of IPv6 have a
/// scope.
pub(super) fn socket_addr(ip: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
        IpAddr::V6(ip) => {
            let scope = if ip.is_unicast_link_local() { interface } else { 0 };
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_link_local_addresses_of_ipv6_have_a_scope() {
        let at = |ip: &str| socket_addr(ip.parse().unwrap(), 22, 3).to_string();
        assert_eq!(at("fe80::1"), "[fe80::1%3]:22");
        assert_eq!(at("fd00::1"), "[fd00::1]:22");
        assert_eq!(at("169.254.0.1"), "169.254.0.1:22");
    }

    #[test]
    fn routable_addresses_are_better_than_link_local_ones() {
        let at = |address: &str| rank(&address.parse().unwrap());
        assert!(at("10.0.0.1:22") < at("[fe80::1%3]:22"));
        assert_eq!(at("[fd00::1]:22"), at("[2001:db8::1]:22"));
        assert!(at("[fe80::1%3]:22") < at("169.254.0.1:22"));
    }

    #[test]
    fn addresses_that_no_other_host_can_have_are_refused() {
        for address in [
            "127.0.0.1:22",
            "0.0.0.0:22",
            "255.255.255.255:22",
            "224.0.0.251:22",
            "[::1]:22",
            "[::]:22",
            "[ff02::fb]:22",
            "[fe80::1]:22",
            "[::ffff:127.0.0.1]:22",
            "10.0.0.1:0",
        ] {
            assert_eq!(rank(&address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_name_is_shown_on_one_line() {
        let source = Source {
            instance: "a\n\u{1b}[2Jb".into(),
            domain: "local".into(),
            interface: 2,
            protocol: Protocol::Ipv4,
        };
        assert_eq!(source.to_string(), "a\\n\\u{1b}[2Jb in local on interface 2");
    }
}
