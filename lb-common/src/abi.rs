//! Keys and values of the pinned maps.
//!
//! Layouts have no padding that the compiler chooses: the kernel compares and hashes keys byte by byte. Numbers are
//! in host byte order, ports too, so that `bpftool map dump pinned …` prints what people write.
//!
//! A change here that a running program would misread needs a new [`VERSION`].

/// The version of everything below; part of the pin directory's name (`v<VERSION>`).
pub const VERSION: u32 = 1;

/// Slots of a Maglev table: prime, and more than 100 × the backends at which the imbalance stays below 1 %
/// (Maglev, NSDI '16, section 3.4).
pub const TABLE_SLOTS: usize = 65_537;

/// The place that is no backend's: 15 bits, all set.
pub const NO_BACKEND: u16 = 0x7fff;

/// Protocol number of ICMP (RFC 792).
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;

/// An IP address; IPv4 in its IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// Aligned to words, so that the programs build one with two stores and not by a loop over its bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    /// In network byte order.
    pub bytes: [u8; 16],
}

impl Address {
    /// An IPv4 address from its four bytes.
    #[inline(always)]
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        let words = [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])];
        // Byte by byte, the compiler would make it a call of `memset`, at 14 ns.
        // SAFETY: both are 16 bytes without padding, and any bytes are an address.
        Self { bytes: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(words) } }
    }

    /// The last four bytes: an IPv4 address, where this is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4_octets(&self) -> [u8; 4] {
        [self.bytes[12], self.bytes[13], self.bytes[14], self.bytes[15]]
    }
}

/// Names a service or an answer: key of `services` (by VIP) and of `answers` (by backend address).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The VIP, or the backend's address.
    pub address: Address,
    /// The port; 0 is every port, and ICMP's only one.
    pub port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// Always 0.
    pub reserved: [u8; 5],
}

/// A thing in a numbered place, told from what was in that place before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Handle {
    /// The place in the array maps.
    pub index: u16,
    /// Grows whenever the place gets another owner; wraps.
    pub incarnation: u16,
}

/// A slot of a Maglev table: the part of all flows that hash to it.
///
/// As long as a slot has had one owner since its oldest live flow began, every flow of it is the owner's and no flow
/// needs to be looked up: the slot is steady. When it moves to another backend it becomes *tracked*: flows are looked
/// up, a flow that the flow table doesn't know belongs to `old_flows` unless it begins now, and every flow that
/// begins is put down. A tracked slot becomes steady again when all its live flows are the owner's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Who gets the flows that begin: a place in `backends`, or [`NO_BACKEND`].
    pub new_flows: u16,
    /// Who has the flows that began before and aren't known: a place in 15 bits; the highest says "tracked".
    pub old_flows: u16,
}

impl Slot {
    const TRACKED: u16 = 0x8000;

    /// A slot that one backend owns.
    #[inline(always)]
    #[must_use]
    pub const fn steady(owner: u16) -> Self {
        Self { new_flows: owner, old_flows: owner }
    }

    /// A slot that has moved: old flows that aren't known are still `keeper`'s.
    #[inline(always)]
    #[must_use]
    pub const fn tracked(owner: u16, keeper: u16) -> Self {
        Self { new_flows: owner, old_flows: keeper | Self::TRACKED }
    }

    /// Whether flows have to be looked up.
    #[inline(always)]
    #[must_use]
    pub const fn is_tracked(self) -> bool {
        self.old_flows & Self::TRACKED != 0
    }

    /// The backend of flows that the flow table doesn't know and that don't begin now.
    #[inline(always)]
    #[must_use]
    pub const fn keeper(self) -> u16 {
        self.old_flows & !Self::TRACKED
    }
}

/// A Maglev table: value of `tables`.
///
/// Each service has two, `2 × index` and `2 × index + 1`. A change is written to the idle one, then the service's word
/// in `generations` (0 or 1) flips, and packets meet all of the old table or all of the new one.
pub type Table = [Slot; TABLE_SLOTS];

/// Words of [`Exceptions`].
pub const EXCEPTION_WORDS: usize = TABLE_SLOTS.div_ceil(64);

/// The tracked slots that still have a live flow of another backend than their owner: value of `exceptions`, by
/// service. A bit a slot, set by the sweep.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exceptions {
    /// Slot `n` is bit `n % 64` of word `n / 64`.
    pub words: [u64; EXCEPTION_WORDS],
}

impl Exceptions {
    /// Whether a slot is among them.
    #[must_use]
    pub const fn contains(&self, slot: usize) -> bool {
        self.words[slot / 64] & (1 << (slot % 64)) != 0
    }
}

/// What a backend may be given: `BackendValue::state`.
pub mod backend_state {
    /// The place is empty.
    pub const FREE: u8 = 0;
    /// New flows and old ones.
    pub const ACTIVE: u8 = 1;
    /// Old flows only.
    pub const DRAINING: u8 = 2;
    /// Nothing.
    pub const DOWN: u8 = 3;
}

/// How a backend is reached: `BackendValue::reach`.
pub mod reach {
    /// On the link of the interface `interface`.
    pub const LINK: u8 = 0;
}

/// Value of `backends`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BackendValue {
    /// Its address.
    pub address: Address,
    /// The interface in the transit namespace that leads to it.
    pub interface: u32,
    /// Counts the owners of this place; see [`Handle`].
    pub incarnation: u16,
    /// Its share of new flows.
    pub weight: u16,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The MAC address that frames to it come from.
    pub source_mac: [u8; 6],
    /// One of [`backend_state`].
    pub state: u8,
    /// One of [`reach`].
    pub reach: u8,
    /// Always 0.
    pub reserved: u16,
}

