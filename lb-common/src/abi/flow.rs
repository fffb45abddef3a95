//! Flows: keys and values of the parts of `flows`.

use super::{Address, Handle, PROTOCOL_TCP};

/// The flows for which a part of `flows` has room, where there is more than one part: a sweep of one takes well below a
/// millisecond. A power of two, as the kernel rounds the buckets of a hash table up to one.
pub const FLOWS_A_PART: u32 = 2_048;

/// How many parts `flows` has, and how large they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTableShape {
    /// Parts.
    pub parts: u32,
    /// The entries for which each has room.
    pub entries: u32,
}

impl FlowTableShape {
    /// That of a table for so many flows.
    ///
    /// The hash gives one part more flows than another. A full table's fill seven eighths of each on average, and the room
    /// that is left is six standard deviations: no part is full before the table is.
    #[must_use]
    pub fn for_flows(flows: u32) -> Self {
        const FILLED: u32 = FLOWS_A_PART / 8 * 7;
        let parts = if flows <= FLOWS_A_PART { 1 } else { flows.div_ceil(FILLED) };
        // Not in the branches above: LLVM 22.1 optimises `if x <= C { x.max(1) } else { C }` to `x.max(1)`.
        Self { parts, entries: flows.clamp(1, FLOWS_A_PART) }
    }
}

/// A flow, seen from the client: key of the parts of `flows`.
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

/// Flags of `FlowValue::ended`, all of them what the backend has said or has left unsaid, and of `FlowValue::claimed`, which are
/// what a client says.
pub mod flow_end {
    /// The client has sent a FIN. Where it has ended: and the backend has acknowledged it.
    pub const CLIENT_FIN: u8 = 1;
    /// The backend has sent a FIN.
    pub const BACKEND_FIN: u8 = 2;
    /// A RST was sent. Where it has ended: by the backend, or the backend has begun another flow in its place.
    pub const RESET: u8 = 4;
    /// Beside [`RESET`]: the client's RST stands, since the backend has answered no probe. Its next packet belies it.
    pub const SILENT: u8 = 8;
    /// In `claimed`, from this bit on: how many probes were asked for since the last claim.
    pub const PROBE: u8 = 16;

    /// Whether a flow that has ended so has ended for both sides.
    #[inline(always)]
    #[must_use]
    pub const fn is_closed(ended: u8) -> bool {
        ended & RESET != 0 || ended & (CLIENT_FIN | BACKEND_FIN) == CLIENT_FIN | BACKEND_FIN
    }
}

/// Value of the parts of `flows`.
///
/// What a client says of its flow's end is a claim: anyone can send it in the client's name. `ended` is written for what the
/// backend sends only, and `claimed` is for the backend to bear out or to belie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowValue {
    /// Who has it. A handle whose incarnation isn't the place's own names a backend that is gone.
    pub backend: Handle,
    /// [`Control::clock`](super::Control::clock) at its last packet, seconds.
    pub last_seen: u32,
    /// Of the client's last claim: what the backend acknowledges when a FIN is borne out; the RST's sequence number. Before any,
    /// the number after the backend's SYN, where the flow is known since its handshake; 0 where nothing is known.
    pub number: u32,
    /// Bits of [`flow_end`].
    pub ended: u8,
    /// Bits of [`flow_end`], and the probes since; 0 where there is no claim.
    pub claimed: u8,
    /// When the last claim was made: the lowest bits of the clock. Before any, whether `number` is that of the handshake: 1 or 0.
    pub claimed_at: u8,
    /// The IP protocol number: which idle timeout holds.
    pub protocol: u8,
}

/// In the place of a claim's time: the number is that of the handshake.
const HANDSHAKE_KNOWN: u8 = 1;

impl FlowValue {
    /// A flow that begins to be known, of which the backend has said so much of its end already.
    #[inline(always)]
    #[must_use]
    pub const fn begun(backend: Handle, protocol: u8, clock: u32, ended: u8) -> Self {
        let words = [backend.word(), clock, 0, u32::from_ne_bytes([ended, 0, 0, protocol])];
        // Field by field, the compiler would write two of the last four bytes at once, where the verifier refuses that.
        // SAFETY: both are 16 bytes without padding, laid out alike, and any bytes are a flow.
        unsafe { core::mem::transmute::<[u32; 4], Self>(words) }
    }

