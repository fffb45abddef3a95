//! The flow table: its parts, who may have how much of it, and what happens where no daemon sweeps it.

mod bed;
#[path = "bed/packets.rs"]
mod packets;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::{Program, TestRun as _, TestRunOptions};
use bed::{Bed, CLIENT_MAC, TENANT_MAC, UPLINK_MAC, VIP, Verdict, backend_address, backend_mac};
use lb_common::abi::{SweepOrder, VERSION, sweep_order};
use lb_userspace::lb::look::{FlowFilter, Look};
use lb_userspace::lb::{FlowTimeouts, Limits, ServiceUse};
use lb_userspace::service::BackendState::Active;
use lb_userspace::service::{Protocol, ServiceKey};
use packets::{Ends, Segment, tcp};

/// One part, which is full when the table is.
const SMALL: Limits = Limits { flows: 2_048, nascent_flows: 8 * 4_096, services: 8, backends: 64 };
const LARGE: Limits = Limits { flows: 16_384, ..SMALL };
/// So many parts has the large table.
const PARTS: u32 = 10;

const fn service(port: u16) -> ServiceKey {
    ServiceKey { vip: IpAddr::V4(VIP), protocol: Protocol::Tcp, port: Some(port) }
}

/// A connection to a port of the VIP.
#[derive(Clone, Copy)]
struct Connection {
    client: (Ipv4Addr, u16),
    to: u16,
}

impl Connection {
    fn of_client(self, flags: &str) -> Vec<u8> {
        let ends = Ends {
            source_mac: CLIENT_MAC,
            destination_mac: UPLINK_MAC,
            source: self.client.0,
            destination: VIP,
            ttl: 64,
        };
        let (source, destination) = (self.client.1, self.to);
        let acknowledgement = if flags.contains('A') { 2 } else { 0 };
        tcp(&ends, &Segment { source, destination, flags, sequence: 1, acknowledgement, data: b"" })
    }

    fn of_backend(self, last: u8, flags: &str) -> Vec<u8> {
        let ends = Ends {
            source_mac: backend_mac(last).0,
            destination_mac: TENANT_MAC.0,
            source: backend_address(last),
            destination: self.client.0,
            ttl: 64,
        };
        let (source, destination) = (self.to, self.client.1);
        // An ACK alone is one of more than the SYN.
        let acknowledgement = if flags == "A" { 3 } else { 2 };
        tcp(&ends, &Segment { source, destination, flags, sequence: 1, acknowledgement, data: b"" })
    }
}

/// So many connections to a port, from the one with that number on.
fn connections(to: u16, from: u16, count: u16) -> Vec<Connection> {
    let of = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Connection { client: (Ipv4Addr::new(198, 51, high, low), 40_000), to }
    };
    (from..from + count).map(of).collect()
}

/// Has both ends of connections say something. Each service here has one backend, with the last byte of the port in its address.
fn say(bed: &Bed, connections: &[Connection], client: &str, backend: &str) {
    let frames: Vec<_> = connections.iter().map(|connection| connection.of_client(client)).collect();
    for (verdict, _) in bed.uplink_all(&frames) {
        assert_eq!(verdict, Verdict::Redirect);
    }
    let answer = |connection: &Connection| connection.of_backend(last_of(connection.to), backend);
    bed.answer_all(&connections.iter().map(answer).collect::<Vec<_>>());
}

/// Opens connections, until both ends have spoken twice.
fn establish(bed: &Bed, connections: &[Connection]) {
    // A part of the attempts that a service may have.
    for connections in connections.chunks(100) {
        say(bed, connections, "S", "SA");
        say(bed, connections, "A", "A");
    }
}

const fn last_of(port: u16) -> u8 {
    (port % 100) as u8
}

