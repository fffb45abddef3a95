//! The program of `sluice lb watch`: the uplink's once more, which tells what it does.
//!
//! `uplink` begins with a tail call into an array of programs that is empty (`maps::watched`); while somebody watches, this
//! one is there, runs the same code on the same maps, and returns the verdict in its place.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry points are symbols of an object, for no other crate"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "helpers give and take words wider than what they mean, and a frame's length fits any"
)]
#![expect(clippy::needless_pass_by_value, reason = "the entry points' signatures are the macros'")]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows a packet pointer's bounds within a function, not through a call"
)]

mod atomic;
#[allow(dead_code, reason = "what decides is a part of it")]
mod attempts;
mod clock;
mod error;
#[allow(dead_code, reason = "what decides is a part of it")]
mod flow;
mod fragment;
#[expect(dead_code, reason = "what decides is a part of it")]
mod frame;
#[expect(dead_code, reason = "what decides is a part of it")]
mod maps;
#[expect(dead_code, reason = "what decides is a part of it")]
mod own_tables;
#[expect(dead_code, reason = "what decides is a part of it")]
mod refusal;
mod reply;
mod suspect;
#[expect(dead_code, reason = "what the daemon has run")]
mod sweep;
mod syn;
#[allow(dead_code, reason = "a part of it is for the way back")]
mod table;
mod tag;
mod uplink;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{DropReason, FlowKey, NO_BACKEND, backend_state};
use lb_common::hash;
use lb_common::packet::{self, End, Frame, Packet, Parsed, Part, Transport};
use lb_common::watch::{Candidate, Counts, Decision, Filter, NO_REASON, NO_SLOT, kind};

use frame::{Careful, Window};

/// Room for some 1,500 decisions.
const RING_BYTES: usize = 262_144;
const REASONS: usize = DropReason::ALL.len();

/// A packet on its way, on this CPU.
struct Pending {
    decision: Decision,
    /// What `drops` had when the packet came.
    drops: [u64; REASONS],
    /// What the service had counted of new flows then.
    new_flows: u64,
    /// The service's place.
    service: u32,
}

#[btf_map(name = "watch_filter")]
static FILTER: Array<Filter, 1> = Array::new();
#[btf_map(name = "watch_counts")]
static COUNTS: PerCpuArray<Counts, 1> = PerCpuArray::new();
#[btf_map(name = "watch_pending")]
static PENDING: PerCpuArray<Pending, 1> = PerCpuArray::new();
#[btf_map(name = "watch_ring")]
static RING: RingBuf<Decision, RING_BYTES> = RingBuf::new();

/// What `uplink` does, told.
#[xdp]
pub fn watch(ctx: XdpContext) -> u32 {
    let is_shown = arrive(ctx.ctx);
    let verdict = uplink::decide(&ctx);
    if is_shown != 0 {
        leave(ctx.ctx, verdict);
    }
    uplink::hand_over(&ctx, verdict)
}

/// Takes down what the packet is and what the maps have of its flow. Whether it is to be shown: 1, else 0.
#[inline(never)]
fn arrive(ctx: *mut xdp_md) -> u32 {
    u32::from(arrived(&uplink::context(ctx)).is_some())
}

/// Takes down what became of it, and shows both. Returns nothing of use.
#[inline(never)]
fn leave(ctx: *mut xdp_md, verdict: u32) -> u32 {
    u32::from(left(&uplink::context(ctx), verdict).is_some())
}

#[inline(always)]
fn arrived(ctx: &XdpContext) -> Option<()> {
    let filter = FILTER.get(0)?;
    let pending = PENDING.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value, and no packet interrupts another.
    let pending = unsafe { &mut *pending };
    let frame = Careful(Window::of_xdp(ctx));
    let length = frame.length() as u32;
    pending.decision = Decision { length, reason: NO_REASON, slot: NO_SLOT, ..Decision::default() };
    match packet::parse(&frame) {
        Err(_) if filter.takes_unread() => {}
        Ok(Parsed::Ip(packet)) => describe(&packet, filter, pending)?,
        _ => return None,
    }
    // SAFETY: this CPU's own value.
    let counts = unsafe { &mut *COUNTS.get_ptr_mut(0)? };
    counts.wanted += 1;
    if filter.every == 0 || counts.wanted % u64::from(filter.every) != 0 {
        return None;
    }
    for (reason, count) in pending.drops.iter_mut().enumerate() {
        *count = dropped(reason as u32)?;
    }
    Some(())
}

