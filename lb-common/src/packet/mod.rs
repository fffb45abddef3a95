//! Reading a frame, and what it becomes.

mod frame;
mod ipv4;
mod ipv6;
mod quote;
mod reply;
mod rewrite;
#[cfg(test)]
mod tests;
mod transport;
mod verify;

pub use frame::{Fields, Frame, FrameMut};
pub use ipv4::parse as parse_ipv4;
pub use ipv6::{LONGEST_EXTENSIONS, MOST_EXTENSIONS, parse as parse_ipv6};
pub use quote::{Quote, quoted};
pub use reply::{
    Fault, LONGEST_QUOTE, RESET_IPV4, RESET_IPV6, error_head_ipv4, error_head_ipv6, may_be_answered,
    reset_ipv4, reset_ipv6, sum_of_quote,
};
pub use rewrite::End;
pub use transport::{Segment, Transport, is_intact, segment, tcp_flag};
pub use verify::bare_segment_is_sound;

use crate::abi::{Address, DropReason};

/// Length of an Ethernet header without tags (IEEE 802.3).
pub const ETHERNET: usize = 14;
/// Length of an IPv4 header without options (RFC 791).
pub const IPV4: usize = 20;
/// Length of an IPv6 header without extension headers (RFC 8200).
pub const IPV6: usize = 40;
/// Length of a TCP header without options (RFC 9293).
pub const TCP: usize = 20;
/// Length of a UDP header (RFC 768).
pub const UDP: usize = 8;
/// Length of an ICMP echo or error header (RFC 792, RFC 4443).
pub const ICMP: usize = 8;

/// Length of the longest headers that a packet has but for rare ones: an IPv4 header with all its options, or an IPv6
/// header, and a TCP header's fixed part.
pub const LONGEST_HEADERS: usize = ETHERNET + 60 + TCP;

/// The `EtherType` of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// The `EtherType` of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// The `EtherType` of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The Ethernet address of an instance: locally administered, and a function of its IPv4 address.
#[inline(always)]
#[must_use]
pub const fn mac_of_instance([a, b, c, d]: [u8; 4]) -> [u8; 6] {
    [0x02, 0x51, a, b, c, d]
}

/// The `EtherType` of a VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// The `EtherType` of a provider's VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8;

/// Length of a VLAN tag.
pub const VLAN_TAG: usize = 4;

/// Whether a frame's VLAN tag gives it a priority only, and no VLAN (IEEE 802.1Q, 9.6): it is as one without a tag. The
/// frame begins with a tag.
#[inline(always)]
#[must_use]
pub fn is_priority_tag(tag: [u8; 2]) -> bool {
    const VLAN: u16 = 0x0fff;
    u16::from_be_bytes(tag) & VLAN == 0
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// IPv4 or IPv6.
    Ip(Packet),
    /// ARP for IPv4 and Ethernet.
    Arp,
    /// Something else: VLAN tags, …
    Other,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its addresses, and the like.
    pub header: Header,
    /// Its time to live, or its hop limit.
    pub hops: u8,
    /// The protocol number of the payload.
    pub protocol: u8,
    /// The payload's offset in the frame, after options and extension headers.
    pub payload: usize,
    /// The offset at which the packet ends; the frame may be padded beyond it.
    pub end: usize,
    /// Which part of a packet this is.
    pub part: Part,
    /// What the packet carries.
    pub transport: Transport,
}

/// The addresses of a packet, and what else its header has that its way depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The source address.
    pub source: Address,
    /// The destination address.
    pub destination: Address,
    /// What differs between IPv4 and IPv6.
    pub version: Version,
}

/// What differs between the headers of IPv4 and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4 {
        /// The header checksum, as it stands in memory.
        checksum: u16,
        /// Whether no router may fragment it.
        dont_fragment: bool,
    },
    /// IPv6.
    V6,
}

