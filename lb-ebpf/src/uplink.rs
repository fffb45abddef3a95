//! Client → VIP.
//!
//! Each packet of a running IPv4 connection goes through [`balance`] and [`direct`], all in one function. The rest has
//! functions of its own, which read the frame anew: IPv6, fragments, ICMP errors, and answers to the client.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    BackendValue, DropReason, EndpointKey, FlowKey, Handle, PROTOCOL_TCP, ServiceValue, is_open, owner, reach,
};
use lb_common::packet::{self, End, Frame, FrameMut, Packet, Part, Segment, Transport, tcp_flag};

use crate::flow::{self, Choice, Said, Signal};
use crate::frame::{Careful, Window, opaque};
use crate::maps;
use crate::refusal::{Refusal, slow_path};
use crate::{error, fragment, reply, syn, tag};

/// Every link takes packets of this length (RFC 791, 3.2), the Ethernet header included: for longer ones the kernel is
/// asked.
const NEVER_TOO_LONG: usize = packet::ETHERNET + 576;

/// The verdict for the kernel, by one that was decided on.
#[inline(always)]
pub(crate) fn hand_over(ctx: &XdpContext, verdict: u32) -> u32 {
    if verdict == xdp_action::XDP_TX { reply::hand_over(ctx.ctx) } else { verdict }
}

/// What becomes of a client's packet: a verdict, which is yet to be handed over.
#[inline(always)]
pub(crate) fn decide(ctx: &XdpContext) -> u32 {
    let verdict = balance(ctx).unwrap_or_else(Refusal::in_xdp);
    if verdict < slow_path::FIRST { verdict } else { go_on(ctx.ctx, verdict) }
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
        packet::ETHERTYPE_IPV6 => Err(Refusal::Continue(slow_path::IPV6)),
        packet::ETHERTYPE_VLAN => Err(Refusal::Continue(slow_path::TAGGED)),
        _ => Err(Refusal::Pass),
    }
}

/// What is left to do with a packet; each step is a verdict or the next step.
#[inline(always)]
fn go_on(ctx: *mut xdp_md, mut verdict: u32) -> u32 {
    if verdict == slow_path::TAGGED {
        verdict = tag::take_off(ctx);
    }
    if verdict == slow_path::IPV6 {
        verdict = rare(ctx);
    }
    if verdict == slow_path::FRAGMENT {
        verdict = fragment(ctx);
    } else if verdict == slow_path::ERROR {
        verdict = error(ctx);
    } else if verdict == slow_path::LOOK_UP {
        verdict = look_up(ctx);
    }
    if verdict >= slow_path::FIRST_FRAGMENT {
        return first_fragment(ctx, verdict);
    }
    if verdict == slow_path::UNSERVED {
        verdict = unserved(ctx);
    }
    if verdict >= slow_path::TOO_LONG || verdict == slow_path::UNREACHABLE {
        return reply::error(ctx, verdict);
    }
    if verdict == slow_path::RESET || verdict == slow_path::CLOSED {
        return reply::reset(ctx, verdict);
    }
    if verdict == slow_path::OPENED {
        return syn::check(ctx);
    }
    verdict
}

/// The context of a function of its own, which the compiler may not replace by what is read from it.
#[inline(always)]
pub(crate) fn context(ctx: *mut xdp_md) -> XdpContext {
    XdpContext::new(opaque(ctx as usize) as *mut xdp_md)
}

/// Sends an IPv6 packet to its backend, or an IPv4 packet that came with a tag.
#[inline(never)]
fn rare(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    let balanced = || {
        let frame = Careful(Window::of_xdp(&ctx));
        let packet::Parsed::Ip(packet) = packet::parse(&frame)? else { return Err(Refusal::Pass) };
        check(&packet)?;
        direct(&ctx, frame, &packet)
    };
    balanced().unwrap_or_else(Refusal::in_xdp)
}

