//! Backend → client.

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_redirect_neigh;
use aya_ebpf::programs::TcContext;
use lb_common::abi::{
    Address, AnswerValue, DropReason, EndpointKey, FlowKey, PROTOCOL_ICMP, PROTOCOL_TCP, TenantValue,
};
use lb_common::packet::{self, ETHERNET, Frame, Ipv4, LONGEST_HEADERS, Parsed, Transport, tcp_flag};

use crate::flow;
use crate::frame::Window;
use crate::maps;
use crate::refusal::Refusal;

/// Lets a tenant's packet to its gateway through, sends answers to their clients, and drops the rest: a tenant reaches
/// neither another tenant nor the host.
#[inline(always)]
pub(crate) fn translate(ctx: &TcContext) -> Result<i32, Refusal> {
    let frame = linear(ctx);
    let packet = match packet::parse(&frame)? {
        Parsed::Ipv4(packet) => packet,
        Parsed::Arp => return Err(Refusal::Pass),
        Parsed::Other => return Err(DropReason::NotAllowed.into()),
    };
    // SAFETY: the context is a valid `__sk_buff` for the whole program.
    let interface = unsafe { (*ctx.skb.skb).ingress_ifindex };
    let tenant = maps::tenant(interface).ok_or(DropReason::Inconsistent)?;
    if !is_within(packet.source_address(), tenant) {
        return Err(DropReason::SourceSpoofed.into());
    }
    if packet.destination_address() == tenant.gateway {
        return Err(Refusal::Pass);
    }
    let (answer, flags) = answered(&packet)?;
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded.into());
    }
    note(&packet, &answer, flags)?;
    let (packets, bytes) = on_the_wire(ctx, &packet);
    maps::count_reply(answer.backend.index, answer.service, packets, bytes);
    send(ctx, &frame, &packet, answer.vip)
}

/// The frame, its headers in the linear part: a socket buffer may keep even them in pages.
#[inline(always)]
fn linear(ctx: &TcContext) -> Window {
    let frame = Window::of_tc(ctx);
    let wanted = if frame.length() < LONGEST_HEADERS { frame.length() } else { LONGEST_HEADERS };
    if frame.accessible() >= wanted {
        return frame;
    }
    let _ = ctx.pull_data(wanted as u32);
    Window::of_tc(ctx)
}

#[inline(always)]
fn is_within(address: Address, tenant: &TenantValue) -> bool {
    let mut differs = 0;
    let mut i = 0;
    while i < 16 {
        differs |= (address.bytes[i] ^ tenant.subnet.bytes[i]) & tenant.mask.bytes[i];
        i += 1;
    }
    differs == 0
}

/// What the packet answers, and its TCP flags.
#[inline(always)]
fn answered(packet: &Ipv4) -> Result<(AnswerValue, u8), Refusal> {
    let (protocol, port, flags) = match packet.transport {
        // A SYN alone is no answer: the instance opens a connection of its own.
        Transport::Tcp { flags, .. } if flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN => {
            return Err(DropReason::NotAllowed.into());
        }
        Transport::Tcp { source, flags, .. } => (PROTOCOL_TCP, source, flags),
        Transport::EchoReply { .. } => (PROTOCOL_ICMP, 0, 0),
        Transport::Fragment => return Err(DropReason::Fragment.into()),
        _ => return Err(DropReason::NotAllowed.into()),
    };
    let endpoint = EndpointKey::new(packet.source_address(), port, protocol);
    let answer = maps::answer(&endpoint).ok_or(DropReason::NotAllowed)?;
    Ok((answer, flags))
}

/// Tells the flow table that a flow opens, goes on or ends.
#[inline(always)]
fn note(packet: &Ipv4, answer: &AnswerValue, flags: u8) -> Result<(), DropReason> {
    if let Transport::Tcp { source, destination, .. } = packet.transport {
        let key = FlowKey {
            client: packet.destination_address(),
            service: answer.service,
            client_port: destination,
            vip_port: source,
        };
        return flow::note_answer(&key, flags, answer.backend);
    }
    Ok(())
}

/// The packets and bytes that a buffer will be on the wire: one that the kernel or the card cuts into segments
/// repeats its headers.
#[inline(always)]
fn on_the_wire(ctx: &TcContext, packet: &Ipv4) -> (u64, u64) {
    // SAFETY: the context is a valid `__sk_buff` for the whole program.
    let segments = u64::from(unsafe { (*ctx.skb.skb).gso_segs });
    let length = u64::from(ctx.len());
    if segments <= 1 {
        return (1, length);
    }
    let headers = packet.payload as u64 + packet::TCP as u64;
    (segments, length + (segments - 1) * headers)
}

/// Gives the packet the VIP as its source and sends it out of the uplink, to whatever hop the kernel's routes name.
#[inline(always)]
fn send(ctx: &TcContext, frame: &Window, packet: &Ipv4, vip: Address) -> Result<i32, Refusal> {
    let uplink = maps::control()?.uplink;
    let vip = vip.v4_octets();
    rewrite(frame, packet, vip).ok_or(DropReason::Inconsistent)?;
    if let Transport::Tcp { .. } = packet.transport {
        // The helper, not `checksum`: locally made segments have only a partial checksum, which it knows.
        let flags = u64::from(BPF_F_PSEUDO_HDR) | 4;
        let old = u64::from(u32::from_ne_bytes(packet.source));
        let new = u64::from(u32::from_ne_bytes(vip));
        ctx.l4_csum_replace(packet.payload + 16, old, new, flags).map_err(|_| DropReason::Inconsistent)?;
    }
    // SAFETY: without parameters the helper looks up route and neighbour by itself.
    let action = unsafe { bpf_redirect_neigh(uplink, core::ptr::null_mut(), 0, 0) };
    Ok(if action < 0 { TC_ACT_UNSPEC } else { action as i32 })
}

#[inline(always)]
fn rewrite(frame: &Window, packet: &Ipv4, vip: [u8; 4]) -> Option<()> {
    frame.write(ETHERNET + 8, [packet.ttl - 1])?;
    frame.write(ETHERNET + 10, packet.checksum_after(packet.source, vip).to_ne_bytes())?;
    frame.write(ETHERNET + 12, vip)
}
