//! Segments that open a connection, looked at more closely than others.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use lb_common::abi::DropReason;
use lb_common::packet;

use crate::frame::{Careful, Window};
use crate::maps;
use crate::uplink::context;

/// Counts a SYN whose checksum is wrong, when it is rewritten for its backend: what is changed with its data is as wrong as
/// before. It goes on all the same, for its receiver to drop.
///
/// A client behind a veth that leaves checksums to a network card, which a veth hasn't, sends such ones only: nothing else
/// tells why it can't connect. Other packets aren't read for it, nor is a SYN with data.
#[inline(never)]
pub(crate) fn check(ctx: *mut xdp_md) -> u32 {
    let frame = Careful(Window::of_xdp(&context(ctx)));
    let Ok(packet::Parsed::Ip(packet)) = packet::parse(&frame) else {
        return xdp_action::XDP_REDIRECT;
    };
    if packet::bare_segment_is_sound(&frame, &packet) == Some(false) {
        maps::count_drop(DropReason::BadChecksum);
    }
    xdp_action::XDP_REDIRECT
}
