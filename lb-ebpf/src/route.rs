//! Whether answers have a way to their clients.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_REDIRECT, TC_ACT_SHOT};
use aya_ebpf::helpers::bpf_fib_lookup;
use lb_common::abi::{Address, Control, DropReason, default_route};
use lb_common::packet::{self, Header, Packet, Parsed, Transport, tcp_flag};

use crate::answer::{context, linear};
use crate::frame::Careful;
use crate::maps;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What `bpf_fib_lookup` returns where it has found a route, with a neighbour or yet without, and where there is none:
/// `BPF_FIB_LKUP_RET_…` of `linux/bpf.h`.
mod found {
    pub(super) const ROUTE: i64 = 0;
    /// Blackhole, unreachable, prohibited, and not forwarded.
    pub(super) const NOTHING: core::ops::RangeInclusive<i64> = 1..=4;
    pub(super) const ROUTE_WITHOUT_NEIGHBOUR: i64 = 7;
}

/// `struct bpf_fib_lookup` of `linux/bpf.h`, 64 bytes: family and protocol, ports, length and interface, source, destination,
/// and what the kernel answers. Of words, since the programs' stacks have to be accessed at their alignment.
type Lookup = [u64; 8];

/// Whether the answer is one whose route is to be asked for: there is no default route by the uplink, and the answer
/// opens a connection, or is of a protocol that has none.
#[inline(always)]
pub(crate) fn is_doubtful(control: &Control, packet: &Packet) -> bool {
    let family = if packet.header.is_v6() { default_route::IPV6 } else { default_route::IPV4 };
    if control.default_routes & family != 0 {
        return false;
    }
    match packet.transport {
        Transport::Tcp { flags, .. } => flags & tcp_flag::SYN != 0,
        _ => true,
    }
}

/// Counts an answer to whose client no route leads by the uplink: the kernel takes such a client for one on the link, and
/// drops the answer when no neighbour is found, which nothing else tells. It has its VIP already, by which routes may be
/// chosen.
///
/// Where no route leads to the client at all the answer is dropped: else each address of the world would be a neighbour that
/// is asked for, and a flood from many would fill the kernel's table, which is one for the whole host. Where one leads there by
/// another interface, one of the uplink's that is less specific may do, of which nothing is known here: it goes on.
#[inline(never)]
pub(crate) fn verdict(skb: *mut __sk_buff) -> i32 {
    let ctx = context(skb);
    let Ok(Parsed::Ip(packet)) = packet::parse(&Careful(linear(&ctx, packet::LONGEST_HEADERS))) else {
        return TC_ACT_REDIRECT;
    };
    let Ok(control) = maps::control() else { return TC_ACT_REDIRECT };
    // SAFETY: the context is a valid `__sk_buff` for the whole program.
    let interface = unsafe { (*skb).ingress_ifindex };
    let mut lookup = question(&packet.header, packet.protocol, interface);
    // SAFETY: the kernel reads and writes the 64 bytes of its structure, which outlive the call.
    let found =
        unsafe { bpf_fib_lookup(skb.cast(), (&raw mut lookup).cast(), size_of::<Lookup>() as i32, 0) } as i64;
    let is_elsewhere = matches!(found, found::ROUTE | found::ROUTE_WITHOUT_NEIGHBOUR)
        && interface_of(&lookup) != control.uplink;
    if found::NOTHING.contains(&found) {
        maps::count_drop(DropReason::NoRoute);
        return TC_ACT_SHOT;
    }
    if is_elsewhere {
        maps::count_drop(DropReason::NoRoute);
    }
    TC_ACT_REDIRECT
}

#[inline(always)]
fn question(header: &Header, protocol: u8, interface: u32) -> Lookup {
    let family = if header.is_v6() { AF_INET6 } else { AF_INET };
    // Its length isn't 0: else the kernel would look at the packet's own.
    let what = u64::from_ne_bytes([family, protocol, 0, 0, 0, 0, 1, 0]);
    let [a, b, c, d] = interface.to_ne_bytes();
    let ([first, second], [third, fourth]) =
        (words(&header.source, header), words(&header.destination, header));
    [what, u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), first, second, third, fourth, 0, 0]
}

/// An address as the kernel takes it: an IPv4 address is the first four bytes.
#[inline(always)]
fn words(address: &Address, header: &Header) -> [u64; 2] {
    if header.is_v6() {
        return address.words();
    }
    let [a, b, c, d] = address.v4_octets();
    [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0]
}

/// The interface that the kernel has written into its answer.
#[inline(always)]
fn interface_of(answer: &Lookup) -> u32 {
    let [a, b, c, d, ..] = answer[1].to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}
