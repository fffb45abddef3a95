//! Flows that their clients are said to have reset, and how many of them are asked about.

use super::{FlowKey, Handle, Quota};

/// A flow whose client is said to have reset it, and of which its backend is to be asked whether it has it: value of `suspects`.
///
/// Anyone can send a RST in the client's name, and a backend that has taken it says nothing. What a backend says to a segment
/// out of the window tells the two apart: an ACK where it has the flow, a RST where it hasn't (RFC 9293, 3.10.7).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The flow.
    pub flow: FlowKey,
    /// Who has it.
    pub backend: Handle,
    /// Always 0.
    pub reserved: u32,
}

/// How many flows of all services together may be asked about in a second at most: room in `suspects`. The rest is asked about
/// later, and lives until then.
pub const SUSPECTS: u32 = 4_096;

/// How many flows were asked about in a second.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Asked {
    /// The second, of `Control::clock`.
    second: u32,
    count: u32,
}

impl Asked {
    /// How many were in that second.
    #[inline(always)]
    #[must_use]
    pub const fn count(self, second: u32) -> u32 {
        if self.second == second { self.count } else { 0 }
    }

    /// One more in that second.
    #[inline(always)]
    #[must_use]
    pub const fn more(self, second: u32) -> Self {
        Self { second, count: self.count(second) + 1 }
    }
}

/// Whether one more flow of a service may be asked about, of which so many were in this second, and so many of all services
/// together. Half of the room is each service's in the shares of the flow table, and the other half is for whoever comes first.
#[inline(always)]
#[must_use]
pub const fn may_ask(of_service: u32, of_all: u32, quota: &Quota, flow_room: u32) -> bool {
    let room = if flow_room == 0 { 1 } else { flow_room as u64 };
    let own = quota.share as u64 * SUSPECTS as u64 / room;
    of_all < SUSPECTS / 2 || of_service == 0 || (of_service as u64) < own
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Asked, Quota, SUSPECTS, may_ask};

    #[test]
    fn each_second_is_counted_anew() {
        let asked = Asked::default().more(7).more(7);
        assert_eq!((asked.count(7), asked.count(8), asked.more(8).count(8)), (2, 0, 1));
        assert_eq!(Asked::default().count(0), 0);
    }

    #[test]
    fn a_service_that_is_alone_has_all_of_the_room() {
        let quota = Quota::of(1 << 20, 1);
        assert!(may_ask(SUSPECTS - 1, SUSPECTS - 1, &quota, 1 << 20));
        assert!(!may_ask(SUSPECTS, SUSPECTS, &quota, 1 << 20));
    }

    proptest! {
        /// However many flows others have asked about, there is room for each service's share.
        #[test]
        fn what_others_ask_leaves_room(services in 2_u32..1_024, greedy in 1_u32..1_024) {
            let (quota, greedy) = (Quota::of(1 << 20, services), greedy.min(services - 1));
            let mut asked = vec![0; services as usize];
            let (crowd, others) = asked.split_at_mut(greedy as usize);
            let mut all = 0;
            for of_service in crowd.iter_mut().chain(others) {
                while may_ask(*of_service, all, &quota, 1 << 20) {
                    (*of_service, all) = (*of_service + 1, all + 1);
                }
            }
            prop_assert!(all <= SUSPECTS, "{all}");
            prop_assert!(asked.iter().all(|of_service| *of_service >= SUSPECTS / 2 / services));
        }
    }
}
