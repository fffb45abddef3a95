//! What an attacker on the uplink's link sends.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use lb_userspace::net::{Links, MacAddr};
use sluice_tests::frames::{Ends, Macs, Numbers, Slice, fragment, ping, tagged, tcp, torn, torn_header, udp};

use crate::flood::Flood;
use crate::{ATTACKER_TCP, Arena, VICTIM_TCP};

const ATTACKER_UDP: SocketAddrV4 = SocketAddrV4::new(*ATTACKER_TCP.ip(), 53);

/// Sources that no client has: no host's, this host's, the tenants'.
const IMPOSSIBLE: [[u8; 4]; 14] = [
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [127, 0, 0, 1],
    [127, 9, 9, 9],
    [224, 0, 0, 1],
    [239, 1, 2, 3],
    [240, 1, 2, 3],
    [255, 255, 255, 255],
    [198, 51, 100, 1],
    [198, 51, 100, 80],
    [198, 51, 100, 81],
    [10, 232, 80, 2],
    [10, 233, 0, 2],
    [10, 232, 80, 255],
];

/// What is aimed at.
#[derive(Clone)]
pub(crate) struct Target {
    macs: Macs,
    connections: Vec<Ends>,
}

impl Target {
    pub(crate) async fn of(arena: &Arena) -> Result<Self> {
        let links = Links::open(arena.scene.world.network().transit())?.list().await?;
        let uplink = links.into_iter().find(|link| link.name == "up0").context("no uplink")?;
        let destination = uplink.mac.context("an uplink without an Ethernet address")?;
        let macs = Macs { source: arena.outside.mac(), destination };
        Ok(Self { macs, connections: arena.victim.connections() })
    }

