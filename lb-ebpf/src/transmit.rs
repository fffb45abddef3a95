//! Replies that XDP can't send back.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::TcContext;
use lb_common::abi::REPLY_MARK;

/// Sends a frame back that `uplink` has marked as a reply: see [`reply::hand_over`](crate::reply::hand_over). Every other is the
/// kernel's.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> i32 {
    let skb: *mut __sk_buff = ctx.skb.skb;
    // SAFETY: the context is a valid `__sk_buff` for the whole program.
    let mark = unsafe { (*skb).data_meta } as usize;
    // SAFETY: as above.
    let frame = unsafe { (*skb).data } as usize;
    if mark + size_of::<u32>() > frame {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: four bytes of metadata are there. No packet has any of its own: programs of this host write them.
    if unsafe { (mark as *const u32).read() } != REPLY_MARK {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: as above.
    let uplink = unsafe { (*skb).ifindex };
    // SAFETY: the helper has no memory of ours to misuse.
    unsafe { bpf_redirect(uplink, 0) as i32 }
}