    /// A TCP flow whose handshake is over just now: the client has acknowledged the backend's SYN with this number.
    #[inline(always)]
    #[must_use]
    pub const fn opened(backend: Handle, clock: u32, number: u32) -> Self {
        let words =
            [backend.word(), clock, number, u32::from_ne_bytes([0, 0, HANDSHAKE_KNOWN, PROTOCOL_TCP])];
        // SAFETY: as above.
        unsafe { core::mem::transmute::<[u32; 4], Self>(words) }
    }

    /// Whether a SYN/ACK of its backend, with this sequence number, is that of its handshake once more: a backend whose timer
    /// has run out, or that was asked again, may send it while the client's ACK is under way. It begins no other flow.
    #[inline(always)]
    #[must_use]
    pub const fn repeats_handshake(&self, sequence: u32) -> bool {
        let has_number = self.ended == 0 && self.claimed == 0 && self.claimed_at == HANDSHAKE_KNOWN;
        has_number && self.number == sequence.wrapping_add(1)
    }

    /// The client's claim stands no longer, and nothing is known of the handshake.
    #[inline(always)]
    pub const fn forget_claim(&mut self) {
        self.claimed = 0;
        self.claimed_at = 0;
        self.number = 0;
    }

    /// The seconds since the last claim; comes round after 256.
    #[inline(always)]
    #[must_use]
    pub const fn since_claim(&self, clock: u32) -> u8 {
        (clock as u8).wrapping_sub(self.claimed_at)
    }

    /// What a sweep at that time has to do about a RST that the client is said to have sent.
    #[inline(always)]
    #[must_use]
    pub const fn doubt(&self, clock: u32) -> Doubt {
        let is_claimed = self.claimed & flow_end::RESET != 0 && !flow_end::is_closed(self.ended);
        let probes = self.claimed / flow_end::PROBE;
        // The first when whatever the backend had under way has come, and each other a second later.
        if !is_claimed || self.since_claim(clock) < CLAIM_STANDS + probes {
            Doubt::None
        } else if probes < PROBES {
            Doubt::Probe
        } else {
            Doubt::Silent
        }
    }
}

/// A claim stands for so many seconds, whatever the backend has still under way; what it answers later belies it.
pub const CLAIM_STANDS: u8 = 2;

/// A backend that has answered so many probes with nothing has no more to do with a flow that its client has reset.
pub const PROBES: u8 = 5;

/// Whether a client has reset its flow: see [`FlowValue::doubt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing says so, or it is too early to ask.
    None,
    /// The backend is to be probed.
    Probe,
    /// It has answered none of the probes.
    Silent,
}

/// What the program `sweep` is run on: a frame of these 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepOrder {
    /// The number of a part of `flows`, which is swept, or one of [`sweep_order`].
    pub what: u32,
    /// What it is done with; see there.
    pub with: u32,
    /// Two's complement of a number; see there.
    pub by: u64,
}

impl SweepOrder {
    /// To sweep a part, or do what needs to be told no more.
    #[must_use]
    pub const fn of(what: u32) -> Self {
        Self { what, with: 0, by: 0 }
    }

    /// The frame.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        let (what, with) = (self.what as u128, self.with as u128);
        (what | with << 32 | (self.by as u128) << 64).to_le_bytes()
    }

    /// The order in a frame.
    #[inline(always)]
    #[must_use]
    pub const fn from_bytes(frame: [u8; 16]) -> Self {
        let frame = u128::from_le_bytes(frame);
        Self { what: frame as u32, with: (frame >> 32) as u32, by: (frame >> 64) as u64 }
    }
}

/// What else than a part's number a [`SweepOrder`] may say.
pub mod sweep_order {
    /// Move the clock on by `with` seconds, or by the time that has passed.
    pub const CLOCK: u32 = u32::MAX - 1;
    /// Add `by` to what the service in the place `with` is counted to use of `flows`, or to what is used of the common half.
    pub const ADJUST: u32 = u32::MAX - 2;
    /// Set the count of flows that were refused to the service in the place `with` to 0.
    pub const CLEAR_REFUSED: u32 = u32::MAX - 3;

    /// `with` for [`CLOCK`]: the time that has passed.
    pub const TIME_PASSED: u32 = u32::MAX;
    /// `with` for [`ADJUST`]: the common half.
    pub const COMMON: u32 = u32::MAX;
}

