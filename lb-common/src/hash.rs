//! The flow hash.

use crate::abi::{FlowKey, TABLE_SLOTS};

/// 2⁶⁴ divided by the golden ratio (D. Knuth, TAOCP 3, 6.4), made odd.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The secret that keys the flow hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seed {
    word: u64,
    /// The first round of an IPv4 address, whose upper half is 0: the same for all, so it is made once and not for each packet.
    of_ipv4: u64,
}

impl Seed {
    /// The secret of a random word.
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Self { word, of_ipv4: mix(word) }
    }

    /// What an address's upper half becomes.
    #[inline(always)]
    const fn first_round(self, high: u64) -> u64 {
        if high == 0 { self.of_ipv4 } else { mix(self.word ^ high) }
    }
}

/// The hash of a flow, keyed by `seed`.
///
/// Three rounds of the 64-bit finaliser of `MurmurHash3` over the two halves of the client's address and the ports: every
/// bit of these reaches every bit of the hash, at two multiplications a word. Each word has a round of its own: joined by a
/// xor before the round, all addresses with the same xor of halves would share a hash, whatever the seed. It isn't a
/// cryptographic hash; the secret seed keeps clients from choosing their slot without a way to observe it. The service comes
/// in last, by one multiplication (Fibonacci hashing): a packet's is known last, and the rest needn't wait for it. To flows
/// of one service it is the same permutation.
#[inline(always)]
#[must_use]
pub fn of_flow(key: &FlowKey, seed: Seed) -> u64 {
    let [high, low] = key.client.words();
    let ports = u64::from(key.client_port) << 16 | u64::from(key.vip_port);
    let service = u64::from(key.service.index) << 16 | u64::from(key.service.incarnation);
    mix(mix(seed.first_round(high) ^ low) ^ ports) ^ service.wrapping_mul(GOLDEN)
}

/// The slot of a table for a hash: its upper half scaled to the number of slots, which is as even as the hash and
/// needs no division (D. Lemire, "Fast random integer generation in an interval", 2019).
#[inline(always)]
#[must_use]
pub const fn slot(hash: u64) -> u32 {
    (((hash >> 32) * TABLE_SLOTS as u64) >> 32) as u32
}

/// The part of the flow table that has a flow, where there are so many. Chosen by other bits than its slot.
#[inline(always)]
#[must_use]
pub const fn part(hash: u64, parts: u32) -> u32 {
    ((hash as u32 as u64 * parts as u64) >> 32) as u32
}

/// `fmix64` of `MurmurHash3` (A. Appleby, public domain).
#[inline(always)]
const fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use super::{Seed, of_flow, part, slot};
    use crate::abi::{Address, FlowKey, Handle, TABLE_SLOTS};

    fn flow(client: [u8; 4], client_port: u16) -> FlowKey {
        FlowKey { client: Address::v4(client), service: Handle::default(), client_port, vip_port: 80 }
    }

    #[test]
    fn slots_are_within_the_table() {
        assert_eq!(slot(0), 0);
        assert_eq!(slot(u64::MAX) as usize, TABLE_SLOTS - 1);
    }

    /// Neighbouring ports of one client, the usual case behind a load test, spread as evenly as chance would have it:
    /// χ² over 100 buckets stays below its 99.9 % quantile (149 at 99 degrees of freedom).
    #[test]
    fn neighbouring_flows_spread_evenly() {
        for seed in [0, 1, 0x5eed] {
            let mut buckets = [0u32; 100];
            for port in 0..50_000u16 {
                let key = flow([198, 51, 100, (port % 7) as u8], 10_000u16.wrapping_add(port));
                buckets[slot(of_flow(&key, Seed::new(seed))) as usize * 100 / TABLE_SLOTS] += 1;
            }
            let chi2: f64 = buckets.iter().map(|&n| (f64::from(n) - 500.0).powi(2) / 500.0).sum();
            assert!(chi2 < 149.0, "seed {seed:#x}: chi² {chi2}");
        }
    }

    fn client(high: u64, low: u64) -> Address {
        Address::of_words([high.to_be(), low.to_be()])
    }

    /// Sets of clients that differ in a few bits only, or in bits that cancel one another out in a simple sum.
    fn structured_sets() -> [(&'static str, Vec<Address>); 6] {
        const PREFIX: u64 = 0x2001_0db8_0051_0000;
        let numbers = 0..20_000u64;
        let each = |address: &dyn Fn(u64) -> Address| numbers.clone().map(address).collect();
        [
            ("the same xor of halves", each(&|n| client(PREFIX ^ n, 0x5eed ^ n))),
            ("the same sum of halves", each(&|n| client(PREFIX + n, 0x5eed_0000 - n))),
            ("hosts of one /64 in a row", each(&|n| client(PREFIX, n))),
            ("one host of each /64", each(&|n| client(PREFIX + n, 1))),
            // RFC 4291, appendix A: cards of one maker.
            ("EUI-64", each(&|n| client(PREFIX, 0x0216_3eff_fe00_0000 | n))),
            ("IPv4 hosts in a row", each(&|n| Address::v4([203, (n >> 16) as u8, (n >> 8) as u8, n as u8]))),
        ]
    }

    /// As many slots as chance would give so many clients are used, each from one port.
    #[test]
    fn no_structured_set_of_clients_falls_on_few_slots() {
        for seed in [0, 1, 0x5eed, u64::MAX] {
            for (name, clients) in structured_sets() {
                let slots: std::collections::BTreeSet<u32> = clients
                    .iter()
                    .map(|client| FlowKey { client: *client, ..flow([0; 4], 40_000) })
                    .map(|key| slot(of_flow(&key, Seed::new(seed))))
                    .collect();
                // 20,000 balls into 65,537 bins: 17,236 are expected to be hit, with a deviation of 45.
                assert!(slots.len() > 16_900, "{name}, seed {seed:#x}: {} slots", slots.len());
            }
        }
    }

    #[test]
    fn the_flows_of_a_slot_spread_over_the_parts() {
        const PARTS: u32 = 586;
        let mut parts = [0u32; PARTS as usize];
        let hashes = (0..4_000_000u32).map(|number| {
            let [.., b, c, d] = number.to_be_bytes();
            of_flow(&flow([198, b, c, d], 40_000), Seed::new(0x5eed))
        });
        // A hundredth of the slots, with 40,000 flows.
        for hash in hashes.filter(|&hash| slot(hash) < TABLE_SLOTS as u32 / 100) {
            parts[part(hash, PARTS) as usize] += 1;
        }
        let mean = f64::from(parts.iter().sum::<u32>()) / f64::from(PARTS);
        let chi2: f64 = parts.iter().map(|&n| (f64::from(n) - mean).powi(2) / mean).sum();
        // Six standard deviations above what chance makes.
        assert!(chi2 < 585.0 + 6.0 * 34.2, "chi² {chi2}, {mean} a part");
        assert_eq!((part(0, PARTS), part(u64::MAX, PARTS)), (0, PARTS - 1));
        assert_eq!(part(u64::MAX, 0), 0);
    }

    #[test]
    fn the_seed_moves_flows() {
        let key = flow([203, 0, 113, 9], 40_000);
        assert_ne!(of_flow(&key, Seed::new(1)), of_flow(&key, Seed::new(2)));
    }
}
