//! The packets that are counted under each reason, and what each becomes.

use std::net::IpAddr;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{Icmpv4Type, Icmpv6Type};
use lb_common::abi::DropReason;

use crate::family::{BACK, Family, IN, What, frame, quoted};
use crate::frames::{
    cut, error, extended, impossible_sources, long, of_protocol, refused, reset, tagged, with,
};

/// Which program a packet meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    In,
    Back,
}

/// What a packet is to become.
#[derive(Debug, Clone)]
pub(crate) enum Becomes {
    Nothing,
    /// The kernel's, as it is.
    Kernels,
    /// This answer, back to where it came from.
    Answer(Vec<u8>),
    /// Sent to a backend all the same.
    Forwarded,
}

pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) frame: Vec<u8>,
    pub(crate) becomes: Becomes,
}

/// Whether packets are counted under a reason.
pub(crate) enum Reach {
    By(Vec<Fixture>),
    /// No packet on a program's way is, for this cause.
    Never(&'static str),
}

pub(crate) fn dropped(name: &'static str, frame: Vec<u8>) -> Fixture {
    Fixture { name, program: Program::In, frame, becomes: Becomes::Nothing }
}

pub(crate) fn kept(name: &'static str, frame: Vec<u8>) -> Fixture {
    Fixture { name, program: Program::In, frame, becomes: Becomes::Kernels }
}

pub(crate) fn forwarded(name: &'static str, frame: Vec<u8>) -> Fixture {
    Fixture { name, program: Program::In, frame, becomes: Becomes::Forwarded }
}

pub(crate) fn answered(name: &'static str, frame: Vec<u8>, answer: Vec<u8>) -> Fixture {
    Fixture { name, program: Program::In, frame, becomes: Becomes::Answer(answer) }
}

impl Fixture {
    /// The same from a tenant.
    pub(crate) fn back(self) -> Self {
        Self { program: Program::Back, ..self }
    }
}

/// The packets of a family that are counted under a reason. A reason that isn't here doesn't compile.
#[expect(clippy::too_many_lines, reason = "a table: what belongs to a reason stands in its arm")]
pub(crate) fn reach(reason: DropReason, family: &Family) -> Reach {
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