/// Refuses what takes the slow path: fragments but the first of a packet, and ICMP errors.
#[inline(always)]
fn check(packet: &Packet) -> Result<(), Refusal> {
    if let Part::Later { .. } = packet.part {
        return Err(Refusal::Continue(slow_path::FRAGMENT));
    }
    match packet.transport {
        Transport::Error => Err(Refusal::Continue(slow_path::ERROR)),
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

/// Sends the first fragment of a packet to the backend chosen for it, whose place is in the step's lower half, and
/// remembers that for the others.
#[inline(never)]
fn first_fragment(ctx: *mut xdp_md, step: u32) -> u32 {
    let ctx = context(ctx);
    let balanced = || {
        let (mut frame, packet) = to_vip(&ctx)?;
        let port = packet.port(End::Destination).map_or(0, |(_, port)| port);
        let endpoint = EndpointKey::new(packet.header.destination, port, packet.protocol);
        let service = maps::service(&endpoint).ok_or(Refusal::Pass)?;
        let index = step as u16;
        let backend = maps::backend(index).ok_or(DropReason::Inconsistent)?;
        let handle = Handle { index, incarnation: backend.incarnation };
        // The address in the key that is on the stack already, which has no room for another.
        fragment::remember(&packet, &endpoint.address, service.service, handle);
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

/// What becomes of a packet that no service takes. A VIP is closed but for its services, for ports that are open to
/// processes of this host, and for what the kernel does for an address of its own: neighbour discovery and ping.
#[inline(never)]
fn unserved(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    let closed = || {
        let (_, packet) = to_vip(&ctx)?;
        let protocol = packet.protocol;
        Err(match packet.transport {
            Transport::Discovery | Transport::EchoRequest { .. } => Refusal::Pass,
            Transport::Tcp { destination, .. } | Transport::Udp { destination, .. }
                if maps::is_open(protocol, destination, is_open::AT_VIPS) =>
            {
                Refusal::Pass
            }
            Transport::Tcp { flags, .. } if flags & tcp_flag::RST == 0 => {
                Refusal::Continue(slow_path::CLOSED)
            }
            Transport::Udp { .. } => Refusal::Continue(slow_path::UNREACHABLE),
            Transport::Unread => DropReason::Ipv6Unread.into(),
            _ => DropReason::NotBalanced.into(),
        })
    };
    closed().unwrap_or_else(|refusal: Refusal| refusal.in_xdp())
}

/// A packet to a VIP from somebody who can be a client. Any other is the kernel's, but for what would lead past the VIPs to
/// a tenant's network, or claims to come from there.
#[inline(always)]
fn to_vip(ctx: &XdpContext) -> Result<(Careful, Packet), Refusal> {
    let frame = Careful(Window::of_xdp(ctx));
    let packet::Parsed::Ip(packet) = packet::parse(&frame)? else { return Err(Refusal::Pass) };
    let destination = maps::owner_of(&packet.header.destination);
    if !is_for_uplink(&frame)? {
        let is_vip = destination == Some(owner::VIP);
        return Err(if is_vip { DropReason::OtherMac.into() } else { Refusal::Pass });
    }
    let source = maps::owner_of(&packet.header.source);
    match destination {
        Some(owner::VIP) if packet.transport == Transport::Discovery => Err(Refusal::Pass),
        Some(owner::VIP) if source.is_some() || !packet.header.has_possible_source() => {
            Err(DropReason::ImpossibleSource.into())
        }
        Some(owner::VIP) => Ok((frame, packet)),
        Some(tenant) if tenant != owner::HOST => Err(DropReason::PastVip.into()),
        // Another host may send from a VIP that moves between the two, and what the kernel makes of its own addresses is
        // its own business.
        _ if matches!(source, Some(tenant) if tenant != owner::HOST && tenant != owner::VIP) => {
            Err(DropReason::ImpossibleSource.into())
        }
        _ => Err(Refusal::Pass),
    }
}

/// Whether a frame is for the uplink, and neither for another host nor for many.
#[inline(always)]
fn is_for_uplink<F: Frame>(frame: &F) -> Result<bool, DropReason> {
    let first = frame.read::<8>(0).ok_or(DropReason::EthernetTruncated)?;
    Ok(maps::control()?.is_for_uplink(first))
}

/// Sends a packet that names its flow to the backend that has it.
#[inline(always)]
fn direct<F: FrameMut>(ctx: &XdpContext, mut frame: F, packet: &Packet) -> Result<u32, Refusal> {
    let (service, key, signal) = addressed(packet)?;
    if !is_for_uplink(&frame)? {
        return Err(DropReason::OtherMac.into());
    }
    if !packet.header.has_possible_source() {
        return Err(DropReason::ImpossibleSource.into());
    }
    let choice = flow::choose(maps::control()?, &key, signal);
    let choice = choice.map_err(|refusal| or_reset(refusal, signal))?;
    deliver(ctx, &mut frame, packet, (&service, signal), &choice)
}

/// Sends a packet to the backend that has its flow, by all that is known of the flow.
#[inline(never)]
fn look_up(ctx: *mut xdp_md) -> u32 {
    let ctx = context(ctx);
    let balanced = || {
        let mut frame = Careful(Window::of_xdp(&ctx));
        let packet::Parsed::Ip(packet) = packet::parse(&frame)? else { return Err(Refusal::Pass) };
        let (service, key, signal) = addressed(&packet)?;
        let mut said =
            Said { segment: Segment { sequence: 0, acknowledgement: 0, length: 0 }, is_intact: false };
        if signal.protocol == PROTOCOL_TCP {
            said.segment = packet::segment(&frame, &packet).ok_or(DropReason::Inconsistent)?;
            said.is_intact = said.segment.length == 0 && packet::is_intact(&frame, &packet);
        }
        let choice = flow::settle(maps::control()?, &key, signal, &said);
        let choice = choice.map_err(|reason| or_reset(reason.into(), signal))?;
        deliver(&ctx, &mut frame, &packet, (&service, signal), &choice)
    };
    balanced().unwrap_or_else(Refusal::in_xdp)
}

/// A TCP segment for which there is no backend is answered with a RST, but for a RST.
#[inline(always)]
fn or_reset(refusal: Refusal, signal: Signal) -> Refusal {
    match refusal {
        Refusal::Drop(DropReason::NoBackend)
            if signal.protocol == PROTOCOL_TCP && signal.flags & tcp_flag::RST == 0 =>
        {
            Refusal::Continue(slow_path::RESET)
        }
        refusal => refusal,
    }
}

/// Counts a packet, and sends it to the backend that was chosen for it.
#[inline(always)]
fn deliver<F: FrameMut>(
    ctx: &XdpContext,
    frame: &mut F,
    packet: &Packet,
    (service, signal): (&ServiceValue, Signal),
    choice: &Choice,
) -> Result<u32, Refusal> {
    if frame.length() > NEVER_TOO_LONG
        && let Some(mtu) = reply::exceeded_mtu(ctx, choice.backend.interface)
    {
        return Err(Refusal::Continue(slow_path::TOO_LONG | mtu & 0xffff));
    }
    maps::count_packet(choice.index, service.service, frame.length() as u64, choice.new_flow);
    if let Part::First { .. } = packet.part {
        return Err(Refusal::Continue(slow_path::FIRST_FRAGMENT | u32::from(choice.index)));
    }
    let action = forward(frame, packet, choice.backend, service.target_port)?;
    if signal.opens() && action == xdp_action::XDP_REDIRECT {
        return Err(Refusal::Continue(slow_path::OPENED));
    }
    Ok(action)
}

/// The service that a packet is for, its flow, and what it says about the flow.
#[inline(always)]
pub(crate) fn addressed(packet: &Packet) -> Result<(ServiceValue, FlowKey, Signal), Refusal> {
    let (client_port, vip_port, flags) = match packet.transport {
        Transport::Tcp { source, destination, flags } => (source, destination, flags),
        Transport::Udp { source, destination } => (source, destination, 0),
        Transport::EchoRequest { identifier } => (identifier, 0, 0),
        _ => return Err(Refusal::Continue(slow_path::UNSERVED)),
    };
    let protocol = packet.protocol;
    let endpoint = EndpointKey::new(packet.header.destination, vip_port, protocol);
    let value = maps::service(&endpoint).ok_or(Refusal::Continue(slow_path::UNSERVED))?;
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
