//! Addresses and subnets.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Complaint, begins_with_zero, scalar};
use crate::diagnostic::quote;
use crate::yaml::Node;

/// An IPv4 address.
pub(crate) fn ipv4(node: &Node) -> Result<Ipv4Addr, Complaint> {
    const WHAT: &str = "an IPv4 address like `19.0.0.1`";
    let text = scalar(WHAT, node)?;
    text.parse().map_err(|_| Complaint { help: without_zeros(text), ..Complaint::expected(WHAT, node) })
}

/// What to say of an address in which a number begins with 0: to the base of eight it is another address, and what reads it
/// takes it for the one or the other.
fn without_zeros(text: &str) -> Option<String> {
    let (address, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
    let plain: Option<Vec<String>> =
        address.split('.').map(|part| Some(part.parse::<u8>().ok()?.to_string())).collect();
    let plain = plain.filter(|parts| parts.len() == 4)?.join(".") + rest;
    let help =
        format!("a number that begins with 0 may be to the base of eight: write `{plain}`, if you mean that");
    (plain != text).then_some(help)
}

/// An address that clients can address.
pub(crate) fn vip(node: &Node) -> Result<IpAddr, Complaint> {
    const WHAT: &str = "an IPv4 address like `45.45.45.45`";
    let text = scalar(WHAT, node)?;
    let parsed = text.parse::<IpAddr>();
    match parsed.map_err(|_| Complaint { help: without_zeros(text), ..Complaint::expected(WHAT, node) })? {
        IpAddr::V6(_) => {
            Err(Complaint::with_help("IPv6 addresses come later", "give the service an IPv4 address"))
        }
        IpAddr::V4(address) => match unusable(address) {
            Some(kind) => Err(Complaint::with_help(
                format!("{address} is {kind}"),
                "give an address that clients can reach over the uplink",
            )),
            None => Ok(IpAddr::V4(address)),
        },
    }
}

/// What keeps an address from being somebody's own (RFC 6890).
fn unusable(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("of \"this network\" (0.0.0.0/8), no host's address"),
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address"),
        [224..=239, ..] => Some("a multicast address"),
        [255, 255, 255, 255] => Some("the broadcast address"),
        [240..=255, ..] => Some("of a reserved range (240.0.0.0/4)"),
        _ => None,
    }
}

/// A subnet of sensible size without host bits.
pub(crate) fn subnet(node: &Node) -> Result<Ipv4Net, Complaint> {
    const WHAT: &str = "a subnet like `19.0.0.0/24`";
    let text = scalar(WHAT, node)?;
    if text.parse::<Ipv4Addr>().is_ok() {
        let message = format!("{} has no prefix length", quote(text));
        return Err(Complaint::with_help(message, format!("write `{text}/24`, or the length you mean")));
    }
    let wrong = || Complaint { help: without_zeros(text), ..Complaint::expected(WHAT, node) };
    // Its own parser takes `010.0.0.0/24` and `10.0.0.0/024`.
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let is_plain = length.bytes().all(|byte| byte.is_ascii_digit()) && !begins_with_zero(length);
    let length = length.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
    let net = Ipv4Net::new(address, length).map_err(|_| wrong())?;
    if !(8..=30).contains(&net.prefix_len()) {
        return Err(Complaint::new(format!("a /{} can't be used: /8 to /30", net.prefix_len())));
    }
    if net.addr() != net.network() {
        let message = format!("{net} has bits set beyond its prefix");
        return Err(Complaint::with_help(message, format!("the subnet is `{}`", net.trunc())));
    }
    match unusable(net.network()) {
        Some(kind) => Err(Complaint::new(format!("{net} is {kind}"))),
        None => Ok(net),
    }
}

/// A prefix length written as a netmask.
pub(crate) fn netmask(node: &Node) -> Result<u8, Complaint> {
    let mask = ipv4(node)?;
    ipnet::ipv4_mask_to_prefix(mask)
        .map_err(|_| Complaint::with_help(format!("{mask} is not a netmask"), "a /24 is `255.255.255.0`"))
}
