//! Which backend has a flow, through every change of the service, on the real programs and maps.

mod bed;
#[path = "bed/packets.rs"]
mod packets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::util::KernelVersion;
use bed::{
    Bed, CLIENT, CLIENT_MAC, ICMP, TCP_80, TCP_ANY, TENANT_MAC, UPLINK_MAC, VIP, Verdict, backend_address,
    backend_mac,
};
use lb_userspace::lb::{Error, LoadBalancer};
use lb_userspace::service::BackendState::{Active, Down, Draining};
use lb_userspace::service::{Backend, BackendState, Protocol, Service, ServiceKey};
use packets::{Ends, Segment, echo, tcp};

/// A client's flow, told by its port or echo identifier.
#[derive(Clone, Copy)]
struct Flow {
    client: Ipv4Addr,
    port: u16,
}

impl Flow {
    fn numbered(number: u16) -> Self {
        let [a, b, c, _] = CLIENT.octets();
        Self { client: Ipv4Addr::new(a, b, c, (number % 200) as u8 + 1), port: 10_000 + number }
    }

    fn ends(self) -> Ends {
        Ends {
            source_mac: CLIENT_MAC,
            destination_mac: UPLINK_MAC,
            source: self.client,
            destination: VIP,
            ttl: 64,
        }
    }

    fn segment(self, flags: &str) -> Vec<u8> {
        tcp(
            &self.ends(),
            &Segment { source: self.port, destination: 80, flags, sequence: 1, ..Segment::default() },
        )
    }

    fn answer(self, last: u8, flags: &str) -> Vec<u8> {
        let ends = Ends {
            source_mac: backend_mac(last).0,
            destination_mac: TENANT_MAC.0,
            source: backend_address(last),
            destination: self.client,
            ttl: 64,
        };
        tcp(&ends, &Segment { source: 80, destination: self.port, flags, sequence: 1, ..Segment::default() })
    }

    fn ping(self, sequence: u16) -> Vec<u8> {
        echo(&self.ends(), true, self.port, sequence, b"ping")
    }
}

/// The last byte of the address of the backend to which a frame was sent.
fn owner((verdict, frame): &(Verdict, Vec<u8>)) -> u8 {
    assert_eq!(*verdict, Verdict::Redirect);
    assert_eq!(frame[30..33], [19, 0, 0]);
    frame[33]
}

impl Bed {
    /// The last byte of the address of the backend that a frame goes to.
    fn backend_of(&self, frame: &[u8]) -> u8 {
        owner(&self.uplink(frame))
    }

    /// Begins a TCP flow as a client does, and tells who has it.
    fn connect(&self, flow: Flow) -> u8 {
        let backend = self.backend_of(&flow.segment("S"));
        assert_eq!(self.backend_of(&flow.segment("A")), backend);
        backend
    }

    fn with(&mut self, key: ServiceKey, backends: &[(u8, BackendState)]) {
        let backends: Vec<Backend> =
            backends.iter().map(|&(last, state)| self.backend(last, state)).collect();
        self.apply(key, &backends);
    }
}

#[test]
fn flows_are_shared_within_five_percent() {
    for count in [2u8, 3, 5] {
        let mut bed = Bed::new();
        let backends: Vec<_> = (2..2 + count).map(|last| (last, Active)).collect();
        bed.with(TCP_80, &backends);
        let mut shares = BTreeMap::<u8, u32>::new();
        // The hash is keyed anew in each bed, and shares are as chance has it: with so many flows 5 % are five standard
        // deviations or more, where the share of one backend in five of 10,000 flows would miss them once in 80 times.
        let flows = 10_000 * u16::from(count - 1);
        let frames: Vec<_> = (0..flows).map(|number| Flow::numbered(number).segment("S")).collect();
        for outcome in bed.uplink_all(&frames) {
            *shares.entry(owner(&outcome)).or_default() += 1;
        }
        let fair = f64::from(flows) / f64::from(count);
        for (last, share) in shares {
            assert!((f64::from(share) - fair).abs() <= fair * 0.05, "{count} backends: {last} has {share}");
        }
    }
}

