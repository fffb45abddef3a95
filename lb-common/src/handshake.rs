//! Which TCP flows may be in their handshake, or are to be looked up with their next packet.
//!
//! The packet that completes a handshake looks like any other, and is the only one that a flow may ever send: a flow
//! that is open and silent is live. So a SYN, and the backend's answer to it, leave the time in a cell that their
//! flow's hash chooses, and a packet that finds its cell fresh may be that packet. An answer of a flow that isn't known leaves
//! it too: the client's next packet is looked up then. Cells are shared: another flow's
//! packet finds it too, and is looked up without need. There are few enough to stay in a CPU's own cache, so that they
//! cost the same at any number of flows.

/// The cells, a byte each; a power of two.
pub const CELLS: usize = 1 << 17;

/// A cell is fresh for so many seconds: many times a round trip. A SYN or its answer that is repeated makes it fresh again.
const FRESH: u8 = 4;

/// Says that a client has sent a SYN: without, a cell is there for the client's next packet only.
const SYN: u8 = 0x80;
const TIME: u8 = 0x7f;

/// The flow's cell.
#[inline(always)]
#[must_use]
pub const fn cell(flow_hash: u64) -> usize {
    flow_hash as usize & (CELLS - 1)
}

/// What a client's SYN leaves in its cell, of the time in seconds. It comes round after 128 seconds, when old cells look fresh
/// for a while.
#[inline(always)]
#[must_use]
pub const fn stamp_of_syn(clock: u32) -> u8 {
    clock as u8 & TIME | SYN
}

/// What an answer leaves.
#[inline(always)]
#[must_use]
pub const fn stamp_of_answer(clock: u32) -> u8 {
    clock as u8 & TIME
}

/// Whether a cell with this content was written lately.
#[inline(always)]
#[must_use]
pub const fn is_fresh(stamp: u8, clock: u32) -> bool {
    (clock as u8).wrapping_sub(stamp) & TIME < FRESH
}

/// Whether a SYN was lately seen of a flow with this cell.
#[inline(always)]
#[must_use]
pub const fn has_syn(stamp: u8, clock: u32) -> bool {
    stamp & SYN != 0 && is_fresh(stamp, clock)
}

#[cfg(test)]
mod tests {
    use super::{has_syn, is_fresh, stamp_of_answer, stamp_of_syn};

    #[test]
    fn a_cell_is_fresh_for_some_seconds() {
        for clock in [100, 126, 127, 128, 254, 255, 256, 300, u32::MAX] {
            for written in [stamp_of_syn(clock), stamp_of_answer(clock)] {
                assert!(is_fresh(written, clock) && is_fresh(written, clock.wrapping_add(3)));
                assert!(
                    !is_fresh(written, clock.wrapping_add(4)) && !is_fresh(written, clock.wrapping_sub(1))
                );
            }
        }
    }

    #[test]
    fn only_a_syn_says_that_there_was_one() {
        assert!(has_syn(stamp_of_syn(7), 8) && !has_syn(stamp_of_syn(7), 11));
        assert!(!has_syn(stamp_of_answer(7), 8));
        assert!(!has_syn(0, 0), "an empty cell");
    }
}
