//! Which backend has a flow.

use lb_common::abi::{
    BackendValue, Control, DropReason, FlowKey, FlowValue, Handle, NO_BACKEND, PROTOCOL_TCP, Slot,
    backend_state, flow_end,
};
use lb_common::hash;
use lb_common::packet::tcp_flag;
use lb_common::recent::Mark;

use crate::{maps, table};

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
    /// TCP flags; 0 for ICMP and UDP.
    pub flags: u8,
}

impl Signal {
    /// A packet with which a flow can begin: a SYN, or any ICMP echo request or UDP datagram.
    #[inline(always)]
    fn may_begin(self) -> bool {
        use tcp_flag::{ACK, RST, SYN};
        self.protocol != PROTOCOL_TCP || self.flags & (SYN | ACK | RST) == SYN
    }

    /// A packet that opens a TCP connection.
    #[inline(always)]
    pub(crate) fn opens(self) -> bool {
        self.protocol == PROTOCOL_TCP && self.may_begin()
    }

    /// The bits of [`flow_end`] that this packet sets when it comes from the side whose FIN is `fin`.
    #[inline(always)]
    pub(crate) fn ends(self, fin: u32) -> u32 {
        let fin = if self.flags & tcp_flag::FIN == 0 { 0 } else { fin };
        let reset = if self.flags & tcp_flag::RST == 0 { 0 } else { flow_end::RESET };
        fin | reset
    }
}

/// Chooses the backend of a client's packet.
///
/// In a steady slot every TCP flow is the owner's, and nothing is looked up but when a flow begins or ends, so that it is
/// known on the day its slot moves. That it goes on is seen by what its backend answers: [`note_answer`]. ICMP and UDP
/// have no packet that begins a flow, so their flows are looked up always: no flow of theirs changes its backend while that
/// lives, from its second packet on.
#[inline(always)]
pub(crate) fn choose(control: &Control, key: &FlowKey, signal: Signal) -> Result<Choice, DropReason> {
    let hash = hash::of_flow(key, control.seed);
    let slot = maps::slot(key.service, hash::slot(hash))?;
    if slot.is_tracked() || signal.protocol != PROTOCOL_TCP {
        return tracked(control, hash, key, signal, slot);
    }
    if signal.may_begin() {
        maps::refuse_local(&key.client)?;
        maps::begin_handshake(hash, control.clock);
        return owner(slot.new_flows, true);
    }
    let ends = signal.ends(flow_end::CLIENT_FIN) != 0;
    if ends || (maps::may_be_in_handshake(hash, control.clock) && !seen_lately(control, hash)) {
        return in_steady_slot(control, hash, key, signal, slot.new_flows);
    }
    owner(slot.new_flows, false)
}

/// Whether the flow has told the flow table of itself in this epoch; if not, it is to do so now.
#[inline(always)]
fn seen_lately(control: &Control, hash: u64) -> bool {
    maps::seen_lately(mark(control, hash))
}

#[inline(always)]
fn mark(control: &Control, hash: u64) -> Mark {
    Mark::of(hash, control.epoch, control.recent_mask)
}

/// Puts a flow of a steady slot down, or that it goes on, or that it ends.
#[inline(always)]
fn in_steady_slot(
    control: &Control,
    hash: u64,
    key: &FlowKey,
    signal: Signal,
    index: u16,
) -> Result<Choice, DropReason> {
    if let Some(choice) = of_known_flow(control, hash, key, signal) {
        return Ok(choice);
    }
    let choice = owner(index, false)?;
    adopt(control, hash, key, signal, &choice);
    Ok(choice)
}

/// Chooses for a flow of a tracked slot: its own backend, the keeper of old flows, or for a new one the slot's owner.
#[inline(always)]
fn tracked(
    control: &Control,
    hash: u64,
    key: &FlowKey,
    signal: Signal,
    slot: Slot,
) -> Result<Choice, DropReason> {
    if let Some(choice) = of_known_flow(control, hash, key, signal) {
        return Ok(choice);
    }
    maps::refuse_local(&key.client)?;
    if signal.may_begin() {
        let choice = owner(slot.new_flows, true)?;
        maps::remember_nascent(key, &begun(control, signal, &choice));
        return Ok(choice);
    }
    let choice = owner(slot.keeper(), false).or_else(|_| owner(slot.new_flows, false))?;
    adopt(control, hash, key, signal, &choice);
    Ok(choice)
}

/// The backend that has a flow, for a packet that isn't the flow's own and changes nothing of it.
#[inline(always)]
pub(crate) fn holder(control: &Control, key: &FlowKey) -> Result<Choice, DropReason> {
    let hash = hash::of_flow(key, control.seed);
    let entry = known(control, hash, key);
    // SAFETY: the pointer is a live map value's, of which one word is read.
    if let Some(handle) = entry.map(|entry| unsafe { (*entry).backend })
        && let Some(backend) = backend_of(handle)
    {
        return Ok(Choice { index: handle.index, backend, new_flow: false });
    }
    let slot = maps::slot(key.service, hash::slot(hash))?;
    owner(slot.keeper(), false).or_else(|_| owner(slot.new_flows, false))
}

/// The backend of a handle, where it is still that one and takes packets.
#[inline(always)]
pub(crate) fn backend_of(handle: Handle) -> Option<&'static BackendValue> {
    maps::backend(handle.index)
        .filter(|backend| backend.incarnation == handle.incarnation && takes_packets(backend))
}