#[test]
fn flows_stay_while_backends_come_and_drain() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..300).map(|number| bed.connect(Flow::numbered(number))).collect();
    let changes: [&[(u8, BackendState)]; 4] = [
        &[(2, Active), (3, Active), (4, Active), (5, Active)],
        &[(2, Active), (3, Draining), (4, Active), (5, Active)],
        &[(2, Draining), (3, Draining), (5, Active)],
        &[(2, Active), (3, Draining)],
    ];
    for change in changes {
        bed.with(TCP_80, change);
        for (number, &owner) in (0..).zip(&owners) {
            assert_eq!(
                bed.backend_of(&Flow::numbered(number).segment("A")),
                owner,
                "flow {number} at {change:?}"
            );
        }
    }
}

#[test]
fn a_draining_backend_gets_no_new_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    bed.with(ICMP, &[(2, Active), (3, Active)]);
    let ping = (0..1000).map(Flow::numbered).find(|flow| bed.backend_of(&flow.ping(1)) == 3).expect("one");
    bed.with(TCP_80, &[(2, Active), (3, Draining)]);
    bed.with(ICMP, &[(2, Active), (3, Draining)]);
    let before = bed.new_flows(3);
    for number in 1000..1500 {
        assert_eq!(bed.connect(Flow::numbered(number)), 2);
        assert_eq!(bed.backend_of(&Flow::numbered(number).ping(1)), 2);
    }
    assert_eq!(bed.backend_of(&ping.ping(2)), 3, "a running ping stays");
    assert_eq!(bed.new_flows(3), before);
}

#[test]
fn live_flows_are_counted_and_end_with_fins_resets_and_time() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    bed.with(ICMP, &[(2, Active)]);
    for number in 0..10 {
        bed.connect(Flow::numbered(number));
    }
    // A SYN that nothing has followed yet is no live flow.
    bed.backend_of(&Flow::numbered(10).segment("S"));
    bed.backend_of(&Flow::numbered(11).ping(1));
    bed.backend_of(&Flow::numbered(11).ping(2));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 11);
    assert_eq!(bed.lb.counters().expect("counters").services[&TCP_80].live_flows, 10);

    // Both FINs end a flow, one does not, and a RST from either side does.
    bed.uplink(&Flow::numbered(0).segment("FA"));
    bed.uplink(&Flow::numbered(1).segment("FA"));
    bed.answer(&Flow::numbered(1).answer(2, "FA"));
    bed.uplink(&Flow::numbered(2).segment("R"));
    bed.answer(&Flow::numbered(3).answer(2, "RA"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 8);

    // 31 s: the ping has ended; 351 s: the rest.
    for (seconds, live) in [(31, 7), (320, 0)] {
        bed.lb.sweep_after(Duration::from_secs(seconds)).expect("a sweep");
        assert_eq!(bed.live_flows(2), live, "{seconds} s later");
    }
}

#[test]
fn a_flow_of_which_only_the_syn_was_seen_stays_when_its_slot_moves() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> =
        (0..300).map(|number| bed.backend_of(&Flow::numbered(number).segment("S"))).collect();
    bed.with(TCP_80, &[(2, Draining), (3, Active), (4, Active), (5, Active)]);
    for (number, &owner) in (0..).zip(&owners) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
    }
}

