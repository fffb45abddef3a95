//! An ICMP error about a flow goes to the backend that the flow's next packet would go to.

mod bed;
#[path = "bed/family.rs"]
mod family;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::net::{IpAddr, Ipv4Addr};

use bed::{Bed, ICMP, TCP_80, VIP};
use family::{IN, What, frame, quoted};
use flow::Flow;
use lb_userspace::service::BackendState::{Active, Draining};
use lb_userspace::service::{Protocol, ServiceKey};

const UDP_80: ServiceKey = ServiceKey { vip: IpAddr::V4(VIP), protocol: Protocol::Udp, port: Some(80) };
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// An error about what the VIP has sent in a flow.
fn about(flow: Flow, key: ServiceKey) -> Vec<u8> {
    let sent = match key.protocol {
        Protocol::Tcp => What::Tcp(80, flow.port),
        Protocol::Udp => What::Udp(80, flow.port),
        Protocol::Icmp => What::Reply(flow.port),
    };
    frame(IN, ROUTER, VIP.into(), 64, &What::Error(quoted(VIP.into(), flow.client.into(), &sent)))
}

/// What its client sends next.
fn next(flow: Flow, key: ServiceKey) -> Vec<u8> {
    match key.protocol {
        Protocol::Tcp => flow.segment("A"),
        Protocol::Udp => flow.datagram(),
        Protocol::Icmp => flow.ping(1),
    }
}

/// What its backend answers.
fn answer(flow: Flow, key: ServiceKey, last: u8) -> Vec<u8> {
    match key.protocol {
        Protocol::Tcp => flow.answer(last, "SA"),
        Protocol::Udp => flow.datagram_from(last),
        Protocol::Icmp => flow.pong(last, 1),
    }
}

#[test]
fn an_error_goes_where_the_flows_next_packet_would() {
    for key in [TCP_80, UDP_80, ICMP] {
        let mut bed = Bed::new();
        bed.with(key, &[(2, Active), (3, Active)]);
        let (known, unknown): (Vec<Flow>, Vec<Flow>) =
            ((0..50).map(Flow::numbered).collect(), (100..150).map(Flow::numbered).collect());
        let owners: Vec<u8> = known
            .iter()
            .map(|flow| {
                let begins = if key == TCP_80 { flow.segment("S") } else { next(*flow, key) };
                let owner = bed.backend_of(&begins);
                bed.answer(&answer(*flow, key, owner));
                bed.backend_of(&next(*flow, key))
            })
            .collect();
        bed.with(key, &[(2, Draining), (3, Active), (4, Active)]);
        for (flow, owner) in known.iter().zip(&owners) {
            assert_eq!(bed.backend_of(&about(*flow, key)), *owner, "{key}, a flow that is known");
        }
        let to: Vec<u8> = unknown.iter().map(|flow| bed.backend_of(&about(*flow, key))).collect();
        for (flow, to) in unknown.iter().zip(&to) {
            assert_eq!(bed.backend_of(&next(*flow, key)), *to, "{key}, a flow that isn't known");
        }
        // A connection that isn't known can't have begun with the new owner of its slot; any other flow begins there.
        assert_eq!((to.contains(&2), to.contains(&4)), (key == TCP_80, key != TCP_80), "{key}");
    }
}
