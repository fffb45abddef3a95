//! What the uplink is at the moment, as far as the programs have to know.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use lb_common::abi::{Address, default_route};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::{SockaddrIn, SockaddrStorage};

use super::Error;
use crate::net::Netns;

/// What the uplink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uplink {
    /// Its Ethernet address; `None` where it has none.
    pub(super) mac: Option<[u8; 6]>,
    /// Its own addresses, and those of broadcasts on its link; VIPs among them.
    pub(super) addresses: BTreeSet<Address>,
    /// The families whose default route leads by it: bits of [`default_route`].
    pub(super) default_routes: u32,
}

/// What the interface of that name is; `None` where there is none.
pub(super) fn observe(netns: &Netns, interface: &str) -> Result<Option<Uplink>, Error> {
    let observed =
        netns.run(|| read(interface)).map_err(Error::file("entering the namespace of", interface))?;
    observed.map_err(Error::file("reading addresses and routes of", interface))
}

fn read(interface: &str) -> io::Result<Option<Uplink>> {
    let entries: Vec<_> = getifaddrs()?.filter(|entry| entry.interface_name == interface).collect();
    if entries.is_empty() {
        return Ok(None);
    }
    // Of this thread: the process is in another namespace.
    let route_v4 = has_default_v4(&optional("/proc/thread-self/net/route")?, interface);
    let route_v6 = has_default_v6(&optional("/proc/thread-self/net/ipv6_route")?, interface);
    let bit = |has: bool, bit| if has { bit } else { 0 };
    Ok(Some(Uplink {
        mac: entries.iter().find_map(mac),
        addresses: entries.iter().flat_map(addresses).collect(),
        default_routes: bit(route_v4, default_route::IPV4) | bit(route_v6, default_route::IPV6),
    }))
}

/// A file's text; nothing where there is no such file, as of IPv6 where the kernel has none.
fn optional(path: &str) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

fn mac(entry: &InterfaceAddress) -> Option<[u8; 6]> {
    entry.address.as_ref()?.as_link_addr()?.addr().filter(|mac| *mac != [0; 6])
}

/// An entry's address, and that of its link's broadcasts.
fn addresses(entry: &InterfaceAddress) -> impl Iterator<Item = Address> + use<> {
    let v4 = |address: &SockaddrStorage| address.as_sockaddr_in().map(SockaddrIn::ip);
    let v6 = |address: &SockaddrStorage| {
        address.as_sockaddr_in6().map(|address| Address::v6(address.ip().octets()))
    };
    let own_v4 = entry.address.as_ref().and_then(v4);
    let mask = entry.netmask.as_ref().and_then(v4);
    let broadcast = own_v4.zip(mask).and_then(|(address, mask)| broadcast_of(address, mask));
    let own_v6 = entry.address.as_ref().and_then(v6);
    own_v4.into_iter().chain(broadcast).map(|address| Address::v4(address.octets())).chain(own_v6)
}

/// The last address of a link's subnet, whether or not the interface was told that it is for broadcasts; none where the
/// subnet has no room for it (RFC 3021).
fn broadcast_of(address: Ipv4Addr, mask: Ipv4Addr) -> Option<Ipv4Addr> {
    (mask.to_bits().count_zeros() > 1).then(|| Ipv4Addr::from_bits(address.to_bits() | !mask.to_bits()))
}

/// Whether `/proc/net/route` has a default route by the interface.
fn has_default_v4(routes: &str, interface: &str) -> bool {
    const UP: u32 = 1;
    const REJECT: u32 = 0x200;
    routes.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, destination, _, flags, _, _, _, mask, ..] = fields[..] else { return false };
        let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
        name == interface && destination == "00000000" && mask == "00000000" && flags & (UP | REJECT) == UP
    })
}

/// Whether `/proc/net/ipv6_route` has one.
fn has_default_v6(routes: &str, interface: &str) -> bool {
    routes.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, .., name] = fields[..] else { return false };
        name == interface && length == "00" && destination.bytes().all(|digit| digit == b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::{Ipv4Addr, broadcast_of, has_default_v4, has_default_v6};

    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
mgmt0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
up0\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
up1\t00000000\t016433C6\t0003\t0\t0\t200\t00000000\t0\t0\t0
";

    #[test]
    fn a_default_route_is_an_interfaces_own() {
        for (interface, expected) in [("mgmt0", true), ("up0", false), ("up1", true), ("none", false)] {
            assert_eq!(has_default_v4(V4, interface), expected, "{interface}");
        }
        assert!(!has_default_v4("", "up0"));
    }

    #[test]
    fn a_subnet_has_a_broadcast_address_where_there_is_room() {
        let of = |address: [u8; 4], mask: [u8; 4]| broadcast_of(address.into(), mask.into());
        assert_eq!(of([198, 51, 100, 1], [255, 255, 255, 0]), Some(Ipv4Addr::new(198, 51, 100, 255)));
        assert_eq!(of([198, 51, 100, 1], [255, 255, 255, 252]), Some(Ipv4Addr::new(198, 51, 100, 3)));
        assert_eq!(of([198, 51, 100, 1], [255, 255, 255, 254]), None);
        assert_eq!(of([198, 51, 100, 80], [255; 4]), None, "a VIP");
    }

    #[test]
    fn a_route_that_rejects_is_none() {
        let rejects = V4.replace("mgmt0\t00000000\t010200C0\t0003", "mgmt0\t00000000\t010200C0\t0203");
        assert!(!has_default_v4(&rejects, "mgmt0"));
    }

    #[test]
    fn a_default_route_of_ipv6_has_no_prefix() {
        let zero = "0".repeat(32);
        let line = |destination: &str, length: &str, name: &str| {
            format!("{destination} {length} {zero} 00 {zero} 00000400 00000001 00000000 00000003 {name:>8}\n")
        };
        let routes = line(&format!("20010db8{}", "0".repeat(24)), "40", "up0") + &line(&zero, "00", "up1");
        assert!(has_default_v6(&routes, "up1") && !has_default_v6(&routes, "up0"));
    }
}