/// A flow, seen from the client: key of `flows` and `nascent_flows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The client.
    pub client: Address,
    /// The service: stands for VIP and protocol.
    pub service: Handle,
    /// The client's port, or the ICMP echo identifier.
    pub client_port: u16,
    /// The VIP's port; 0 for ICMP.
    pub vip_port: u16,
}

/// Flags of `FlowValue::ended`.
pub mod flow_end {
    /// The client has sent a FIN.
    pub const CLIENT_FIN: u32 = 1;
    /// The backend has sent a FIN.
    pub const BACKEND_FIN: u32 = 2;
    /// Either has sent a RST.
    pub const RESET: u32 = 4;

    /// Whether a flow with these flags has ended for both sides.
    #[inline(always)]
    #[must_use]
    pub const fn is_closed(flags: u32) -> bool {
        flags & RESET != 0 || flags & (CLIENT_FIN | BACKEND_FIN) == CLIENT_FIN | BACKEND_FIN
    }
}

/// Value of `flows` and `nascent_flows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowValue {
    /// Who has it. A handle whose incarnation isn't the place's own names a backend that is gone.
    pub backend: Handle,
    /// [`Control::clock`] at its last packet, seconds.
    pub last_seen: u32,
    /// Bits of [`flow_end`].
    pub ended: u32,
    /// The IP protocol number: which idle timeout holds.
    pub protocol: u32,
}

/// Value of `answers`: what a packet from a backend becomes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerValue {
    /// The source address that clients see.
    pub vip: Address,
    /// The service that it answers for.
    pub service: Handle,
    /// The backend that it comes from.
    pub backend: Handle,
}

/// A tenant's interface in the transit namespace: value of `tenants`, by interface index.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantValue {
    /// The subnet's address: no other source is let in.
    pub subnet: Address,
    /// The subnet's mask.
    pub mask: Address,
    /// The only address of the host that instances may talk to.
    pub gateway: Address,
}

/// The only value of `control`: what the daemon tells the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Control {
    /// Seconds since the maps were made, set by the daemon. A word to read where `bpf_ktime_get_ns` would be a call;
    /// while no daemon runs it stands still, and so do the idle timeouts.
    pub clock: u32,
    /// The uplink's interface index: answers leave here.
    pub uplink: u32,
    /// Mixed into the flow hash, so that clients can't choose their backend.
    pub seed: u64,
    /// An idle TCP flow ends after so many seconds.
    pub tcp_timeout: u32,
    /// An idle ICMP echo flow ends after so many seconds.
    pub icmp_timeout: u32,
    /// A flow of one packet ends after so many seconds.
    pub nascent_timeout: u32,
    /// A closed TCP flow is forgotten after so many seconds.
    pub closed_timeout: u32,
    /// Counts parts of the TCP timeout: a flow in use tells the flow table so at least once in each.
    pub epoch: u32,
    /// The sets of `recent_flows`, less one: a power of two, less one.
    pub recent_mask: u32,
}

/// Value of `backend_counters` and `service_counters`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets from clients.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// Packets to clients.
    pub reply_packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub reply_bytes: u64,
    /// Flows begun.
    pub new_flows: u64,
}

/// Value of `backend_live_flows` and `service_live_flows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LiveFlows {
    /// At the last sweep.
    pub live: u32,
    /// The count that the sweep under way has reached.
    pub counting: u32,
}

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

/// Promises aya that the types may be copied to and from the kernel byte by byte.
#[cfg(feature = "user")]
mod pod {
    use super::{
        Address, AnswerValue, BackendValue, Control, Counters, EndpointKey, Exceptions, FlowKey, FlowValue,
        Handle, LiveFlows, Slot, TenantValue,
    };

    macro_rules! pod {
        ($($name:ident),+ $(,)?) => {$(
            // SAFETY: `repr(C)`, made of integers only, without padding (asserted below), valid for any bytes.
            unsafe impl aya::Pod for $name {}
        )+};
    }

    pod!(
        Address,
        AnswerValue,
        BackendValue,
        Control,
        Counters,
        EndpointKey,
        Exceptions,
        FlowKey,
        FlowValue,
        Handle,
        LiveFlows,
        Slot,
        TenantValue
    );
}

/// A size that isn't the sum of the fields' would mean padding, whose bytes nobody sets.
const _: () = {
    assert!(size_of::<EndpointKey>() == 16 + 8);
    assert!(size_of::<FlowKey>() == 16 + 8);
    assert!(size_of::<FlowValue>() == 16);
    assert!(size_of::<BackendValue>() == 16 + 4 + 4 + 12 + 4);
    assert!(size_of::<AnswerValue>() == 16 + 8);
    assert!(size_of::<TenantValue>() == 48);
    assert!(size_of::<Control>() == 8 + 8 + 16 + 8);
    assert!(size_of::<Counters>() == 40);
    assert!(size_of::<LiveFlows>() == 8);
    assert!(size_of::<Table>() == 4 * TABLE_SLOTS);
    assert!(size_of::<Exceptions>() == 8 * EXCEPTION_WORDS);
};

#[cfg(test)]
mod tests {
    use super::{DropReason, flow_end};

    #[test]
    fn the_list_of_drop_reasons_is_complete_and_in_order() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }

    #[test]
    fn a_flow_is_closed_by_both_fins_or_one_reset() {
        use flow_end::{BACKEND_FIN, CLIENT_FIN, RESET, is_closed};
        assert!(!is_closed(0));
        assert!(!is_closed(CLIENT_FIN));
        assert!(!is_closed(BACKEND_FIN));
        assert!(is_closed(CLIENT_FIN | BACKEND_FIN));
        assert!(is_closed(RESET));
        assert!(is_closed(RESET | CLIENT_FIN));
    }
}
