//! Client → VIP.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_redirect, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    BackendValue, DropReason, EndpointKey, FlowKey, Handle, PROTOCOL_ICMP, PROTOCOL_TCP, reach,
};
use lb_common::checksum;
use lb_common::packet::{self, ETHERNET, Frame, Ipv4, Parsed, RESET_FRAME, TCP, Transport, tcp_flag};

use crate::flow::{self, Signal};
use crate::frame::Window;
use crate::maps;
use crate::refusal::Refusal;

/// Sends a client's packet to a backend.
#[inline(always)]
pub(crate) fn balance(ctx: &XdpContext) -> Result<u32, Refusal> {
    let frame = Window::of_xdp(ctx);
    let Parsed::Ipv4(packet) = packet::parse(&frame)? else {
        return Err(Refusal::Pass);
    };
    let (service, key, signal) = addressed(&packet)?;
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded.into());
    }
    let control = maps::control()?;
    let key = FlowKey { service, ..key };
    let choice = match flow::choose(control, &key, signal) {
        Err(DropReason::NoBackend)
            if signal.protocol == PROTOCOL_TCP && signal.flags & tcp_flag::RST == 0 =>
        {
            maps::count_drop(DropReason::NoBackend);
            return refuse(ctx, &frame, &packet);
        }
        choice => choice?,
    };
    maps::count_packet(choice.index, service, frame.length() as u64, choice.new_flow);
    forward(&frame, &packet, choice.backend)
}

/// The service that a packet is for, its flow (the service left open), and what it says about the flow.
#[inline(always)]
fn addressed(packet: &Ipv4) -> Result<(Handle, FlowKey, Signal), Refusal> {
    let (protocol, client_port, vip_port, flags) = match packet.transport {
        Transport::Tcp { source, destination, flags } => (PROTOCOL_TCP, source, destination, flags),
        Transport::EchoRequest { identifier } => (PROTOCOL_ICMP, identifier, 0, 0),
        Transport::Fragment if maps::is_vip(packet.destination_address()) => {
            return Err(DropReason::Fragment.into());
        }
        _ => return Err(Refusal::Pass),
    };
    let endpoint = EndpointKey::new(packet.destination_address(), vip_port, protocol);
    let service = maps::service(&endpoint).ok_or(Refusal::Pass)?.service;
    let key = FlowKey { client: packet.source_address(), service, client_port, vip_port };
    Ok((service, key, Signal { protocol, flags }))
}

/// Rewrites the packet for the backend and sends it there.
#[inline(always)]
fn forward(frame: &Window, packet: &Ipv4, backend: &BackendValue) -> Result<u32, Refusal> {
    if backend.reach != reach::LINK {
        return Err(DropReason::Inconsistent.into());
    }
    let address = backend.address.v4_octets();
    rewrite(frame, packet, address, backend).ok_or(DropReason::Inconsistent)?;
    // SAFETY: the helper has no memory of ours to misuse.
    let action = unsafe { bpf_redirect(backend.interface, 0) };
    Ok(action as u32)
}

#[inline(always)]
fn rewrite(frame: &Window, packet: &Ipv4, address: [u8; 4], backend: &BackendValue) -> Option<()> {
    frame.write(0, backend.mac)?;
    frame.write(6, backend.source_mac)?;
    frame.write(ETHERNET + 8, [packet.ttl - 1])?;
    frame.write(ETHERNET + 10, packet.checksum_after(packet.destination, address).to_ne_bytes())?;
    frame.write(ETHERNET + 16, address)?;
    if let Transport::Tcp { .. } = packet.transport {
        let at = packet.payload + 16;
        let old = u16::from_ne_bytes(frame.read::<2>(at)?);
        let new =
            checksum::update_u32(old, u32::from_ne_bytes(packet.destination), u32::from_ne_bytes(address));
        frame.write(at, new.to_ne_bytes())?;
    }
    Some(())
}

/// Answers a segment for which nobody is home with a RST, from where it came.
#[inline(always)]
fn refuse(ctx: &XdpContext, frame: &Window, packet: &Ipv4) -> Result<u32, Refusal> {
    let ethernet = frame.read::<ETHERNET>(0).ok_or(DropReason::EthernetTruncated)?;
    let segment = frame.read::<TCP>(packet.payload).ok_or(DropReason::TcpTruncated)?;
    let reset = packet::reset(&ethernet, packet, &segment);
    let change = RESET_FRAME as i32 - frame.length() as i32;
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, change) } != 0 {
        return Err(DropReason::Inconsistent.into());
    }
    Window::of_xdp(ctx).write(0, reset).ok_or(DropReason::Inconsistent)?;
    Ok(xdp_action::XDP_TX)
}
