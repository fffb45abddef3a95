//! VLAN tags within a frame.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use lb_common::packet::{self, ETHERNET, Frame, FrameMut, VLAN_TAG};

use crate::frame::Window;
use crate::refusal::slow_path;
use crate::uplink::context;

/// Takes off a tag that names no VLAN, as the kernel would, and goes on with the packet as with one that came without. A
/// frame of a VLAN is the kernel's, and so is whatever isn't IP.
#[inline(never)]
pub(crate) fn take_off(ctx: *mut xdp_md) -> u32 {
    if taken_off(ctx).is_some() { slow_path::IPV6 } else { xdp_action::XDP_PASS }
}

#[inline(always)]
fn taken_off(ctx: *mut xdp_md) -> Option<()> {
    let ctx = context(ctx);
    let mut frame = Window::of_xdp(&ctx);
    let tag = frame.read::<2>(ETHERNET)?;
    let inner = u16::from_be_bytes(frame.read::<2>(ETHERNET + 2)?);
    if !packet::is_priority_tag(tag) || !matches!(inner, packet::ETHERTYPE_IPV4 | packet::ETHERTYPE_IPV6) {
        return None;
    }
    let addresses = frame.read::<{ ETHERNET - 2 }>(0)?;
    frame.write(VLAN_TAG, addresses)?;
    // SAFETY: the context is this program's own.
    (unsafe { bpf_xdp_adjust_head(ctx.ctx, VLAN_TAG as i32) } == 0).then_some(())
}
