//! Which backend has a flow, as its client's packets ask; `noted` is what its backend's answers say.
//!
//! A flow is real, and has an entry in `flows`, when both ends have spoken. Before it is an attempt. What a client says alone
//! makes no entry, ends none and changes none.

use lb_common::abi::{
    BackendValue, Control, DropReason, FlowKey, FlowValue, Handle, NO_BACKEND, PROTOCOL_TCP, Slot,
    backend_state, flow_end,
};
use lb_common::attempt::{Attempt, kind};
use lb_common::hash;
use lb_common::packet::{Segment, tcp_flag};
use lb_common::recent::Mark;

use crate::refusal::{Refusal, slow_path};
use crate::table;
use crate::{attempts, maps};

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
    pub(crate) fn ends(self, fin: u8) -> u8 {
        let fin = if self.flags & tcp_flag::FIN == 0 { 0 } else { fin };
        let reset = if self.flags & tcp_flag::RST == 0 { 0 } else { flow_end::RESET };
        fin | reset
    }
}

/// Chooses the backend of a client's packet, or has its flow looked up by [`settle`].
///
/// In a steady slot every TCP flow is the owner's, and nothing is looked up but while a flow begins or may end, so that it is
/// known on the day its slot moves. That it goes on is seen by what its backend answers: [`crate::noted`]. ICMP and UDP
/// have no packet that begins a flow, so their flows are looked up always: no flow of theirs changes its backend while that
/// lives.
#[inline(always)]
pub(crate) fn choose(control: &Control, key: &FlowKey, signal: Signal) -> Result<Choice, Refusal> {
    let hash = hash::of_flow(key, control.seed);
    let slot = maps::slot(key.service, hash::slot(hash))?;
    let claims = signal.ends(flow_end::CLIENT_FIN) != 0;
    if slot.is_tracked() || signal.protocol != PROTOCOL_TCP {
        return if claims || signal.opens() {
            Err(Refusal::Continue(slow_path::LOOK_UP))
        } else {
            of_known_flow(control, hash, key, signal)
        };
    }
    if signal.may_begin() {
        maps::refuse_local(&key.client)?;
        maps::note_syn(hash, control.clock);
        return Ok(owner(slot.new_flows, true)?);
    }
    if claims || (maps::is_awaited(hash, control.clock) && !maps::seen_lately(mark(control, hash))) {
        return Err(Refusal::Continue(slow_path::LOOK_UP));
    }
    Ok(owner(slot.new_flows, false)?)
}

/// The backend of a flow that is known, open, and not about to change by this packet.
#[inline(always)]
fn of_known_flow(control: &Control, hash: u64, key: &FlowKey, signal: Signal) -> Result<Choice, Refusal> {
    let unknown = Refusal::Continue(slow_path::LOOK_UP);
    let Some(entry) = table::find(control, hash, key) else { return Err(unknown) };
    // SAFETY: the pointer is a live map value's. Another CPU may write the same fields: each is one word, and every
    // value it can be seen with is one that was written.
    let flow = unsafe { &mut *entry };
    let Handle { index, incarnation } = flow.backend;
    let Some(backend) = maps::backend(index) else { return Err(unknown) };
    if incarnation != backend.incarnation || !takes_packets(backend) || flow_end::is_closed(flow.ended) {
        return Err(unknown);
    }
    if signal.protocol != PROTOCOL_TCP {
        touch(flow, control.clock);
    }
    Ok(Choice { index, backend, new_flow: false })
}

/// What a client's packet says beside its flags.
pub(crate) struct Said {
    /// Its numbers; all 0 where it is no TCP segment.
    pub segment: Segment,
    /// Whether a receiver takes it: known only of segments without data.
    pub is_intact: bool,
}

