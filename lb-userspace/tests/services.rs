//! Services as they are asked for, refused, adopted and removed, on the real programs and maps.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use aya::util::KernelVersion;
use bed::{Bed, ICMP, TCP_80, TCP_ANY, Verdict};
use flow::Flow;
use lb_common::abi::VERSION;
use lb_userspace::lb::{Error, LoadBalancer};
use lb_userspace::service::BackendState::{Active, Draining, Stopping};
use lb_userspace::service::{Protocol, Service, ServiceKey};

#[test]
fn a_new_process_adopts_services_and_flows() {
    let mut bed = Bed::new();
    assert!(!bed.lb.adopted());
    bed.with(TCP_80, &[(2, Active), (3, Draining), (4, Active)]);
    bed.with(ICMP, &[(2, Active)]);
    let owners: Vec<u8> = (0..200).map(|number| bed.connect(Flow::numbered(number))).collect();
    let before = sorted(bed.lb.services());

    bed.reopen();
    assert!(bed.lb.adopted());
    assert_eq!(sorted(bed.lb.services()), before);
    let moved = |bed: &Bed| {
        (0..)
            .zip(&owners)
            .filter(|&(number, &owner)| bed.backend_of(&Flow::numbered(number).segment("A")) != owner)
            .count()
    };
    assert_eq!(moved(&bed), 0);
    // Asked for the same again, and flows that the table alone decides stay where they would have gone.
    let would: Vec<u8> =
        (5000..5200).map(|number| bed.backend_of(&Flow::numbered(number).segment("R"))).collect();
    bed.with(TCP_80, &[(2, Active), (3, Draining), (4, Active)]);
    for (number, &owner) in (5000..).zip(&would) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("R")), owner);
    }
    assert_eq!(moved(&bed), 0);
}

fn sorted(mut services: Vec<Service>) -> Vec<Service> {
    services.sort_by_key(|service| service.key);
    for service in &mut services {
        service.backends.sort_by_key(|backend| backend.address);
    }
    services
}

#[test]
fn a_service_that_is_removed_leaves_nothing() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    bed.with(ICMP, &[(2, Active)]);
    bed.connect(Flow::numbered(0));
    bed.lb.remove(&TCP_80).expect("removed");
    bed.lb.remove(&TCP_80).expect("removed twice");
    assert_eq!(bed.uplink(&Flow::numbered(0).segment("A")).0, Verdict::Transmit, "a closed port");
    assert_eq!(bed.answer(&Flow::numbered(0).answer(2, "A")).0, Verdict::Drop);
    assert_eq!(bed.backend_of(&Flow::numbered(0).ping(1)), 2, "the other service of the backend goes on");
    bed.lb.remove(&ICMP).expect("removed");
    assert!(bed.lb.services().is_empty());
    assert!(bed.lb.counters().expect("counters").backends.is_empty());
}

#[test]
fn answers_that_could_not_be_told_apart_are_refused() {
    let mut bed = Bed::new();
    let backend = bed.backend(2, Active);
    let https = ServiceKey { port: Some(443), ..TCP_80 };
    bed.translate(https, Some(8443), &[backend]);
    let other_vip = |key| ServiceKey { vip: IpAddr::V4(Ipv4Addr::new(45, 45, 45, 46)), ..key };
    for (key, target_port) in [
        (ServiceKey { port: Some(8443), ..TCP_80 }, None),
        (TCP_80, Some(8443)),
        (other_vip(TCP_80), Some(8443)),
        (TCP_ANY, None),
        (other_vip(TCP_ANY), None),
    ] {
        let error = bed.refused(key, target_port, vec![backend]);
        assert!(matches!(error, Error::AmbiguousAnswer { other, .. } if other == https), "{key}: {error}");
    }
    bed.translate(TCP_80, Some(8080), &[backend]);
    bed.translate(ServiceKey { protocol: Protocol::Udp, ..https }, Some(8443), &[backend]);
    bed.translate(https, None, &[backend]);
    let udp = ServiceKey { protocol: Protocol::Udp, ..TCP_ANY };
    let error = bed.refused(udp, None, vec![backend]);
    assert!(matches!(error, Error::AmbiguousAnswer { .. }), "its port 443 is translated: {error}");
    bed.translate(ServiceKey { protocol: Protocol::Udp, ..https }, None, &[backend]);
    bed.apply(udp, &[backend]);
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let before = sorted(bed.lb.services());
    let twice = vec![bed.backend(3, Active); 2];
    let error = bed.refused(TCP_80, None, twice);
    assert!(matches!(error, Error::DuplicateBackend { .. }), "{error}");

    let other_vip = ServiceKey { vip: IpAddr::V4(Ipv4Addr::new(45, 45, 45, 46)), ..TCP_80 };
    let two = bed.backend(2, Active);
    let error = bed.refused(other_vip, None, vec![two]);
    assert!(matches!(error, Error::AmbiguousAnswer { .. }), "{error}");

    let too_many = (1..=65).map(|last| bed.backend(last, Active)).collect();
    let error = bed.refused(TCP_ANY, None, too_many);
    assert!(matches!(error, Error::NoRoomForBackend { limit: 64, .. }), "{error}");

    let with_port = ServiceKey { protocol: Protocol::Icmp, port: Some(1), ..ICMP };
    let error = bed.refused(with_port, None, vec![]);
    assert!(matches!(error, Error::IcmpPort(_)), "{error}");

    let ipv6 = ServiceKey { vip: "2001:db8::1".parse().expect("an address"), ..TCP_80 };
    let error = bed.refused(ipv6, None, vec![two]);
    assert!(matches!(error, Error::OtherFamily { .. }), "{error}");

    let error = bed.refused(TCP_ANY, Some(8080), vec![]);
    assert!(matches!(error, Error::TargetPort(_)), "{error}");
    for (port, target_port) in [(Some(0), None), (Some(443), Some(0))] {
        let error = bed.refused(ServiceKey { port, ..TCP_80 }, target_port, vec![]);
        assert!(matches!(error, Error::PortZero(_)), "{error}");
    }
    assert_eq!(sorted(bed.lb.services()), before);

    for port in 1..8 {
        bed.apply(ServiceKey { port: Some(port), ..TCP_80 }, &[]);
    }
    let error = bed.refused(TCP_ANY, None, vec![]);
    assert!(matches!(error, Error::NoRoomForService { limit: 8, .. }), "{error}");
}

