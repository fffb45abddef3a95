//! What the benchmarks tell their programs; nothing of it is in the object that balances.

use crate::abi::Handle;

/// Length of a benchmark's frame: the shortest on the wire, without the frame check sequence, rounded up to words.
pub const FRAME: usize = 64;

/// [`Job::order`]: which flow the next packet is of.
pub mod order {
    /// One of the first [`super::Job::flows`] flows, each once a round and in an order that no prefetcher guesses.
    pub const KNOWN: u32 = 0;
    /// One that no packet was of before.
    pub const NEW: u32 = 1;
}

/// A flow's number in its low bits, and the client's port: the upper half of the ports, 32,768 flows an address.
pub const PORT_BITS: u32 = 15;

/// The only value of `bench_job`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The packet: from the first client, its port or echo identifier 0, all checksums right.
    pub frame: [u8; FRAME],
    /// How many packets there were: the number of the next new flow, and the state of the order among known ones.
    pub next: u64,
    /// How many flows are known; a power of two.
    pub flows: u32,
    /// One of [`order`].
    pub order: u32,
    /// Whether the packet is an ICMP echo request; else it is a TCP segment.
    pub icmp: u32,
    /// Where the generator sends the frames: the interface of the client's end.
    pub client_interface: u32,
    /// Where the program that only redirects sends them: the interface of the tenant's side.
    pub tenant_interface: u32,
    /// The service of the known flows.
    pub service: Handle,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, made of integers only, without padding (asserted below), valid for any bytes.
unsafe impl aya::Pod for Job {}

const _: () = assert!(size_of::<Job>() == FRAME + 8 + 6 * 4);

/// The client of a flow by the flow's number: its address, counted from `first`, and its port or echo identifier.
#[inline(always)]
#[must_use]
pub const fn client(first: [u8; 4], flow: u64) -> ([u8; 4], u16) {
    let address = u32::from_be_bytes(first).wrapping_add((flow >> PORT_BITS) as u32);
    let port = 1 << PORT_BITS | (flow as u16 & ((1 << PORT_BITS) - 1));
    (address.to_be_bytes(), port)
}

/// The state after `state` of a linear congruential generator modulo 2³² (Numerical Recipes, 2nd edition, 7.1). Its
/// low `n` bits are one modulo 2ⁿ with the full period: taken as an index below 2ⁿ, they name each once a round.
#[inline(always)]
#[must_use]
pub const fn step(state: u32) -> u32 {
    state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

#[cfg(test)]
mod tests {
    use super::{client, step};

    #[test]
    fn a_round_names_each_flow_once() {
        let mut seen = [false; 1 << 12];
        let mut state = 7;
        for _ in 0..seen.len() {
            state = step(state);
            let index = state as usize % seen.len();
            assert!(!seen[index]);
            seen[index] = true;
        }
    }

    #[test]
    fn flows_differ_in_their_client() {
        assert_eq!(client([10, 0, 0, 1], 0), ([10, 0, 0, 1], 32_768));
        assert_eq!(client([10, 0, 0, 1], 32_767), ([10, 0, 0, 1], 65_535));
        assert_eq!(client([10, 0, 0, 255], 32_768), ([10, 0, 1, 0], 32_768));
    }
}