    pub(crate) fn floods(&self) -> Vec<Flood> {
        [self.beginnings(), self.forged(), self.without_connections(), self.fragments(), self.misfits()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// A flood whose frames are made of one target each.
    fn flood(
        &self,
        name: &'static str,
        mut next: impl FnMut(&Self, &mut Rng) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Flood {
        let target = self.clone();
        Flood::new(name, move |rng| next(&target, rng))
    }

    /// One whose frames are of the victim's connections.
    fn of_connections(
        &self,
        name: &'static str,
        mut next: impl FnMut(Macs, Ends, &mut Rng) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Flood {
        self.flood(name, move |target, rng| {
            let ends = target.connections[rng.usize(..target.connections.len())];
            next(target.macs, ends, rng)
        })
    }

    /// Connections that nobody opens.
    fn beginnings(&self) -> Vec<Flood> {
        vec![
            self.flood("SYNs", |target, rng| {
                vec![tcp(target.macs, stranger(tcp_service(rng), rng), "S", numbers(rng), b"")]
            }),
            self.flood("SYNs, then ACKs with wrong checksums", |target, rng| {
                let ends = stranger(tcp_service(rng), rng);
                let first = numbers(rng);
                let then = Numbers { sequence: first.sequence.wrapping_add(1), ..first };
                vec![
                    tcp(target.macs, ends, "S", first, b""),
                    torn(tcp(target.macs, ends, "A", then, b"")),
                    torn(tcp(target.macs, ends, "PA", then, b"data")),
                ]
            }),
            self.flood("SYNs with wrong checksums", |target, rng| {
                vec![torn(tcp(target.macs, stranger(tcp_service(rng), rng), "S", numbers(rng), b""))]
            })
            .counted("bad_checksum"),
        ]
    }

    /// What the victim's clients have never said.
    fn forged(&self) -> Vec<Flood> {
        vec![
            self.of_connections("forged RSTs", |macs, ends, rng| {
                vec![tcp(macs, ends, if rng.bool() { "R" } else { "RA" }, numbers(rng), b"")]
            }),
            self.of_connections("forged FINs", |macs, ends, rng| {
                vec![tcp(macs, ends, if rng.bool() { "F" } else { "FA" }, numbers(rng), b"")]
            }),
            self.of_connections("forged RSTs, then SYNs", |macs, ends, rng| {
                vec![tcp(macs, ends, "R", numbers(rng), b""), tcp(macs, ends, "S", numbers(rng), b"")]
            }),
            self.of_connections("forged segments with wrong checksums", |macs, ends, rng| {
                let data = tcp(macs, ends, "PA", numbers(rng), b"data");
                let end = tcp(macs, ends, "FA", numbers(rng), b"");
                vec![torn(data.clone()), torn_header(data), torn(end.clone()), torn_header(end)]
            }),
        ]
    }

    /// Flows that have no handshake. The attacker's service answers each, so they are real, and fill what it may have.
    fn without_connections(&self) -> Vec<Flood> {
        let mut identifier = 0_u16;
        vec![
            self.flood("datagrams to the attacker's service", |target, rng| {
                vec![udp(target.macs, stranger(ATTACKER_UDP, rng), b"who?")]
            }),
            self.flood("datagrams to a port of the victim's that is closed", |target, rng| {
                vec![udp(target.macs, stranger(VICTIM_TCP, rng), b"who?")]
            })
            .counted("not_balanced"),
            self.flood("pings with many identifiers", |target, rng| {
                let ends = stranger(ATTACKER_TCP, rng);
                vec![ping(target.macs, *ends.from.ip(), *ends.to.ip(), rng.u16(..), 1)]
            }),
            // Answered ones are flows like any other: so few that the victim's group has room for them.
            self.flood("pings of the victim", move |target, _| {
                identifier = (identifier + 1) % 200;
                vec![ping(target.macs, Ipv4Addr::new(11, 1, 1, 1), *VICTIM_TCP.ip(), identifier, 1)]
            }),
        ]
    }

    /// Parts of packets that are never whole.
    fn fragments(&self) -> Vec<Flood> {
        let part = |macs, ends, rng: &mut Rng, slice| {
            fragment(tcp(macs, ends, "PA", numbers(rng), &[b'x'; 64]), slice)
        };
        vec![
            self.of_connections("first fragments", move |macs, ends, rng| {
                let slice = Slice { identification: rng.u16(..), offset: 0, more: true };
                vec![part(macs, ends, rng, slice)]
            }),
            self.flood("later fragments", move |target, rng| {
                let slice = Slice { identification: rng.u16(..), offset: rng.u16(1..180), more: rng.bool() };
                vec![part(target.macs, stranger(VICTIM_TCP, rng), rng, slice)]
            })
            .counted("fragment"),
            self.of_connections("fragments with colliding identifications", move |macs, ends, rng| {
                let identification = rng.u16(..4);
                let slices = [(0, true), (8, true), (4, true), (12, false)];
                let slice = |(offset, more)| Slice { identification, offset, more };
                slices.map(|at| part(macs, ends, rng, slice(at))).into()
            }),
        ]
    }

    /// Frames that no client's host sends.
    fn misfits(&self) -> Vec<Flood> {
        let mut turn = 0;
        vec![
            self.flood("sources that no client has", move |target, rng| {
                turn = (turn + 1) % IMPOSSIBLE.len();
                let from = SocketAddrV4::new(IMPOSSIBLE[turn].into(), rng.u16(1024..));
                let macs = target.macs;
                vec![
                    tcp(macs, Ends { from, to: tcp_service(rng) }, "S", numbers(rng), b""),
                    udp(macs, Ends { from, to: ATTACKER_UDP }, b"who?"),
                    ping(macs, *from.ip(), *VICTIM_TCP.ip(), rng.u16(..), 1),
                ]
            })
            .counted("impossible_source"),
            self.of_connections("frames of a VLAN", |macs, ends, rng| {
                let forged = ["R", "FA", "S"].map(|flags| tcp(macs, ends, flags, numbers(rng), b""));
                forged.map(|frame| tagged(frame, [0, 5, 0x6005][rng.usize(..3)])).into()
            }),
            self.of_connections("frames for another Ethernet address", |macs, ends, rng| {
                let others = [[0xff; 6], [1, 0, 0x5e, 1, 2, 3], [2, 0, 0, 0, 0, 0x77]];
                let macs = Macs { destination: MacAddr(others[rng.usize(..3)]), ..macs };
                vec![tcp(macs, ends, "R", numbers(rng), b""), tcp(macs, ends, "S", numbers(rng), b"")]
            })
            .counted("other_mac"),
        ]
    }
}

fn numbers(rng: &mut Rng) -> Numbers {
    Numbers { sequence: rng.u32(..), acknowledgement: rng.u32(..) }
}

fn tcp_service(rng: &mut Rng) -> SocketAddrV4 {
    if rng.bool() { VICTIM_TCP } else { ATTACKER_TCP }
}

/// A source anywhere in the world, but in the networks of this test.
fn stranger(to: SocketAddrV4, rng: &mut Rng) -> Ends {
    let address = Ipv4Addr::new(rng.u8(11..100), rng.u8(..), rng.u8(..), rng.u8(1..255));
    Ends { from: SocketAddrV4::new(address, rng.u16(1024..)), to }
}
