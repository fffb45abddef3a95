//! Keys and values of the pinned maps.
//!
//! Layouts have no padding that the compiler chooses: the kernel compares and hashes keys byte by byte. Numbers are
//! in host byte order, ports too, so that `bpftool map dump pinned …` prints what people write.
//!
//! A change here that a running program would misread needs a new [`VERSION`].

mod drop;
mod flow;
mod fragment;
mod hint;
mod outbound;
mod slot;

pub use drop::DropReason;
pub use flow::{FlowKey, FlowValue, flow_end};
pub use fragment::{AnswerBudget, FragmentKey, FragmentValue};
pub use hint::{Endpoint, HINTS, Hint, address_hint_place, port_hint_place};
pub use outbound::OutboundKey;
pub use slot::{EXCEPTION_WORDS, Exceptions, NO_BACKEND, Slot, TABLE_SLOTS, Table};

/// The version of everything below; part of the pin directory's name (`v<VERSION>`).
pub const VERSION: u32 = 4;

/// Protocol number of ICMP (RFC 792).
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP (RFC 768).
pub const PROTOCOL_UDP: u8 = 17;
/// Protocol number of `ICMPv6` (RFC 4443).
pub const PROTOCOL_ICMPV6: u8 = 58;

/// An IP address; IPv4 in its IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// Aligned to words, so that the programs build one with two stores and not by a loop over its bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    /// In network byte order.
    pub bytes: [u8; 16],
}

/// What the lower word of an IPv4-mapped address has before the IPv4 address.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);

impl Address {
    /// An IPv4 address from its four bytes.
    #[inline(always)]
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        // The address as one number: from its bytes one by one, the compiler would load it so.
        let address = u32::from_ne_bytes([a, b, c, d]) as u64;
        Self::of_words([
            0,
            if cfg!(target_endian = "little") { address << 32 | MAPPED } else { address | MAPPED },
        ])
    }

    /// An address from its two words, in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn of_words(words: [u64; 2]) -> Self {
        // Byte by byte, the compiler would make it a call of `memset`, at 14 ns.
        // SAFETY: both are 16 bytes without padding, and any bytes are an address.
        Self { bytes: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(words) } }
    }

    /// An IPv6 address from its sixteen bytes.
    #[inline(always)]
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self { bytes: octets }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        let [high, low] = self.words();
        high == 0 && low & u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]) == MAPPED
    }

    /// Its two words, in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        // SAFETY: both are 16 bytes without padding, and any bytes are two numbers.
        unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(self.bytes) }
    }

    /// The last four bytes: an IPv4 address, where this is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4_octets(&self) -> [u8; 4] {
        let [_, low] = self.words();
        // As one number: byte by byte, the compiler would load it in three pieces.
        let address = if cfg!(target_endian = "little") { low >> 32 } else { low };
        (address as u32).to_ne_bytes()
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

impl EndpointKey {
    /// The key of an address, a port and a protocol.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        let [low, high] = port.to_ne_bytes();
        let [first, second] = address.words();
        let words = [first, second, u64::from_ne_bytes([low, high, protocol, 0, 0, 0, 0, 0])];
        // Field by field, the compiler would make the reserved bytes a call of `memset`, at 14 ns.
        // SAFETY: both are 24 bytes without padding, laid out alike, and any bytes are a key.
        unsafe { core::mem::transmute::<[u64; 3], Self>(words) }
    }

    /// Whether both are the same; word by word, where `==` would be a call.
    #[inline(always)]
    #[must_use]
    pub const fn is(&self, other: &Self) -> bool {
        let (mine, others) = (self.words(), other.words());
        (mine[0] ^ others[0]) | (mine[1] ^ others[1]) | (mine[2] ^ others[2]) == 0
    }

    /// Whether a service of this key takes what is for the other: the port is the same, or this one is every port.
    #[inline(always)]
    #[must_use]
    pub const fn takes(&self, other: &Self) -> bool {
        const PORT: u64 = u64::from_ne_bytes([0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        let (mine, others) = (self.words(), other.words());
        let differs = mine[2] ^ others[2];
        let elsewhere = (mine[0] ^ others[0]) | (mine[1] ^ others[1]) | differs & !PORT;
        elsewhere == 0 && (differs == 0 || mine[2] & PORT == 0)
    }

    #[inline(always)]
    const fn words(&self) -> [u64; 3] {
        // SAFETY: both are 24 bytes without padding, and any bytes are three numbers.
        unsafe { core::mem::transmute::<Self, [u64; 3]>(*self) }
    }

    /// The key of every port.
    #[inline(always)]
    #[must_use]
    pub const fn of_every_port(&self) -> Self {
        Self::new(self.address, 0, self.protocol)
    }
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

impl Handle {
    /// Both, as they follow one another in memory.
    #[inline(always)]
    pub(crate) const fn word(self) -> u32 {
        let (index, incarnation) = (self.index as u32, self.incarnation as u32);
        if cfg!(target_endian = "little") { incarnation << 16 | index } else { index << 16 | incarnation }
    }
}

/// Value of `services`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServiceValue {
    /// The service's place.
    pub service: Handle,
    /// The backends' port; 0 where it is the one that the client addresses.
    pub target_port: u16,
    /// Always 0.
    pub reserved: u16,
}

impl ServiceValue {
    /// The same of a service in the place of that number.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, index: u16) -> Self {
        Self { service: Handle { index, ..self.service }, ..self }
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
    /// The source port that clients see; 0 where it is the backend's.
    pub vip_port: u16,
    /// Always 0.
    pub reserved: [u16; 3],
}

/// Families of addresses, by the version of their protocol: `TenantKey::family`.
pub mod family {
    /// IPv4.
    pub const IPV4: u32 = 4;
    /// IPv6.
    pub const IPV6: u32 = 6;
}

/// Key of `tenants`: one family of a tenant's interface in the transit namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantKey {
    /// The interface's index.
    pub interface: u32,
    /// One of [`family`]. A family without an entry isn't let in.
    pub family: u32,
}

