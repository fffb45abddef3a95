//! Each reason under which packets are counted: description, packet in, verdict, packet out.

mod bed;
#[path = "bed/family.rs"]
mod family;

use std::net::IpAddr;

use aya::maps::{Array, Map, MapData};
use bed::{Bed, CLIENT_MAC, UPLINK_MAC, Verdict};
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{Icmpv4Type, Icmpv6Type, IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader};
use family::{BACK, Family, IN, Macs, What, ask, families, frame, quoted};
use lb_common::abi::{BackendValue, DropReason, VERSION};
use lb_common::packet;
use lb_userspace::lb::OpenPorts;
use lb_userspace::service::{Protocol, ServiceKey};

/// Which program a packet meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Back,
}

/// What a packet is to become.
#[derive(Debug, Clone)]
enum Becomes {
    Nothing,
    /// The kernel's, as it is.
    Kernels,
    /// This answer, back to where it came from.
    Answer(Vec<u8>),
    /// Sent to a backend all the same.
    Forwarded,
}

struct Fixture {
    name: &'static str,
    way: Way,
    frame: Vec<u8>,
    becomes: Becomes,
}

/// Whether packets are counted under a reason.
enum Reach {
    By(Vec<Fixture>),
    /// No packet on a program's way is, for this cause.
    Never(&'static str),
}

fn dropped(name: &'static str, frame: Vec<u8>) -> Fixture {
    Fixture { name, way: Way::In, frame, becomes: Becomes::Nothing }
}

fn kept(name: &'static str, frame: Vec<u8>) -> Fixture {
    Fixture { name, way: Way::In, frame, becomes: Becomes::Kernels }
}

fn forwarded(name: &'static str, frame: Vec<u8>) -> Fixture {
    Fixture { name, way: Way::In, frame, becomes: Becomes::Forwarded }
}

fn answered(name: &'static str, frame: Vec<u8>, answer: Vec<u8>) -> Fixture {
    Fixture { name, way: Way::In, frame, becomes: Becomes::Answer(answer) }
}

impl Fixture {
    /// The same from a tenant.
    fn back(self) -> Self {
        Self { way: Way::Back, ..self }
    }
}

/// The frame with these bytes in the place of its own.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The frame's IP packet, cut to a payload of so many bytes; the frame keeps its length.
fn cut(frame: &[u8], payload: u16) -> Vec<u8> {
    let is_v6 = frame[14] >> 4 == 6;
    if is_v6 {
        with(frame, 18, &payload.to_be_bytes())
    } else {
        with(frame, 16, &(20 + payload).to_be_bytes())
    }
}

/// An IPv6 packet with a header of another protocol before its payload.
fn extended(frame: &[u8], protocol: u8, mut header: Vec<u8>) -> Vec<u8> {
    let length = u16::from_be_bytes([frame[18], frame[19]]) + u16::try_from(header.len()).expect("short");
    header[0] = frame[20];
    let mut frame = with(&with(frame, 18, &length.to_be_bytes()), 20, &[protocol]);
    frame.splice(54..54, header);
    frame
}

fn of_protocol(from: IpAddr, to: IpAddr, protocol: u8) -> Vec<u8> {
    let frame = frame(IN, from, to, 64, &What::Udp(40_000, 53));
    if from.is_ipv6() {
        return with(&frame, 20, &[protocol]);
    }
    let sum = u16::from_be_bytes([frame[24], frame[25]]);
    let word = |protocol| u16::from_be_bytes([64, protocol]);
    let sum = lb_common::checksum::update_u16(sum, word(17), word(protocol));
    with(&with(&frame, 23, &[protocol]), 24, &sum.to_be_bytes())
}

/// What answers a packet to the VIP: an error that quotes 128 bytes of it.
fn error(family: &Family, about: &[u8], v4: Icmpv4Type, v6: Icmpv6Type) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(UPLINK_MAC, CLIENT_MAC);
    let quote = &about[14..about.len().min(14 + 128)];
    let mut frame = Vec::new();
    match (family.vip, family.client) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            builder.ipv4(vip.octets(), client.octets(), 64).icmpv4(v4).write(&mut frame, quote)
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            builder.ipv6(vip.octets(), client.octets(), 64).icmpv6(v6).write(&mut frame, quote)
        }
        _ => panic!("one family"),
    }
    .expect("an error");
    frame
}

/// Sources that no client of the VIP has: impossible ones, a tenant's, the VIP itself.
fn impossible_sources(Family { vip, backend, gateway, .. }: &Family) -> Vec<IpAddr> {
    let nobodys: &[&str] = if vip.is_ipv6() {
        &["::", "::1", "::ffff:198.51.100.7", "ff02::1", "ff0e::7", "fe80::7", "febf::7"]
    } else {
        &[
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "224.0.0.1",
            "239.1.2.3",
            "240.1.2.3",
            "255.255.255.255",
        ]
    };
    let nobodys = nobodys.iter().map(|address| address.parse().expect("an address"));
    nobodys.chain([*backend, *gateway, *vip]).collect()
}

