//! What becomes of a packet that isn't sent on its way.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use lb_common::abi::DropReason;

use crate::maps;

/// Why a packet isn't sent on its way.
pub(crate) enum Refusal {
    /// Not ours: the kernel's business.
    Pass,
    /// Dropped and counted.
    Drop(DropReason),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl Refusal {
    /// The verdict of an XDP program; counts a drop.
    #[inline(always)]
    pub(crate) fn in_xdp(self) -> u32 {
        match self {
            Self::Pass => xdp_action::XDP_PASS,
            Self::Drop(reason) => {
                maps::count_drop(reason);
                xdp_action::XDP_DROP
            }
        }
    }

    /// The verdict of a tc program; counts a drop.
    #[inline(always)]
    pub(crate) fn in_tc(self) -> i32 {
        match self {
            Self::Pass => TC_ACT_UNSPEC,
            Self::Drop(reason) => {
                maps::count_drop(reason);
                TC_ACT_SHOT
            }
        }
    }
}
