//! Client → VIP.
//!
//! Each packet of a running IPv4 connection goes through [`balance`] and [`direct`], all in one function. The rest has
//! functions of its own, which read the frame anew: IPv6, fragments, ICMP errors, and answers to the client.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{BackendValue, DropReason, EndpointKey, FlowKey, PROTOCOL_TCP, ServiceValue, reach};
use lb_common::packet::{self, End, FrameMut, Packet, Part, Transport, tcp_flag};

use crate::flow::{self, Signal};
use crate::frame::{Careful, Window, opaque};
use crate::maps;
use crate::refusal::{Refusal, course};
use crate::{error, fragment, reply};

/// Every link takes packets of this length (RFC 791, 3.2), the Ethernet header included: for longer ones the kernel is
/// asked.
const NEVER_TOO_LONG: usize = packet::ETHERNET + 576;

/// What becomes of a client's packet: a verdict.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let verdict = balance(ctx).unwrap_or_else(Refusal::in_xdp);
    if verdict < course::FIRST { verdict } else { go_on(ctx.ctx, verdict) }
}

/// Sends an IPv4 packet of a running connection to its backend.
#[inline(always)]
fn balance(ctx: &XdpContext) -> Result<u32, Refusal> {
    let frame = Window::of_xdp(ctx);
    match packet::ethertype(&frame)? {
        packet::ETHERTYPE_IPV4 => {
            let packet = packet::parse_ipv4(&frame)?;
            check(&packet)?;
            direct(ctx, frame, &packet)
        }
        packet::ETHERTYPE_IPV6 => Err(Refusal::GoOn(course::IPV6)),
        _ => Err(Refusal::Pass),
    }
}

/// What is left to do with a packet; each step is a verdict or another course.
#[inline(always)]
fn go_on(ctx: *mut xdp_md, mut verdict: u32) -> u32 {
    if verdict == course::IPV6 {
        verdict = ipv6(ctx);
    }
    if verdict == course::FRAGMENT {
        verdict = fragment(ctx);
    } else if verdict == course::ERROR {
        verdict = error(ctx);
    }
    if verdict >= course::FIRST_FRAGMENT {
        return first_fragment(ctx, verdict);
    }
    if verdict >= course::TOO_LONG {
        return reply::too_long(ctx, verdict);
    }
    match verdict {
        course::RESET => reply::reset(ctx),
        course::TIME_EXCEEDED => reply::time_exceeded(ctx),
        course::NOT_BALANCED => not_balanced(ctx),
        verdict => verdict,
    }
}

/// The context of a function of its own, which the compiler may not replace by what is read from it.
#[inline(always)]
pub(crate) fn context(ctx: *mut xdp_md) -> XdpContext {
    XdpContext::new(opaque(ctx as usize) as *mut xdp_md)
}

#[inline(never)]
fn ipv6(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    let balanced = || {
        let frame = Careful(Window::of_xdp(&ctx));
        let packet = packet::parse_ipv6(&frame)?;
        check(&packet)?;
        direct(&ctx, frame, &packet)
    };
    balanced().unwrap_or_else(Refusal::in_xdp)
}

/// Refuses what takes another course: fragments but the first of a packet, ICMP errors, and what couldn't be read.
#[inline(always)]
fn check(packet: &Packet) -> Result<(), Refusal> {
    if let Part::Later { .. } = packet.part {
        return Err(Refusal::GoOn(course::FRAGMENT));
    }
    match packet.transport {
        Transport::Error => Err(Refusal::GoOn(course::ERROR)),
        Transport::Unread if maps::is_vip(packet.header.destination) => Err(DropReason::Ipv6Unread.into()),
        _ => Ok(()),
    }
}

/// Sends a fragment to a VIP after the first of its packet.
#[inline(never)]
fn fragment(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    let balanced = || {
        let (frame, packet) = to_vip(&ctx)?;
        fragment::follow(frame, &packet)
    };
    balanced().unwrap_or_else(Refusal::in_xdp)
}

/// Sends the first fragment of a packet to the backend chosen for it, whose place is in the course's lower half, and
/// remembers that for the others.
#[inline(never)]
fn first_fragment(ctx: *mut xdp_md, course: u32) -> u32 {
    let ctx = context(ctx);
    let balanced = || {
        let (mut frame, packet) = to_vip(&ctx)?;
        let port = packet.port(End::Destination).map_or(0, |(_, port)| port);
        let endpoint = EndpointKey::new(packet.header.destination, port, packet.protocol);
        let service = maps::service(&endpoint).ok_or(Refusal::Pass)?;
        let index = course as u16;
        let backend = maps::backend(index).ok_or(DropReason::Inconsistent)?;
        fragment::remember(&packet, service.service, index, backend);
        forward(&mut frame, &packet, backend, service.target_port)
    };
    balanced().unwrap_or_else(Refusal::in_xdp)
}

