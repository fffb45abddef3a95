//! Sluice's programs for the kernel: `uplink` (XDP) brings clients' packets to backends, `answer` (tc) brings the
//! answers back, `transmit` (tc) sends replies back where XDP can't, `receive` (XDP) lets a veth's end take
//! redirected frames, and `sweep` ages the flow table.
//!
//! What a packet means and becomes is decided by `lb-common`; here are the maps and the wiring.
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

mod answer;
mod atomic;
mod attempts;
mod clock;
mod error;
mod flow;
mod fragment;
mod frame;
mod maps;
mod noted;
mod own_tables;
mod refusal;
mod reply;
mod route;
mod suspect;
mod sweep;
mod syn;
mod table;
mod tag;
mod transmit;
mod uplink;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Client → VIP, on the uplink.
#[xdp]
pub fn uplink(ctx: XdpContext) -> u32 {
    maps::watched(&ctx);
    uplink::hand_over(&ctx, uplink::decide(&ctx))
}

/// Sends back what `uplink` has made a reply of, on the uplink.
#[classifier]
pub fn transmit(ctx: TcContext) -> i32 {
    transmit::run(&ctx)
}

/// Backend → client, on a tenant's interface in the transit namespace.
#[classifier]
pub fn answer(ctx: TcContext) -> i32 {
    answer::run(&ctx)
}

/// Lets a veth's end take frames that XDP redirected into the other: without an XDP program there, veth drops them.
#[xdp]
pub fn receive(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Ends idle flows of one part of a table and counts the live ones; run by the daemon through `BPF_PROG_TEST_RUN`, on a
/// frame that is no packet but says what to do.
#[xdp]
pub fn sweep(ctx: XdpContext) -> u32 {
    sweep::run(&ctx)
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
