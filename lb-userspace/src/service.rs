//! What the load balancer is asked to do: services and their backends.

mod text;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::net::MacAddr;

pub use text::{BadServiceKey, ServiceSelector};

/// The protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// ICMP echo.
    Icmp,
    /// TCP.
    Tcp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Icmp, Self::Tcp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
        })
    }
}

/// What clients address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The public address.
    pub vip: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; `None` is every port (TCP), and the only choice for ICMP.
    pub port: Option<u16>,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, self.port) {
            (Protocol::Icmp, _) => write!(f, "{}/icmp", self.vip),
            (Protocol::Tcp, Some(port)) => write!(f, "{}:{port}/tcp", self.vip),
            (Protocol::Tcp, None) => write!(f, "{}:*/tcp", self.vip),
        }
    }
}

/// What a backend may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// New flows and old ones.
    Active,
    /// Old flows only.
    Draining,
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
    /// Its address, unique on the host.
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
    /// Who answers, in any order.
    pub backends: Vec<Backend>,
}