/// The frame with a VLAN tag of this kind.
fn tagged(frame: &[u8], ethertype: u16, vlan: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.splice(12..12, [ethertype.to_be_bytes(), vlan.to_be_bytes()].concat());
    frame
}

/// What answers a segment that acknowledges 8, to a service without backends.
fn reset(family: &Family, port: u16) -> Vec<u8> {
    segment_back(family, |packet| packet.tcp(port, 40_000, 8, 0).rst())
}

/// What answers a SYN of sequence number 7 with nine bytes of data, to a closed port.
fn refused(family: &Family, port: u16) -> Vec<u8> {
    segment_back(family, |packet| packet.tcp(port, 40_000, 0, 0).rst().ack(17))
}

/// A segment from the VIP to the client.
fn segment_back(
    family: &Family,
    tcp: impl Fn(PacketBuilderStep<IpHeaders>) -> PacketBuilderStep<TcpHeader>,
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(UPLINK_MAC, CLIENT_MAC);
    let builder = match (family.vip, family.client) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => builder.ipv4(vip.octets(), client.octets(), 64),
        (IpAddr::V6(vip), IpAddr::V6(client)) => builder.ipv6(vip.octets(), client.octets(), 64),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    tcp(builder).write(&mut frame, &[]).expect("a segment");
    frame
}

/// A packet as long as no link takes it.
fn long(macs: Macs, from: IpAddr, to: IpAddr, [source, destination]: [u16; 2]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0, macs.1);
    let builder = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    builder.udp(source, destination).write(&mut frame, &[0x5a; 1_600]).expect("a datagram");
    frame
}

