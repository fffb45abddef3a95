//! What an attacker in an instance sends.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use lb_userspace::net::{MacAddr, Netns};
use sluice_tests::frames::{Ends, Macs, Numbers, arp, ping, pong, tagged, tcp, udp};

use crate::flood::Flood;
use crate::{ATTACKER_TCP, Arena, VICTIM_TCP, WORLD, tenant};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 233, 0, 1);
/// The daemon's address on the management network.
const MANAGER: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// An instance of the victim's.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 232, 80, 2);

/// Who attacks, and who is attacked.
#[derive(Clone)]
pub(crate) struct Target {
    macs: Macs,
    address: Ipv4Addr,
    /// The victim's clients.
    clients: Vec<SocketAddrV4>,
}

impl Target {
    pub(crate) fn of(arena: &Arena) -> Result<Self> {
        let group = arena.scene.group(&tenant("attacker")?).context("no group")?;
        let instance = group.instances.first().context("no instance")?;
        let netns = Netns::open(&format!("{WORLD}-{}", instance.id))?;
        let macs = Macs { source: arena.inside.mac(), destination: gateway_of(&netns)? };
        let clients = arena.victim.connections().into_iter().map(|ends| ends.from).collect();
        Ok(Self { macs, address: instance.address, clients })
    }

    pub(crate) fn floods(&self) -> Vec<Flood> {
        [self.answers(), self.forged(), self.resolution()].into_iter().flatten().collect()
    }

    /// A flood whose frames are to one of the victim's clients each.
    fn to_clients(
        &self,
        name: &'static str,
        mut next: impl FnMut(&Self, SocketAddrV4, &mut Rng) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Flood {
        let target = self.clone();
        Flood::new(name, move |rng| {
            let client = target.clients[rng.usize(..target.clients.len())];
            next(&target, client, rng)
        })
    }

    fn service(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, ATTACKER_TCP.port())
    }

    /// From the port of its own service, to clients that have never asked it.
    fn answers(&self) -> Vec<Flood> {
        let segments = |name, flags: &'static str, data: &'static [u8]| {
            let flood = self.to_clients(name, move |target, to, rng| {
                vec![tcp(target.macs, Ends { from: target.service(), to }, flags, numbers(rng), data)]
            });
            flood.counted("unsolicited")
        };
        vec![
            segments("data to the victim's clients", "PA", b"data"),
            segments("SYN/ACKs to the victim's clients", "SA", b""),
            segments("RSTs to the victim's clients", "RA", b""),
            self.to_clients("datagrams to the victim's clients", |target, to, _| {
                vec![udp(target.macs, Ends { from: target.service(), to }, b"data")]
            })
            .counted("unsolicited"),
            self.to_clients("echo replies to the victim's clients", |target, to, rng| {
                vec![pong(target.macs, target.address, *to.ip(), rng.u16(..), 1)]
            })
            .counted("unsolicited"),
        ]
    }

    /// In others' names, to where it may not, and marked as it may not.
    fn forged(&self) -> Vec<Flood> {
        vec![
            self.to_clients("others' addresses", |target, to, rng| {
                let sources = [OTHER, *VICTIM_TCP.ip(), *ATTACKER_TCP.ip(), *to.ip(), Ipv4Addr::LOCALHOST];
                let from = SocketAddrV4::new(sources[rng.usize(..sources.len())], VICTIM_TCP.port());
                vec![tcp(target.macs, Ends { from, to }, "RA", numbers(rng), b"")]
            })
            .counted("source_spoofed"),
            self.to_clients("frames of a VLAN", |target, to, rng| {
                let segment = tcp(target.macs, Ends { from: target.service(), to }, "RA", numbers(rng), b"");
                vec![tagged(segment, rng.u16(1..4095))]
            })
            .counted("vlan_tag"),
            self.to_clients("connections of its own", |target, to, rng| {
                let places = [*VICTIM_TCP.ip(), OTHER, GATEWAY, Ipv4Addr::new(198, 51, 100, 1), *to.ip()];
                let from = SocketAddrV4::new(target.address, rng.u16(1024..));
                let to = SocketAddrV4::new(places[rng.usize(..places.len())], VICTIM_TCP.port());
                vec![tcp(target.macs, Ends { from, to }, "S", numbers(rng), b"")]
            })
            .counted("not_allowed"),
        ]
    }

