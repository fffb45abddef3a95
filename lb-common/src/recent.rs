//! Which flows were seen lately: a set-associative cache of tags, so that a flow of a steady slot is looked up in the
//! flow table once in an epoch and not with each packet.
//!
//! A set is one 64-bit word of eight tags of a byte, read and written whole. It is small so that it stays in the CPU's
//! caches: two bytes for each flow that the flow table has room for. A tag that is lost, to a ninth flow of its set or to
//! a write of another CPU, costs a look-up. Two flows of a set that share a tag keep one of them from being put down
//! until the next epoch, when they would have to share another: with a full flow table that is one flow in 64, with
//! a tenth of it one in 640.

/// Where a flow would be in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The set.
    pub set: u32,
    /// The tag; never 0, which is an empty place.
    pub tag: u8,
}

/// One in each byte.
const LANES: u64 = 0x0101_0101_0101_0101;

impl Mark {
    /// The mark of a flow in an epoch.
    #[inline(always)]
    #[must_use]
    pub const fn of(flow_hash: u64, epoch: u32, mask: u32) -> Self {
        // The golden ratio's bits twice, as in Fibonacci hashing (Knuth, TAOCP 3, 6.4): another tag in each epoch.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (flow_hash ^ (epoch as u64).wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
        let tag = (mixed >> 56) as u8;
        Self { set: flow_hash as u32 & mask, tag: if tag == 0 { 1 } else { tag } }
    }

    /// Whether the flow is in its set.
    #[inline(always)]
    #[must_use]
    pub const fn is_in(self, set: u64) -> bool {
        // A byte of the difference is zero where the tags are equal. The test for a zero byte is Mycroft's (1987).
        let difference = set ^ (LANES * self.tag as u64);
        difference.wrapping_sub(LANES) & !difference & (LANES << 7) != 0
    }

    /// The set with the flow in it, in place of the one that was put there first.
    #[inline(always)]
    #[must_use]
    pub const fn put_in(self, set: u64) -> u64 {
        set << 8 | self.tag as u64
    }

    /// The set without the flow.
    #[inline(always)]
    #[must_use]
    pub const fn taken_from(self, set: u64) -> u64 {
        let mut set = set;
        let mut place = 0;
        while place < u64::BITS {
            if (set >> place) as u8 == self.tag {
                set &= !(0xff << place);
            }
            place += u8::BITS;
        }
        set
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
        fn a_set_holds_the_last_eight(hashes in proptest::collection::vec(any::<u64>(), 1..20), epoch: u32) {
            let marks: Vec<Mark> = hashes.iter().map(|&hash| Mark::of(hash, epoch, 0)).collect();
            let set = marks.iter().fold(0, |set, mark| mark.put_in(set));
            let kept: Vec<u8> = marks.iter().rev().take(8).map(|mark| mark.tag).collect();
            for mark in &marks {
                prop_assert_eq!(mark.is_in(set), kept.contains(&mark.tag));
            }
        }

        #[test]
        fn a_flow_that_is_taken_out_leaves_the_others(hashes in proptest::collection::vec(any::<u64>(), 1..9)) {
            let marks: Vec<Mark> = hashes.iter().map(|&hash| Mark::of(hash, 7, 0)).collect();
            let set = marks.iter().fold(0, |set, mark| mark.put_in(set));
            let left = marks[0].taken_from(set);
            for mark in &marks {
                prop_assert_eq!(mark.is_in(left), mark.is_in(set) && mark.tag != marks[0].tag);
            }
        }
    }
}
