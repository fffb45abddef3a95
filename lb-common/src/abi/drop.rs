//! Why packets are dropped.

/// Why a packet was dropped: a place in `drops`.
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
    /// A fragment of a packet to a VIP.
    Fragment = 7,
    /// The TTL ends here.
    TtlExceeded = 8,
    /// The service has no active backend. TCP is answered with a RST and counted here too.
    NoBackend = 9,
    /// From a tenant, with a source that isn't the tenant's.
    SourceSpoofed = 10,
    /// From a tenant, to somewhere that instances may not talk to.
    NotAllowed = 11,
    /// A map lacks what another refers to: a defect.
    Inconsistent = 12,
}

impl DropReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 13] = [
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
