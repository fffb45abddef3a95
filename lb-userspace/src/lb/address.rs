//! Addresses as people and as the maps have them.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::abi::Address;

use super::Error;

/// For a map; IPv6 is refused for as long as the programs don't balance it.
pub(super) fn from_ip(ip: IpAddr) -> Result<Address, Error> {
    match ip {
        IpAddr::V4(ip) => Ok(Address::v4(ip.octets())),
        IpAddr::V6(_) => Err(Error::NotIpv4(ip)),
    }
}

/// From a map.
pub(super) fn to_ip(address: &Address) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(address.v4_octets()))
}
