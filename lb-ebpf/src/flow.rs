//! Which backend has a flow.

use lb_common::abi::{BackendValue, Control};
use lb_common::abi::{DropReason, FlowKey, FlowValue, Handle, NO_BACKEND, backend_state, flow_end};
use lb_common::hash;
use lb_common::packet::tcp_flag;

use crate::maps;

/// A backend chosen for a packet.
pub(crate) struct Choice {
    /// Its place.
    pub index: u16,
    /// What is known of it.
    pub backend: &'static BackendValue,
    /// Whether the packet begins a flow.
    pub new_flow: bool,
}

/// What a packet says about its flow.
#[derive(Clone, Copy)]
pub(crate) struct Signal {
    /// The IP protocol number.
    pub protocol: u8,
    /// TCP flags; 0 for ICMP.
    pub flags: u8,
}

impl Signal {
    /// A packet with which a flow can begin: a SYN, or any ICMP echo request.
    #[inline(always)]
    fn may_begin(self) -> bool {
        use tcp_flag::{ACK, RST, SYN};
        self.protocol != lb_common::abi::PROTOCOL_TCP || self.flags & (SYN | ACK | RST) == SYN
    }

    /// The bits of [`flow_end`] that this packet sets when it comes from the side whose FIN is `fin`.
    #[inline(always)]
    pub(crate) fn ends(self, fin: u32) -> u32 {
        let fin = if self.flags & tcp_flag::FIN == 0 { 0 } else { fin };
        let reset = if self.flags & tcp_flag::RST == 0 { 0 } else { flow_end::RESET };
        fin | reset
    }
}

/// Chooses the backend of a client's packet: the flow's own, or for a new flow the owner of its slot.
#[inline(always)]
pub(crate) fn choose(control: &Control, key: &FlowKey, signal: Signal) -> Result<Choice, DropReason> {
    if let Some(choice) = of_known_flow(control, key, signal) {
        return Ok(choice);
    }
    let slot = hash::slot(hash::of_flow(key, control.seed));
    let index = maps::slot_owner(key.service, slot)?;
    if index == NO_BACKEND {
        return Err(DropReason::NoBackend);
    }
    let backend = maps::backend(index).ok_or(DropReason::Inconsistent)?;
    if !takes_packets(backend) {
        return Err(DropReason::Inconsistent);
    }
    let new_flow = signal.may_begin();
    if new_flow {
        let flow = FlowValue {
            backend: Handle { index, incarnation: backend.incarnation },
            last_seen: control.clock,
            ended: 0,
            protocol: u32::from(signal.protocol),
        };
        maps::remember_nascent(key, &flow);
    }
    Ok(Choice { index, backend, new_flow })
}

/// The backend that has the flow already. None where there is no such flow, its backend is gone, or a SYN comes for a
/// flow that has ended: the client uses its port again.
#[inline(always)]
fn of_known_flow(control: &Control, key: &FlowKey, signal: Signal) -> Option<Choice> {
    let established = maps::FLOWS_MAP.get_ptr_mut(key);
    let nascent = established.is_none();
    let entry = established.or_else(|| maps::NASCENT_FLOWS_MAP.get_ptr_mut(key))?;
    // SAFETY: the pointer is a live map value's. Another CPU may write the same fields: each is one word, and every
    // value it can be seen with is one that was written.
    let flow = unsafe { &mut *entry };
    let index = flow.backend.index;
    let backend = maps::backend(index)?;
    let ended = flow.ended;
    let begins_anew = signal.may_begin() && flow_end::is_closed(ended);
    if begins_anew || flow.backend.incarnation != backend.incarnation || !takes_packets(backend) {
        forget(key, nascent);
        return None;
    }
    touch(flow, control.clock);
    let ends = signal.ends(flow_end::CLIENT_FIN);
    if ends & !ended != 0 {
        flow.ended = ended | ends;
    }
    // A repeated SYN is still the first packet: a flood may well repeat its own.
    if nascent && !(signal.protocol == lb_common::abi::PROTOCOL_TCP && signal.may_begin()) {
        let flow = *flow;
        maps::promote(key, &flow);
    }
    Some(Choice { index, backend, new_flow: false })
}

/// Removes a stale entry, so that the flow's next packets are a flow of its own.
#[inline(always)]
fn forget(key: &FlowKey, nascent: bool) {
    let _ = if nascent { maps::NASCENT_FLOWS_MAP.remove(key) } else { maps::FLOWS_MAP.remove(key) };
}

/// Marks the flow as ended by its backend.
#[inline(always)]
pub(crate) fn end_by_backend(key: &FlowKey, ends: u32) {
    let entry = maps::FLOWS_MAP.get_ptr_mut(key).or_else(|| maps::NASCENT_FLOWS_MAP.get_ptr_mut(key));
    if let Some(entry) = entry {
        // SAFETY: a live map value, one word of it.
        unsafe { (*entry).ended |= ends };
    }
}

/// Remembers when the flow was last seen, with a write a second only: a cache line that is only read is shared.
#[inline(always)]
fn touch(flow: &mut FlowValue, clock: u32) {
    if flow.last_seen != clock {
        flow.last_seen = clock;
    }
}

#[inline(always)]
fn takes_packets(backend: &BackendValue) -> bool {
    backend.state == backend_state::ACTIVE || backend.state == backend_state::DRAINING
}