    /// ARP, which no program sees, and what the gateway answers in person: the kernel's table of neighbours is all tenants'.
    fn resolution(&self) -> Vec<Flood> {
        vec![
            self.to_clients("claims of others' addresses by ARP", |target, to, rng| {
                let claimed = [GATEWAY, OTHER, *VICTIM_TCP.ip(), *to.ip()][rng.usize(..4)];
                vec![
                    arp(target.macs.source, 1, claimed, claimed),
                    arp(target.macs.source, 2, claimed, GATEWAY),
                ]
            }),
            self.to_clients("ARP in the name of thousands", |target, _, rng| {
                let sender = Ipv4Addr::new(rng.u8(11..100), rng.u8(..), rng.u8(..), rng.u8(1..255));
                let near = near(rng);
                let mac = MacAddr([2, 9, rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)]);
                vec![
                    arp(mac, 1, sender, GATEWAY),
                    arp(mac, 1, near, GATEWAY),
                    arp(target.macs.source, 1, sender, OTHER),
                ]
            }),
            self.to_clients("pings of the gateway in the name of thousands", |target, _, rng| {
                vec![ping(target.macs, near(rng), GATEWAY, 7, 1)]
            }),
        ]
    }

    /// On the management network, which is all tenants': its bridge takes frames from the instance's own Ethernet address
    /// alone.
    pub(crate) fn managed_floods(&self, mac: MacAddr) -> Vec<Flood> {
        let anybody = |rng: &mut Rng| Ipv4Addr::new(198, 19, rng.u8(..), rng.u8(2..255));
        vec![self.to_clients("ARP on the management network in the name of thousands", move |_, _, rng| {
            let (sender, manager) = (anybody(rng), MANAGER);
            vec![arp(mac, 1, sender, manager), arp(mac, 1, sender, sender), arp(mac, 2, sender, manager)]
        })]
    }
}

/// For how many neighbours the kernel has room; `None` where this isn't its first namespace, which alone shows that.
pub(crate) fn room_for_neighbours() -> Result<Option<u32>> {
    match Netns::current()?.sysctl("ipv4/neigh/default/gc_thresh3") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        limit => Ok(Some(limit?.parse()?)),
    }
}

/// Sends a datagram to each address of the attacker's network, again and again: the kernel asks for all of them.
pub(crate) fn ask_for_all(netns: &Netns, time: Duration) -> Result<u64> {
    // As many as hold so many datagrams back while nobody answers.
    let sockets: io::Result<Vec<UdpSocket>> =
        netns.run(|| (0..32).map(|_| UdpSocket::bind("0.0.0.0:0")).collect())?;
    let sockets = sockets?;
    sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    let (began, mut sent) = (Instant::now(), 0);
    let everybody = u32::from(GATEWAY) + 1..u32::from(GATEWAY) + 4_094;
    for (address, socket) in everybody.cycle().zip(sockets.iter().cycle()) {
        if began.elapsed() >= time {
            break;
        }
        // What the kernel has no room for is an error.
        sent += u64::from(socket.send_to(b"who?", (Ipv4Addr::from(address), 9)).is_ok());
        if address % 32 == 0 {
            sleep(Duration::from_millis(5));
        }
    }
    Ok(sent)
}

/// Somebody on the attacker's own network.
fn near(rng: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::new(10, 233, rng.u8(..16), rng.u8(2..255))
}

fn numbers(rng: &mut Rng) -> Numbers {
    Numbers { sequence: rng.u32(..), acknowledgement: rng.u32(..) }
}

/// The gateway's Ethernet address, as the instance's kernel knows it.
fn gateway_of(netns: &Netns) -> Result<MacAddr> {
    let table = netns.run(|| fs::read_to_string("/proc/thread-self/net/arp"))??;
    let entry = table.lines().find(|line| line.starts_with(&format!("{GATEWAY} ")));
    let mac = entry.and_then(|line| line.split_whitespace().nth(3)).context("no gateway is known")?;
    Ok(mac.parse()?)
}
