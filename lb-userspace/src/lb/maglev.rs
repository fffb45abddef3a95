//! Maglev's lookup table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI '16,
//! section 3.4), with weights.

use lb_common::abi::{Address, TABLE_SLOTS};

use super::slots::{Owners, nobody};

/// A backend that takes new flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its address: what its preferences are made of, so that they don't depend on its place.
    pub(crate) address: Address,
    /// Its place in the map `backends`.
    pub(crate) index: u16,
    /// Its share, relative to the others'; 0 is none.
    pub(crate) weight: u16,
}

/// A backend's order of preference over the slots: a permutation, since the number of slots is prime.
struct Preferences {
    next: usize,
    skip: usize,
}

impl Preferences {
    fn of(address: &Address) -> Self {
        let hash = hash(address, 0);
        let skip = hash_to(self::hash(address, 1), TABLE_SLOTS - 1) + 1;
        Self { next: hash_to(hash, TABLE_SLOTS), skip }
    }

    /// The slot it likes best of those that aren't taken.
    fn take(&mut self, taken: &Taken) -> usize {
        loop {
            let slot = self.next;
            self.next += self.skip;
            if self.next >= TABLE_SLOTS {
                self.next -= TABLE_SLOTS;
            }
            if !taken.contains(slot) {
                return slot;
            }
        }
    }

    /// The same, where these few are all that aren't taken: the one that comes first in its order.
    fn take_of(&mut self, free: &[usize]) -> Option<usize> {
        let inverse = inverse(self.skip);
        let place = |slot: &usize| (slot + TABLE_SLOTS - self.next) % TABLE_SLOTS * inverse % TABLE_SLOTS;
        let slot = free.iter().copied().min_by_key(place)?;
        self.next = (slot + self.skip) % TABLE_SLOTS;
        Some(slot)
    }
}

/// The slots that have an owner: a bit each, few enough to stay in the nearest cache.
struct Taken(Box<[u64]>);

impl Taken {
    fn contains(&self, slot: usize) -> bool {
        self.0[slot / 64] & (1 << (slot % 64)) != 0
    }

    fn insert(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }
}

/// The number whose product with `number` leaves 1 when divided by the number of slots, which is prime: the extended
/// Euclidean algorithm (Knuth, TAOCP 2, 4.5.2). `number` is between 1 and the number of slots.
fn inverse(number: usize) -> usize {
    let (mut before, mut now) = ((TABLE_SLOTS, 0), (number % TABLE_SLOTS, 1));
    while now.0 > 1 {
        let quotient = before.0 / now.0;
        let factor = (before.1 + TABLE_SLOTS * quotient - quotient * now.1 % TABLE_SLOTS) % TABLE_SLOTS;
        (before, now) = (now, (before.0 % now.0, factor));
    }
    now.1
}

/// The owner of each slot: the candidates take turns, and at each turn one takes the slot it likes best of those still
/// free. Who has the greatest weight has a turn in each round, the others in as many as their weights say, evenly spaced.
///
/// The result depends on the set of candidates only, not on their order; each one's share is its weight's part within
/// one slot for each candidate, and a change of the set or of a weight moves few slots of the others.
pub(crate) fn owners(candidates: &[Candidate]) -> Owners {
    let mut owners = nobody();
    let mut candidates: Vec<_> = candidates.iter().filter(|candidate| candidate.weight > 0).collect();
    candidates.sort_by_key(|candidate| candidate.address);
    let Some(greatest) = candidates.iter().map(|candidate| u32::from(candidate.weight)).max() else {
        return owners;
    };
    let mut preferences: Vec<_> =
        candidates.iter().map(|candidate| Preferences::of(&candidate.address)).collect();
    // What each has saved of a turn. Beginning with half of one, the share is rounded and not cut.
    let mut savings = vec![greatest / 2; candidates.len()];
    let mut taken = Taken(vec![0; TABLE_SLOTS.div_ceil(64)].into_boxed_slice());
    let mut left = TABLE_SLOTS;
    let mut free: Vec<usize> = Vec::new();
    loop {
        let all = candidates.iter().zip(&mut preferences).zip(&mut savings);
        for ((candidate, preferences), savings) in all {
            *savings += u32::from(candidate.weight);
            if *savings < greatest {
                continue;
            }
            *savings -= greatest;
            if left == FEW {
                free = (0..TABLE_SLOTS).filter(|slot| !taken.contains(*slot)).collect();
            }
            let slot = if left > FEW {
                preferences.take(&taken)
            } else {
                let Some(slot) = preferences.take_of(&free) else { return owners };
                free.retain(|other| *other != slot);
                slot
            };
            owners[slot] = candidate.index;
            taken.insert(slot);
            left -= 1;
        }
    }
}

/// When so few slots are free, it is quicker to look at each than to try slots in a candidate's order: the last of all
/// would take as many tries as there are slots.
const FEW: usize = 256;

