//! Each reason under which packets are counted: description, packet in, verdict, packet out.

mod bed;
#[path = "bed/family.rs"]
mod family;

use std::net::IpAddr;

use aya::maps::{Array, Map, MapData};
use bed::{Bed, CLIENT_MAC, UPLINK_MAC, Verdict};
use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode as TimeExceeded4};
use etherparse::icmpv6::TimeExceededCode as TimeExceeded6;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder};
use family::{BACK, Family, IN, Macs, What, families, frame, quoted};
use lb_common::abi::{BackendValue, DropReason, VERSION};
use lb_common::packet;
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

/// What answers a SYN where nobody is home.
fn reset(family: &Family, port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(UPLINK_MAC, CLIENT_MAC);
    let builder = match (family.vip, family.client) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => builder.ipv4(vip.octets(), client.octets(), 64),
        (IpAddr::V6(vip), IpAddr::V6(client)) => builder.ipv6(vip.octets(), client.octets(), 64),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    builder.tcp(port, 40_000, 8, 0).rst().write(&mut frame, &[]).expect("a segment");
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
    let Family { vip, client, router, backend, stranger, .. } = *family;
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
            let over = frame(IN, client, vip, 1, &What::Tcp(40_000, 443));
            let exceeded = error(
                family,
                &over,
                Icmpv4Type::TimeExceeded(TimeExceeded4::TtlExceededInTransit),
                Icmpv6Type::TimeExceeded(TimeExceeded6::HopLimitExceeded),
            );
            let back = frame(BACK, backend, client, 1, &What::Udp(5353, 40_000));
            Reach::By(vec![
                answered("on its last hop", over, exceeded),
                kept("on its last hop, from a tenant", back).back(),
            ])
        }
        DropReason::NoBackend => {
            let nobody = frame(IN, client, vip, 64, &What::Tcp(40_000, 81));
            Reach::By(vec![
                answered("TCP for nobody", nobody, reset(family, 81)),
                dropped("UDP for nobody", sent(&What::Udp(40_000, 82))),
            ])
        }
        DropReason::SourceSpoofed => {
            let spoofed = frame(BACK, vip, client, 64, &What::Udp(53, 40_000));
            Reach::By(vec![dropped("from the VIP itself", spoofed).back()])
        }
        DropReason::NotAllowed => {
            let own = frame(BACK, backend, stranger, 64, &What::Udp(40_000, 53));
            Reach::By(vec![dropped("what answers nothing", own).back()])
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
            let mut fixtures = vec![
                kept("GRE to the VIP", of_protocol(client, vip, 47)),
                kept("a protocol that nobody knows", of_protocol(client, vip, 253)),
                kept("an echo reply to the VIP", sent(&What::Reply(9))),
                kept("an ICMP type that nobody knows", with(&ping, payload, &[200])),
            ];
            if !is_v6 {
                fixtures.push(kept("a timestamp request", with(&ping, payload, &[13])));
            }
            Reach::By(fixtures)
        }
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
        Becomes::Answer(answer) => assert_eq!((verdict, &out), (Verdict::Transmit, answer), "{name}"),
    }
    let after = bed.lb.counters().expect("counters").drops;
    assert_eq!(after[reason.name()], before[reason.name()] + 1, "{name}");
}

/// The reason that no packet reaches is there for the reading of any bytes.
#[test]
fn a_frame_without_its_header_is_not_read() {
    let frame = [0; 13];
    assert_eq!(packet::parse(frame.as_slice()), Err(DropReason::EthernetTruncated));
}