/// Chooses the backend of a client's packet by all that is known of its flow, and notes what the packet says of it.
#[inline(always)]
pub(crate) fn settle(
    control: &Control,
    key: &FlowKey,
    signal: Signal,
    said: &Said,
) -> Result<Choice, DropReason> {
    let hash = hash::of_flow(key, control.seed);
    let mut closed = None;
    if let Some(entry) = table::find(control, hash, key) {
        // SAFETY: as in `of_known_flow`.
        let flow = unsafe { &mut *entry };
        match backend_of(flow.backend) {
            // Stale: the flow's next packets are a flow of its own.
            None => table::remove(control, hash, key),
            Some(_) if flow_end::is_closed(flow.ended) => closed = Some(flow),
            Some(backend) => {
                note_going_on(control, hash, signal, &said.segment, flow);
                return Ok(Choice { index: flow.backend.index, backend, new_flow: false });
            }
        }
    }
    let slot = maps::slot(key.service, hash::slot(hash))?;
    let place = attempts::Place::of(control, key.service, hash);
    let attempt = young_attempt(control, place);
    if signal.may_begin() {
        maps::refuse_local(&key.client)?;
        return begin(control, place, hash, signal, slot, attempt);
    }
    let known = attempt.backend();
    if attempt.kind() != kind::NONE
        && (slot.is_tracked() || known.index == slot.new_flows)
        && let Some(backend) = backend_of(known)
    {
        let completes = completes(signal, &said.segment, attempt);
        if completes && said.segment.length == 0 && said.is_intact {
            become_real(
                control,
                key,
                hash,
                &FlowValue::opened(known, control.clock, attempt.number()),
                closed,
            );
            return Ok(Choice { index: known.index, backend, new_flow: false });
        }
        if completes || closed.is_none() || belies(signal, &said.segment, attempt) {
            return Ok(Choice { index: known.index, backend, new_flow: false });
        }
    }
    if let Some(flow) = closed
        && let Some(backend) = backend_of(flow.backend)
    {
        // Late segments.
        return Ok(Choice { index: flow.backend.index, backend, new_flow: false });
    }
    let choice = of_unknown_flow(slot, signal.protocol)?;
    if attempt.kind() == kind::NONE
        && signal.flags & tcp_flag::RST == 0
        && maps::is_awaited(hash, control.clock)
        && maps::refuse_local(&key.client).is_ok()
    {
        record(control, place, handle_of(&choice));
    }
    Ok(choice)
}

/// Notes what a client's packet says of a flow that is real and open: of a TCP flow no more than claims.
#[inline(always)]
fn note_going_on(control: &Control, hash: u64, signal: Signal, segment: &Segment, flow: &mut FlowValue) {
    if signal.protocol != PROTOCOL_TCP {
        touch(flow, control.clock);
        return;
    }
    if signal.opens() {
        // Its backend's answer tells whether another begins in its place.
        maps::note_syn(hash, control.clock);
    }
    let claims = signal.ends(flow_end::CLIENT_FIN);
    if claims == 0 {
        return;
    }
    let end = segment.sequence.wrapping_add(segment.length);
    flow.number = if claims & flow_end::RESET != 0 { segment.sequence } else { end.wrapping_add(1) };
    flow.claimed_at = control.clock as u8;
    // Probes that were answered with nothing say nothing of a later claim.
    flow.claimed = (flow.claimed | claims) % flow_end::PROBE;
    // The backend's next answer is looked at.
    maps::not_seen(mark(control, hash));
}

/// Chooses for a packet that may begin its flow. One that is repeated goes where the first one went.
#[inline(always)]
fn begin(
    control: &Control,
    place: attempts::Place,
    hash: u64,
    signal: Signal,
    slot: Slot,
    attempt: Attempt,
) -> Result<Choice, DropReason> {
    let known = if attempt.kind() == kind::NONE { None } else { backend_of(attempt.backend()) };
    let choice = match known {
        Some(backend) => Choice { index: attempt.backend().index, backend, new_flow: false },
        None => owner(slot.new_flows, true)?,
    };
    if signal.protocol == PROTOCOL_TCP {
        maps::note_syn(hash, control.clock);
    } else {
        record(control, place, handle_of(&choice));
    }
    Ok(choice)
}

/// Whether a client's segment acknowledges the SYN/ACK of an attempt.
#[inline(always)]
fn completes(signal: Signal, segment: &Segment, attempt: Attempt) -> bool {
    use tcp_flag::{ACK, FIN, RST, SYN};
    signal.flags & (SYN | ACK | RST | FIN) == ACK
        && attempt.kind() == kind::HANDSHAKE
        && segment.acknowledgement == attempt.number()
}

