//! Each reason under which packets are counted: description, packet in, verdict, packet out.

mod bed;
#[path = "bed/family.rs"]
mod family;
#[path = "reasons/frames.rs"]
mod frames;
#[path = "reasons/table.rs"]
mod table;

use std::net::IpAddr;

use aya::maps::{Array, Map, MapData};
use bed::{Bed, Verdict};
use family::{BACK, Family, IN, What, ask, families, frame};
use frames::{tagged, with};
use lb_common::abi::{BackendValue, DropReason, VERSION};
use lb_common::packet;
use lb_userspace::lb::OpenPorts;
use lb_userspace::service::{Protocol, ServiceKey};
use table::{Becomes, Fixture, Program, Reach, reach};

/// With services that have no backend.
fn bed() -> Bed {
    let mut bed = family::bed();
    for Family { vip, .. } in families() {
        for (protocol, port) in [(Protocol::Tcp, 81), (Protocol::Udp, 82)] {
            bed.apply(ServiceKey { vip, protocol, port: Some(port) }, &[]);
        }
    }
    bed
}

/// Empties the places of the backends behind the load balancer's back.
fn lose_backends(bed: &Bed) {
    let pin = bed.settings.pin_root.join(format!("v{VERSION}/backends"));
    let map = Map::Array(MapData::from_pin(pin).expect("the map"));
    let mut backends: Array<_, BackendValue> = map.try_into().expect("its types");
    for place in 0..backends.len() {
        backends.set(place, BackendValue::default(), 0).expect("written");
    }
}

#[test]
fn each_reason_has_its_packets() {
    let bed = bed();
    let mut counted = 0;
    for reason in DropReason::ALL {
        let mut fixtures = Vec::new();
        for family in families() {
            match reach(reason, &family) {
                Reach::By(more) => fixtures.extend(more),
                Reach::Never(why) => eprintln!("{}: {why}", reason.name()),
            }
        }
        if fixtures.is_empty() {
            let [family, _] = families();
            assert!(matches!(reach(reason, &family), Reach::Never(_)), "{} has no packet", reason.name());
        }
        // The maps are whole for all but one.
        let broken = (reason == DropReason::Inconsistent).then(|| {
            let bed = self::bed();
            lose_backends(&bed);
            bed
        });
        let bed = broken.as_ref().unwrap_or(&bed);
        for fixture in fixtures {
            check(bed, reason, &fixture);
            counted += 1;
        }
    }
    assert!(counted > DropReason::ALL.len());
}

fn check(bed: &Bed, reason: DropReason, Fixture { name, program, frame, becomes }: &Fixture) {
    let name = format!("{} {name}", reason.name());
    let before = bed.lb.counters().expect("counters").drops;
    let (verdict, out) = if *program == Program::In { bed.uplink(frame) } else { bed.answer(frame) };
    match becomes {
        Becomes::Nothing => assert_eq!(verdict, Verdict::Drop, "{name}"),
        Becomes::Kernels => assert_eq!((verdict, &out), (Verdict::Pass, frame), "{name}"),
        Becomes::Forwarded => assert_eq!(verdict, Verdict::Redirect, "{name}"),
        Becomes::Answer(answer) => assert_eq!((verdict, &out), (Verdict::Transmit, answer), "{name}"),
    }
    let after = bed.lb.counters().expect("counters").drops;
    assert_eq!(after[reason.name()], before[reason.name()] + 1, "{name}");
}

/// The bed's, without the default routes by which each client is reached.
#[test]
fn an_answer_without_a_route_is_counted() {
    let mut bed = bed();
    let transit = bed.settings.transit.clone();
    let ip = |arguments: &[&str]| {
        let run = || std::process::Command::new("ip").args(arguments).status().expect("ip runs");
        assert!(transit.run(run).expect("the namespace").success(), "{arguments:?}");
    };
    transit.set_sysctl("ipv4/conf/slt-bed/forwarding", "1").expect("a sysctl");
    let [Family { backend, client, vip, .. }, _] = families();
    ask(&bed, client, vip);
    bed.uplink(&frame(IN, client, vip, 64, &What::Syn(40_000, 443)));
    let answers = [
        (frame(BACK, backend, client, 64, &What::Udp(5353, 40_000)), 1),
        (frame(BACK, backend, client, 64, &What::Reply(9)), 1),
        (frame(BACK, backend, client, 64, &What::Tcp(8443, 40_000)), 0),
    ];
    let count = |bed: &Bed, lost: Option<Verdict>, name: &str| {
        for (answer, counted) in &answers {
            let before = bed.drops("no_route");
            let lost = lost.filter(|_| *counted == 1);
            assert_eq!(bed.answer(answer).0, lost.unwrap_or(Verdict::Redirect), "{name}");
            assert_eq!(bed.drops("no_route"), before + u64::from(lost.is_some()), "{name}");
        }
    };
    count(&bed, None, "a default route by the uplink");
    ip(&["route", "delete", "default", "dev", "up0"]);
    bed.lb.sweep().expect("a sweep");
    count(&bed, Some(Verdict::Drop), "no route");
    ip(&["route", "add", "default", "dev", "slt-bed"]);
    bed.lb.sweep().expect("a sweep");
    count(&bed, Some(Verdict::Redirect), "a route by another interface");
    ip(&["route", "add", "198.51.100.0/24", "dev", "up0"]);
    count(&bed, None, "a route by the uplink");
}