#[test]
fn a_service_without_backends_has_an_empty_table_from_its_first_packet_on() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[]);
    assert_eq!(bed.uplink(&Flow::numbered(0).segment("S")).0, Verdict::Transmit);
}

/// The names of what is in a folder, other folders left out.
fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| !entry.file_type().expect("its type").is_dir());
    files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn pins_are_gone_when_they_are_removed() {
    let bed = Bed::new();
    let root = bed.settings.pin_root.clone();
    let (maps, links) = (root.join(format!("v{VERSION}")), root.join(format!("v{VERSION}/links")));
    let mut expected = BTreeSet::from(["receive-slp-bed", "uplink-native-up0"].map(str::to_owned));
    // Without tcx the programs of tc are filters of their interfaces, which have no pins.
    if KernelVersion::current().expect("a version") >= KernelVersion::new(6, 6, 0) {
        expected.extend(["answer-slt-bed", "transmit-up0"].map(str::to_owned));
    }
    assert_eq!(files(&links), expected);
    let pinned: BTreeSet<PathBuf> = [&maps, &links]
        .into_iter()
        .flat_map(|folder| files(folder).into_iter().map(|name| folder.join(name)))
        .collect();
    assert!(pinned.contains(&maps.join("flows")) && pinned.contains(&maps.join("drops")), "{pinned:?}");
    let removed = LoadBalancer::remove_pins(&root).expect("removed");
    assert_eq!(BTreeSet::from_iter(removed), pinned);
    assert!(!root.exists());
    assert!(LoadBalancer::remove_pins(&root).expect("removed twice").is_empty());
}

#[test]
fn the_maps_take_memory_by_their_sizes() {
    let bed = Bed::new();
    let memory = bed.lb.memory().expect("the memory");
    assert_eq!(memory.flows, 4096);
    // A key of 24 bytes, a value of 16, a tag of 4, and what the kernel's hash table adds to an element.
    assert!((44..400).contains(&memory.per_flow()), "{memory:?}");
    // Two tables for each of eight services.
    assert!(memory.maps["tables"] >= 2 * 8 * (256 << 10), "{memory:?}");
    assert!(memory.total() < 16 << 20, "{memory:?}");
}

#[test]
fn a_backend_that_stops_ends_its_flows_and_gets_no_new_one() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let flows = (0..).map(Flow::numbered);
    let flow = flows.filter(|&flow| bed.connect(flow) == 2).take(2).collect::<Vec<_>>();
    bed.with(TCP_80, &[(2, Stopping), (3, Draining)]);
    for number in 1000..1200 {
        assert_eq!(bed.connect(Flow::numbered(number)), 3, "one that drains is better than one that stops");
    }
    bed.with(TCP_80, &[(2, Stopping)]);
    bed.reopen();
    assert_eq!(bed.lb.services()[0].backends[0].state, Stopping, "the maps keep it");
    for (number, end) in (2000..).zip(["FA", "RA"]) {
        let flow = flow[usize::from(number) % 2];
        assert_eq!(bed.uplink(&Flow::numbered(number).segment("S")).0, Verdict::Transmit, "refused");
        assert_eq!(bed.backend_of(&flow.segment("A")), 2);
        assert_eq!(bed.answer(&flow.answer(2, end)).0, Verdict::Redirect, "{end} reaches the client");
    }
    bed.apply(TCP_80, &[]);
    assert_ne!(
        bed.answer(&flow[0].answer(2, "FA")).0,
        Verdict::Redirect,
        "the load balancer has forgotten it"
    );
}

#[test]
fn what_a_process_was_ended_in_the_middle_of_is_done_when_it_is_asked_for_again() {
    let mut bed = Bed::new();
    let services = [TCP_80, ICMP];
    for key in services {
        bed.with(key, &[(2, Active), (3, Active)]);
    }
    let pings: Vec<u8> = (0..100).map(|number| bed.backend_of(&Flow::numbered(number).ping(1))).collect();
    for (number, &owner) in (0..).zip(&pings) {
        bed.answer(&Flow::numbered(number).pong(owner, 1));
    }
    // The first of two services is changed, and with it the state of their backend.
    bed.with(TCP_80, &[(2, Active), (3, Draining)]);
    bed.reopen();
    let there = bed.lb.services();
    assert!(there.iter().all(|service| service.backends.iter().any(|backend| backend.state == Draining)));
    for service in &there {
        assert!(!bed.lb.is_confirmed(&service.key));
        bed.lb.apply(service).expect("applied");
        assert!(bed.lb.is_confirmed(&service.key));
    }
    for number in 1000..1200 {
        assert_eq!(bed.backend_of(&Flow::numbered(number).ping(1)), 2, "no new flow goes to what drains");
    }
    for (number, &owner) in (0..).zip(&pings) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).ping(2)), owner);
    }
}
