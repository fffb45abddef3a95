//! What becomes of a packet that isn't sent on its way at once.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use lb_common::abi::DropReason;

use crate::maps;

/// Why a packet isn't sent on its way at once.
pub(crate) enum Refusal {
    /// Not ours: the kernel's business.
    Pass,
    /// Left to the kernel, and counted.
    Leave(DropReason),
    /// Dropped and counted.
    Drop(DropReason),
    /// Dropped, as what every host sends on its own link and nobody beyond it is to get: nothing to count.
    Quiet,
    /// Another function's business; one of [`slow_path`].
    Continue(u32),
}

/// What is left to do, as numbers that are no verdict: the functions for it are all called by the program itself, one
/// after the other and never by one another, so that no two of them need their part of the stack at once.
pub(crate) mod slow_path {
    /// The first of them.
    pub(crate) const FIRST: u32 = 256;
    /// To read an IPv6 packet.
    pub(crate) const IPV6: u32 = 256;
    /// To read a frame with a VLAN tag.
    pub(crate) const TAGGED: u32 = 262;
    /// To send a fragment after the first of its packet.
    pub(crate) const FRAGMENT: u32 = 257;
    /// To send an ICMP error the way of the flow that it is about.
    pub(crate) const ERROR: u32 = 258;
    /// To answer with a RST, where a service has no backend.
    pub(crate) const RESET: u32 = 259;
    /// To answer with a RST, where no service is.
    pub(crate) const CLOSED: u32 = 260;
    /// To see what becomes of a packet that no service takes.
    pub(crate) const UNSERVED: u32 = 261;
    /// To answer that a port is unreachable.
    pub(crate) const UNREACHABLE: u32 = 263;
    /// To look at the checksum of a SYN that is on its way to a backend.
    pub(crate) const OPENED: u32 = 264;
    /// To see whether a gateway answers what is sent to it.
    pub(crate) const GATEWAY: u32 = 266;
    /// To look whether an answer that is on its way has a route.
    pub(crate) const DOUBTFUL: u32 = 265;
    /// To look up a packet's flow.
    pub(crate) const LOOK_UP: u32 = 267;
    /// From here on: to answer that the packet is longer than the number above it, the MTU.
    pub(crate) const TOO_LONG: u32 = 1 << 16;
    /// From here on: to send the first fragment of a packet to the backend in the place above it, and remember that.
    pub(crate) const FIRST_FRAGMENT: u32 = 1 << 17;
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl Refusal {
    /// The verdict of an XDP program, or a step of the slow path; counts a drop.
    #[inline(always)]
    pub(crate) fn in_xdp(self) -> u32 {
        match self {
            Self::Pass => xdp_action::XDP_PASS,
            Self::Leave(reason) => {
                maps::count_drop(reason);
                xdp_action::XDP_PASS
            }
            Self::Drop(reason) => {
                maps::count_drop(reason);
                xdp_action::XDP_DROP
            }
            Self::Quiet => xdp_action::XDP_DROP,
            Self::Continue(step) => step,
        }
    }

    /// The verdict of a tc program, or a step of the slow path; counts a drop.
    #[inline(always)]
    pub(crate) fn in_tc(self) -> i32 {
        match self {
            Self::Pass => TC_ACT_UNSPEC,
            Self::Leave(reason) => {
                maps::count_drop(reason);
                TC_ACT_UNSPEC
            }
            Self::Drop(reason) => {
                maps::count_drop(reason);
                TC_ACT_SHOT
            }
            Self::Quiet => TC_ACT_SHOT,
            Self::Continue(step) => step as i32,
        }
    }
}
