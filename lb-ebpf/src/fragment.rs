//! Fragments follow the first one of their packet, which alone has ports.
//!
//! Each VIP has a table for what clients send to it, and each tenant one for what its instances send ([`own_tables`]). A
//! fragment that comes before the first one is dropped; its sender sends the packet again.

use lb_common::abi::{Address, DropReason, FragmentKey, FragmentTarget, Handle};
use lb_common::packet::{End, Frame, Packet, Part};

use crate::flow;
use crate::frame::Careful;
use crate::refusal::Refusal;
use crate::{maps, own_tables, uplink};

/// Fragments of one packet name the same protocol, but for IPv6: there only the first one's counts (RFC 8200, 4.5).
#[inline(always)]
pub(crate) fn protocol(packet: &Packet) -> u32 {
    if packet.header.is_v6() { 0 } else { u32::from(packet.protocol) }
}

/// Remembers that the first fragment of a client's packet to a VIP goes to a backend.
#[inline(always)]
pub(crate) fn remember(packet: &Packet, vip: &Address, service: Handle, backend: Handle) {
    if let Part::First { identification } = packet.part {
        let target = FragmentTarget { service, backend };
        own_tables::remember_fragment(vip, &key(packet, identification), target);
    }
}

/// Sends a later fragment where the first one went.
#[inline(always)]
pub(crate) fn follow(mut frame: Careful, packet: &Packet) -> Result<u32, Refusal> {
    let Part::Later { identification } = packet.part else { return Err(Refusal::Pass) };
    let first = own_tables::fragment(&packet.header.destination, &key(packet, identification));
    let first = first.ok_or(DropReason::Fragment)?;
    let backend = flow::backend_of(first.backend).ok_or(DropReason::Fragment)?;
    maps::count_packet(first.backend.index, first.service, frame.length() as u64, false);
    packet.readdress(&mut frame, End::Destination, &backend.address).ok_or(DropReason::Inconsistent)?;
    uplink::send(&mut frame, backend)
}

#[inline(always)]
fn key(packet: &Packet, identification: u32) -> FragmentKey {
    FragmentKey::new(&packet.header.source, identification, protocol(packet))
}
