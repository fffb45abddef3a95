//! The table of attempts: flows that aren't real yet. Each service has a part of its own.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::abi::{Control, Handle};
use lb_common::attempt::{self, Attempt, AttemptSet};

use crate::frame::opaque;
use crate::maps::SERVICES;

const SETS: usize = 16 * SERVICES;

#[btf_map(name = "attempts")]
static ATTEMPTS: Array<AttemptSet, SETS> = Array::new();

/// The place of a flow's attempt.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    set: u32,
    hash: u64,
}

impl Place {
    #[inline(always)]
    pub(crate) fn of(control: &Control, service: Handle, hash: u64) -> Self {
        Self { set: attempt::set(service.index, hash, control.attempt_mask), hash }
    }
}

/// The ways of a set, and which of them have a flow's attempt, a bit each. Without a branch, see [`attempt::first`].
#[inline(always)]
fn ways(set: *const [u64; 2], hash: u64) -> ([u64; attempt::ATTEMPTS_A_SET], u64) {
    let mut numbers = [0; attempt::ATTEMPTS_A_SET];
    let mut own = 0;
    let mut way = 0;
    while way < attempt::ATTEMPTS_A_SET {
        // SAFETY: a way of a live array value. Another CPU may write it meanwhile: each word is one that was written, and the
        // words of two attempts together are numbers that no packet has.
        let words = unsafe { set.wrapping_add(way).read_volatile() };
        numbers[way] = words[1];
        // Opaque, or the compiler would make a branch of it.
        let difference = opaque(Attempt::difference(words, hash) as usize) as u64;
        own |= (difference.wrapping_sub(1) >> 63) << way;
        way += 1;
    }
    (numbers, own)
}

/// A flow's attempt, or none.
#[inline(always)]
pub(crate) fn find(place: Place) -> Attempt {
    let Some(set) = ATTEMPTS.get_ptr(place.set).map(<*const AttemptSet>::cast::<[u64; 2]>) else {
        return Attempt::NONE;
    };
    let (_, own) = ways(set, place.hash);
    if own == 0 {
        return Attempt::NONE;
    }
    // SAFETY: as in `ways`.
    Attempt::of_words(unsafe { set.wrapping_add(attempt::first(own)).read_volatile() })
}

/// Records a flow's attempt, in place of the one that it has, or of the oldest in its set.
#[inline(always)]
pub(crate) fn record(place: Place, attempt: Attempt) {
    let Some(set) = ATTEMPTS.get_ptr_mut(place.set).map(<*mut AttemptSet>::cast::<[u64; 2]>) else { return };
    let (numbers, own) = ways(set, place.hash);
    let (way, phase) = if own == 0 {
        attempt::next(numbers)
    } else {
        let way = attempt::first(own);
        // SAFETY: as in `ways`.
        (way, attempt::phase(unsafe { set.wrapping_add(way).read_volatile() }[1]))
    };
    // SAFETY: as in `ways`; the backend is written as one word with the tag.
    unsafe { set.wrapping_add(way).write_volatile(attempt.words(place.hash, phase)) };
}

/// Forgets a flow's attempt.
#[inline(always)]
pub(crate) fn forget(place: Place) {
    let Some(set) = ATTEMPTS.get_ptr_mut(place.set).map(<*mut AttemptSet>::cast::<[u64; 2]>) else { return };
    let (_, own) = ways(set, place.hash);
    if own == 0 {
        return;
    }
    let way = set.wrapping_add(attempt::first(own));
    // SAFETY: as in `ways`.
    let [_, numbers] = unsafe { way.read_volatile() };
    // SAFETY: as in `ways`.
    unsafe { way.write_volatile([0, attempt::emptied(numbers)]) };
}
