//! Which addresses can't be a VIP, given the addresses of a host.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Why an address can't be a VIP on a host: packets to it are the host's own affair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VipFault {
    /// The host has it.
    #[error(
        "{vip} is an address of the host itself, on its interface `{interface}`: as a VIP it would take what is meant for \
         the host, ssh and answers to its own connections too"
    )]
    OfHost {
        /// The address.
        vip: Ipv4Addr,
        /// The interface that has it.
        interface: String,
    },
    /// No machine can have it.
    #[error("{vip} is the {part} address of {net}, the network of the interface `{interface}`")]
    OfNetwork {
        /// The address.
        vip: Ipv4Addr,
        /// `network` or `broadcast`.
        part: &'static str,
        /// The network.
        net: Ipv4Net,
        /// The interface that is on it.
        interface: String,
    },
}

impl VipFault {
    /// Judges an address by those of a host's interfaces; the VIPs that are there already are not among them.
    pub fn of<'a>(vip: Ipv4Addr, addresses: impl IntoIterator<Item = (&'a str, Ipv4Net)>) -> Option<Self> {
        let judge = |(interface, net): (&str, Ipv4Net)| {
            let interface = interface.to_owned();
            // A network of one or two addresses has no others (RFC 3021).
            let part = match vip {
                _ if vip == net.addr() => return Some(Self::OfHost { vip, interface }),
                _ if net.prefix_len() > 30 => return None,
                _ if vip == net.network() => "network",
                _ if vip == net.broadcast() => "broadcast",
                _ => return None,
            };
            Some(Self::OfNetwork { vip, part, net: net.trunc(), interface })
        };
        addresses.into_iter().filter_map(judge).min_by_key(|fault| matches!(fault, Self::OfNetwork { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_host_or_of_its_network_is_no_vip() {
        let addresses = [("eth0", "198.51.100.1/24"), ("ppp0", "192.0.2.4/31"), ("lo", "203.0.113.9/32")];
        let fault = |vip: &str| {
            let addresses = addresses.map(|(name, net)| (name, net.parse().unwrap()));
            VipFault::of(vip.parse().unwrap(), addresses).map(|fault| fault.to_string())
        };
        for (vip, said) in [
            ("198.51.100.1", "of the host itself, on its interface `eth0`"),
            ("203.0.113.9", "`lo`"),
            ("192.0.2.4", "`ppp0`"),
            ("198.51.100.0", "the network address of 198.51.100.0/24"),
            ("198.51.100.255", "the broadcast address of 198.51.100.0/24"),
        ] {
            assert!(fault(vip).is_some_and(|fault| fault.contains(said)), "{vip}: {:?}", fault(vip));
        }
        for vip in ["198.51.100.2", "192.0.2.5", "203.0.113.8", "45.45.45.45"] {
            assert_eq!(fault(vip), None);
        }
    }
}
