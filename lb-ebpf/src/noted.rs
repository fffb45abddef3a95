//! What a backend's answers say of their flow: that it is real, that it goes on, that it ends.
//!
//! Whatever a client sends in a flow that is open is answered, or answers; so a flow that is in use is seen here. What a
//! backend sends in another's flow says nothing of that flow.

use lb_common::abi::{CLAIM_STANDS, Control, DropReason, FlowKey, FlowValue, Handle, PROTOCOL_TCP, flow_end};
use lb_common::attempt::{Attempt, kind};
use lb_common::hash;
use lb_common::packet::{Segment, tcp_flag};

use crate::flow::{self, Signal, mark};
use crate::table;
use crate::{attempts, maps};

/// An answer, and its flow.
pub(crate) struct Answer {
    pub key: FlowKey,
    pub backend: Handle,
    pub signal: Signal,
    /// All 0 where it is no TCP segment.
    pub segment: Segment,
}

/// What an answer is to its client.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing that is known of it has asked for it.
    No = 0,
    /// The client has asked for it.
    Yes = 1,
    /// The client has asked, and another backend has the flow.
    Another = 2,
    /// The client has asked, and this makes the flow real: it is to be recorded, by [`record`].
    Real = 3,
    /// The same, and the backend has sent its FIN.
    Ending = 4,
}

/// Whether an answer says nothing that isn't known.
#[inline(always)]
pub(crate) fn is_nothing_new(key: &FlowKey, signal: Signal) -> Result<bool, DropReason> {
    use tcp_flag::{FIN, RST, SYN};
    if signal.flags & (SYN | FIN | RST) != 0 {
        return Ok(false);
    }
    let control = maps::control()?;
    Ok(maps::seen_lately(mark(control, hash::of_flow(key, control.seed))))
}

/// Notes what an answer says of its flow, and tells whether its client has asked for it.
#[inline(never)]
pub(crate) fn note(answer: &Answer) -> Asked {
    let Ok(control) = maps::control() else { return Asked::No };
    let hash = hash::of_flow(&answer.key, control.seed);
    let opens = answer.signal.flags & tcp_flag::SYN != 0;
    let mut closed = None;
    if let Some(entry) = table::find(control, hash, &answer.key) {
        // SAFETY: a live map value, of which words are read and written.
        let flow = unsafe { &mut *entry };
        let is_own = is_same(flow.backend, answer.backend);
        if is_own && !opens && flow.ended & flow_end::SILENT != 0 {
            // It was silent, and hasn't ended.
            flow.ended &= !(flow_end::SILENT | flow_end::RESET);
        }
        if flow_end::is_closed(flow.ended) || flow::backend_of(flow.backend).is_none() {
            closed = Some(flow);
        } else if is_own && opens && flow.repeats_handshake(answer.segment.sequence) {
            return Asked::Yes;
        } else if is_own && opens {
            // Its backend has begun another in its place.
            flow.ended = flow_end::RESET;
            flow.last_seen = control.clock;
            closed = Some(flow);
        } else if is_own {
            note_going_on(control, hash, answer, flow);
            return Asked::Yes;
        } else {
            // Its client has asked, and has nothing to do with a second handshake.
            return if opens { Asked::Another } else { Asked::Yes };
        }
    }
    let place = attempts::Place::of(control, answer.key.service, hash);
    let attempt = flow::young_attempt(control, place);
    if opens {
        // The flow's next packets are looked up.
        maps::not_seen(mark(control, hash));
        return note_handshake(control, place, hash, answer, (attempt, closed));
    }
    if attempt.kind() != kind::NONE && is_same(attempt.backend(), answer.backend) {
        return note_of_attempt(control, place, hash, answer, attempt, closed);
    }
    is_late_or_refuses(control, place, hash, answer, closed)
}

/// Notes what an answer says of a flow that is real and open.
#[inline(always)]
fn note_going_on(control: &Control, hash: u64, answer: &Answer, flow: &mut FlowValue) {
    let mut ended = flow.ended | answer.signal.ends(flow_end::BACKEND_FIN);
    let claimed = flow.claimed;
    if claimed & flow_end::CLIENT_FIN != 0 && answer.segment.acknowledgement == flow.number {
        ended |= flow_end::CLIENT_FIN;
        flow.claimed = claimed & !flow_end::CLIENT_FIN;
    }
    if flow.claimed != 0 && flow.since_claim(control.clock) >= CLAIM_STANDS {
        flow.forget_claim();
    }
    flow.last_seen = control.clock;
    if ended != flow.ended {
        flow.ended = ended;
    }
    if flow_end::is_closed(ended) {
        maps::not_seen(mark(control, hash));
    } else if flow.claimed == 0 {
        maps::seen(mark(control, hash));
    }
}

