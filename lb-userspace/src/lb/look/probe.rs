//! The packet that is asked about.

use std::io;
use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::explain::Question;
use crate::lb::Error;
use crate::service::Protocol;

/// Locally administered, and of nobody: the program doesn't look at it.
const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Linux's own hop limit.
const HOPS: u8 = 64;

/// A frame of the flow to the uplink with this Ethernet address, as short as its protocol has them.
pub(super) fn frame(question: &Question, uplink: [u8; 6]) -> Result<Vec<u8>, Error> {
    let Question { client, to, protocol, begins } = *question;
    let ethernet = PacketBuilder::ethernet2(SOURCE, uplink);
    let other_family =
        || io::Error::new(io::ErrorKind::InvalidInput, "client and VIP are of different families");
    let packet = match (client.ip(), to.ip()) {
        (IpAddr::V4(client), IpAddr::V4(to)) => ethernet.ipv4(client.octets(), to.octets(), HOPS),
        (IpAddr::V6(client), IpAddr::V6(to)) => ethernet.ipv6(client.octets(), to.octets(), HOPS),
        _ => return Err(Error::file("asking about", to.to_string())(other_family())),
    };
    let mut frame = Vec::new();
    let written = match protocol {
        Protocol::Tcp if begins => {
            packet.tcp(client.port(), to.port(), 1, u16::MAX).syn().write(&mut frame, &[])
        }
        Protocol::Tcp => packet.tcp(client.port(), to.port(), 2, u16::MAX).ack(1).write(&mut frame, &[]),
        Protocol::Udp => packet.udp(client.port(), to.port()).write(&mut frame, &[]),
        Protocol::Icmp if to.is_ipv6() => packet.icmpv6_echo_request(client.port(), 1).write(&mut frame, &[]),
        Protocol::Icmp => packet.icmpv4_echo_request(client.port(), 1).write(&mut frame, &[]),
    };
    written.map_err(|error| Error::file("making a packet to", to.to_string())(io::Error::other(error)))?;
    Ok(frame)
}

/// Where a frame goes; port 0 for ICMP.
pub(super) fn destination(frame: &[u8]) -> Option<SocketAddr> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let address = match packet.net? {
        NetSlice::Ipv4(ip) => IpAddr::V4(ip.header().destination_addr()),
        NetSlice::Ipv6(ip) => IpAddr::V6(ip.header().destination_addr()),
        NetSlice::Arp(_) => return None,
    };
    let port = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp.destination_port(),
        Some(TransportSlice::Udp(udp)) => udp.destination_port(),
        _ => 0,
    };
    Some(SocketAddr::new(address, port))
}
