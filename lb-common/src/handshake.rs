//! Which TCP flows may be in their handshake.
//!
//! The packet that completes a handshake looks like any other, and is the only one that a flow may ever send: a flow
//! that is open and silent is live. So a SYN, and the backend's answer to it, leave the time in a cell that their
//! flow's hash chooses, and a packet that finds its cell fresh may be that packet. Cells are shared: another flow's
//! packet finds it too, and is looked up without need. There are few enough to stay in a CPU's own cache, so that they
//! cost the same at any number of flows.

/// The cells, a byte each; a power of two.
pub const CELLS: usize = 1 << 17;

/// A cell is fresh for so many seconds: many times a round trip. A SYN or its answer that is repeated makes it fresh again.
const FRESH: u8 = 4;

/// The flow's cell.
#[inline(always)]
#[must_use]
pub const fn cell(flow_hash: u64) -> usize {
    flow_hash as usize & (CELLS - 1)
}

/// What a cell holds of the time, in seconds. It comes round after 256 seconds, when old cells look fresh for a while.
#[inline(always)]
#[must_use]
pub const fn stamp(clock: u32) -> u8 {
    clock as u8
}

/// Whether a cell with this content was written lately.
#[inline(always)]
#[must_use]
pub const fn is_fresh(stamp: u8, clock: u32) -> bool {
    (clock as u8).wrapping_sub(stamp) < FRESH
}

#[cfg(test)]
mod tests {
    use super::{is_fresh, stamp};

    #[test]
    fn a_cell_is_fresh_for_some_seconds() {
        for clock in [100, 254, 255, 256, 300, u32::MAX] {
            let written = stamp(clock);
            assert!(is_fresh(written, clock) && is_fresh(written, clock.wrapping_add(3)));
            assert!(!is_fresh(written, clock.wrapping_add(4)) && !is_fresh(written, clock.wrapping_sub(1)));
        }
    }
}
