//! What instances send that is no answer, where their tenant may go to the outside and where it may not.

mod bed;
#[path = "bed/family.rs"]
mod family;

use std::net::IpAddr;

use bed::{TENANT_MAC, Verdict};
use family::{BACK, BACKEND_MAC, Family, What, ask, bed, families, frame};
use lb_userspace::net::MacAddr;
use lb_userspace::service::{Backend, BackendState, Protocol, Reach, ServiceKey};

/// Connections that a backend opens, and datagrams that are no answers.
const OWN: [(&str, What); 4] = [
    ("TCP, its first packet", What::Syn(40_000, 443)),
    ("TCP", What::Tcp(40_000, 443)),
    ("UDP", What::Udp(40_000, 53)),
    ("an echo request", What::Request(9)),
];

#[test]
fn a_tenants_own_connections_are_the_kernels_where_it_may_have_them() {
    let mut bed = bed();
    bed.attach_another_tenant();
    let sent = |from, to, what: &What| frame(BACK, from, to, 64, what);
    for outbound in [false, true, false] {
        bed.set_outbound(outbound);
        let [Family { vip, client, .. }, _] = families();
        ask(&bed, client, vip);
        let [Family { client, backend, stranger, gateway, .. }, _] = families();
        for (name, what) in &OWN {
            let is_answered = matches!(what, What::Tcp(..) | What::Request(_));
            for (from, to, drop) in [
                (backend, client, (!outbound).then_some("not_allowed")),
                (backend, stranger, Some("not_allowed")),
                (stranger, client, Some("source_spoofed")),
                (backend, gateway, (!is_answered).then_some("not_allowed")),
            ] {
                let before = drop.map(|reason| bed.drops(reason));
                let (verdict, out) = bed.answer(&sent(from, to, what));
                let expected = if drop.is_some() { Verdict::Drop } else { Verdict::Pass };
                assert_eq!(verdict, expected, "{name} from {from} to {to}, outbound: {outbound}");
                assert_eq!(drop.map(|reason| bed.drops(reason)), before.map(|before| before + 1), "{name}");
                assert!(drop.is_some() || out == sent(from, to, what), "{name}: changed");
            }
        }
        let fragment = {
            let mut frame = sent(backend, client, &What::Udp(40_000, 53));
            frame[20..22].copy_from_slice(&2_u16.to_be_bytes());
            frame
        };
        let expected = if outbound { Verdict::Pass } else { Verdict::Drop };
        assert_eq!(bed.answer(&fragment).0, expected, "a later fragment");
        let answer = sent(backend, client, &What::Tcp(8443, 40_000));
        assert_eq!(bed.answer(&answer).0, Verdict::Redirect, "an answer");
        let [_, Family { client, backend, .. }] = families();
        assert_eq!(
            bed.answer(&sent(backend, client, &OWN[0].1)).0,
            Verdict::Drop,
            "there is no NAT for IPv6"
        );
    }
}

#[test]
fn where_a_service_has_every_port_a_connection_of_ones_own_is_known_by_its_first_packet() {
    let mut bed = bed();
    let [Family { vip, client, .. }, _] = families();
    let backend: IpAddr = "19.0.0.9".parse().expect("an address");
    let reach = Reach::Link { interface: bed.interface, source_mac: TENANT_MAC, mac: MacAddr(BACKEND_MAC) };
    let key = ServiceKey { vip, protocol: Protocol::Tcp, port: None };
    bed.apply(key, &[Backend { address: backend, reach, weight: 1, state: BackendState::Active }]);
    bed.set_outbound(true);
    let verdict = |what: &What| bed.answer(&frame(BACK, backend, client, 64, what)).0;
    assert_eq!(verdict(&What::Tcp(40_000, 443)), Verdict::Redirect, "an answer, for all that is known");
    assert_eq!(verdict(&What::Syn(40_000, 443)), Verdict::Pass);
    assert_eq!(verdict(&What::Tcp(40_000, 443)), Verdict::Pass);
    assert_eq!(verdict(&What::Tcp(40_000, 444)), Verdict::Redirect);
    assert_eq!(verdict(&What::Tcp(40_001, 443)), Verdict::Redirect);
}