#[test]
fn slots_need_lookups_only_where_and_as_long_as_a_change_has_made_it_necessary() {
    let mut bed = Bed::new();
    let tracked = |bed: &Bed| bed.lb.tracked_slots(&TCP_80).expect("the table");
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..300).map(|number| bed.connect(Flow::numbered(number))).collect();
    assert_eq!(tracked(&bed), 0, "no flow is older than the table");

    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active)]);
    let moved = tracked(&bed);
    assert!((20_000..24_000).contains(&moved), "a third of the slots has moved: {moved}");

    // Half the flows go on, the other half ends; then slots come to rest but where a flow isn't the owner's.
    for _ in 0..6 {
        bed.lb.sweep_after(Duration::from_secs(100)).expect("a sweep");
        for (number, &owner) in (0..150).zip(&owners) {
            assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
        }
    }
    let left = tracked(&bed);
    assert!((1..=150).contains(&left), "{left} slots are left");

    // All flows end, and a change that no flow has seen leaves no slot tracked for long.
    bed.lb.sweep_after(Duration::from_secs(400)).expect("a sweep");
    bed.lb.sweep_after(Duration::from_secs(10)).expect("a sweep");
    assert_eq!(tracked(&bed), 0);
}

#[test]
fn a_new_process_goes_on_with_tracked_slots() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> =
        (0..300).map(|number| bed.backend_of(&Flow::numbered(number).segment("S"))).collect();
    let backends = [(2, Active), (3, Draining), (4, Active)];
    bed.with(TCP_80, &backends);
    let before = bed.lb.tracked_slots(&TCP_80).expect("the table");
    bed.reopen();
    bed.with(TCP_80, &backends);
    assert_eq!(bed.lb.tracked_slots(&TCP_80).expect("the table"), before);
    for (number, &owner) in (0..).zip(&owners) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
    }
}

#[test]
fn an_open_flow_on_a_port_that_had_another_is_live() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    bed.connect(flow);
    bed.uplink(&flow.segment("FA"));
    bed.answer(&flow.answer(2, "FA"));
    bed.uplink(&flow.segment("A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 0);
    bed.backend_of(&flow.segment("S"));
    bed.answer(&flow.answer(2, "SA"));
    bed.backend_of(&flow.segment("A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 1);
}

#[test]
fn a_port_used_again_after_its_flow_is_forgotten_has_a_live_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    for _ in 0..3 {
        bed.connect(flow);
        bed.lb.sweep().expect("a sweep");
        assert_eq!(bed.live_flows(2), 1);
        bed.uplink(&flow.segment("FA"));
        bed.answer(&flow.answer(2, "FA"));
        bed.uplink(&flow.segment("A"));
        // Longer than a closed flow is remembered, and within an epoch.
        bed.lb.sweep_after(Duration::from_secs(6)).expect("a sweep");
        assert_eq!(bed.live_flows(2), 0);
    }
}

#[test]
fn a_flow_in_use_does_not_grow_old() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    bed.connect(Flow::numbered(0));
    for _ in 0..5 {
        bed.lb.sweep_after(Duration::from_mins(5)).expect("a sweep");
        bed.backend_of(&Flow::numbered(0).segment("A"));
    }
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 1);
}

#[test]
fn a_port_used_again_is_a_new_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    bed.connect(flow);
    bed.with(TCP_80, &[(2, Draining), (3, Active)]);
    assert_eq!(bed.backend_of(&flow.segment("S")), 2, "a SYN can't take a live flow away");
    bed.uplink(&flow.segment("FA"));
    bed.answer(&flow.answer(2, "FA"));
    assert_eq!(bed.backend_of(&flow.segment("A")), 2, "the last ACK still gets there");
    assert_eq!(bed.connect(flow), 3, "the next connection goes elsewhere");
}

#[test]
fn flows_of_a_backend_that_is_gone_go_elsewhere_and_never_to_its_successor_by_place() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    bed.connect(flow);
    bed.with(TCP_80, &[(3, Active)]);
    assert_eq!(bed.connect(flow), 3);
    // Places are used again: what remains of a flow to 3 must not be taken for one to 4.
    bed.with(TCP_80, &[(4, Active), (5, Active)]);
    let owner = bed.connect(Flow::numbered(7));
    bed.with(TCP_80, &[]);
    let other = if owner == 4 { 5 } else { 4 };
    bed.with(TCP_80, &[(other, Active), (6, Active)]);
    let fresh = bed.new_flows(other) + bed.new_flows(6);
    bed.connect(Flow::numbered(7));
    assert_eq!(bed.new_flows(other) + bed.new_flows(6), fresh + 1);
}

