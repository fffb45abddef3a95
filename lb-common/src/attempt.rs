//! Attempts: flows of which only one end has spoken, or whose handshake isn't over.
//!
//! A flow is real when both ends have spoken; until then it is an attempt. Attempts of a service have a part of the table
//! `attempts` that is the service's own, so they push out only each other, and never a real flow. An attempt is told by a tag of
//! its keyed hash, not by its addresses: 16 bytes, four to a cache line.

use crate::abi::Handle;

/// The attempts of a set.
pub const ATTEMPTS_A_SET: usize = 4;

/// The attempts that share their hash's lowest bits: value of `attempts`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AttemptSet {
    /// Two words for each.
    pub words: [u64; 2 * ATTEMPTS_A_SET],
}

impl AttemptSet {
    /// The words of each attempt.
    #[must_use]
    pub fn ways(&self) -> [[u64; 2]; ATTEMPTS_A_SET] {
        core::array::from_fn(|way| [self.words[2 * way], self.words[2 * way + 1]])
    }
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, made of words only, valid for any bytes.
unsafe impl aya::Pod for AttemptSet {}

/// What is known of an attempt: [`Attempt::kind`].
pub mod kind {
    /// There is none.
    pub const NONE: u64 = 0;
    /// Only the client has spoken.
    pub const ASKED: u64 = 1;
    /// The backend has answered a SYN: the numbers are those of its SYN/ACK.
    pub const HANDSHAKE: u64 = 2;
    /// The backend has acknowledged something of a flow whose beginning wasn't seen:
    /// [`Attempt::acknowledged`](super::Attempt::acknowledged) is what.
    pub const ANSWERED: u64 = 3;
}

/// The bits of an attempt's time.
const TIME_BITS: u32 = 12;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// Differs between the ways that were written before and after the set's oldest.
const PHASE: u64 = 1 << 2;
const KIND: u64 = 3;

/// A flow that isn't real yet, or none.
///
/// Two words, and no enumeration: the compiler would copy what an absent one doesn't have, which the kernel's verifier refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    backend: u64,
    numbers: u64,
}

impl Attempt {
    /// No attempt.
    pub const NONE: Self = Self { backend: 0, numbers: 0 };

    /// One of which only the client has spoken, or again, at a time of `Control::clock`.
    #[inline(always)]
    #[must_use]
    pub const fn asked(backend: Handle, clock: u32) -> Self {
        Self { backend: backend.word() as u64, numbers: (clock as u64 & TIME) << 4 | kind::ASKED }
    }

    /// The same, of which the backend has said with a SYN/ACK of this sequence number that it acknowledges that number.
    #[inline(always)]
    #[must_use]
    pub const fn handshake(self, sequence: u32, acknowledged: u32) -> Self {
        let number = (sequence.wrapping_add(1) as u64) << 32;
        let rest = self.numbers & TIME << 4 | kind::HANDSHAKE;
        Self { numbers: number | (acknowledged as u64 & 0xffff) << 16 | rest, ..self }
    }

    /// The same, of which the backend has acknowledged this number.
    #[inline(always)]
    #[must_use]
    pub const fn answered(self, acknowledged: u32) -> Self {
        Self {
            numbers: (acknowledged as u64 & 0xffff) << 16 | self.numbers & TIME << 4 | kind::ANSWERED,
            ..self
        }
    }

    /// The backend that has it.
    #[inline(always)]
    #[must_use]
    pub const fn backend(self) -> Handle {
        Handle::of_word(self.backend as u32)
    }

    /// One of [`kind`].
    #[inline(always)]
    #[must_use]
    pub const fn kind(self) -> u64 {
        self.numbers & KIND
    }

    /// What the client's ACK says when it completes the handshake: the backend's sequence number plus one.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        (self.numbers >> 32) as u32
    }

    /// The lower half of what the backend has acknowledged.
    #[inline(always)]
    #[must_use]
    pub const fn acknowledged(self) -> u16 {
        (self.numbers >> 16) as u16
    }

    /// Its age in seconds; comes round after 4,096. Another CPU may have a later clock than this one: such an attempt begins now.
    #[inline(always)]
    #[must_use]
    pub const fn age(self, clock: u32) -> u32 {
        /// By how much clocks may differ.
        const LATER: u32 = 16;
        let age = clock.wrapping_sub((self.numbers >> 4) as u32) & TIME as u32;
        if age > TIME as u32 - LATER { 0 } else { age }
    }

    /// As it stands in its set.
    #[inline(always)]
    #[must_use]
    pub const fn words(self, flow_hash: u64, phase: u64) -> [u64; 2] {
        [(tag(flow_hash) as u64) << 32 | self.backend, self.numbers | phase]
    }

    /// What tells a way of a set from one that has the attempt of a flow: 0 where it has, and below 2³³.
    #[inline(always)]
    #[must_use]
    pub const fn difference(words: [u64; 2], flow_hash: u64) -> u64 {
        let is_some = ((words[1] & KIND) + KIND) >> 2;
        (is_some ^ 1) << 32 | (words[0] >> 32) ^ tag(flow_hash) as u64
    }

    /// The attempt in a way.
    #[inline(always)]
    #[must_use]
    pub const fn of_words(words: [u64; 2]) -> Self {
        Self { backend: words[0] & u32::MAX as u64, numbers: words[1] & !PHASE }
    }
}

