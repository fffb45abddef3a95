//! What clients address.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a service carries.
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

/// Who shares a service's new flows evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Each instance gets as many as any other.
    #[default]
    ByInstance,
    /// Each cloud gets as many as any other, however many instances it has; within it, each instance does. As in the
    /// original system.
    ByCloud,
}

/// What clients address: a VIP, a protocol, and for TCP and UDP a port or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The public address.
    pub vip: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; `None` is every port (TCP and UDP), and the only choice for ICMP.
    pub port: Option<u16>,
    /// The instances' port, where it isn't the one that clients address; only with a `port`.
    #[serde(default)]
    pub target_port: Option<u16>,
    /// Who shares new flows evenly.
    #[serde(default)]
    pub spread: Spread,
    /// A new instance's share grows to its full size over so long; zero: it has it at once.
    #[serde(default)]
    pub slow_start: Duration,
}

impl ServiceSpec {
    /// A service as its address alone says: ports as they are, new flows by instance, no slow start.
    #[must_use]
    pub const fn new(vip: IpAddr, protocol: Protocol, port: Option<u16>) -> Self {
        let (target_port, spread, slow_start) = (None, Spread::ByInstance, Duration::ZERO);
        Self { vip, protocol, port, target_port, spread, slow_start }
    }

    /// Whether both are at the same address, so that a packet couldn't be told to be one's.
    #[must_use]
    pub fn is_twin_of(&self, other: &Self) -> bool {
        (self.vip, self.protocol, self.port) == (other.vip, other.protocol, other.port)
    }

    /// Whether an instance's answers for the two couldn't be told from one another: they leave from the same port, or
    /// for one of the two from any. A service of every port and one of a single untranslated port go together at one VIP:
    /// answers from that port are the latter's, as packets to it are.
    #[must_use]
    pub fn answers_clash_with(&self, other: &Self) -> bool {
        if self.protocol != other.protocol || self.vip.is_ipv4() != other.vip.is_ipv4() {
            return false;
        }
        let go_together = |single: &Self| self.vip == other.vip && single.is_untranslated();
        match (self.port, other.port) {
            (None, Some(_)) => !go_together(other),
            (Some(_), None) => !go_together(self),
            _ => self.answer_port() == other.answer_port(),
        }
    }

    fn is_untranslated(&self) -> bool {
        self.target_port.is_none() || self.target_port == self.port
    }

    /// The port that answers leave the instance from; `None` is any.
    fn answer_port(&self) -> Option<u16> {
        self.target_port.or(self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(vip: &str, port: Option<u16>, target_port: Option<u16>) -> ServiceSpec {
        let vip = vip.parse().expect("an address");
        ServiceSpec { target_port, ..ServiceSpec::new(vip, Protocol::Tcp, port) }
    }

    #[test]
    fn answers_clash_where_they_leave_from_one_port() {
        let one = "45.45.45.45";
        let every = service(one, None, None);
        let http = service(one, Some(80), None);
        let translated = service(one, Some(443), Some(8443));
        for (a, b, clash) in [
            (every, http, false),
            (every, translated, true),
            (http, translated, false),
            (service(one, Some(8443), None), translated, true),
            (service(one, Some(444), Some(8443)), translated, true),
            (service(one, Some(80), Some(80)), every, false),
            (service("45.45.45.46", Some(80), None), every, true),
            (service("45.45.45.46", Some(80), None), http, true),
            (service("45.45.45.46", Some(80), Some(81)), http, false),
            (service("2001:db8::1", Some(80), None), http, false),
        ] {
            assert_eq!(a.answers_clash_with(&b), clash, "{a:?} {b:?}");
            assert_eq!(b.answers_clash_with(&a), clash, "{b:?} {a:?}");
        }
        let udp = ServiceSpec { protocol: Protocol::Udp, ..http };
        assert!(!udp.answers_clash_with(&http));
    }
}