/// Records that a backend has answered a SYN. Not, where another has answered one of the same attempt before: the client is
/// to hear of one only. `closed` is the entry of the flow before: its backend may have been sent the SYN while that was open.
#[inline(always)]
fn note_handshake(
    control: &Control,
    place: attempts::Place,
    hash: u64,
    answer: &Answer,
    (before, closed): (Attempt, Option<&mut FlowValue>),
) -> Asked {
    if before.kind() == kind::NONE && !maps::has_syn(hash, control.clock) {
        return Asked::No;
    }
    let is_own = if before.kind() == kind::NONE {
        has_slot(answer, hash) || closed.is_some_and(|flow| is_same(flow.backend, answer.backend))
    } else {
        is_same(before.backend(), answer.backend)
    };
    if !is_own {
        return Asked::Another;
    }
    // One that is repeated is as old as its first.
    let is_repeated = before.kind() == kind::HANDSHAKE;
    let attempt = if is_repeated { before } else { Attempt::asked(answer.backend, control.clock) };
    let Segment { sequence, acknowledgement, .. } = answer.segment;
    attempts::record(place, attempt.handshake(sequence, acknowledgement));
    maps::await_client(hash, control.clock);
    Asked::Yes
}

/// Notes what an answer of an attempt says. A kernel that waits for the end of a handshake answers whatever else comes
/// with a RST, or acknowledges the SYN once more: both say nothing. All else says that the flow is real.
#[inline(always)]
fn note_of_attempt(
    control: &Control,
    place: attempts::Place,
    hash: u64,
    answer: &Answer,
    attempt: Attempt,
    closed: Option<&mut FlowValue>,
) -> Asked {
    let Answer { backend, signal, segment, .. } = answer;
    let ends = signal.ends(flow_end::BACKEND_FIN);
    if signal.protocol == PROTOCOL_TCP {
        if ends & flow_end::RESET != 0 {
            attempts::forget(place);
            return Asked::Yes;
        }
        let acknowledged = segment.acknowledgement;
        let says_nothing = segment.length == 0 && ends == 0;
        if says_nothing && attempt.kind() == kind::ASKED {
            attempts::record(place, attempt.answered(acknowledged));
            return Asked::Yes;
        }
        if says_nothing && acknowledged as u16 == attempt.acknowledged() {
            return Asked::Yes;
        }
    }
    // Where the table is full the flow stays with its slot, and its answers are let out in this epoch.
    maps::seen(mark(control, hash));
    if let Some(before) = closed {
        *before = FlowValue::begun(*backend, signal.protocol, control.clock, ends);
        attempts::forget(place);
        return Asked::Yes;
    }
    if ends == 0 { Asked::Real } else { Asked::Ending }
}

/// Records a flow that an answer makes real, and no longer its attempt. Part of the caller's function: the stack has no room for
/// [`note`]'s and that of the table's at once.
#[inline(always)]
pub(crate) fn record(answer: &Answer, ended: u8) -> Result<(), DropReason> {
    let control = maps::control()?;
    let flow = FlowValue::begun(answer.backend, answer.signal.protocol, control.clock, ended);
    if table::insert(control, hash::of_flow(&answer.key, control.seed), &answer.key, &flow) {
        forget_attempt(answer);
    }
    Ok(())
}

#[inline(never)]
fn forget_attempt(answer: &Answer) -> u32 {
    let Ok(control) = maps::control() else { return 0 };
    let hash = hash::of_flow(&answer.key, control.seed);
    attempts::forget(attempts::Place::of(control, answer.key.service, hash));
    1
}

/// Whether a packet that answers no flow and no attempt is late, or refuses a SYN. If not, the client's next packet is
/// looked up: then the backend's next is an answer.
#[inline(always)]
fn is_late_or_refuses(
    control: &Control,
    place: attempts::Place,
    hash: u64,
    answer: &Answer,
    closed: Option<&mut FlowValue>,
) -> Asked {
    if closed.is_some_and(|flow| is_same(flow.backend, answer.backend)) {
        return Asked::Yes;
    }
    if answer.signal.protocol != PROTOCOL_TCP {
        return Asked::No;
    }
    if answer.segment.length == 0 && maps::has_syn(hash, control.clock) {
        note_challenge(control, place, hash, answer);
        return Asked::Yes;
    }
    maps::await_client(hash, control.clock);
    Asked::No
}

/// Notes that the backend to which a SYN went has acknowledged something else: it has an older connection of these ends. The
/// client's RST is for it (RFC 9293, 3.5.1), whoever has the slot's older flows.
#[inline(always)]
fn note_challenge(control: &Control, place: attempts::Place, hash: u64, answer: &Answer) {
    let ends = tcp_flag::RST | tcp_flag::FIN;
    let Ok(slot) = maps::slot(answer.key.service, hash::slot(hash)) else { return };
    if answer.signal.flags & ends == 0 && answer.backend.index == slot.new_flows {
        let attempt = Attempt::asked(answer.backend, control.clock);
        attempts::record(place, attempt.answered(answer.segment.acknowledgement));
    }
}

/// Whether a flow that isn't known may be with the backend that answers: the owner or the previous owner of its slot.
#[inline(always)]
fn has_slot(answer: &Answer, hash: u64) -> bool {
    maps::slot(answer.key.service, hash::slot(hash)).is_ok_and(|slot| {
        answer.backend.index == slot.new_flows || answer.backend.index == slot.previous_owner()
    })
}

#[inline(always)]
fn is_same(one: Handle, other: Handle) -> bool {
    one.index == other.index && one.incarnation == other.incarnation
}