/// A bed whose services, at these ports, have a backend each.
fn bed(limits: Limits, timeouts: FlowTimeouts, ports: &[u16]) -> Bed {
    let mut bed = Bed::of(limits, timeouts);
    for &port in ports {
        let backend = bed.backend(last_of(port), Active);
        bed.apply(service(port), &[backend]);
    }
    bed
}

fn usage(bed: &Bed, port: u16) -> ServiceUse {
    bed.lb.counters().expect("counters").flow_uses[&service(port)]
}

/// Gives the program `sweep` an order, and tells how many entries it has visited.
fn order(bed: &Bed, order: SweepOrder) -> u32 {
    let frame = order.to_bytes();
    let Some(Program::Xdp(program)) = bed.lb.program("sweep") else { panic!("no such program") };
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
    program.test_run(options).expect("the program runs").return_value
}

/// While a sweep's program runs, this CPU serves no packet: so a run visits no more than one part, whatever the table's size.
#[test]
fn a_run_of_the_sweep_visits_one_part() {
    const FLOWS: u16 = 10_000;
    let mut bed = bed(LARGE, FlowTimeouts::default(), &[80]);
    establish(&bed, &connections(80, 0, FLOWS));
    bed.lb.sweep().expect("a sweep");
    let live = bed.live_flows(80);
    // One in some thousands shares its mark with another.
    assert!((9_980..=10_000).contains(&live), "{live}");
    let visited: Vec<u32> = (0..PARTS).map(|part| order(&bed, SweepOrder::of(part))).collect();
    assert_eq!(visited.iter().map(|&part| u64::from(part)).sum::<u64>(), live);
    let mean = u32::from(FLOWS) / PARTS;
    assert!(visited.iter().all(|&part| part < 2 * mean), "{visited:?}");
}

#[test]
fn no_service_takes_what_others_need() {
    let ports = [80, 81, 82];
    let mut bed = bed(SMALL, FlowTimeouts::default(), &ports);
    // A sixth of the table is each one's own, a quarter more is the most that one may have.
    let (share, most) = (341, 853);
    for port in [80, 81] {
        establish(&bed, &connections(port, 0, 1_200));
        let ServiceUse { flow_entries, flow_quota, flows_refused } = usage(&bed, port);
        assert_eq!((flow_entries, flow_quota), (most, most));
        assert!(flows_refused >= 1_200 - most, "{flows_refused} refused");
    }
    establish(&bed, &connections(82, 0, 400));
    let last = usage(&bed, 82);
    assert_eq!(
        (last.flow_entries, last.flow_quota),
        (share + 1, most),
        "its share, and what was left of the common half"
    );
    assert!(last.flows_refused > 0);
    let table = bed.lb.counters().expect("counters").flow_table;
    assert_eq!((table.used, table.room), (2_048, 2_048));

    let look = Look::open(&bed.settings.pin_root).expect("what is pinned");
    assert_eq!(look.flow_table().expect("the table"), table);
    let shown = look.services().expect("the services");
    assert_eq!(
        shown.iter().map(|view| view.flow_use).collect::<Vec<_>>(),
        ports.map(|port| usage(&bed, port))
    );

    // What a service gives back, another may have.
    bed.lb.remove(&service(80)).expect("removed");
    bed.lb.sweep().expect("a sweep");
    establish(&bed, &connections(82, 1_000, 400));
    assert!((share + 390..=share + 401).contains(&usage(&bed, 82).flow_entries), "{:?}", usage(&bed, 82));
}

/// Ended connections fill the table, and no daemon sweeps it.
#[test]
fn the_places_of_ended_flows_are_used_again_without_a_daemon() {
    let timeouts = FlowTimeouts { closed: Duration::from_secs(1), ..FlowTimeouts::default() };
    let bed = bed(SMALL, timeouts, &[80]);
    let ended = connections(80, 0, 1_500);
    establish(&bed, &ended);
    say(&bed, &ended, "FA", "FA");
    say(&bed, &ended, "A", "A");
    let open = connections(80, 2_000, 500);
    establish(&bed, &open);
    thread::sleep(Duration::from_secs(3));
    let new = connections(80, 3_000, 1_500);
    establish(&bed, &new);
    let ServiceUse { flow_entries, flows_refused, .. } = usage(&bed, 80);
    // One in some thousands shares its mark with another.
    assert!((1_990..=2_000).contains(&flow_entries), "ended flows went, and nothing else: {flow_entries}");
    assert_eq!(flows_refused, 0);
}