/// The bits of a flow's hash that its set doesn't stand for.
#[inline(always)]
const fn tag(flow_hash: u64) -> u32 {
    (flow_hash >> 32) as u32
}

/// The number of a flow's set: `service` is the service's place, `mask` the sets of a service less one, a power of two less one.
#[inline(always)]
#[must_use]
pub const fn set(service: u16, flow_hash: u64, mask: u32) -> u32 {
    service as u32 * (mask + 1) + (flow_hash as u32 & mask)
}

/// The first of some ways of a set, a bit each; 0 of none. Looked up: the kernel's verifier follows both sides of
/// every branch, and a set has sixteen ends.
#[inline(always)]
#[must_use]
pub const fn first(ways: u64) -> usize {
    /// Two bits for each.
    const FIRST: u64 = 0x1213_1210;
    (FIRST >> (2 * (ways & 15)) & 3) as usize
}

/// The way in which a new attempt is to be written, and its phase. Ways are filled one after the other, with a phase
/// that changes when all are full: so the next is the first whose phase isn't that of the way in front, and the
/// oldest attempt goes.
#[inline(always)]
#[must_use]
pub const fn next(numbers: [u64; ATTEMPTS_A_SET]) -> (usize, u64) {
    let front = numbers[0] & PHASE;
    let mut others = 0;
    let mut way = 1;
    while way < ATTEMPTS_A_SET {
        others |= (((numbers[way] ^ front) & PHASE) / PHASE) << way;
        way += 1;
    }
    let is_full = 1 >> others & 1;
    (first(others), front ^ (is_full * PHASE))
}

/// The phase of a way, which an attempt keeps when it is written again.
#[inline(always)]
#[must_use]
pub const fn phase(numbers: u64) -> u64 {
    numbers & PHASE
}

/// The second word of a way whose attempt is over.
#[inline(always)]
#[must_use]
pub const fn emptied(numbers: u64) -> u64 {
    numbers & PHASE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ATTEMPTS_A_SET, Attempt, AttemptSet, kind, next, set};
    use crate::abi::Handle;

    fn put(set: &mut AttemptSet, hash: u64, attempt: Attempt) {
        let (way, phase) = next(set.ways().map(|words| words[1]));
        set.words[2 * way..][..2].copy_from_slice(&attempt.words(hash, phase));
    }

    fn find(set: &AttemptSet, hash: u64) -> Option<Attempt> {
        set.ways().into_iter().find(|words| Attempt::difference(*words, hash) == 0).map(Attempt::of_words)
    }

    #[test]
    fn an_empty_set_has_no_attempt() {
        assert_eq!(find(&AttemptSet::default(), 0), None);
    }

    #[test]
    fn services_have_sets_of_their_own() {
        assert_eq!((set(0, 0x1234_5678, 0xff), set(3, 0x1234_5678, 0xff)), (0x78, 0x378));
        assert_eq!(set(7, u64::MAX, 0), 7);
    }

    #[test]
    fn an_age_comes_round_late() {
        let attempt = Attempt::asked(Handle::default(), 4_090);
        assert_eq!((attempt.age(4_090), attempt.age(4_100), attempt.age(8_100)), (0, 10, 4_010));
        assert_eq!(attempt.age(4_089), 0, "a clock that is behind");
    }

    proptest! {
        #[test]
        fn an_attempt_is_what_was_said(index: u16, incarnation: u16, sequence: u32, acknowledged: u32, clock: u32) {
            let backend = Handle { index, incarnation };
            let asked = Attempt::asked(backend, clock);
            let handshake = asked.handshake(sequence, acknowledged);
            prop_assert_eq!((handshake.number(), handshake.kind()), (sequence.wrapping_add(1), kind::HANDSHAKE));
            let answered = asked.answered(acknowledged);
            prop_assert_eq!(answered.kind(), kind::ANSWERED);
            for attempt in [asked, handshake, answered] {
                prop_assert_eq!((attempt.backend(), attempt.age(clock.wrapping_add(9))), (backend, 9));
            }
            for attempt in [handshake, answered] {
                prop_assert_eq!(u32::from(attempt.acknowledged()), acknowledged & 0xffff);
            }
        }

        #[test]
        fn a_set_holds_the_last_four(
            hashes in proptest::collection::hash_set(any::<u64>().prop_map(|hash| hash << 32), 1..20),
            sequence: u32, acknowledged: u32, index: u16, clock: u32,
        ) {
            let attempt = Attempt::asked(Handle { index, incarnation: 7 }, clock).handshake(sequence, acknowledged);
            let mut set = AttemptSet::default();
            let hashes: Vec<u64> = hashes.into_iter().collect();
            for &hash in &hashes {
                put(&mut set, hash, attempt);
            }
            for (place, &hash) in hashes.iter().rev().enumerate() {
                prop_assert_eq!(find(&set, hash), (place < ATTEMPTS_A_SET).then_some(attempt));
            }
        }
    }
}