/// The packets of a family that are counted under a reason. A reason that isn't here doesn't compile.
#[expect(clippy::too_many_lines, reason = "a table: what belongs to a reason stands in its arm")]
fn reach(reason: DropReason, family: &Family) -> Reach {
    let Family { vip, client, router, backend, stranger, gateway } = *family;
    let is_v6 = vip.is_ipv6();
    let sent = |what: &What| frame(IN, client, vip, 64, what);
    let replied = |what: &What| frame(BACK, backend, client, 64, what);
    let (tcp, udp, ping) =
        (sent(&What::Tcp(40_000, 443)), sent(&What::Udp(40_000, 53)), sent(&What::Request(9)));
    let payload = if is_v6 { 54 } else { 34 };
    let answer = replied(&What::Udp(5353, 40_000));
    let of_v4 = |fixtures| if is_v6 { Reach::By(Vec::new()) } else { Reach::By(fixtures) };
    let of_v6 = |fixtures| if is_v6 { Reach::By(fixtures) } else { Reach::By(Vec::new()) };
    match reason {
        DropReason::EthernetTruncated => Reach::Never("Linux gives no program a frame without its header"),
        DropReason::Ipv4Truncated => of_v4(vec![dropped("a byte short of its header", tcp[..33].to_vec())]),
        DropReason::Ipv4Header => of_v4(vec![
            dropped("of version 6", with(&tcp, 14, &[0x65])),
            dropped("with a header of 16 bytes", with(&tcp, 14, &[0x44])),
            dropped("with a header of 16 bytes, from a tenant", with(&answer, 14, &[0x44])).back(),
        ]),
        DropReason::Ipv4Length => of_v4(vec![
            dropped("a byte short of what it says", tcp[..tcp.len() - 1].to_vec()),
            dropped("shorter than its header", with(&tcp, 16, &[0, 19])),
            dropped("shorter than its header, from a tenant", with(&answer, 16, &[0, 19])).back(),
        ]),
        DropReason::TcpTruncated => Reach::By(vec![dropped("19 bytes of TCP", cut(&tcp, 19))]),
        DropReason::TcpHeader => Reach::By(vec![
            dropped("a TCP header of 16 bytes", with(&tcp, payload + 12, &[0x40])),
            dropped("a TCP header of 32 bytes in 29", with(&tcp, payload + 12, &[0x80])),
        ]),
        DropReason::IcmpTruncated => Reach::By(vec![dropped("7 bytes of ICMP", cut(&ping, 7))]),
        DropReason::Fragment if is_v6 => {
            let later = vec![0, 0, 0, 8, 0, 0, 0, 1];
            Reach::By(vec![
                dropped("a second fragment without its first", extended(&udp, 44, later.clone())),
                dropped("a second fragment without its first, from a tenant", extended(&answer, 44, later))
                    .back(),
            ])
        }
        DropReason::Fragment => Reach::By(vec![
            dropped("a second fragment without its first", with(&udp, 20, &[0, 1])),
            dropped("a second fragment without its first, from a tenant", with(&answer, 20, &[0, 1])).back(),
        ]),
        DropReason::TtlExceeded => {
            let back = frame(BACK, backend, client, 1, &What::Udp(5353, 40_000));
            Reach::By(vec![kept("on its last hop, from a tenant", back).back()])
        }
        DropReason::NoBackend => {
            let nobody = frame(IN, client, vip, 64, &What::Tcp(40_000, 81));
            Reach::By(vec![
                answered("TCP for a service without backends", nobody, reset(family, 81)),
                dropped("UDP for a service without backends", sent(&What::Udp(40_000, 82))),
            ])
        }
        DropReason::SourceSpoofed => {
            let spoofed = frame(BACK, vip, client, 64, &What::Udp(53, 40_000));
            Reach::By(vec![dropped("from the VIP itself", spoofed).back()])
        }
        DropReason::NotAllowed => {
            let own = frame(BACK, backend, stranger, 64, &What::Udp(40_000, 53));
            let to_gateway = |what: &What| frame(BACK, backend, gateway, 64, what);
            let (own_vip, syn) =
                (frame(BACK, backend, vip, 64, &What::Tcp(8443, 443)), What::Syn(40_000, 22));
            Reach::By(vec![
                dropped("what answers nothing", own).back(),
                dropped("a connection to a process at the gateway", to_gateway(&syn)).back(),
                dropped("a datagram to a process at the gateway", to_gateway(&What::Udp(40_000, 53))).back(),
                dropped("what would be an answer to the VIP", own_vip).back(),
            ])
        }
        DropReason::Inconsistent => Reach::By(vec![dropped("to a backend whose place is empty", tcp)]),
        DropReason::Ipv6Truncated => of_v6(vec![dropped("a byte short of its header", tcp[..53].to_vec())]),
        DropReason::Ipv6Header => of_v6(vec![
            dropped("of version 4", with(&tcp, 14, &[0x45])),
            dropped("of version 4, from a tenant", with(&answer, 14, &[0x45])).back(),
        ]),
        DropReason::Ipv6Length => of_v6(vec![
            dropped("a byte short of what it says", tcp[..tcp.len() - 1].to_vec()),
            dropped("a byte short of what it says, from a tenant", answer[..answer.len() - 1].to_vec())
                .back(),
        ]),
        DropReason::Ipv6Extension => of_v6(vec![
            dropped("options longer than the packet", extended(&tcp, 60, vec![0, 9, 0, 0, 0, 0, 0, 0])),
            dropped("half of an extension header", cut(&extended(&tcp, 60, vec![0; 8]), 4)),
        ]),
        DropReason::Ipv6Unread => {
            let six = (0..6).fold(tcp.clone(), |frame, _| extended(&frame, 60, vec![0; 8]));
            of_v6(vec![
                dropped("six extension headers", six),
                dropped("a route with a station left", extended(&tcp, 43, vec![0, 0, 0, 1, 0, 0, 0, 0])),
            ])
        }
        DropReason::UdpTruncated => Reach::By(vec![
            dropped("7 bytes of UDP", cut(&udp, 7)),
            dropped("7 bytes of UDP, from a tenant", cut(&answer, 7)).back(),
        ]),
        DropReason::UdpLength => Reach::By(vec![
            dropped("UDP of 7 bytes", with(&udp, payload + 4, &[0, 7])),
            dropped("UDP of 18 bytes in 17", with(&udp, payload + 4, &[0, 18])),
            dropped("UDP of 18 bytes in 17, from a tenant", with(&answer, payload + 4, &[0, 18])).back(),
        ]),
        DropReason::IcmpQuote => {
            let about = |from: IpAddr, bytes: usize| {
                let quote = quoted(from, client, &What::Tcp(443, 40_000))[..bytes].to_vec();
                frame(IN, router, vip, 64, &What::Error(quote))
            };
            Reach::By(vec![
                dropped("an error that quotes 7 bytes of TCP", about(vip, payload - 14 + 7)),
                dropped("an error about another's packet", about(stranger, payload - 14 + 20)),
                dropped("an error that quotes nothing, from a tenant", replied(&What::Error(Vec::new())))
                    .back(),
            ])
        }
        DropReason::TooLong => {
            let long_in = long(IN, client, vip, [40_000, 53]);
            let too_long = error(
                family,
                &long_in,
                Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
                    next_hop_mtu: 1_500,
                }),
                Icmpv6Type::PacketTooBig { mtu: 1_500 },
            );
            let back = long(BACK, backend, client, [5353, 40_000]);
            let mut fixtures = vec![
                answered("longer than the tenant's link takes", long_in, too_long),
                kept("longer than the uplink takes", back.clone()).back(),
            ];
            if !is_v6 {
                let may_be_fragmented = with(&back, 20, &[0, 0]);
                fixtures.push(dropped("that, and the kernel would fragment it", may_be_fragmented).back());
            }
            Reach::By(fixtures)
        }
        DropReason::NotBalanced => {
            let (tcp, udp) = (sent(&What::Syn(40_000, 22)), sent(&What::Udp(40_000, 514)));
            let unreachable = error(
                family,
                &udp,
                Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port),
                Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port),
            );
            let mut fixtures = vec![
                dropped("GRE to the VIP", of_protocol(client, vip, 47)),
                dropped("an unknown protocol", of_protocol(client, vip, 253)),
                dropped("an echo reply to the VIP", sent(&What::Reply(9))),
                dropped("an unknown ICMP type", with(&ping, payload, &[200])),
                dropped("a RST to a closed port", with(&tcp, payload + 13, &[4])),
                answered("a UDP datagram to a closed port", udp, unreachable),
            ];
            if is_v6 {
                fixtures.push(dropped("a router advertisement", with(&ping, payload, &[134])));
            } else {
                fixtures.push(dropped("a timestamp request", with(&ping, payload, &[13])));
            }
            fixtures.push(answered("a SYN to a closed port", tcp, refused(family, 22)));
            Reach::By(fixtures)
        }
        DropReason::OtherMac => Reach::By(
            [[2, 0, 0, 0, 0, 0x23], [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1]]
                .into_iter()
                .flat_map(|mac| {
                    let to = |frame: &[u8]| with(frame, 0, &mac);
                    [
                        dropped("TCP in a frame for another", to(&tcp)),
                        dropped("UDP in a frame for another", to(&udp)),
                        dropped("a ping in a frame for another", to(&ping)),
                        dropped("to a closed port in a frame for another", to(&sent(&What::Syn(1, 22)))),
                    ]
                })
                .collect(),
        ),
        DropReason::ImpossibleSource => {
            let mut fixtures = Vec::new();
            for source in impossible_sources(family) {
                let from = |what: &What| frame(IN, source, vip, 64, what);
                fixtures.extend([
                    dropped("a SYN", from(&What::Syn(40_000, 443))),
                    dropped("a datagram", from(&What::Udp(40_000, 53))),
                    dropped("a ping", from(&What::Request(9))),
                    dropped("a SYN to a closed port", from(&What::Syn(40_000, 22))),
                    dropped("a datagram to a closed port", from(&What::Udp(40_000, 514))),
                    dropped("an error", from(&What::Error(quoted(vip, client, &What::Tcp(443, 40_000))))),
                ]);
                let about = What::Error(quoted(vip, source, &What::Tcp(443, 40_000)));
                fixtures.push(dropped("an error about what it got", frame(IN, router, vip, 64, &about)));
            }
            let to_host = frame(IN, backend, stranger, 64, &What::Udp(40_000, 514));
            fixtures.push(dropped("from a tenant's network, to no VIP", to_host));
            Reach::By(fixtures)
        }
        DropReason::PastVip => Reach::By(
            [What::Syn(40_000, 8443), What::Udp(40_000, 5353), What::Request(9), What::Reply(9)]
                .iter()
                .map(|what| dropped("to an instance itself", frame(IN, client, backend, 64, what)))
                .collect(),
        ),
        DropReason::VlanTag => Reach::By(vec![
            dropped("a tag below the one that the kernel keeps", tagged(&answer, 0x8100, 5)).back(),
            dropped("a provider's tag", tagged(&answer, 0x88a8, 0)).back(),
        ]),
        // The bed has default routes by its uplink; the test of this is `an_answer_without_a_route_is_counted`.
        DropReason::NoRoute => Reach::Never("its routes are those of a namespace, not of a packet"),
        DropReason::BadChecksum => {
            let syn = sent(&What::Syn(40_000, 443));
            let bare = cut(&syn, 20)[..payload + 20].to_vec();
            Reach::By(vec![forwarded(
                "a SYN with a wrong checksum",
                with(&bare, payload + 16, &[0x12, 0x34]),
            )])
        }
        DropReason::Unsolicited => Reach::By(vec![
            dropped("a segment of no connection", replied(&What::Tcp(8443, 41_000))).back(),
            dropped("a datagram that nobody has asked for", replied(&What::Udp(5353, 41_000))).back(),
            dropped("a reply to no ping", replied(&What::Reply(41))).back(),
        ]),
    }
}

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

fn check(bed: &Bed, reason: DropReason, Fixture { name, way, frame, becomes }: &Fixture) {
    let name = format!("{} {name}", reason.name());
    let before = bed.lb.counters().expect("counters").drops;
    let (verdict, out) = if *way == Way::In { bed.uplink(frame) } else { bed.answer(frame) };
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