/// FNV-1a (Fowler, Noll, Vo) over the address, then `MurmurHash3`'s finaliser. It has to be the same in each version
/// of this program: a table built anew by a later one must be the same table.
fn hash(address: &Address, salt: u8) -> u64 {
    let bytes = address.bytes.iter().chain(std::iter::once(&salt));
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The hash as a number below `bound`.
fn hash_to(hash: u64, bound: usize) -> usize {
    let bound = bound as u64;
    usize::try_from(hash % bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lb_common::abi::{Address, NO_BACKEND, TABLE_SLOTS};

    use proptest::prelude::*;

    use super::{Candidate, Owners, owners};

    fn candidates(count: u16) -> Vec<Candidate> {
        let address = |n: u16| Address::v4([19, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        (0..count).map(|n| Candidate { address: address(n), index: n, weight: 1 }).collect()
    }

    fn shares(owners: &Owners) -> BTreeMap<u16, u32> {
        let mut shares = BTreeMap::new();
        for &owner in owners {
            *shares.entry(owner).or_default() += 1;
        }
        shares
    }

    #[test]
    fn without_candidates_no_slot_has_an_owner() {
        assert!(owners(&[]).iter().all(|&owner| owner == NO_BACKEND));
    }

    #[test]
    fn equal_backends_have_equal_shares() {
        for count in [1, 2, 3, 5, 100, 655, 1000] {
            let shares = shares(&owners(&candidates(count)));
            let (least, most) = (shares.values().min().expect("some"), shares.values().max().expect("some"));
            assert_eq!(shares.len(), usize::from(count));
            assert!(most - least <= 1, "{count} backends: between {least} and {most} slots");
        }
    }

    #[test]
    fn removing_one_of_a_hundred_moves_at_most_two_percent_of_the_others() {
        let all = candidates(100);
        let before = owners(&all);
        for gone in [0u16, 42, 99] {
            let left: Vec<_> = all.iter().copied().filter(|candidate| candidate.index != gone).collect();
            let after = owners(&left);
            let pairs = before.iter().zip(&after[..]).filter(|(old, _)| **old != gone);
            let (mut others, mut moved) = (0, 0);
            for (old, new) in pairs {
                others += 1;
                moved += usize::from(old != new);
            }
            assert!(moved * 100 <= others * 2, "without {gone}: {moved} of {others} moved");
        }
    }

    /// The algorithm as the paper has it.
    fn plain(candidates: &[Candidate]) -> Owners {
        let mut owners = super::nobody();
        let mut preferences: Vec<_> =
            candidates.iter().map(|candidate| super::Preferences::of(&candidate.address)).collect();
        let mut left = TABLE_SLOTS;
        loop {
            for (candidate, preferences) in candidates.iter().zip(&mut preferences) {
                while owners[preferences.next] != NO_BACKEND {
                    preferences.next = (preferences.next + preferences.skip) % TABLE_SLOTS;
                }
                owners[preferences.next] = candidate.index;
                left -= 1;
                if left == 0 {
                    return owners;
                }
            }
        }
    }

    #[test]
    fn the_table_is_that_of_the_paper() {
        for count in [1, 2, 7, 100, 1000] {
            let candidates = candidates(count);
            assert_eq!(owners(&candidates)[..], plain(&candidates)[..], "{count} backends");
        }
    }

    #[test]
    fn an_inverse_is_one() {
        for number in [1, 2, 3, 1000, TABLE_SLOTS - 1] {
            assert_eq!(number * super::inverse(number) % TABLE_SLOTS, 1, "{number}");
        }
    }

    /// A backend that is ramped up takes slots; hardly any moves between the others.
    #[test]
    fn a_weight_that_grows_takes_slots_and_leaves_the_others_alone() {
        let mut all = candidates(11);
        for candidate in &mut all[..10] {
            candidate.weight = 10;
        }
        let mut before = owners(&all[..10]);
        for weight in 1..=10 {
            all[10].weight = weight;
            let after = owners(&all);
            let moved = before.iter().zip(&after[..]).filter(|(old, new)| old != new);
            let among_others = moved.filter(|(_, new)| **new != 10).count();
            assert!(among_others * 100 <= TABLE_SLOTS, "at weight {weight}: {among_others} slots");
            before = after;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn shares_follow_weights_and_order_does_not_matter(
            weights in proptest::collection::vec(0u16..20, 1..40),
            rotation in 0usize..40,
        ) {
            let mut candidates = candidates(u16::try_from(weights.len()).expect("below 40"));
            for (candidate, weight) in candidates.iter_mut().zip(&weights) {
                candidate.weight = *weight;
            }
            let table = owners(&candidates);
            let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            for candidate in candidates.iter().filter(|_| total > 0) {
                let share = shares(&table).get(&candidate.index).copied().map_or(0.0, f64::from);
                let fair = 65_537.0 * f64::from(candidate.weight) / f64::from(total);
                let bound = 1.0 + f64::from(u32::try_from(candidates.len()).expect("below 40"));
                prop_assert!((share - fair).abs() <= bound, "{share} instead of {fair}");
            }
            let middle = rotation % candidates.len();
            candidates.rotate_left(middle);
            prop_assert_eq!(&table[..], &owners(&candidates)[..]);
        }
    }
}