/// Whether a client's segment answers what an attempt's backend has acknowledged instead of the SYN: the backend has an older
/// connection of these ends, of which the client knows nothing (RFC 9293, 3.5.1).
#[inline(always)]
fn belies(signal: Signal, segment: &Segment, attempt: Attempt) -> bool {
    signal.flags & tcp_flag::RST != 0
        && attempt.kind() == kind::ANSWERED
        && segment.sequence as u16 == attempt.acknowledged()
}

/// Records a flow of which both ends have spoken, and no longer its attempt. `closed` is the entry of the flow before. Where the
/// table is full the flow keeps its attempt, and its backend's next answer has it recorded.
#[inline(always)]
pub(crate) fn become_real(
    control: &Control,
    key: &FlowKey,
    hash: u64,
    flow: &FlowValue,
    closed: Option<&mut FlowValue>,
) {
    let is_recorded = match closed {
        Some(before) => {
            *before = *flow;
            true
        }
        None => table::insert_if_room(control, hash, key, flow),
    };
    if is_recorded {
        maps::seen(mark(control, hash));
        attempts::forget(attempts::Place::of(control, key.service, hash));
    }
}

/// Records that a client has asked.
#[inline(always)]
fn record(control: &Control, place: attempts::Place, backend: Handle) {
    attempts::record(place, Attempt::asked(backend, control.clock));
}

/// A flow's attempt, where its backend still takes packets and the flow may still become real; else none.
#[inline(always)]
pub(crate) fn young_attempt(control: &Control, place: attempts::Place) -> Attempt {
    let attempt = attempts::find(place);
    let is_old = attempt.age(control.clock) > control.nascent_timeout;
    if is_old || backend_of(attempt.backend()).is_none() { Attempt::NONE } else { attempt }
}

/// The backend that a flow's next packet would go to, for one that isn't the flow's own and changes nothing of it.
#[inline(always)]
pub(crate) fn holder(control: &Control, key: &FlowKey, protocol: u8) -> Result<Choice, DropReason> {
    let hash = hash::of_flow(key, control.seed);
    if let Some((handle, backend)) = known(control, hash, key) {
        return Ok(Choice { index: handle.index, backend, new_flow: false });
    }
    of_unknown_flow(maps::slot(key.service, hash::slot(hash))?, protocol)
}

/// The backend of a flow that is known, or of its attempt.
#[inline(always)]
pub(crate) fn known(control: &Control, hash: u64, key: &FlowKey) -> Option<(Handle, &'static BackendValue)> {
    // SAFETY: the pointer is a live map value's, of which one word is read.
    if let Some(handle) = table::find(control, hash, key).map(|entry| unsafe { (*entry).backend })
        && let Some(backend) = backend_of(handle)
    {
        return Some((handle, backend));
    }
    let place = attempts::Place::of(control, key.service, hash);
    let attempt = young_attempt(control, place);
    if attempt.kind() == kind::NONE {
        return None;
    }
    Some((attempt.backend(), backend_of(attempt.backend())?))
}

/// Whether the flow has told the flow table of itself in this epoch.
#[inline(always)]
pub(crate) fn mark(control: &Control, hash: u64) -> Mark {
    Mark::of(hash, control.epoch, control.recent_mask)
}

/// The backend of a handle, where it is still that one and takes packets.
#[inline(always)]
pub(crate) fn backend_of(handle: Handle) -> Option<&'static BackendValue> {
    maps::backend(handle.index)
        .filter(|backend| backend.incarnation == handle.incarnation && takes_packets(backend))
}

#[inline(always)]
fn handle_of(choice: &Choice) -> Handle {
    Handle { index: choice.index, incarnation: choice.backend.incarnation }
}

/// The backend of a flow that isn't known, for a packet that doesn't open a connection. Each other packet of a protocol without
/// connections begins a flow.
#[inline(always)]
fn of_unknown_flow(slot: Slot, protocol: u8) -> Result<Choice, DropReason> {
    if protocol == PROTOCOL_TCP && slot.is_tracked() {
        previous_owner(slot)
    } else {
        owner(slot.new_flows, false)
    }
}

/// The backend of connections that aren't known and don't begin now.
#[inline(always)]
fn previous_owner(slot: Slot) -> Result<Choice, DropReason> {
    owner(slot.previous_owner(), false).or_else(|_| owner(slot.new_flows, false))
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
