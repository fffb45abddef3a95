//! Services as people write them.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::{Protocol, ServiceKey};

/// Why a text names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a service: write it as 45.45.45.45:80/tcp, [2001:db8::1]:53/udp, 45.45.45.45:*/tcp for every port, or \
     45.45.45.45/icmp"
)]
pub struct BadServiceKey(String);

impl FromStr for ServiceKey {
    type Err = BadServiceKey;

    /// Reads what [`Display`](std::fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, BadServiceKey> {
        read(text).ok_or_else(|| BadServiceKey(text.to_owned()))
    }
}

fn read(text: &str) -> Option<ServiceKey> {
    let (endpoint, protocol) = text.rsplit_once('/')?;
    let protocol = Protocol::ALL.into_iter().find(|known| known.to_string() == protocol)?;
    if protocol == Protocol::Icmp {
        return Some(ServiceKey { vip: endpoint.parse().ok()?, protocol, port: None });
    }
    if let Some(vip) = endpoint.strip_suffix(":*") {
        let vip = vip.strip_prefix('[').and_then(|vip| vip.strip_suffix(']')).unwrap_or(vip);
        return Some(ServiceKey { vip: vip.parse().ok()?, protocol, port: None });
    }
    let endpoint: SocketAddr = endpoint.parse().ok()?;
    (endpoint.port() != 0).then(|| ServiceKey { vip: endpoint.ip(), protocol, port: Some(endpoint.port()) })
}

/// Some services: one, or all at a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceSelector {
    /// This one.
    One(ServiceKey),
    /// All at this address.
    Vip(IpAddr),
}

impl ServiceSelector {
    /// Whether a service is among them.
    #[must_use]
    pub fn selects(&self, key: &ServiceKey) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Vip(vip) => *vip == key.vip,
        }
    }
}

impl FromStr for ServiceSelector {
    type Err = BadServiceKey;

    fn from_str(text: &str) -> Result<Self, BadServiceKey> {
        match text.parse() {
            Ok(vip) => Ok(Self::Vip(vip)),
            Err(_) => text.parse().map(Self::One),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "45.45.45.45:80/tcp",
            "45.45.45.45:*/tcp",
            "45.45.45.45:53/udp",
            "45.45.45.45/icmp",
            "[2001:db8::1]:443/tcp",
            "[2001:db8::1]:*/udp",
            "2001:db8::1/icmp",
        ] {
            let key: ServiceKey = text.parse().expect(text);
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn what_names_no_service_is_refused_with_the_way_to_write_it() {
        for text in [
            "",
            "45.45.45.45",
            "45.45.45.45:80",
            "45.45.45.45:0/tcp",
            "45.45.45.45:80/icmp",
            "x:80/tcp",
            "/tcp",
        ] {
            let error = text.parse::<ServiceKey>().expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("/icmp"), "{error}");
        }
    }

    #[test]
    fn an_address_alone_selects_all_its_services() {
        let http: ServiceKey = "45.45.45.45:80/tcp".parse().expect("a service");
        let ping: ServiceKey = "45.45.45.45/icmp".parse().expect("a service");
        let vip: ServiceSelector = "45.45.45.45".parse().expect("a selector");
        assert!(vip.selects(&http) && vip.selects(&ping));
        let one: ServiceSelector = "45.45.45.45:80/tcp".parse().expect("a selector");
        assert!(one.selects(&http) && !one.selects(&ping));
    }
}
