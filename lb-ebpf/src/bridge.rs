//! What keeps the host from its tenants' bridges, and instances on the management network from speaking for one another.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry points are symbols of an object, for no other crate"
)]
#![expect(clippy::inline_always, reason = "a program is one function")]
#![expect(clippy::needless_pass_by_value, reason = "the entry points' signatures are the macros'")]

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lb_common::packet::{ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, mac_of_instance};

/// Where a frame's source address is, its type, and the source address of an IPv4 packet in it.
const SOURCE: usize = 6;
const ETHERTYPE: usize = 12;
const IPV4_SOURCE: usize = ETHERNET + 12;

/// Drops what a bridge hands up to the host. What it sends from port to port never comes here.
#[classifier]
pub fn closed(_ctx: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// Lets in only what says to be from the instance that it is from: a bridge's sealed port has checked the Ethernet address, and
/// that follows from the IPv4 address. ARP is the kernel's, which has all its neighbours from the daemon.
#[classifier]
pub fn own_address(ctx: TcContext) -> i32 {
    if is_own(&ctx).unwrap_or(false) { TC_ACT_UNSPEC } else { TC_ACT_SHOT }
}

#[inline(always)]
fn is_own(ctx: &TcContext) -> Option<bool> {
    match u16::from_be_bytes(ctx.load(ETHERTYPE).ok()?) {
        ETHERTYPE_ARP => Some(true),
        ETHERTYPE_IPV4 => {
            let (sender, address): ([u8; 6], [u8; 4]) = (ctx.load(SOURCE).ok()?, ctx.load(IPV4_SOURCE).ok()?);
            Some(sender == mac_of_instance(address))
        }
        _ => Some(false),
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
