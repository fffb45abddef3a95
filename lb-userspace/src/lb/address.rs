//! Addresses as people and as the maps have them.

use std::net::{IpAddr, Ipv6Addr};

use lb_common::abi::Address;

/// For a map. An IPv4 address in its IPv6 form is that IPv4 address.
pub(super) fn from_ip(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::v4(ip.octets()),
        IpAddr::V6(ip) => Address::v6(ip.octets()),
    }
}

/// From a map.
pub(super) fn to_ip(address: &Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(address.bytes)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::{from_ip, to_ip};

    #[test]
    fn to_a_map_and_back() {
        for text in ["19.0.0.2", "2001:db8::1", "::"] {
            let ip = text.parse().expect("an address");
            assert_eq!(to_ip(&from_ip(ip)), ip);
        }
        let mapped = "::ffff:19.0.0.2".parse().expect("an address");
        assert_eq!(to_ip(&from_ip(mapped)).to_string(), "19.0.0.2");
    }
}