/// Takes down a packet's addresses, and what is known of its flow. `None` where it isn't wanted.
#[inline(always)]
fn describe(packet: &Packet, filter: &Filter, pending: &mut Pending) -> Option<()> {
    let decision = &mut pending.decision;
    let (client, vip) = (packet.header.source, packet.header.destination);
    let (client_port, vip_port, flags) = match packet.transport {
        Transport::Tcp { source, destination, flags } => (source, destination, flags),
        Transport::Udp { source, destination } => (source, destination, 0),
        Transport::EchoRequest { identifier } => (identifier, 0, 0),
        _ => (0, 0, 0),
    };
    if !filter.takes(&client, &vip, packet.protocol, vip_port) || (filter.all == 0 && !maps::is_vip(vip)) {
        return None;
    }
    (decision.client, decision.vip) = (client, vip);
    (decision.client_port, decision.vip_port) = (client_port, vip_port);
    (decision.protocol, decision.flags) = (packet.protocol, flags);
    decision.kind = match (packet.part, packet.transport) {
        (Part::Later { .. }, _) => kind::FRAGMENT,
        (_, Transport::Error) => kind::ERROR,
        (_, Transport::Tcp { .. } | Transport::Udp { .. } | Transport::EchoRequest { .. }) => kind::FLOW,
        _ => kind::OTHER,
    };
    if decision.kind == kind::FLOW
        && let Ok((_, key, _)) = uplink::addressed(packet)
    {
        find(&key, pending);
    }
    Some(())
}

/// Takes down who may have the flow.
#[inline(always)]
fn find(key: &FlowKey, pending: &mut Pending) {
    pending.service = u32::from(key.service.index);
    pending.new_flows = new_flows(pending.service);
    let Ok(control) = maps::control() else { return };
    let hash = hash::of_flow(key, control.seed);
    let number = hash::slot(hash);
    let Ok(slot) = maps::slot(key.service, number) else { return };
    let decision = &mut pending.decision;
    decision.slot = number;
    decision.tracked = u8::from(slot.is_tracked());
    decision.owner = candidate(slot.new_flows);
    decision.previous_owner = candidate(slot.previous_owner());
    if let Some((_, backend)) = flow::known(control, hash, key) {
        decision.flow = Candidate { address: backend.address, state: backend.state, reserved: [0; 7] };
    }
}

/// How many packets this CPU has dropped for the reason of this number.
#[inline(always)]
fn dropped(reason: u32) -> Option<u64> {
    // SAFETY: this CPU's own value.
    maps::DROPS.get_ptr(reason).map(|count| unsafe { *count })
}

/// How many new flows of a service this CPU has counted.
#[inline(always)]
fn new_flows(service: u32) -> u64 {
    // SAFETY: this CPU's own value.
    maps::SERVICE_COUNTERS.get_ptr(service).map_or(0, |counters| unsafe { (*counters).new_flows })
}

#[inline(always)]
fn candidate(place: u16) -> Candidate {
    let backend = if place == NO_BACKEND { None } else { maps::backend(place) };
    let known = backend.filter(|backend| backend.state != backend_state::FREE);
    known.map_or_else(Candidate::default, |backend| Candidate {
        address: backend.address,
        state: backend.state,
        reserved: [0; 7],
    })
}

#[inline(always)]
fn left(ctx: &XdpContext, verdict: u32) -> Option<()> {
    let pending = PENDING.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value, and no packet interrupts another.
    let pending = unsafe { &mut *pending };
    pending.decision.verdict = verdict;
    for (reason, before) in pending.drops.iter().enumerate() {
        if dropped(reason as u32)? != *before {
            pending.decision.reason = reason as u32;
        }
    }
    if pending.decision.slot != NO_SLOT {
        pending.decision.new_flow = u8::from(new_flows(pending.service) != pending.new_flows);
    }
    if verdict == xdp_action::XDP_REDIRECT
        && let Ok(Parsed::Ip(packet)) = packet::parse(&Careful(Window::of_xdp(ctx)))
    {
        pending.decision.backend = packet.header.destination;
        pending.decision.backend_port = packet.port(End::Destination).map_or(0, |(_, port)| port);
    }
    if RING.output(pending.decision, 0).is_err() {
        // SAFETY: this CPU's own value.
        unsafe { (*COUNTS.get_ptr_mut(0)?).lost += 1 };
    }
    Some(())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // As in the object that balances: it can't happen.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
