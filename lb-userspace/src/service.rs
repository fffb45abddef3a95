//! What the load balancer is asked to do: services and their backends.

mod text;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::net::MacAddr;

pub use text::{BadServiceKey, ServiceSelector};

/// The protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// ICMP echo; `ICMPv6` echo where the VIP is an IPv6 address.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Icmp, Self::Tcp, Self::Udp];
}

/// What clients address.
///
/// ```
/// use lb_userspace::service::{Protocol, ServiceKey};
///
/// let web: ServiceKey = "45.45.45.45:80/tcp".parse()?;
/// assert_eq!((web.protocol, web.port), (Protocol::Tcp, Some(80)));
/// let ping: ServiceKey = "45.45.45.45/icmp".parse()?;
/// assert_eq!(ping.to_string(), "45.45.45.45/icmp");
/// # Ok::<(), lb_userspace::service::BadServiceKey>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The public address.
    pub vip: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; `None` is every port (TCP and UDP), and the only choice for ICMP.
    pub port: Option<u16>,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vip, protocol, port } = self;
        match (protocol, port) {
            (Protocol::Icmp, _) => write!(f, "{vip}/icmp"),
            (_, Some(port)) => write!(f, "{}/{protocol}", SocketAddr::new(*vip, *port)),
            (_, None) if vip.is_ipv6() => write!(f, "[{vip}]:*/{protocol}"),
            (_, None) => write!(f, "{vip}:*/{protocol}"),
        }
    }
}

/// What a backend may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// New flows and old ones.
    Active,
    /// Old flows; new ones only while no backend of the service is active, and the service isn't
    /// [`closing`](Service::closing).
    Draining,
    /// Old flows, and no new one, also where no other backend is left: it is being told to stop, and what ends its flows has
    /// to reach their clients. Its weight is 0.
    Stopping,
    /// Nothing: it is gone or not answering.
    Down,
}

/// How packets get to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reach {
    /// Over an interface of the transit namespace, on whose link the backend is.
    Link {
        /// The interface's index in the transit namespace.
        interface: u32,
        /// The interface's MAC address: frames to the backend come from it.
        source_mac: MacAddr,
        /// The backend's MAC address.
        mac: MacAddr,
    },
}

/// An instance as the load balancer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its address, unique on the host, of the VIP's family. An instance with an address of each is two backends.
    pub address: IpAddr,
    /// How packets get to it.
    pub reach: Reach,
    /// Its share of new flows, relative to the others'; 1 where all are equal.
    pub weight: u16,
    /// What it may be given.
    pub state: BackendState,
}

/// A service and all that answer for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What clients address.
    pub key: ServiceKey,
    /// The backends' port, where it isn't the one that clients address; needs a service of one port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// Whether it ends: then its draining backends take no new flow, also where none is active.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
    /// Who answers, in any order.
    pub backends: Vec<Backend>,
}

impl Service {
    /// Whether its draining backends take its new flows, as none is active: one that still serves is better than none.
    ///
    /// ```
    /// use lb_userspace::net::MacAddr;
    /// use lb_userspace::service::{Backend, BackendState, Reach, Service};
    ///
    /// let reach = Reach::Link {
    ///     interface: 7,
    ///     source_mac: "02:00:00:00:00:01".parse()?,
    ///     mac: MacAddr::of_instance("19.0.0.2".parse()?),
    /// };
    /// let backend = |address: &str, state| {
    ///     address.parse().map(|address| Backend { address, reach, weight: 1, state })
    /// };
    /// let mut service = Service {
    ///     key: "45.45.45.45:80/tcp".parse()?,
    ///     target_port: None,
    ///     closing: false,
    ///     backends: vec![backend("19.0.0.2", BackendState::Draining)?],
    /// };
    /// assert!(service.draining_serve());
    /// service.backends.push(backend("19.0.0.3", BackendState::Active)?);
    /// assert!(!service.draining_serve());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn draining_serve(&self) -> bool {
        let is_there =
            |state| self.backends.iter().any(|backend| backend.state == state && backend.weight > 0);
        !self.closing && !is_there(BackendState::Active) && is_there(BackendState::Draining)
    }

    /// Whether the two can't be applied together, since a backend would answer for both from the same port: then its
    /// answers couldn't be told from one another.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        let shared =
            |backend: &Backend| other.backends.iter().any(|theirs| theirs.address == backend.address);
        self.key != other.key
            && crate::lb::answers_clash((&self.key, self.target_port), (&other.key, other.target_port))
            && self.backends.iter().any(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_as_people_write_it() {
        let written = |vip: &str, protocol, port| {
            ServiceKey { vip: vip.parse().expect("an address"), protocol, port }.to_string()
        };
        assert_eq!(written("45.45.45.45", Protocol::Tcp, Some(80)), "45.45.45.45:80/tcp");
        assert_eq!(written("45.45.45.45", Protocol::Udp, None), "45.45.45.45:*/udp");
        assert_eq!(written("2001:db8::1", Protocol::Udp, Some(53)), "[2001:db8::1]:53/udp");
        assert_eq!(written("2001:db8::1", Protocol::Tcp, None), "[2001:db8::1]:*/tcp");
        assert_eq!(written("2001:db8::1", Protocol::Icmp, None), "2001:db8::1/icmp");
    }
}
