//! The packet code under measurement, and programs that do less, for `cargo xtask bench`.
//!
//! A repeated `BPF_PROG_TEST_RUN` gives a program the frame as the run before has left it. So each program here first
//! makes the frame anew from the template in `bench_job`, with the client of another flow; what that costs is
//! measured by `restore`, which does nothing else. Those whose name ends in `as_it_is` don't, for frames that stay as
//! they are.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry points are symbols of an object, for no other crate"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "helpers give and take words wider than what they mean, and a frame's length fits any"
)]
#![expect(clippy::needless_pass_by_value, reason = "the entry points' signatures are the macros'")]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows a packet pointer's bounds within a function, not through a call"
)]

mod atomic;
#[allow(dead_code, reason = "half of it is for the way back")]
mod attempts;
mod clock;
mod error;
#[allow(dead_code, reason = "half of it is for the way back")]
mod flow;
mod fragment;
#[expect(dead_code, reason = "half of it is for the way back")]
mod frame;
#[expect(dead_code, reason = "half of it is for the way back")]
mod maps;
#[expect(dead_code, reason = "half of it is for the way back")]
mod own_tables;
#[expect(dead_code, reason = "half of it is for the way back")]
mod refusal;
mod reply;
mod suspect;
#[expect(dead_code, reason = "what the daemon has run")]
mod sweep;
mod syn;
#[allow(dead_code, reason = "a part of it is for the way back")]
mod table;
mod tag;
mod uplink;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{DropReason, FlowKey, FlowValue, Handle};
use lb_common::bench::{self, Job, order};
use lb_common::packet::{self, ETHERNET, FrameMut, IPV4, Packet, Transport, Version};
use lb_common::{checksum, hash};

use frame::{Window, opaque};
use refusal::Refusal;

#[btf_map(name = "bench_job")]
static JOB: Array<Job, 1> = Array::new();
#[btf_map(name = "bench_count")]
static COUNT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Returns: what calling a program takes.
#[xdp]
pub fn empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Parses the frame as it is, and returns.
#[xdp]
pub fn parse_as_it_is(ctx: XdpContext) -> u32 {
    read(&ctx).map_or_else(Refusal::in_xdp, |_| xdp_action::XDP_PASS)
}

/// All that `uplink` does, with the frame as it is: for one that it doesn't change.
#[xdp]
pub fn balance_as_it_is(ctx: XdpContext) -> u32 {
    maps::watched(&ctx);
    uplink::hand_over(&ctx, uplink::decide(&ctx))
}

/// Makes the frame anew, and nothing else.
#[xdp]
pub fn restore(ctx: XdpContext) -> u32 {
    restored(&ctx).map_or(xdp_action::XDP_ABORTED, |_| xdp_action::XDP_PASS)
}

/// Parses and returns.
#[xdp]
pub fn parse(ctx: XdpContext) -> u32 {
    parsed(&ctx).map_or_else(Refusal::in_xdp, |_| xdp_action::XDP_PASS)
}

/// Parses, looks the flow up in the hash table and its backend in the array, and returns.
#[xdp]
pub fn lookups(ctx: XdpContext) -> u32 {
    looked_up(&ctx).map_or_else(Refusal::in_xdp, |()| xdp_action::XDP_PASS)
}

/// All that `uplink` does.
#[xdp]
pub fn balance(ctx: XdpContext) -> u32 {
    match restored(&ctx) {
        Some(_) => {
            maps::watched(&ctx);
            uplink::hand_over(&ctx, uplink::decide(&ctx))
        }
        None => xdp_action::XDP_ABORTED,
    }
}

/// Records the flow of the frame, as an answer of its backend does.
#[xdp]
pub fn record(ctx: XdpContext) -> u32 {
    recorded(&ctx).map_or_else(Refusal::in_xdp, |()| xdp_action::XDP_PASS)
}

/// Sends the frame into the client's end, for a test run with live frames.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    restored(&ctx).map_or(xdp_action::XDP_ABORTED, |job| redirected(job.client_interface))
}

/// Sends every frame to the tenant's side as it is.
#[xdp]
pub fn redirect(_ctx: XdpContext) -> u32 {
    JOB.get(0).map_or(xdp_action::XDP_ABORTED, |job| redirected(job.tenant_interface))
}

