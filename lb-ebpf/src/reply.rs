//! Answers to clients whose packets go nowhere.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::{bpf_check_mtu, bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{DropReason, REPLY_MARK};
use lb_common::packet::{
    self, ETHERNET, Fault, Frame, FrameMut, ICMP, IPV4, IPV6, Packet, Parsed, TCP, Version,
};

use crate::frame::{Careful, Window};
use crate::maps;
use crate::refusal::slow_path;
use crate::uplink::context;

/// Has a reply sent back: by XDP, or on a veth by `transmit`, behind XDP. What XDP sends into a veth is lost unless the other end
/// runs an XDP program too, which is not ours to see to.
#[inline(never)]
pub(crate) fn hand_over(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    // SAFETY: the context is a valid `xdp_md` for the whole program.
    let interface = unsafe { (*ctx.ctx).ingress_ifindex };
    if maps::control().is_ok_and(|control| control.handing_over == interface) && marked(&ctx).is_some() {
        return xdp_action::XDP_PASS;
    }
    xdp_action::XDP_TX
}

#[inline(always)]
fn marked(ctx: &XdpContext) -> Option<()> {
    const LENGTH: usize = size_of::<u32>();
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(LENGTH as i32)) } != 0 {
        return None;
    }
    let (mark, frame) = (ctx.metadata(), ctx.data());
    if mark + LENGTH > frame {
        return None;
    }
    // SAFETY: as many bytes of metadata are there.
    unsafe { (mark as *mut u32).write(REPLY_MARK) };
    Some(())
}

/// The MTU of an interface, if the frame is longer than it takes.
#[inline(always)]
pub(crate) fn exceeded_mtu(ctx: &XdpContext, interface: u32) -> Option<u32> {
    let mut mtu = 0;
    // SAFETY: the context is this program's own, and `mtu` outlives the call.
    let result = unsafe { bpf_check_mtu(ctx.ctx.cast(), interface, &raw mut mtu, 0, 0) };
    (result > 0).then_some(mtu)
}

/// Answers a packet with an ICMP error: where the step is [`slow_path::TOO_LONG`], that it is longer than the link to its
/// backend takes, whose MTU is in the step's lower half; else that nobody takes what comes to its port.
///
/// An IPv4 packet that may be fragmented and is too long is answered too: nobody fragments it here, and a sender that heeds
/// the answer does it itself.
#[inline(never)]
pub(crate) fn error(ctx: *mut xdp_md, step: u32) -> u32 {
    let (reason, about) = if step >= slow_path::TOO_LONG {
        (DropReason::TooLong, Fault::TooLong { mtu: step as u16 })
    } else {
        (DropReason::NotBalanced, Fault::PortUnreachable)
    };
    maps::count_drop(reason);
    fault(&context(ctx), about).unwrap_or(xdp_action::XDP_DROP)
}

/// Turns the frame into the ICMP error about it. None, where there may be no answer or there were too many.
#[inline(always)]
fn fault(ctx: &XdpContext, fault: Fault) -> Option<u32> {
    let frame = Careful(Window::of_xdp(ctx));
    let Ok(Parsed::Ip(packet)) = packet::parse(&frame) else { return None };
    if !packet::may_be_answered(&packet) || !maps::may_answer(&packet.header.destination) {
        return None;
    }
    let ethernet = frame.read::<ETHERNET>(0)?;
    let length = (packet.end - ETHERNET).min(packet::LONGEST_QUOTE);
    let sum = packet::sum_of_quote(&frame, length)?;
    resize(ctx, ETHERNET + length)?;
    let (from, to) = (packet.header.destination, packet.header.source);
    match packet.header.version {
        Version::V4 { .. } => {
            grow_head(ctx, IPV4 + ICMP)?;
            let head =
                packet::error_head_ipv4(&ethernet, from.v4_octets(), to.v4_octets(), fault, length, sum);
            Window::of_xdp(ctx).write(0, head)?;
        }
        Version::V6 => {
            grow_head(ctx, IPV6 + ICMP)?;
            let head = packet::error_head_ipv6(&ethernet, from.bytes, to.bytes, fault, length, sum);
            Window::of_xdp(ctx).write(0, head)?;
        }
    }
    Some(xdp_action::XDP_TX)
}

/// Answers a segment with a RST, from where it came: its service has no active backend, or where the step is
/// [`slow_path::CLOSED`], there is no service.
#[inline(never)]
pub(crate) fn reset(ctx: *mut xdp_md, step: u32) -> u32 {
    let is_closed = step == slow_path::CLOSED;
    maps::count_drop(if is_closed { DropReason::NotBalanced } else { DropReason::NoBackend });
    reset_segment(&context(ctx)).unwrap_or(xdp_action::XDP_DROP)
}

#[inline(always)]
fn reset_segment(ctx: &XdpContext) -> Option<u32> {
    let frame = Careful(Window::of_xdp(ctx));
    let Ok(Parsed::Ip(packet)) = packet::parse(&frame) else { return None };
    let ethernet = frame.read::<ETHERNET>(0)?;
    let segment = frame.read::<TCP>(packet.payload)?;
    write_reset(ctx, &ethernet, &packet, &segment)?;
    Some(xdp_action::XDP_TX)
}

#[inline(always)]
fn write_reset(
    ctx: &XdpContext,
    ethernet: &[u8; ETHERNET],
    packet: &Packet,
    segment: &[u8; TCP],
) -> Option<()> {
    let (from, to) = (packet.header.destination, packet.header.source);
    match packet.header.version {
        Version::V4 { .. } => {
            let reset = packet::reset_ipv4(ethernet, packet, segment, from.v4_octets(), to.v4_octets());
            resize(ctx, packet::RESET_IPV4)?;
            Window::of_xdp(ctx).write(0, reset)
        }
        Version::V6 => {
            let reset = packet::reset_ipv6(ethernet, packet, segment, from.bytes, to.bytes);
            resize(ctx, packet::RESET_IPV6)?;
            Window::of_xdp(ctx).write(0, reset)
        }
    }
}

/// Cuts or extends the frame at its end.
#[inline(always)]
fn resize(ctx: &XdpContext, length: usize) -> Option<()> {
    let change = length as i32 - Window::of_xdp(ctx).length() as i32;
    // SAFETY: the context is this program's own.
    (unsafe { bpf_xdp_adjust_tail(ctx.ctx, change) } == 0).then_some(())
}

/// Makes room before the frame.
#[inline(always)]
fn grow_head(ctx: &XdpContext, by: usize) -> Option<()> {
    // SAFETY: as above.
    (unsafe { bpf_xdp_adjust_head(ctx.ctx, -(by as i32)) } == 0).then_some(())
}
