//! Keys and values of the pinned maps.
//!
//! Layouts have no padding that the compiler chooses: the kernel compares and hashes keys byte by byte. Numbers are
//! in host byte order, ports too, so that `bpftool map dump pinned …` prints what people write.
//!
//! A change here that a running program would misread needs a new [`VERSION`].

mod address;
mod drop;
mod flow;
mod fragment;
mod hint;
mod local;
mod outbound;
mod quota;
mod slot;
mod suspect;

pub use address::{Address, EndpointKey};
pub use drop::DropReason;
pub use flow::{
    CLAIM_STANDS, Doubt, FLOWS_A_PART, FlowKey, FlowTableShape, FlowValue, PROBES, SweepOrder, flow_end,
    sweep_order,
};
pub use fragment::{
    AnswerBudget, AnswerFragmentKey, AnswerFragmentValue, AnswerFragmentWords, FragmentKey, FragmentTarget,
};
pub use hint::{Endpoint, HINTS, Hint, address_hint_place, port_hint_place};
pub use local::{default_route, is_open, open_key, owner};
pub use outbound::OutboundKey;
pub use quota::{FlowUse, Quota};
pub use slot::{EXCEPTION_WORDS, Exceptions, NO_BACKEND, Slot, TABLE_SLOTS, Table};
pub use suspect::{Asked, SUSPECTS, Suspect, may_ask};

use crate::hash::Seed;

/// The version of everything below; part of the pin directory's name (`v<VERSION>`).
pub const VERSION: u32 = 7;

/// Protocol number of ICMP (RFC 792).
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP (RFC 768).
pub const PROTOCOL_UDP: u8 = 17;
/// Protocol number of `ICMPv6` (RFC 4443).
pub const PROTOCOL_ICMPV6: u8 = 58;

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

    /// The handle whose word this is.
    #[inline(always)]
    pub(crate) const fn of_word(word: u32) -> Self {
        let (low, high) = (word as u16, (word >> 16) as u16);
        if cfg!(target_endian = "little") {
            Self { index: low, incarnation: high }
        } else {
            Self { index: high, incarnation: low }
        }
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
    /// Bits of [`service_flag`].
    pub flags: u16,
}

/// What userspace keeps of a service beside what packets need: `ServiceValue::flags`.
pub mod service_flag {
    /// No draining backend takes its new flows, also where none is active.
    pub const CLOSING: u16 = 1;
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
    /// Old flows; new ones only where the service's table says so, as no backend is active. One of weight 0 is in no
    /// table then either: it stops.
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
    /// Seconds since the maps were made, as far as they are counted: see [`clock`](crate::clock). A word to read where
    /// `bpf_ktime_get_ns` would be a call; while no daemon runs it moves when a flow is recorded.
    pub clock: u32,
    /// The uplink's interface index: answers leave here.
    pub uplink: u32,
    /// Mixed into the flow hash, so that clients can't choose their backend.
    pub seed: Seed,
    /// An idle TCP flow ends after so many seconds.
    pub tcp_timeout: u32,
    /// An idle ICMP echo flow ends after so many seconds.
    pub icmp_timeout: u32,
    /// An attempt, a flow that isn't real yet, is forgotten after so many seconds.
    pub nascent_timeout: u32,
    /// A closed TCP flow is forgotten after so many seconds.
    pub closed_timeout: u32,
    /// Counts parts of the shorter one of the TCP and the UDP timeout, in 1/65,536: a flow in use tells the flow table so at
    /// least once in each.
    pub epoch: u32,
    /// The sets of `recent_flows` that are used, less one: a power of two, less one.
    pub recent_mask: u32,
    /// An idle UDP flow ends after so many seconds.
    pub udp_timeout: u32,
    /// The parts of `flows`; 0 until the daemon has made them.
    pub flow_parts: u32,
    /// The flows for which `flows` has room, all its parts together.
    pub flow_room: u32,
    /// The families whose default route leads by the uplink: bits of [`default_route`]. Of the others, an answer's route is
    /// asked for.
    pub default_routes: u32,
    /// The sets of `attempts` that each service has, less one: a power of two, less one.
    pub attempt_mask: u32,
    /// Who may have how much of `flows`.
    pub quota: Quota,
    /// The second of the host's monotonic clock up to which `clock` has counted the time, or has let it pass; 0 before it counts.
    pub counted: u64,
    /// The uplink's Ethernet address, in the order of a frame's first eight bytes; the last two count for nothing.
    pub uplink_mac: u64,
    /// The bits of `uplink_mac` that count: none where the address isn't known.
    pub uplink_mac_mask: u64,
    /// The interface on which `uplink` hands its replies to `transmit`, to be sent back: the uplink where it is a veth, else 0.
    pub handing_over: u32,
    /// Always 0.
    pub reserved: u32,
}

/// What `uplink` writes before a frame that `transmit` is to send back.
pub const REPLY_MARK: u32 = 0x51_0c_e0_01;

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
    /// Entries of a service in the flow table at the last sweep, of live flows and of ended ones. 0 for a backend.
    pub entries: u32,
    /// Their count in the sweep under way.
    pub counting_entries: u32,
}

/// Promises aya that the types may be copied to and from the kernel byte by byte.
#[cfg(feature = "user")]
mod pod {
    use super::{
        Address, AnswerFragmentKey, AnswerValue, BackendValue, Control, Counters, Endpoint, EndpointKey,
        Exceptions, FlowKey, FlowUse, FlowValue, FragmentKey, Handle, Hint, LiveFlows, OutboundKey,
        ServiceValue, Slot, Suspect, TenantKey, TenantValue,
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
        FlowUse,
        FlowValue,
        AnswerFragmentKey,
        FragmentKey,
        Handle,
        Hint,
        LiveFlows,
        OutboundKey,
        ServiceValue,
        Slot,
        Suspect,
        TenantKey,
        TenantValue
    );
}

/// A size that isn't the sum of the fields' would mean padding, whose bytes nobody sets.
const _: () = {
    assert!(size_of::<EndpointKey>() == 16 + 8);
    assert!(size_of::<FlowKey>() == 16 + 8);
    assert!(size_of::<FlowValue>() == 16);
    assert!(size_of::<Suspect>() == 24 + 4 + 4);
    assert!(size_of::<FragmentKey>() == 16 + 8);
    assert!(size_of::<AnswerFragmentKey>() == 32 + 8);
    assert!(size_of::<AnswerFragmentValue>() == 16 + 8);
    assert!(size_of::<BackendValue>() == 16 + 4 + 4 + 12 + 4);
    assert!(size_of::<AnswerValue>() == 16 + 16);
    assert!(size_of::<ServiceValue>() == 8);
    assert!(size_of::<TenantKey>() == 8);
    assert!(size_of::<Endpoint>() == 24 + 8);
    assert!(size_of::<TenantValue>() == 48 + 8);
    assert!(size_of::<OutboundKey>() == 32 + 8);
    assert!(size_of::<Control>() == 8 + 16 + 16 + 28 + 12 + 8 + 16 + 8);
    assert!(size_of::<FlowUse>() == 16);
    assert!(size_of::<Counters>() == 40);
    assert!(size_of::<LiveFlows>() == 16);
    assert!(size_of::<Table>() == 4 * TABLE_SLOTS);
    assert!(size_of::<Exceptions>() == 8 * EXCEPTION_WORDS);
};
