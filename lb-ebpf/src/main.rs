//! Sluice's programs for the kernel: `uplink` (XDP) brings clients' packets to backends, `answer` (tc) brings the
//! answers back, `receive` (XDP) lets a veth's end take redirected frames, and `sweep` ages the flow tables.
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
    clippy::inline_always,
    reason = "the verifier follows a packet pointer's bounds within a function, not through a call"
)]

mod answer;
mod flow;
mod frame;
mod maps;
mod sweep;
mod uplink;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::abi::DropReason;

/// What becomes of a packet that isn't sent on its way.
enum Refusal {
    /// Not ours: the kernel's business.
    Pass,
    /// Dropped and counted.
    Drop(DropReason),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

/// Client → VIP, on the uplink.
#[xdp]
pub fn uplink(ctx: XdpContext) -> u32 {
    match uplink::balance(&ctx) {
        Ok(action) => action,
        Err(Refusal::Pass) => xdp_action::XDP_PASS,
        Err(Refusal::Drop(reason)) => {
            maps::count_drop(reason);
            xdp_action::XDP_DROP
        }
    }
}

/// Backend → client, on a tenant's interface in the transit namespace.
#[classifier]
pub fn answer(ctx: TcContext) -> i32 {
    match answer::translate(&ctx) {
        Ok(action) => action,
        Err(Refusal::Pass) => TC_ACT_UNSPEC,
        Err(Refusal::Drop(reason)) => {
            maps::count_drop(reason);
            TC_ACT_SHOT
        }
    }
}

/// Lets a veth's end take frames that XDP redirected into the other: without an XDP program there, veth drops them.
#[xdp]
pub fn receive(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Ends idle flows and counts the live ones; run by the daemon through `BPF_PROG_TEST_RUN`, on no packet of anyone's.
#[xdp]
pub fn sweep(_ctx: XdpContext) -> u32 {
    sweep::run()
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
