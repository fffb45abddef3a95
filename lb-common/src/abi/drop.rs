//! Why packets are dropped.

/// Why a packet was dropped, or not sent to a backend: a place in `drops`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The frame ends within its Ethernet header.
    EthernetTruncated = 0,
    /// The frame ends within its IPv4 header.
    Ipv4Truncated = 1,
    /// The version isn't 4, or the header length is below 20.
    Ipv4Header = 2,
    /// The total length is more than the frame holds, or less than the headers.
    Ipv4Length = 3,
    /// The packet ends within its TCP header.
    TcpTruncated = 4,
    /// The TCP data offset is below 20 or beyond the packet.
    TcpHeader = 5,
    /// The packet ends within its ICMP header.
    IcmpTruncated = 6,
    /// A fragment whose first fragment wasn't seen.
    Fragment = 7,
    /// From a tenant, its TTL or hop limit ends here. Left to the kernel, which answers it, and counted here.
    TtlExceeded = 8,
    /// The service has no active backend. TCP is answered with a RST and counted here too.
    NoBackend = 9,
    /// From a tenant, with a source that isn't the tenant's.
    SourceSpoofed = 10,
    /// From a tenant, to somewhere that instances may not talk to.
    NotAllowed = 11,
    /// A map lacks what another refers to: a defect.
    Inconsistent = 12,
    /// The frame ends within its IPv6 header.
    Ipv6Truncated = 13,
    /// The version isn't 6.
    Ipv6Header = 14,
    /// The payload length is more than the frame holds.
    Ipv6Length = 15,
    /// The packet ends within an extension header.
    Ipv6Extension = 16,
    /// To a VIP, with more extension headers than are walked, or with a route that isn't at its end.
    Ipv6Unread = 17,
    /// The packet ends within its UDP header.
    UdpTruncated = 18,
    /// The UDP length is below 8 or beyond the packet.
    UdpLength = 19,
    /// An ICMP error to a VIP that doesn't quote enough of a packet from there to tell its flow.
    IcmpQuote = 20,
    /// Longer than the next link takes. Answered, where it may be, and counted here too.
    TooLong = 21,
    /// To a VIP, of a port, a protocol or an ICMP type that no service takes and that isn't open. TCP is answered with a
    /// RST, UDP with an ICMP error, where either may be, and counted here too.
    NotBalanced = 22,
    /// To a VIP, in a frame for another Ethernet address than the uplink's.
    OtherMac = 23,
    /// From the uplink, with a source that no client can have: this host's, a tenant's, or one that is no host's.
    ImpossibleSource = 24,
    /// From the uplink, to an address of a tenant's network, which only VIPs lead to.
    PastVip = 25,
    /// From a tenant, with a VLAN tag.
    VlanTag = 26,
    /// An answer to a client to whom no route leads by the uplink. Where one leads there by another interface it is sent all the
    /// same, and counted here.
    NoRoute = 27,
    /// The first segment of a connection, its checksum wrong. Sent on for its receiver to drop, and counted here.
    BadChecksum = 28,
    /// From a tenant, as an answer to a client that hasn't asked: of no flow, no attempt and no handshake that is known.
    Unsolicited = 29,
}

impl DropReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 30] = [
        Self::EthernetTruncated,
        Self::Ipv4Truncated,
        Self::Ipv4Header,
        Self::Ipv4Length,
        Self::TcpTruncated,
        Self::TcpHeader,
        Self::IcmpTruncated,
        Self::Fragment,
        Self::TtlExceeded,
        Self::NoBackend,
        Self::SourceSpoofed,
        Self::NotAllowed,
        Self::Inconsistent,
        Self::Ipv6Truncated,
        Self::Ipv6Header,
        Self::Ipv6Length,
        Self::Ipv6Extension,
        Self::Ipv6Unread,
        Self::UdpTruncated,
        Self::UdpLength,
        Self::IcmpQuote,
        Self::TooLong,
        Self::NotBalanced,
        Self::OtherMac,
        Self::ImpossibleSource,
        Self::PastVip,
        Self::VlanTag,
        Self::NoRoute,
        Self::BadChecksum,
        Self::Unsolicited,
    ];

    /// The name, as in metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EthernetTruncated => "ethernet_truncated",
            Self::Ipv4Truncated => "ipv4_truncated",
            Self::Ipv4Header => "ipv4_header",
            Self::Ipv4Length => "ipv4_length",
            Self::TcpTruncated => "tcp_truncated",
            Self::TcpHeader => "tcp_header",
            Self::IcmpTruncated => "icmp_truncated",
            Self::Fragment => "fragment",
            Self::TtlExceeded => "ttl_exceeded",
            Self::NoBackend => "no_backend",
            Self::SourceSpoofed => "source_spoofed",
            Self::NotAllowed => "not_allowed",
            Self::Inconsistent => "inconsistent",
            Self::Ipv6Truncated => "ipv6_truncated",
            Self::Ipv6Header => "ipv6_header",
            Self::Ipv6Length => "ipv6_length",
            Self::Ipv6Extension => "ipv6_extension",
            Self::Ipv6Unread => "ipv6_unread",
            Self::UdpTruncated => "udp_truncated",
            Self::UdpLength => "udp_length",
            Self::IcmpQuote => "icmp_quote",
            Self::TooLong => "too_long",
            Self::NotBalanced => "not_balanced",
            Self::OtherMac => "other_mac",
            Self::ImpossibleSource => "impossible_source",
            Self::PastVip => "past_vip",
            Self::VlanTag => "vlan_tag",
            Self::NoRoute => "no_route",
            Self::BadChecksum => "bad_checksum",
            Self::Unsolicited => "unsolicited",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DropReason;

    #[test]
    fn the_list_of_drop_reasons_is_complete_and_in_order() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