/// Counts what arrives at the backend, and ends it there.
#[xdp]
pub fn count(_ctx: XdpContext) -> u32 {
    if let Some(count) = COUNT.get_ptr_mut(0) {
        // SAFETY: this CPU's own value, and programs in softirq don't interrupt one another.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

#[inline(always)]
fn redirected(interface: u32) -> u32 {
    // SAFETY: the helper has no memory of ours to misuse.
    let action = unsafe { bpf_redirect(interface, 0) };
    action as u32
}

/// Makes the frame anew, with the client of the flow whose turn it is.
#[inline(always)]
fn restored(ctx: &XdpContext) -> Option<&'static Job> {
    let job = JOB.get_ptr_mut(0)?;
    // SAFETY: a live array value; userspace writes it only between runs, and a run is on one CPU.
    let job = unsafe { &mut *job };
    let number = if job.order == order::NEW {
        let number = job.next;
        job.next += 1;
        number
    } else {
        let state = bench::step(job.next as u32);
        job.next = u64::from(state);
        u64::from(state & (job.flows - 1))
    };
    let mut frame = Window::of_xdp(ctx);
    // Word by word: 64 bytes at once would be a call that copies each byte.
    for (place, word) in job.frame.as_chunks::<8>().0.iter().enumerate() {
        frame.write(8 * place, *word)?;
    }
    address(&mut frame, &job.frame, number, job.icmp != 0)?;
    Some(job)
}

/// Gives the template's packet the client of the flow with that number.
#[inline(always)]
fn address(frame: &mut Window, template: &[u8; bench::FRAME], number: u64, icmp: bool) -> Option<()> {
    const SOURCE: usize = ETHERNET + 12;
    const TRANSPORT: usize = ETHERNET + IPV4;
    let first = [template[SOURCE], template[SOURCE + 1], template[SOURCE + 2], template[SOURCE + 3]];
    let (client, port) = bench::client(first, number);
    let (old, new) = (u32::from_ne_bytes(first), u32::from_ne_bytes(client));
    let sum = |at: usize| u16::from_ne_bytes([template[at], template[at + 1]]);
    let port = port.to_be();
    frame.write(ETHERNET + 10, checksum::update_u32(sum(ETHERNET + 10), old, new).to_ne_bytes())?;
    frame.write(SOURCE, client)?;
    if icmp {
        frame.write(TRANSPORT + 2, checksum::update_u16(sum(TRANSPORT + 2), 0, port).to_ne_bytes())?;
        frame.write(TRANSPORT + 4, port.to_ne_bytes())
    } else {
        let with_port = checksum::update_u16(sum(TRANSPORT + 16), 0, port);
        frame.write(TRANSPORT + 16, checksum::update_u32(with_port, old, new).to_ne_bytes())?;
        frame.write(TRANSPORT, port.to_ne_bytes())
    }
}

#[inline(always)]
fn recorded(ctx: &XdpContext) -> Result<(), Refusal> {
    restored(ctx).ok_or(DropReason::Inconsistent)?;
    let packet = packet::parse_ipv4(&Window::of_xdp(ctx))?;
    let (_, key, signal) = uplink::addressed(&packet)?;
    let control = maps::control()?;
    let choice = flow::holder(control, &key, signal.protocol)?;
    let backend = Handle { index: choice.index, incarnation: choice.backend.incarnation };
    let begun = FlowValue::begun(backend, signal.protocol, control.clock, 0);
    flow::become_real(control, &key, hash::of_flow(&key, control.seed), &begun, None);
    Ok(())
}

/// The packet of a frame that was made anew.
#[inline(always)]
fn parsed(ctx: &XdpContext) -> Result<(&'static Job, Packet), Refusal> {
    let job = restored(ctx).ok_or(DropReason::Inconsistent)?;
    Ok((job, read(ctx)?))
}

/// The packet, all of it really read: the compiler may not leave out what nobody uses.
#[inline(always)]
fn read(ctx: &XdpContext) -> Result<Packet, Refusal> {
    let frame = Window::of_xdp(ctx);
    if packet::ethertype(&frame)? != packet::ETHERTYPE_IPV4 {
        return Err(Refusal::Pass);
    }
    let packet = packet::parse_ipv4(&frame)?;
    let Version::V4 { checksum, .. } = packet.header.version else {
        return Err(Refusal::Pass);
    };
    let (client, vip) = (packet.header.source.words(), packet.header.destination.words());
    let Transport::Tcp { source, destination, flags } = packet.transport else {
        return Err(Refusal::Pass);
    };
    opaque(client[1] as usize);
    opaque(vip[1] as usize);
    opaque(usize::from(source));
    opaque(usize::from(destination));
    opaque(usize::from(flags));
    opaque(usize::from(packet.hops));
    opaque(usize::from(checksum));
    Ok(packet)
}

#[inline(always)]
fn looked_up(ctx: &XdpContext) -> Result<(), Refusal> {
    let (job, packet) = parsed(ctx)?;
    let Transport::Tcp { source, destination, .. } = packet.transport else {
        return Err(Refusal::Pass);
    };
    let key = FlowKey {
        client: packet.header.source,
        service: job.service,
        client_port: source,
        vip_port: destination,
    };
    // A few flows in a million aren't in the table: those whose tags in the cache of recent flows are another's.
    let control = maps::control()?;
    let hash = hash::of_flow(&key, control.seed);
    let flow = table::find(control, hash, &key).ok_or(Refusal::Pass)?;
    // SAFETY: the pointer is a live map value's; nothing removes flows during a run.
    let backend = maps::backend(unsafe { (*flow).backend.index }).ok_or(DropReason::Inconsistent)?;
    opaque(usize::from(backend.state));
    Ok(())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // A panic that the compiler can't rule out would be a call here, which the verifier refuses: it can't happen.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