#[test]
fn a_backend_that_is_down_gets_nothing() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let flow = (0..1000).map(Flow::numbered).find(|&flow| bed.connect(flow) == 3).expect("one");
    bed.with(TCP_80, &[(2, Active), (3, Down)]);
    assert_eq!(bed.backend_of(&flow.segment("A")), 2, "who resets what it does not know");
    bed.with(TCP_80, &[(2, Down), (3, Down)]);
    assert_eq!(bed.uplink(&flow.segment("S")).0, Verdict::Transmit, "nobody home");
}

#[test]
fn a_flood_of_first_packets_pushes_out_no_live_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..500).map(|number| bed.connect(Flow::numbered(number))).collect();
    // Ten times what the table of first packets holds, from as many sources.
    for number in 0u32..10_240 {
        let [_, b, c, d] = number.to_be_bytes();
        let flow = Flow { client: Ipv4Addr::new(203, b, c, d), port: 1 };
        bed.uplink(&flow.segment("S"));
    }
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active), (5, Active)]);
    for (number, &owner) in (0..).zip(&owners) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
    }
}

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
    assert_eq!(bed.uplink(&Flow::numbered(0).segment("A")).0, Verdict::Pass);
    assert_eq!(bed.answer(&Flow::numbered(0).answer(2, "A")).0, Verdict::Drop);
    assert_eq!(bed.backend_of(&Flow::numbered(0).ping(1)), 2, "the other service of the backend goes on");
    bed.lb.remove(&ICMP).expect("removed");
    assert!(bed.lb.services().is_empty());
    assert!(bed.lb.counters().expect("counters").backends.is_empty());
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let before = sorted(bed.lb.services());
    let twice = vec![bed.backend(3, Active); 2];
    let error = bed.lb.apply(&Service { key: TCP_80, backends: twice }).expect_err("refused");
    assert!(matches!(error, Error::DuplicateBackend { .. }), "{error}");

    let other_vip = ServiceKey { vip: IpAddr::V4(Ipv4Addr::new(45, 45, 45, 46)), ..TCP_80 };
    let two = bed.backend(2, Active);
    let error = bed.lb.apply(&Service { key: other_vip, backends: vec![two] }).expect_err("refused");
    assert!(matches!(error, Error::AmbiguousAnswer { .. }), "{error}");

    let too_many = (1..=65).map(|last| bed.backend(last, Active)).collect();
    let error = bed.lb.apply(&Service { key: TCP_ANY, backends: too_many }).expect_err("refused");
    assert!(matches!(error, Error::NoRoomForBackend { limit: 64, .. }), "{error}");

    let with_port = ServiceKey { protocol: Protocol::Icmp, port: Some(1), ..ICMP };
    let error = bed.lb.apply(&Service { key: with_port, backends: vec![] }).expect_err("refused");
    assert!(matches!(error, Error::IcmpPort(_)), "{error}");

    let ipv6 = ServiceKey { vip: "2001:db8::1".parse().expect("an address"), ..TCP_80 };
    let error = bed.lb.apply(&Service { key: ipv6, backends: vec![] }).expect_err("refused");
    assert!(matches!(error, Error::NotIpv4(_)), "{error}");
    assert_eq!(sorted(bed.lb.services()), before);

    for port in 1..8 {
        bed.apply(ServiceKey { port: Some(port), ..TCP_80 }, &[]);
    }
    let error = bed.lb.apply(&Service { key: TCP_ANY, backends: vec![] }).expect_err("refused");
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
    let (maps, links) = (root.join("v1"), root.join("v1/links"));
    let mut expected = BTreeSet::from(["receive-slp-bed", "uplink-native-up0"].map(str::to_owned));
    // Without tcx the answer program is a filter of its interface, which has no pin.
    if KernelVersion::current().expect("a version") >= KernelVersion::new(6, 6, 0) {
        expected.insert("answer-slt-bed".to_owned());
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
