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
use lb_common::abi::{Address, EndpointKey, PROTOCOL_TCP, address_hint_place, port_hint_place};
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

fn at(vip: Ipv4Addr, port: u16) -> ServiceKey {
    ServiceKey { vip: IpAddr::V4(vip), port: Some(port), ..TCP_80 }
}

/// Services that share a hint with port 80 of the VIP: by its port, by its address alone, and by another address.
fn that_share_a_hint() -> Vec<ServiceKey> {
    let endpoint = |vip: Ipv4Addr, port| EndpointKey::new(Address::v4(vip.octets()), port, PROTOCOL_TCP);
    let place = |port| port_hint_place(&endpoint(VIP, port));
    let by_port = (81..=u16::MAX).filter(|&port| place(port) == place(80)).take(2);
    let place = |vip| address_hint_place(&endpoint(vip, 80));
    let vips = (0..1 << 20).map(|number| Ipv4Addr::from(0x2d00_0000 + number));
    let by_address = vips.filter(|&vip| vip != VIP && place(vip) == place(VIP)).take(1);
    let ports = by_port.chain([443]).map(|port| at(VIP, port));
    ports.chain(by_address.map(|vip| at(vip, 80))).collect()
}

#[test]
fn a_service_is_never_hidden_by_others_that_come_and_go() {
    let others = that_share_a_hint();
    assert_eq!(others.len(), 4);
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let hammer = Hammer::start(&bed, syn);
    for _ in 0..2 {
        for &other in &others {
            bed.with(other, &[(3, Active)]);
        }
        for other in &others {
            bed.lb.remove(other).expect("removed");
        }
    }
    let owners = owners(&hammer.stop());
    assert!(owners.iter().all(|&owner| owner == 2));
    // The hints that are left are right, too.
    for other in others {
        bed.with(other, &[(3, Active)]);
        bed.lb.remove(&TCP_80).expect("removed");
        // The VIP is closed, as long as it is one.
        let closed = if other.vip == TCP_80.vip { Verdict::Transmit } else { Verdict::Pass };
        assert_eq!(bed.uplink(&syn(0)).0, closed);
        bed.with(TCP_80, &[(2, Active)]);
        bed.lb.remove(&other).expect("removed");
        assert_eq!(owner(&bed.uplink(&syn(0))), 2);
    }
    bed.reopen();
    assert_eq!(owner(&bed.uplink(&syn(0))), 2);
}
