//! Frames that an instance sends in the name of others.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket, EtherType, Ethernet2Header, PacketBuilder};
use lb_userspace::net::{FrameSender, Links, MacAddr, Netns};

const EVERYBODY: MacAddr = MacAddr([0xff; 6]);

/// An instance that says whatever it likes.
pub(crate) struct Liar {
    sender: FrameSender,
    interface: u32,
    mac: MacAddr,
}

impl Liar {
    pub(crate) async fn on(netns: &Netns, interface: &str) -> Self {
        let link = Links::open(netns).expect("netlink").get(interface).await.expect("an interface");
        let sender = FrameSender::open(netns).expect("a socket");
        Self { sender, interface: link.index, mac: link.mac.expect("Ethernet") }
    }

    /// Asks for an address in the name of another, says that the other one is here, and pings the address from there.
    pub(crate) fn speak_as(&self, other: Ipv4Addr, target: (Ipv4Addr, MacAddr)) {
        self.send(&arp(self.mac, EVERYBODY, ArpOperation::REQUEST, other, target.0));
        self.send(&arp(self.mac, EVERYBODY, ArpOperation::REQUEST, other, other));
        self.send(&arp(self.mac, target.1, ArpOperation::REPLY, other, target.0));
        let mut ping = Vec::new();
        let headers = PacketBuilder::ethernet2(self.mac.0, target.1.0)
            .ipv4(other.octets(), target.0.octets(), 64)
            .icmpv4_echo_request(7, 1);
        headers.write(&mut ping, b"ping").expect("a frame");
        self.send(&ping);
    }

    fn send(&self, frame: &[u8]) {
        self.sender.send(self.interface, frame).expect("sent");
    }
}

fn arp(from: MacAddr, to: MacAddr, operation: ArpOperation, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let ethernet = Ethernet2Header { source: from.0, destination: to.0, ether_type: EtherType::ARP };
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: from.0,
        sender_ipv4: sender.octets(),
        target_mac: to.0,
        target_ipv4: target.octets(),
    };
    let mut frame = ethernet.to_bytes().to_vec();
    frame.extend(ArpPacket::from(packet).to_bytes());
    frame
}
