//! Which flows were seen lately: a set-associative cache of tags, so that a flow of a steady slot is looked up in the
//! flow table once in an epoch and not with each packet.
//!
//! A set is two words of four tags each; a tag has 16 bits. It is small so that it stays in the CPU's caches: four bytes
//! for each flow, and only as many sets are used as there are flows. A tag that is lost, to a ninth flow of its set or to
//! a write of another CPU, costs a look-up. Two flows of a set that share a tag keep one of them from being put down
//! until the next epoch, when they would have to share another: with four flows a set that is one flow in 16,000.
//!
//! Epochs don't change for all flows at once, since each would be looked up then: a flow's epochs begin at a time of its
//! own.

/// Flows for which a set is made: half of what it holds, since chance gives some sets more than others.
pub const FLOWS_A_SET: u32 = 4;

/// [`Control::epoch`](crate::abi::Control::epoch) counts epochs in these parts.
pub const PARTS_OF_AN_EPOCH: u32 = 1 << 16;

/// The tags of a set: value of `recent_flows`.
pub type Set = [u64; 2];

/// Where a flow would be in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The set.
    pub set: u32,
    /// The tag; never 0, which is an empty place.
    pub tag: u16,
}

/// One in each tag's place.
const LANES: u64 = 0x0001_0001_0001_0001;

impl Mark {
    /// The mark of a flow at a time, which is in parts of an epoch.
    #[inline(always)]
    #[must_use]
    pub const fn of(flow_hash: u64, time: u32, mask: u32) -> Self {
        // The golden ratio's bits twice, as in Fibonacci hashing (Knuth, TAOCP 3, 6.4): another tag in each epoch.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let beginning = (flow_hash >> 16) as u16 as u64;
        let epoch = (time as u64 + beginning) / PARTS_OF_AN_EPOCH as u64;
        let mixed = (flow_hash ^ epoch.wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
        let tag = (mixed >> 48) as u16;
        Self { set: flow_hash as u32 & mask, tag: if tag == 0 { 1 } else { tag } }
    }

    /// Whether the flow is in its set.
    #[inline(always)]
    #[must_use]
    pub const fn is_in(self, set: Set) -> bool {
        let tags = LANES * self.tag as u64;
        has_zero(set[0] ^ tags) | has_zero(set[1] ^ tags) != 0
    }

    /// The set with the flow in it, in place of the one that was put there first.
    #[inline(always)]
    #[must_use]
    pub const fn put_in(self, set: Set) -> Set {
        [set[0] << 16 | self.tag as u64, set[1] << 16 | set[0] >> 48]
    }

    /// The set without the flow.
    #[inline(always)]
    #[must_use]
    pub const fn taken_from(self, set: Set) -> Set {
        [self.taken_from_word(set[0]), self.taken_from_word(set[1])]
    }

    #[inline(always)]
    const fn taken_from_word(self, word: u64) -> u64 {
        let mut word = word;
        let mut place = 0;
        while place < u64::BITS {
            if (word >> place) as u16 == self.tag {
                word &= !(0xffff << place);
            }
            place += u16::BITS;
        }
        word
    }
}

/// Not 0 where one of a word's four parts is: Mycroft's test (1987).
#[inline(always)]
const fn has_zero(word: u64) -> u64 {
    word.wrapping_sub(LANES) & !word & (LANES << 15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Mark, PARTS_OF_AN_EPOCH, Set};

    const EMPTY: Set = [0; 2];

    #[test]
    fn an_empty_set_holds_no_flow() {
        for hash in 0..100_000u64 {
            assert!(!Mark::of(hash.wrapping_mul(0x2545_f491_4f6c_dd1d), 7, 0xffff).is_in(EMPTY));
        }
    }

    #[test]
    fn a_flow_has_another_tag_in_each_epoch_and_flows_change_at_different_times() {
        let hashes = (1..=1_000u64).map(|number| number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let (mut early, mut all) = (0, 0);
        for hash in hashes {
            let tag = |time| Mark::of(hash, time, 0xffff).tag;
            let (first, half, whole) = (tag(0), tag(PARTS_OF_AN_EPOCH / 2), tag(PARTS_OF_AN_EPOCH));
            assert_ne!(first, whole);
            early += u32::from(first != half);
            all += 1;
        }
        assert!((all / 3..all * 2 / 3).contains(&early), "{early} of {all} in the first half");
    }

    proptest! {
        #[test]
        fn a_set_holds_the_last_eight(hashes in proptest::collection::vec(any::<u64>(), 1..20), epoch: u32) {
            let marks: Vec<Mark> = hashes.iter().map(|&hash| Mark::of(hash, epoch, 0)).collect();
            let set = marks.iter().fold(EMPTY, |set, mark| mark.put_in(set));
            let kept: Vec<u16> = marks.iter().rev().take(8).map(|mark| mark.tag).collect();
            for mark in &marks {
                prop_assert_eq!(mark.is_in(set), kept.contains(&mark.tag));
            }
        }

        #[test]
        fn a_flow_that_is_taken_out_leaves_the_others(hashes in proptest::collection::vec(any::<u64>(), 1..9)) {
            let marks: Vec<Mark> = hashes.iter().map(|&hash| Mark::of(hash, 7, 0)).collect();
            let set = marks.iter().fold(EMPTY, |set, mark| mark.put_in(set));
            let left = marks[0].taken_from(set);
            for mark in &marks {
                prop_assert_eq!(mark.is_in(left), mark.is_in(set) && mark.tag != marks[0].tag);
            }
        }
    }
}
