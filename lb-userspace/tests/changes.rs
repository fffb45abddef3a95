//! Services are changed while packets come without a pause, on the real programs and maps.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/hammer.rs"]
mod hammer;
#[path = "bed/packets.rs"]
mod packets;

use std::net::{IpAddr, Ipv4Addr};

use bed::{Bed, TCP_80, VIP, Verdict};
use flow::{Flow, owner};
use hammer::{Hammer, Outcomes};
use lb_common::abi::{Address, EndpointKey, PROTOCOL_TCP, hint_place};
use lb_userspace::service::BackendState::{Active, Draining};
use lb_userspace::service::ServiceKey;

const XDP_REDIRECT: u32 = 4;

/// The first packet of a flow that never was.
fn syn(number: u32) -> Vec<u8> {
    let [a, b, c, d] = (number + 0x0a00_0001).to_be_bytes();
    Flow { client: Ipv4Addr::new(a, b, c, d), port: 40_000 }.segment("S")
}

/// The last bytes of the addresses of the backends that packets went to: each went to one.
fn owners(outcomes: &Outcomes) -> Vec<u8> {
    let redirected = |(verdict, frame): &(u32, Vec<u8>)| {
        assert_eq!(*verdict, XDP_REDIRECT);
        owner(&(Verdict::Redirect, frame.clone()))
    };
    outcomes.iter().map(redirected).collect()
}

/// All new flows go to one backend, then all to another. If a packet met a table that is half the one and half the
/// other, or two packets in turn met the new one and the old one, then backends would alternate more often than that.
#[test]
fn no_packet_sees_a_mixture_of_two_tables() {
    const SWAPS: usize = 20;
    let mut bed = Bed::new();
    let states = [(Active, Draining), (Draining, Active)];
    bed.with(TCP_80, &[(2, Active), (3, Draining)]);
    let hammer = Hammer::start(&bed, syn);
    for swap in 1..=SWAPS {
        let (two, three) = states[swap % 2];
        bed.with(TCP_80, &[(2, two), (3, three)]);
    }
    let owners = owners(&hammer.stop());
    let changes = owners.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= SWAPS, "{changes} changes of the backend in {SWAPS} swaps, {} packets", owners.len());
    assert!(changes >= SWAPS / 4, "{changes} changes were seen by {} packets: too few to tell", owners.len());
}

/// Ports of the VIP whose services share their hint with port 80's.
fn ports_that_share_a_hint() -> Vec<u16> {
    let place = |port| hint_place(&EndpointKey::new(Address::v4(VIP.octets()), port, PROTOCOL_TCP));
    (1..=u16::MAX).filter(|&port| port != 80 && place(port) == place(80)).take(3).collect()
}

#[test]
fn a_service_is_never_hidden_by_others_that_come_and_go() {
    let ports = ports_that_share_a_hint();
    assert_eq!(ports.len(), 3);
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let hammer = Hammer::start(&bed, syn);
    let other = |port| ServiceKey { vip: IpAddr::V4(VIP), port: Some(port), ..TCP_80 };
    for _ in 0..2 {
        for &port in &ports {
            bed.with(other(port), &[(3, Active)]);
        }
        for &port in &ports {
            bed.lb.remove(&other(port)).expect("removed");
        }
    }
    let owners = owners(&hammer.stop());
    assert!(owners.iter().all(|&owner| owner == 2));
    // The hints that are left are right, too.
    let port = ports[0];
    bed.with(other(port), &[(3, Active)]);
    bed.lb.remove(&TCP_80).expect("removed");
    assert_eq!(bed.uplink(&syn(0)).0, Verdict::Pass);
    bed.lb.remove(&other(port)).expect("removed");
    bed.with(TCP_80, &[(2, Active)]);
    bed.reopen();
    assert_eq!(owner(&bed.uplink(&syn(0))), 2);
}