/// Idle connections fill the table, no daemon moves the clock, and one connection is used all the time.
#[test]
fn the_places_of_idle_flows_are_used_again_without_a_daemon() {
    let second = Duration::from_secs(1);
    let timeouts = FlowTimeouts { tcp: second, icmp: second, udp: second, nascent: second, closed: second };
    let bed = bed(SMALL, timeouts, &[80]);
    let used = connections(80, 5_000, 1);
    establish(&bed, &used);
    // Some more than there is room for: one in some thousands shares its mark with another, and is recorded later.
    establish(&bed, &connections(80, 0, 2_100));
    assert_eq!(usage(&bed, 80).flow_entries, 2_048);
    let began = Instant::now();
    for number in 6_000.. {
        say(&bed, &used, "A", "A");
        establish(&bed, &connections(80, number, 1));
        if usage(&bed, 80).flow_entries < 2_000 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no place is free: {:?}", usage(&bed, 80));
        thread::sleep(second / 4);
    }
    let flows = Look::open(&bed.settings.pin_root).and_then(|look| look.flows(FlowFilter::default(), 10_000));
    let known = flows.expect("the flows").flows;
    assert!(
        known.iter().any(|flow| flow.client == IpAddr::V4(used[0].client.0)),
        "the one in use is still known"
    );
}

#[test]
fn a_daemon_adopts_the_table_and_makes_what_is_missing_of_it() {
    let mut bed = bed(LARGE, FlowTimeouts::default(), &[80, 81]);
    establish(&bed, &connections(80, 0, 1_000));
    let before = usage(&bed, 80);
    bed.reopen();
    assert!(bed.lb.adopted());
    bed.lb.sweep().expect("a sweep");
    assert_eq!(usage(&bed, 80), before);
    assert_eq!(bed.live_flows(80), before.flow_entries);

    // A daemon that died while it made the table. The flows of a part are gone with it; counts come right with the next sweep.
    let flows = bed.settings.pin_root.join(format!("v{VERSION}/flows"));
    let mut delete = Command::new("bpftool");
    delete.args(["map", "delete", "pinned"]).arg(flows).args("key 3 0 0 0".split(' '));
    assert!(delete.status().expect("bpftool runs").success());
    bed.reopen();
    bed.lb.sweep().expect("a sweep");
    let left = usage(&bed, 80).flow_entries;
    assert!((800..before.flow_entries).contains(&left), "{left}");
    establish(&bed, &connections(80, 1_000, 1_000));
    assert!((left + 990..=left + 1_000).contains(&usage(&bed, 80).flow_entries));
}

#[test]
fn a_sweep_puts_wrong_counts_right() {
    let mut bed = bed(SMALL, FlowTimeouts::default(), &[80, 81]);
    establish(&bed, &connections(80, 0, 600));
    let right = usage(&bed, 80);
    for (with, by) in [(0, 100), (1, 300), (sweep_order::COMMON, 200), (0, 100_u64.wrapping_neg())] {
        order(&bed, SweepOrder { what: sweep_order::ADJUST, with, by });
        bed.lb.sweep().expect("a sweep");
        assert_eq!(usage(&bed, 80), right);
        assert_eq!(usage(&bed, 81).flow_entries, 0);
    }
    // With the common half counted right, a service may have its most.
    establish(&bed, &connections(80, 1_000, 1_000));
    assert_eq!(usage(&bed, 80).flow_entries, 1_024);
}
