//! Both families and all protocols, both ways: description, packet in, verdict, packet out, byte by byte.

mod bed;
#[path = "bed/family.rs"]
mod family;

use std::net::IpAddr;

use bed::Verdict;
use family::{BACK, Family, IN, ON, What, ask, bed, families, frame, quoted};

#[test]
fn packets_to_a_vip_reach_the_backend() {
    let bed = bed();
    for Family { vip, client, router, backend, .. } in families() {
        let about = |from, what: &What| What::Error(quoted(from, client, what));
        for (name, from, sent, arrives) in [
            ("TCP", client, What::Tcp(40_000, 443), What::Tcp(40_000, 8443)),
            ("UDP", client, What::Udp(40_000, 53), What::Udp(40_000, 5353)),
            ("an echo request", client, What::Request(9), What::Request(9)),
            (
                "an error about TCP",
                router,
                about(vip, &What::Tcp(443, 40_000)),
                about(backend, &What::Tcp(8443, 40_000)),
            ),
            (
                "an error about UDP",
                router,
                about(vip, &What::Udp(53, 40_000)),
                about(backend, &What::Udp(5353, 40_000)),
            ),
            (
                "an error about an echo reply",
                router,
                about(vip, &What::Reply(9)),
                about(backend, &What::Reply(9)),
            ),
        ] {
            let (verdict, out) = bed.uplink(&frame(IN, from, vip, 64, &sent));
            assert_eq!(verdict, Verdict::Redirect, "{name} to {vip}");
            assert_eq!(out, frame(ON, from, backend, 63, &arrives), "{name} to {vip}");
        }
    }
}