/// A whole packet, or a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The fragment that has the payload's header.
    First {
        /// What all fragments of the packet share.
        identification: u32,
    },
    /// A fragment without the payload's header.
    Later {
        /// What all fragments of the packet share.
        identification: u32,
    },
}

impl Header {
    /// Whether a router may fragment the packet; an IPv6 packet only its sender may.
    #[inline(always)]
    #[must_use]
    pub const fn may_be_fragmented(&self) -> bool {
        matches!(self.version, Version::V4 { dont_fragment: false, .. })
    }

    /// Whether a host on another link can have sent this: its source is one host's own address, valid beyond its link.
    ///
    /// Not so `0.0.0.0/8`, `127.0.0.0/8`, and what begins at `224.0.0.0`: this network, loopback, multicast, reserved and
    /// broadcast. IPv4 link-local addresses are let through, since hosts on the uplink's link may have no other. Of IPv6 not
    /// `::/64`, which has the unspecified, the loopback and the IPv4-mapped addresses, nor multicast and link-local ones:
    /// an instance would look for the latter on its own link (RFC 4291, 2.5.6).
    #[inline(always)]
    #[must_use]
    pub const fn has_possible_source(&self) -> bool {
        match self.version {
            Version::V4 { .. } => {
                let first = self.source.v4_octets()[0];
                first != 127 && first.wrapping_sub(1) < 223
            }
            Version::V6 => {
                self.source.words()[0] != 0 && self.source.bytes[0] != 0xff && !is_link_local(&self.source)
            }
        }
    }

    /// Whether the destination is on the sender's own link, or everybody there: multicast, broadcast, IPv6 link-local.
    #[inline(always)]
    #[must_use]
    pub const fn is_to_link(&self) -> bool {
        match self.version {
            Version::V4 { .. } => {
                let octets = self.destination.v4_octets();
                octets[0] & 0xf0 == 224 || u32::from_ne_bytes(octets) == u32::MAX
            }
            Version::V6 => self.destination.bytes[0] == 0xff || is_link_local(&self.destination),
        }
    }

    /// Whether the source is one that is valid on the sender's own link only: unspecified, or link-local.
    #[inline(always)]
    #[must_use]
    pub const fn is_from_link(&self) -> bool {
        match self.version {
            Version::V4 { .. } => {
                let [a, b, ..] = self.source.v4_octets();
                a == 169 && b == 254 || u32::from_ne_bytes(self.source.v4_octets()) == 0
            }
            Version::V6 => {
                let [high, low] = self.source.words();
                high == 0 && low == 0 || is_link_local(&self.source)
            }
        }
    }

    /// Whether this is an IPv6 header.
    #[inline(always)]
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        matches!(self.version, Version::V6)
    }
}

/// `fe80::/10` (RFC 4291, 2.5.6).
#[inline(always)]
#[must_use]
pub const fn is_link_local(address: &Address) -> bool {
    address.bytes[0] == 0xfe && address.bytes[1] & 0xc0 == 0x80
}

/// The `EtherType` of a frame.
///
/// # Errors
///
/// Where the frame ends before it.
#[inline(always)]
pub fn ethertype<F: Frame + ?Sized>(frame: &F) -> Result<u16, DropReason> {
    let ethertype = frame.read::<2>(ETHERNET - 2).ok_or(DropReason::EthernetTruncated)?;
    Ok(u16::from_be_bytes(ethertype))
}

/// Reads a frame as far as balancing needs.
///
/// Checksums aren't verified: they are updated, so that a wrong one stays wrong and the receiver drops the packet.
///
/// # Errors
///
/// The reason for which a malformed packet is to be dropped.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Parsed, DropReason> {
    match ethertype(frame)? {
        ETHERTYPE_IPV4 => parse_ipv4(frame).map(Parsed::Ip),
        ETHERTYPE_IPV6 => parse_ipv6(frame).map(Parsed::Ip),
        ETHERTYPE_ARP => Ok(Parsed::Arp),
        _ => Ok(Parsed::Other),
    }
}