/// Sends an ICMP error to the backend that has the flow.
#[inline(never)]
fn error(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    let balanced = || {
        let (frame, packet) = to_vip(&ctx)?;
        error::to_backend(frame, &packet)
    };
    balanced().unwrap_or_else(Refusal::in_xdp)
}

/// Counts what comes to a VIP and no service takes, and leaves it to the kernel. Neighbour discovery is the kernel's own.
#[inline(never)]
fn not_balanced(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    let counted = || {
        let (_, packet) = to_vip(&ctx)?;
        if packet.transport != Transport::Discovery {
            maps::count_drop(DropReason::NotBalanced);
        }
        Err(Refusal::Pass)
    };
    counted().unwrap_or_else(Refusal::in_xdp)
}

/// A packet to a VIP; any other is the kernel's.
#[inline(always)]
fn to_vip(ctx: &XdpContext) -> Result<(Careful, Packet), Refusal> {
    let frame = Careful(Window::of_xdp(ctx));
    let packet::Parsed::Ip(packet) = packet::parse(&frame)? else { return Err(Refusal::Pass) };
    if maps::is_vip(packet.header.destination) { Ok((frame, packet)) } else { Err(Refusal::Pass) }
}

/// Sends a packet that names its flow to the backend that has it.
#[inline(always)]
fn direct<F: FrameMut>(ctx: &XdpContext, mut frame: F, packet: &Packet) -> Result<u32, Refusal> {
    let (service, key, signal) = addressed(packet)?;
    if packet.hops <= 1 {
        return Err(Refusal::GoOn(course::TIME_EXCEEDED));
    }
    let control = maps::control()?;
    let choice = match flow::choose(control, &key, signal) {
        Err(DropReason::NoBackend)
            if signal.protocol == PROTOCOL_TCP && signal.flags & tcp_flag::RST == 0 =>
        {
            return Err(Refusal::GoOn(course::RESET));
        }
        choice => choice?,
    };
    if frame.length() > NEVER_TOO_LONG
        && let Some(mtu) = reply::exceeded_mtu(ctx, choice.backend.interface)
    {
        return Err(Refusal::GoOn(course::TOO_LONG | mtu & 0xffff));
    }
    maps::count_packet(choice.index, key.service, frame.length() as u64, choice.new_flow);
    if let Part::First { .. } = packet.part {
        return Err(Refusal::GoOn(course::FIRST_FRAGMENT | u32::from(choice.index)));
    }
    forward(&mut frame, packet, choice.backend, service.target_port)
}

/// The service that a packet is for, its flow, and what it says about the flow.
#[inline(always)]
pub(crate) fn addressed(packet: &Packet) -> Result<(ServiceValue, FlowKey, Signal), Refusal> {
    let (client_port, vip_port, flags) = match packet.transport {
        Transport::Tcp { source, destination, flags } => (source, destination, flags),
        Transport::Udp { source, destination } => (source, destination, 0),
        Transport::EchoRequest { identifier } => (identifier, 0, 0),
        _ => return Err(Refusal::GoOn(course::NOT_BALANCED)),
    };
    let protocol = packet.protocol;
    let endpoint = EndpointKey::new(packet.header.destination, vip_port, protocol);
    let value = maps::service(&endpoint).ok_or(Refusal::Pass)?;
    let key = FlowKey { client: packet.header.source, service: value.service, client_port, vip_port };
    Ok((value, key, Signal { protocol, flags }))
}

/// Rewrites the packet for the backend and sends it there.
#[inline(always)]
fn forward<F: FrameMut>(
    frame: &mut F,
    packet: &Packet,
    backend: &BackendValue,
    port: u16,
) -> Result<u32, Refusal> {
    let change = packet.readdress(frame, End::Destination, &backend.address);
    let change = change.ok_or(DropReason::Inconsistent)?;
    packet.readdress_payload(frame, End::Destination, port, change).ok_or(DropReason::Inconsistent)?;
    send(frame, backend)
}

/// Sends a packet that is rewritten but for its MAC addresses.
#[inline(always)]
pub(crate) fn send<F: FrameMut>(frame: &mut F, backend: &BackendValue) -> Result<u32, Refusal> {
    if backend.reach != reach::LINK {
        return Err(DropReason::Inconsistent.into());
    }
    frame.write(0, backend.mac).ok_or(DropReason::Inconsistent)?;
    frame.write(6, backend.source_mac).ok_or(DropReason::Inconsistent)?;
    // SAFETY: the helper has no memory of ours to misuse.
    let action = unsafe { bpf_redirect(backend.interface, 0) };
    Ok(action as u32)
}