#[test]
fn answers_leave_with_the_vip_and_its_port() {
    let bed = bed();
    for Family { vip, client, backend, .. } in families() {
        ask(&bed, client, vip);
        let about = |to, what: &What| What::Error(quoted(client, to, what));
        for (name, sent, arrives) in [
            ("TCP", What::Tcp(8443, 40_000), What::Tcp(443, 40_000)),
            ("UDP", What::Udp(5353, 40_000), What::Udp(53, 40_000)),
            ("an echo reply", What::Reply(9), What::Reply(9)),
            (
                "an error about TCP",
                about(backend, &What::Tcp(40_000, 8443)),
                about(vip, &What::Tcp(40_000, 443)),
            ),
            (
                "an error about UDP",
                about(backend, &What::Udp(40_000, 5353)),
                about(vip, &What::Udp(40_000, 53)),
            ),
            (
                "an error about an echo request",
                about(backend, &What::Request(9)),
                about(vip, &What::Request(9)),
            ),
        ] {
            let (verdict, out) = bed.answer(&frame(BACK, backend, client, 64, &sent));
            assert_eq!(verdict, Verdict::Redirect, "{name} from {backend}");
            assert_eq!(out, frame(BACK, vip, client, 63, &arrives), "{name} from {backend}");
        }
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let bed = bed();
    let [Family { vip, client, backend, .. }, _] = families();
    let without = |mut frame: Vec<u8>| {
        frame[40..42].copy_from_slice(&[0, 0]);
        frame
    };
    let (_, out) = bed.uplink(&without(frame(IN, client, vip, 64, &What::Udp(40_000, 53))));
    assert_eq!(out, without(frame(ON, client, backend, 63, &What::Udp(40_000, 5353))));
    let (_, out) = bed.answer(&without(frame(BACK, backend, client, 64, &What::Udp(5353, 40_000))));
    assert_eq!(out, without(frame(BACK, vip, client, 63, &What::Udp(53, 40_000))));
}

#[test]
fn a_tenant_sends_as_nobody_else_and_to_nobody_else() {
    let bed = bed();
    for Family { vip, client, backend, gateway, stranger, .. } in families() {
        let answer = What::Tcp(8443, 40_000);
        let about_stranger = What::Error(quoted(client, stranger, &What::Udp(40_000, 5353)));
        let about_other_client = What::Error(quoted(stranger, backend, &What::Udp(40_000, 5353)));
        for (reason, from, to, what) in [
            ("source_spoofed", vip, client, &answer),
            ("source_spoofed", stranger, client, &answer),
            ("not_allowed", backend, stranger, &What::Request(1)),
            ("not_allowed", backend, stranger, &What::Udp(40_000, 53)),
            ("not_allowed", backend, client, &about_stranger),
            ("not_allowed", backend, client, &about_other_client),
        ] {
            let before = bed.drops(reason);
            let (verdict, _) = bed.answer(&frame(BACK, from, to, 64, what));
            assert_eq!((verdict, bed.drops(reason)), (Verdict::Drop, before + 1), "{from} to {to}: {reason}");
        }
        let to_gateway = frame(BACK, backend, gateway, 64, &What::Request(1));
        assert_eq!(bed.answer(&to_gateway), (Verdict::Pass, to_gateway));
    }
}

/// Each kind of answer, to an address of another tenant's network and to one of the tenant's own.
#[test]
fn no_answer_reaches_a_tenants_network() {
    let mut bed = bed();
    bed.attach_another_tenant();
    let [v4, v6] = families();
    for (Family { backend, stranger, .. }, neighbour) in [(v4, "19.0.0.7"), (v6, "2001:db8:19::7")] {
        for to in [stranger, neighbour.parse().expect("an address")] {
            for (name, what) in [
                ("TCP", What::Tcp(8443, 40_000)),
                ("UDP", What::Udp(5353, 40_000)),
                ("an echo reply", What::Reply(9)),
                ("an error", What::Error(quoted(to, backend, &What::Tcp(40_000, 8443)))),
            ] {
                let before = bed.drops("not_allowed");
                let (verdict, _) = bed.answer(&frame(BACK, backend, to, 64, &what));
                assert_eq!(
                    (verdict, bed.drops("not_allowed")),
                    (Verdict::Drop, before + 1),
                    "{name} to {to}"
                );
            }
        }
    }
    let peers = bed.peers();
    let another = bed::another_link(&peers);
    bed.lb.detach_tenant(&another.interface, &another.peer).expect("detached");
    for Family { vip, backend, stranger, .. } in families() {
        ask(&bed, stranger, vip);
        let answer = frame(BACK, backend, stranger, 64, &What::Udp(5353, 40_000));
        assert_eq!(bed.answer(&answer).0, Verdict::Redirect, "{stranger} has no owner now");
    }
}

#[test]
fn fragments_of_an_answer_reach_no_tenants_network() {
    let mut bed = bed();
    bed.attach_another_tenant();
    let [Family { backend, stranger, .. }, _] = families();
    for fragment in [0x2000_u16, 2] {
        let mut frame = frame(BACK, backend, stranger, 64, &What::Udp(5353, 40_000));
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        let before = bed.drops("not_allowed");
        assert_eq!((bed.answer(&frame).0, bed.drops("not_allowed")), (Verdict::Drop, before + 1));
    }
}

#[test]
fn neighbour_discovery_is_the_kernels() {
    let bed = bed();
    let [_, Family { client, backend, gateway, stranger, .. }] = families();
    let solicitation = |from: IpAddr, to: IpAddr| {
        // An echo request made one: type 135, its checksum changed with it.
        let mut frame = frame(BACK, from, to, 255, &What::Request(0));
        let sum = u16::from_be_bytes([frame[56], frame[57]]);
        let sum = lb_common::checksum::update_u16(sum, 128 << 8, 135 << 8);
        frame[54] = 135;
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (from, to) in [
        (backend, gateway),
        (ip("::"), gateway),
        (ip("fe80::7"), gateway),
        (backend, ip("fe80::1")),
        (backend, ip("ff02::1:ff00:1")),
    ] {
        let frame = solicitation(from, to);
        assert_eq!(bed.answer(&frame), (Verdict::Pass, frame), "{from} to {to}");
    }
    let before = bed.drops("not_allowed");
    for (reason, from, to) in [
        ("source_spoofed", stranger, gateway),
        ("not_allowed", backend, stranger),
        ("not_allowed", backend, client),
    ] {
        assert_eq!(bed.answer(&solicitation(from, to)).0, Verdict::Drop, "{from} to {to}: {reason}");
    }
    assert_eq!((bed.drops("source_spoofed"), bed.drops("not_allowed")), (1, before + 2));
}

#[test]
fn answers_that_cannot_go_on_are_left_to_the_kernel_or_dropped() {
    let bed = bed();
    for Family { client, backend, .. } in families() {
        let over = frame(BACK, backend, client, 1, &What::Udp(5353, 40_000));
        let before = bed.drops("ttl_exceeded");
        assert_eq!(bed.answer(&over), (Verdict::Pass, over));
        assert_eq!(bed.drops("ttl_exceeded"), before + 1);
    }
}

#[test]
fn later_fragments_of_an_answer_follow_the_first() {
    let bed = bed();
    let [Family { vip, client, backend, .. }, _] = families();
    let part = |from: IpAddr, hops: u8, port: u16, fragment: u16| {
        let mut frame = frame(BACK, from, client, hops, &What::Udp(port, 40_000));
        let old = u16::from_be_bytes([frame[20], frame[21]]);
        let sum = u16::from_be_bytes([frame[24], frame[25]]);
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        let sum = lb_common::checksum::update_u16(sum, old, fragment);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    assert_eq!(bed.answer(&part(backend, 64, 5353, 2)).0, Verdict::Drop, "before the first");
    assert_eq!(bed.drops("fragment"), 1);
    ask(&bed, client, vip);
    assert_eq!(bed.answer(&part(backend, 64, 5353, 0x2000)), (Verdict::Redirect, part(vip, 63, 53, 0x2000)));
    // What looks like ports in a later fragment is data, and stays; so does what would be its checksum.
    let (verdict, out) = bed.answer(&part(backend, 64, 5353, 2));
    assert_eq!((verdict, &out[26..30]), (Verdict::Redirect, &[45, 45, 45, 45][..]));
    assert_eq!(out[34..], part(backend, 64, 5353, 2)[34..]);
    assert_eq!(out[..34], part(vip, 63, 5353, 2)[..34]);
}