#[cfg(test)]
mod tests {
    use super::{
        CLAIM_STANDS, Doubt, FLOWS_A_PART, FlowTableShape, FlowValue, Handle, PROBES, SweepOrder, flow_end,
        sweep_order,
    };

    #[test]
    fn a_table_has_as_many_parts_as_its_flows_need() {
        let shape = |parts, entries| FlowTableShape { parts, entries };
        assert_eq!(FlowTableShape::for_flows(0), shape(1, 1));
        assert_eq!(FlowTableShape::for_flows(1_024), shape(1, 1_024));
        assert_eq!(FlowTableShape::for_flows(2_048), shape(1, 2_048));
        assert_eq!(FlowTableShape::for_flows(2_049), shape(2, 2_048));
        assert_eq!(FlowTableShape::for_flows(1 << 20), shape(586, 2_048));
        let largest = FlowTableShape::for_flows(u32::MAX);
        assert!(u64::from(largest.parts) * u64::from(FLOWS_A_PART / 8 * 7) >= u64::from(u32::MAX));
    }

    /// What is known while this is compiled, or is computed for more than this, is another code.
    #[inline(never)]
    fn entries(flows: u32) -> u32 {
        FlowTableShape::for_flows(flows).entries
    }

    #[test]
    fn an_optimised_build_gives_no_part_room_for_more() {
        let flows = [0, 1, 2_047, 2_048, 2_049, 1 << 20, u32::MAX].map(core::hint::black_box);
        assert_eq!(flows.map(entries), [1, 1, 2_047, 2_048, 2_048, 2_048, 2_048]);
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let order = SweepOrder { what: sweep_order::ADJUST, with: 0x0102_0304, by: 7_u64.wrapping_neg() };
        assert_eq!(SweepOrder::from_bytes(order.to_bytes()), order);
    }

    #[test]
    fn a_flow_begins_with_what_is_said_of_it() {
        let backend = Handle { index: 7, incarnation: 9 };
        let flow = FlowValue::begun(backend, 6, 0x0102_0304, flow_end::BACKEND_FIN);
        assert_eq!((flow.backend, flow.last_seen, flow.number), (backend, 0x0102_0304, 0));
        assert_eq!((flow.ended, flow.claimed, flow.protocol), (flow_end::BACKEND_FIN, 0, 6));
    }

    #[test]
    fn a_handshake_is_repeated_with_its_own_number() {
        let mut flow = FlowValue::opened(Handle { index: 7, incarnation: 9 }, 3, 0);
        assert_eq!((flow.last_seen, flow.ended, flow.claimed, flow.protocol), (3, 0, 0, 6));
        assert!(flow.repeats_handshake(u32::MAX) && !flow.repeats_handshake(0));
        flow.claimed = flow_end::CLIENT_FIN;
        assert!(!flow.repeats_handshake(u32::MAX), "the number is the claim's");
        (flow.claimed, flow.ended) = (0, flow_end::CLIENT_FIN);
        assert!(!flow.repeats_handshake(u32::MAX), "it was the claim's");
        flow.ended = 0;
        flow.forget_claim();
        assert!(!flow.repeats_handshake(u32::MAX), "it is not known any more");
        assert!(!FlowValue::begun(flow.backend, 6, 3, 0).repeats_handshake(u32::MAX), "it was never known");
    }

    #[test]
    fn a_reset_is_doubted_until_the_backend_has_left_all_probes_unanswered() {
        let mut flow = FlowValue::begun(Handle::default(), 6, 250, 0);
        assert_eq!(flow.doubt(900), Doubt::None, "there is no claim");
        (flow.claimed, flow.claimed_at) = (flow_end::CLIENT_FIN, 250);
        assert_eq!(flow.doubt(260), Doubt::None, "a FIN is acknowledged");
        flow.claimed |= flow_end::RESET;
        let mut probed_at = std::vec::Vec::new();
        let silent_at = (250..300).find(|clock| match flow.doubt(*clock) {
            Doubt::Probe => {
                flow.claimed += flow_end::PROBE;
                probed_at.push(*clock);
                false
            }
            doubt => doubt == Doubt::Silent,
        });
        let first = 250 + u32::from(CLAIM_STANDS);
        let last = first + u32::from(PROBES);
        assert_eq!((probed_at, silent_at), ((first..last).collect(), Some(last)));
        flow.ended = flow_end::RESET | flow_end::SILENT;
        assert_eq!(flow.doubt(900), Doubt::None, "it has ended");
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
