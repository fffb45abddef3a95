//! Which flows were seen lately: a set-associative cache of tags, so that a flow of a steady slot is looked up in the
//! flow table once in an epoch and not with each packet.
//!
//! A set is one 64-bit word of four 16-bit tags, read and written whole. A tag that is lost, to a fifth flow of its set
//! or to a write of another CPU, costs a look-up. A tag that two flows of a set share in an epoch (about 1 in 16,000
//! for a full set) keeps one of them from being put down until the next epoch, when it would have to share another.

/// Where a flow would be in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The set.
    pub set: u32,
    /// The tag; never 0, which is an empty place.
    pub tag: u16,
}

/// One in each 16-bit lane.
const LANES: u64 = 0x0001_0001_0001_0001;

impl Mark {
    /// The mark of a flow in an epoch.
    #[inline(always)]
    #[must_use]
    pub const fn of(flow_hash: u64, epoch: u32, mask: u32) -> Self {
        // The golden ratio's bits twice, as in Fibonacci hashing (Knuth, TAOCP 3, 6.4): another tag in each epoch.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (flow_hash ^ (epoch as u64).wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
        let tag = (mixed >> 48) as u16;
        Self { set: flow_hash as u32 & mask, tag: if tag == 0 { 1 } else { tag } }
    }

    /// Whether the flow is in its set.
    #[inline(always)]
    #[must_use]
    pub const fn is_in(self, set: u64) -> bool {
        // A lane of the difference is zero where the tags are equal. The test for a zero lane is Mycroft's (1987).
        let difference = set ^ (LANES * self.tag as u64);
        difference.wrapping_sub(LANES) & !difference & (LANES << 15) != 0
    }

    /// The set with the flow in it, in place of the one that was put there first.
    #[inline(always)]
    #[must_use]
    pub const fn put_in(self, set: u64) -> u64 {
        set << 16 | self.tag as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Mark;

    #[test]
    fn an_empty_set_holds_no_flow() {
        for hash in 0..100_000u64 {
            assert!(!Mark::of(hash.wrapping_mul(0x2545_f491_4f6c_dd1d), 7, 0xffff).is_in(0));
        }
    }

    proptest! {
        #[test]
        fn a_set_holds_the_last_four(hashes in proptest::collection::vec(any::<u64>(), 1..12), epoch: u32) {
            let marks: Vec<Mark> = hashes.iter().map(|&hash| Mark::of(hash, epoch, 0)).collect();
            let set = marks.iter().fold(0, |set, mark| mark.put_in(set));
            let kept: Vec<u16> = marks.iter().rev().take(4).map(|mark| mark.tag).collect();
            for mark in &marks {
                prop_assert_eq!(mark.is_in(set), kept.contains(&mark.tag));
            }
        }
    }
}