/// The backend in a place, where it takes packets.
#[inline(always)]
fn owner(index: u16, new_flow: bool) -> Result<Choice, DropReason> {
    if index == NO_BACKEND {
        return Err(DropReason::NoBackend);
    }
    let backend =
        maps::backend(index).filter(|backend| takes_packets(backend)).ok_or(DropReason::Inconsistent)?;
    Ok(Choice { index, backend, new_flow })
}

/// Puts a flow down that has begun before; not one that ends with this packet.
#[inline(always)]
fn adopt(control: &Control, hash: u64, key: &FlowKey, signal: Signal, choice: &Choice) {
    if signal.ends(flow_end::CLIENT_FIN) == 0 {
        // Where the table is full the flow stays with its slot, and its backend's answer has it recorded.
        if !table::insert_if_room(control, hash, key, &begun(control, signal, choice)) {
            maps::not_seen(mark(control, hash));
        }
    }
}

#[inline(always)]
fn begun(control: &Control, signal: Signal, choice: &Choice) -> FlowValue {
    FlowValue {
        backend: Handle { index: choice.index, incarnation: choice.backend.incarnation },
        last_seen: control.clock,
        ended: 0,
        protocol: u32::from(signal.protocol),
    }
}

/// The backend that has the flow already. None where there is no such flow, its backend is gone, or a SYN comes for a
/// flow that has ended: the client uses its port again.
#[inline(always)]
fn of_known_flow(control: &Control, hash: u64, key: &FlowKey, signal: Signal) -> Option<Choice> {
    let established = table::find(control, hash, key);
    let nascent = established.is_none();
    let entry = established.or_else(|| maps::nascent(key))?;
    // SAFETY: the pointer is a live map value's. Another CPU may write the same fields: each is one word, and every
    // value it can be seen with is one that was written.
    let flow = unsafe { &mut *entry };
    let index = flow.backend.index;
    let backend = maps::backend(index)?;
    let ended = flow.ended;
    let begins_anew = signal.may_begin() && flow_end::is_closed(ended);
    if begins_anew || flow.backend.incarnation != backend.incarnation || !takes_packets(backend) {
        // Stale: the flow's next packets are a flow of its own.
        if nascent {
            maps::forget_nascent(key);
        } else {
            table::remove(control, hash, key);
        }
        return None;
    }
    touch(flow, control.clock);
    let ends = signal.ends(flow_end::CLIENT_FIN);
    if ends & !ended != 0 {
        flow.ended = ended | ends;
    }
    // A repeated SYN is still the first packet: a flood may well repeat its own.
    if nascent && !(signal.protocol == PROTOCOL_TCP && signal.may_begin()) {
        let flow = *flow;
        // Where the table is full the flow stays where it is.
        if table::insert_if_room(control, hash, key, &flow) {
            maps::forget_nascent(key);
        }
    }
    Some(Choice { index, backend, new_flow: false })
}

/// Takes down what a backend's answer says of its flow: that it goes on, that it ends, or with a SYN that it is open, also
/// where the client's port had another flow before whose end is still remembered.
///
/// Whatever a client sends in a flow that is open is answered, or answers; so a flow that is in use is seen here. What a
/// backend sends in another's flow says nothing of that flow.
#[inline(always)]
pub(crate) fn note_answer(key: &FlowKey, flags: u8, backend: Handle) -> Result<(), DropReason> {
    let control = maps::control()?;
    let hash = hash::of_flow(key, control.seed);
    let ends = Signal { protocol: PROTOCOL_TCP, flags }.ends(flow_end::BACKEND_FIN);
    let opens = flags & tcp_flag::SYN != 0;
    if opens {
        maps::begin_handshake(hash, control.clock);
    } else if ends == 0 && seen_lately(control, hash) {
        return Ok(());
    }
    let entry = known(control, hash, key);
    if !has(key, hash, entry, backend)? {
        // The backend that has it is yet to be heard.
        maps::not_seen(mark(control, hash));
        return Ok(());
    }
    match entry {
        Some(entry) => {
            // SAFETY: a live map value, of which words are read and written.
            let flow = unsafe { &mut *entry };
            if opens {
                flow.ended = ends;
            } else if ends == 0 {
                flow.last_seen = control.clock;
            } else {
                flow.ended |= ends;
            }
        }
        None if !opens && ends == 0 => {
            let protocol = u32::from(PROTOCOL_TCP);
            let flow = FlowValue { backend, last_seen: control.clock, ended: 0, protocol };
            // Where the table is full the flow stays with its slot.
            let _ = table::insert(control, hash, key, &flow);
        }
        None => {}
    }
    Ok(())
}

/// Whether a backend that answers is the one that has the flow: by its entry, else as its slot's owner or keeper.
#[inline(always)]
fn has(key: &FlowKey, hash: u64, entry: Option<*mut FlowValue>, backend: Handle) -> Result<bool, DropReason> {
    if let Some(entry) = entry {
        // SAFETY: a live map value, one word of it.
        let owner = unsafe { (*entry).backend };
        return Ok(owner.index == backend.index && owner.incarnation == backend.incarnation);
    }
    let slot = maps::slot(key.service, hash::slot(hash))?;
    Ok(backend.index == slot.new_flows || backend.index == slot.keeper())
}

/// The flow's entry, wherever it is.
#[inline(always)]
pub(crate) fn known(control: &Control, hash: u64, key: &FlowKey) -> Option<*mut FlowValue> {
    table::find(control, hash, key).or_else(|| maps::nascent(key))
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
