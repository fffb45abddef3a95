//! Answers that can't go on: the kernel of the transit namespace tells the instance why, by its own ICMP errors.

mod bed;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bed::{Bed, CLIENT, TENANT_MAC, VIP};
use lb_userspace::net::Netns;
use lb_userspace::service::{Backend, BackendState, Protocol, Reach, ServiceKey};

const BACKEND: Ipv4Addr = Ipv4Addr::new(19, 0, 0, 2);
const DNS: ServiceKey = ServiceKey { vip: IpAddr::V4(VIP), protocol: Protocol::Udp, port: Some(53) };

fn ip(netns: &Netns, arguments: &str) {
    let run = || Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(netns.run(run).expect("the namespace").success(), "ip {arguments}");
}

/// A counter of the ICMP errors that a namespace has sent, of /proc/net/snmp.
fn sent(netns: &Netns, name: &str) -> u64 {
    let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).expect("the namespace");
    let text = text.expect("the counters");
    let mut lines = text.lines().filter(|line| line.starts_with("Icmp: ")).map(|line| line.split(' '));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let value = names.zip(values).find(|(known, _)| *known == name).expect("the counter").1;
    value.parse().expect("a number")
}

/// Sends from the instance until the counter has moved.
fn is_answered(bed: &Bed, ttl: u32, length: usize, name: &str) {
    let transit = &bed.settings.transit;
    let before = sent(transit, name);
    let socket =
        bed.peers().run(|| UdpSocket::bind((BACKEND, 53))).expect("the namespace").expect("a socket");
    socket.set_ttl(ttl).expect("a TTL");
    let began = Instant::now();
    while sent(transit, name) == before {
        assert!(began.elapsed() < Duration::from_secs(20), "the kernel has sent no error: {name}");
        // Once the error has come, sending is refused: then it has come.
        let _ = socket.send_to(&vec![0; length], (CLIENT, 40_000));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_kernel_answers_an_instance_whose_packet_cannot_go_on() {
    let mut bed = Bed::new();
    let (transit, peers) = (bed.settings.transit.clone(), bed.peers());
    ip(&transit, "address add 19.0.0.1/24 dev slt-bed");
    ip(&transit, "address add 192.0.2.1/24 dev up0");
    ip(&transit, "link set up0 mtu 1000");
    ip(&transit, "route replace default via 192.0.2.2 dev up0");
    ip(&peers, "address add 19.0.0.2/24 dev slp-bed");
    ip(&peers, "route add default via 19.0.0.1 dev slp-bed");
    transit.set_sysctl("ipv4/conf/slt-bed/forwarding", "1").expect("a sysctl");
    let reach = Reach::Link { interface: bed.interface, source_mac: TENANT_MAC, mac: TENANT_MAC };
    let backend = Backend { address: IpAddr::V4(BACKEND), reach, weight: 1, state: BackendState::Active };
    bed.apply(DNS, &[backend]);

    is_answered(&bed, 1, 100, "OutTimeExcds");
    assert!(bed.drops("ttl_exceeded") > 0);
    is_answered(&bed, 64, 1_200, "OutDestUnreachs");
    assert!(bed.drops("too_long") > 0);
}
