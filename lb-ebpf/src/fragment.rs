//! Fragments follow the first one of their packet, which alone has ports.
//!
//! Two bounded tables, one for each way, forget what was used least recently: what one side sends can't push out the
//! other's. A fragment that comes before the first one is dropped; its sender sends the packet again.

use lb_common::abi::{BackendValue, DropReason, FragmentKey, FragmentValue, Handle};
use lb_common::packet::{End, Frame, Packet, Part};

use crate::flow;
use crate::frame::Careful;
use crate::maps;
use crate::refusal::Refusal;
use crate::uplink;

/// What all fragments of a packet share.
#[inline(always)]
pub(crate) fn key(packet: &Packet, identification: u32) -> FragmentKey {
    // Fragments of one packet name the same protocol, but for IPv6: there only the first one's counts (RFC 8200, 4.5).
    let protocol = if packet.header.is_v6() { 0 } else { u32::from(packet.protocol) };
    FragmentKey::new(&packet.header.source, &packet.header.destination, identification, protocol)
}

/// Takes down that the first fragment of a client's packet goes to the backend in this place.
#[inline(always)]
pub(crate) fn remember(packet: &Packet, service: Handle, index: u16, backend: &BackendValue) {
    if let Part::First { identification } = packet.part {
        let handle = Handle { index, incarnation: backend.incarnation };
        let value = FragmentValue::new(&backend.address, service, handle);
        maps::remember_fragment(&key(packet, identification), &value);
    }
}

/// Sends a later fragment where the first one went.
#[inline(always)]
pub(crate) fn follow(mut frame: Careful, packet: &Packet) -> Result<u32, Refusal> {
    let Part::Later { identification } = packet.part else { return Err(Refusal::Pass) };
    let first = maps::fragment(&key(packet, identification)).ok_or(DropReason::Fragment)?;
    let backend = flow::backend_of(first.backend).ok_or(DropReason::Fragment)?;
    maps::count_packet(first.backend.index, first.service, frame.length() as u64, false);
    packet.readdress(&mut frame, End::Destination, &backend.address).ok_or(DropReason::Inconsistent)?;
    uplink::send(&mut frame, backend)
}