/// The tenant behind an interface of the transit namespace: value of `tenants`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantValue {
    /// The subnet's address: no other source is let in.
    pub subnet: Address,
    /// The subnet's mask.
    pub mask: Address,
    /// The only address of the host that instances may talk to.
    pub gateway: Address,
    /// 1 where instances may open connections to the outside, which the kernel forwards; else 0.
    pub outbound: u32,
    /// Always 0.
    pub reserved: u32,
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
    /// Counts parts of the TCP timeout, in 1/65,536: a flow in use tells the flow table so at least once in each.
    pub epoch: u32,
    /// The sets of `recent_flows` that are used, less one: a power of two, less one.
    pub recent_mask: u32,
    /// An idle UDP flow ends after so many seconds.
    pub udp_timeout: u32,
    /// Always 0.
    pub reserved: u32,
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

/// Promises aya that the types may be copied to and from the kernel byte by byte.
#[cfg(feature = "user")]
mod pod {
    use super::{
        Address, AnswerValue, BackendValue, Control, Counters, Endpoint, EndpointKey, Exceptions, FlowKey,
        FlowValue, FragmentKey, FragmentValue, Handle, Hint, LiveFlows, OutboundKey, ServiceValue, Slot,
        TenantKey, TenantValue,
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
        Endpoint,
        EndpointKey,
        Exceptions,
        FlowKey,
        FlowValue,
        FragmentKey,
        FragmentValue,
        Handle,
        Hint,
        LiveFlows,
        OutboundKey,
        ServiceValue,
        Slot,
        TenantKey,
        TenantValue
    );
}

/// A size that isn't the sum of the fields' would mean padding, whose bytes nobody sets.
const _: () = {
    assert!(size_of::<EndpointKey>() == 16 + 8);
    assert!(size_of::<FlowKey>() == 16 + 8);
    assert!(size_of::<FlowValue>() == 16);
    assert!(size_of::<FragmentKey>() == 32 + 8);
    assert!(size_of::<FragmentValue>() == 16 + 8);
    assert!(size_of::<BackendValue>() == 16 + 4 + 4 + 12 + 4);
    assert!(size_of::<AnswerValue>() == 16 + 16);
    assert!(size_of::<ServiceValue>() == 8);
    assert!(size_of::<TenantKey>() == 8);
    assert!(size_of::<Endpoint>() == 24 + 8);
    assert!(size_of::<TenantValue>() == 48 + 8);
    assert!(size_of::<OutboundKey>() == 32 + 8);
    assert!(size_of::<Control>() == 8 + 8 + 16 + 16);
    assert!(size_of::<Counters>() == 40);
    assert!(size_of::<LiveFlows>() == 8);
    assert!(size_of::<Table>() == 4 * TABLE_SLOTS);
    assert!(size_of::<Exceptions>() == 8 * EXCEPTION_WORDS);
};