/// What every host sends on its own link is dropped, and no sign of anything.
#[test]
fn what_stays_on_a_tenants_link_is_not_counted() {
    let bed = bed();
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let before = bed.lb.counters().expect("counters").drops;
    for (from, to, what) in [
        ("0.0.0.0", "255.255.255.255", What::Udp(68, 67)),
        ("0.0.0.0", "224.0.0.22", What::Udp(1, 1)),
        ("19.0.0.2", "224.0.0.251", What::Udp(5353, 5353)),
        ("19.0.0.2", "19.0.0.255", What::Udp(137, 137)),
        ("169.254.9.9", "224.0.0.251", What::Udp(5353, 5353)),
        ("fe80::2", "ff02::2", What::Request(1)),
        ("fe80::2", "fe80::3", What::Udp(546, 547)),
        ("2001:db8:19::2", "ff02::fb", What::Udp(5353, 5353)),
    ] {
        let (verdict, _) = bed.answer(&frame(BACK, ip(from), ip(to), 1, &what));
        assert_eq!(verdict, Verdict::Drop, "{from} to {to}");
    }
    assert_eq!(bed.lb.counters().expect("counters").drops, before);
}

/// A tag that names no VLAN is as none, and a VLAN's frames are the kernel's.
#[test]
fn a_priority_tag_is_as_no_tag() {
    let bed = bed();
    for Family { vip, client, backend, .. } in families() {
        let plain = frame(IN, client, vip, 64, &What::Tcp(40_000, 443));
        let expected = (Verdict::Redirect, frame(family::ON, client, backend, 63, &What::Tcp(40_000, 8443)));
        assert_eq!(bed.uplink(&plain), expected);
        for priority in [0, 0xe000, 0x1000] {
            assert_eq!(bed.uplink(&tagged(&plain, 0x8100, priority)), expected, "{priority:#x}");
        }
        for (ethertype, vlan) in [(0x8100, 5), (0x8100, 0xe005), (0x88a8, 0)] {
            let tagged = tagged(&plain, ethertype, vlan);
            assert_eq!(bed.uplink(&tagged), (Verdict::Pass, tagged), "{ethertype:#x} {vlan:#x}");
        }
        let to_other = tagged(&with(&plain, 0, &[2, 0, 0, 0, 0, 0x23]), 0x8100, 0);
        assert_eq!(bed.uplink(&to_other).0, Verdict::Drop);
    }
    let mut arp = vec![0; 46];
    arp[12..18].copy_from_slice(&[0x81, 0, 0, 0, 0x08, 0x06]);
    assert_eq!(bed.uplink(&arp), (Verdict::Pass, arp));
}

/// A VIP is this host's own address: what comes to it has arrived, whatever hops it had left.
#[test]
fn a_packet_on_its_last_hop_arrives() {
    let bed = bed();
    for Family { vip, client, backend, .. } in families() {
        for hops in [0, 1] {
            let last = frame(IN, client, vip, hops, &What::Tcp(40_000, 443));
            let expected = frame(family::ON, client, backend, hops, &What::Tcp(40_000, 8443));
            assert_eq!(bed.uplink(&last), (Verdict::Redirect, expected));
        }
    }
}

/// What the host itself has open, for clients and for instances.
#[test]
fn open_ports_are_the_kernels() {
    let mut bed = bed();
    bed.settings.open_ports =
        OpenPorts { at_vips: [(Protocol::Tcp, 22)].into(), at_gateways: [(Protocol::Udp, 514)].into() };
    bed.reopen();
    for Family { vip, client, backend, gateway, .. } in families() {
        for (frame, is_in, open) in [
            (frame(IN, client, vip, 64, &What::Syn(40_000, 22)), true, true),
            (frame(IN, client, vip, 64, &What::Udp(40_000, 22)), true, false),
            (frame(IN, client, vip, 64, &What::Udp(40_000, 514)), true, false),
            (frame(BACK, backend, gateway, 64, &What::Udp(40_000, 514)), false, true),
            (frame(BACK, backend, gateway, 64, &What::Udp(40_000, 67)), false, true),
            (frame(BACK, backend, gateway, 64, &What::Syn(40_000, 22)), false, false),
            (frame(BACK, backend, gateway, 64, &What::Tcp(40_000, 22)), false, true),
            (frame(BACK, backend, gateway, 64, &What::Request(9)), false, true),
        ] {
            let verdict = if is_in { bed.uplink(&frame).0 } else { bed.answer(&frame).0 };
            assert_eq!(verdict == Verdict::Pass, open, "{frame:x?}");
        }
    }
    bed.settings.open_ports = OpenPorts::default();
    bed.reopen();
    let [Family { vip, client, .. }, _] = families();
    assert_eq!(bed.uplink(&frame(IN, client, vip, 64, &What::Syn(40_000, 22))).0, Verdict::Transmit);
}

/// The reason that no packet reaches is there for the reading of any bytes.
#[test]
fn a_frame_without_its_header_is_not_read() {
    let frame = [0; 13];
    assert_eq!(packet::parse(frame.as_slice()), Err(DropReason::EthernetTruncated));
}
