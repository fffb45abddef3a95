//! Frames of both families and all protocols, and a load balancer with a service for each.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::IpAddr;

use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4::DestUnreachableHeader};
use lb_userspace::net::MacAddr;
use lb_userspace::service::{Backend, BackendState, Protocol, Reach, ServiceKey};

use crate::bed::{Bed, CLIENT_MAC, TENANT_MAC, UPLINK_MAC};

/// A family's addresses.
pub(crate) struct Family {
    pub(crate) vip: IpAddr,
    pub(crate) client: IpAddr,
    pub(crate) router: IpAddr,
    pub(crate) backend: IpAddr,
    pub(crate) gateway: IpAddr,
    pub(crate) stranger: IpAddr,
}

pub(crate) const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x44];
pub(crate) const IN: Macs = Macs(CLIENT_MAC, UPLINK_MAC);
pub(crate) const ON: Macs = Macs(TENANT_MAC.0, BACKEND_MAC);
/// The way back: what comes out has the MAC addresses that the kernel's routes give it, which no test run does.
pub(crate) const BACK: Macs = Macs(BACKEND_MAC, TENANT_MAC.0);

/// Source and destination.
#[derive(Clone, Copy)]
pub(crate) struct Macs(pub(crate) [u8; 6], pub(crate) [u8; 6]);

#[derive(Clone)]
pub(crate) enum What {
    Tcp(u16, u16),
    /// The first packet of a connection.
    Syn(u16, u16),
    Udp(u16, u16),
    Request(u16),
    Reply(u16),
    /// Port unreachable, about that packet.
    Error(Vec<u8>),
}

pub(crate) fn families() -> [Family; 2] {
    let family = |[vip, client, router, backend, gateway, stranger]: [&str; 6]| {
        let ip = |text: &str| text.parse().expect("an address");
        Family {
            vip: ip(vip),
            client: ip(client),
            router: ip(router),
            backend: ip(backend),
            gateway: ip(gateway),
            stranger: ip(stranger),
        }
    };
    [
        family(["45.45.45.45", "198.51.100.7", "203.0.113.1", "19.0.0.2", "19.0.0.1", "20.0.0.2"]),
        family([
            "2001:db8:45::45",
            "2001:db8:51::7",
            "2001:db8:113::1",
            "2001:db8:19::2",
            "2001:db8:19::1",
            "2001:db8:20::2",
        ]),
    ]
}

/// A frame with some data, all of its checksums right.
pub(crate) fn frame(macs: Macs, from: IpAddr, to: IpAddr, hops: u8, what: &What) -> Vec<u8> {
    let data: &[u8] = if let What::Error(quoted) = what { quoted } else { b"some data" };
    let ethernet = PacketBuilder::ethernet2(macs.0, macs.1);
    let is_v6 = from.is_ipv6();
    let packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), hops),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), hops),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    let written = match what {
        What::Tcp(from, to) => packet.tcp(*from, *to, 7, 1_000).ack(8).write(&mut frame, data),
        What::Syn(from, to) => packet.tcp(*from, *to, 7, 1_000).syn().write(&mut frame, data),
        What::Udp(from, to) => packet.udp(*from, *to).write(&mut frame, data),
        What::Request(id) if is_v6 => packet.icmpv6_echo_request(*id, 1).write(&mut frame, data),
        What::Request(id) => packet.icmpv4_echo_request(*id, 1).write(&mut frame, data),
        What::Reply(id) if is_v6 => packet.icmpv6_echo_reply(*id, 1).write(&mut frame, data),
        What::Reply(id) => packet.icmpv4_echo_reply(*id, 1).write(&mut frame, data),
        What::Error(_) if is_v6 => packet
            .icmpv6(Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port))
            .write(&mut frame, data),
        What::Error(_) => packet
            .icmpv4(Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port))
            .write(&mut frame, data),
    };
    written.expect("a packet");
    frame
}

/// A packet as an error quotes it.
pub(crate) fn quoted(from: IpAddr, to: IpAddr, what: &What) -> Vec<u8> {
    frame(IN, from, to, 50, what)[14..].to_vec()
}

/// Has a client ask by each protocol: what answers that is let out.
pub(crate) fn ask(bed: &Bed, client: IpAddr, vip: IpAddr) {
    for what in [What::Tcp(40_000, 443), What::Udp(40_000, 53), What::Request(9)] {
        bed.uplink(&frame(IN, client, vip, 64, &what));
    }
}

/// Services of all protocols on one VIP of each family, TCP and UDP with translated ports.
pub(crate) fn bed() -> Bed {
    let mut bed = Bed::with_room_for(10);
    for family in families() {
        let mac = MacAddr(BACKEND_MAC);
        let reach = Reach::Link { interface: bed.interface, source_mac: TENANT_MAC, mac };
        let backend = Backend { address: family.backend, reach, weight: 1, state: BackendState::Active };
        for (protocol, port, target_port) in [
            (Protocol::Tcp, Some(443), Some(8443)),
            (Protocol::Udp, Some(53), Some(5353)),
            (Protocol::Icmp, None, None),
        ] {
            bed.translate(ServiceKey { vip: family.vip, protocol, port }, target_port, &[backend]);
        }
    }
    bed
}
