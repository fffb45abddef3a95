//! Who has a slot, and who had it.

use super::flow::Member;

/// The part of a service's flows that this one shares a slot with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Who gets the flows that begin.
    pub(crate) owner: Option<Member>,
    /// Who has those that began before and aren't known.
    pub(crate) previous_owner: Option<Member>,
    /// Whether flows are looked up.
    pub(crate) is_tracked: bool,
}

impl Slot {
    pub(crate) fn steady(owner: Option<Member>) -> Self {
        Self { owner, previous_owner: owner, is_tracked: false }
    }

    pub(crate) fn tracked(owner: Option<Member>, previous_owner: Option<Member>) -> Self {
        Self { owner, previous_owner, is_tracked: true }
    }

    /// The slot after a change of the service's backends by which it is `owner`'s.
    pub(crate) fn moved(self, owner: Option<Member>, keeps: impl Fn(Member) -> bool) -> Self {
        let previous_owner = self.previous_owner.filter(|&member| keeps(member)).or(owner);
        let stays = self.owner == owner || previous_owner == owner;
        if !self.is_tracked && stays { Self::steady(owner) } else { Self::tracked(owner, previous_owner) }
    }

    /// The slot after longer than any flow lives.
    pub(crate) fn rested(self) -> Self {
        if self.is_tracked && self.previous_owner != self.owner {
            Self::tracked(self.owner, self.owner)
        } else {
            Self::steady(self.owner)
        }
    }
}
