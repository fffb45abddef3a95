//! Segments that are forged in a client's name, against connections of the kernel's own: what the backend's kernel ignores
//! (RFC 5961), the load balancer ignores, and what it takes ends the flow.
#![allow(clippy::cast_possible_truncation, reason = "constants of C's headers are wider than their fields")]

mod bed;
#[path = "bed/connections.rs"]
#[expect(dead_code, reason = "the connections here are idle")]
mod connections;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;
#[path = "bed/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bed::{Bed, CLIENT, TCP_80, VIP};
use connections::{backend, connect_namespaces};
use flow::Flow;
use lb_userspace::net::Netns;
use lb_userspace::service::BackendState::{self, Active, Draining};
use nix::sys::socket::{setsockopt, sockopt};
use packets::Segment;
use wire::Wire;

const CONNECTIONS: usize = 40;
/// An answer of the kernel's takes far less.
const ANSWERED: Duration = Duration::from_millis(100);
/// More than what passes from a claim to the end of a flow whose backend is silent.
const SWEEPS: usize = 10;
/// A connection that doesn't answer for so long is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an attacker sends, who knows a connection's ends: flags, the distance of the sequence number from the right one, and
/// data.
const FORGED: [(&str, &str, u32, &[u8]); 8] = [
    ("a RST of any number", "R", 0x5234_5678, b""),
    ("a RST within the window, but not at its beginning", "R", 500, b""),
    ("a RST that is too old", "R", u32::MAX, b""),
    ("a FIN of any number", "FA", 0x5234_5678, b""),
    ("a SYN of any number", "S", 0x5234_5678, b""),
    ("a SYN within the window", "S", 500, b""),
    ("data out of the window", "A", 0x5234_5678, b"data"),
    ("an ACK of any number", "A", 0x6234_5678, b""),
];

struct Scene {
    bed: Bed,
    name: String,
    attacker: Wire,
    held: Vec<Held>,
}

/// A connection, and where its client is by its numbers.
struct Held {
    stream: TcpStream,
    port: u16,
    next: u32,
}

impl Scene {
    fn open() -> Self {
        let mut bed = Bed::new();
        let name = format!("slforged{}", std::process::id());
        let clients = Netns::create(&name).expect("a namespace");
        connect_namespaces(&bed, &clients, &name);
        change(&mut bed, &[(2, Active), (3, Active)]);
        serve(&bed.peers());
        let [a, b, c, _] = CLIENT.octets();
        let seen = Wire::open(&bed.peers(), "slp-bed", [a, b, c]);
        let streams: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| {
                let stream = clients.run(|| TcpStream::connect((VIP, 80))).expect("the namespace");
                let stream = stream.expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
                exchange(&stream).expect("an echo");
                stream
            })
            .collect();
        thread::sleep(ANSWERED);
        let next = next_numbers(&seen);
        let held = |stream: TcpStream| {
            let port = stream.local_addr().expect("an address").port();
            Held { stream, port, next: next[&port] }
        };
        let attacker = Wire::open(&clients, "cl0", [0; 3]);
        let held = streams.into_iter().map(held).collect();
        Self { bed, name, attacker, held }
    }

    fn forge(&self, held: &Held, flags: &str, distance: u32, data: &[u8]) {
        let ends = Flow { client: CLIENT, port: held.port }.ends();
        let sequence = held.next.wrapping_add(distance);
        let (source, destination, acknowledgement) = (held.port, 80, 0x1234);
        self.attacker.send(&packets::tcp(
            &ends,
            &Segment { source, destination, flags, sequence, acknowledgement, data },
        ));
    }

    /// Lets the time pass in which a silent flow would end; how many are live then.
    fn live_later(&mut self) -> u64 {
        for _ in 0..SWEEPS {
            self.bed.lb.sweep_after(Duration::from_secs(1)).expect("a sweep");
            thread::sleep(ANSWERED);
        }
        self.bed.lb.sweep().expect("a sweep");
        let counters = self.bed.lb.counters().expect("counters");
        counters.backends.values().map(|backend| backend.live_flows).sum()
    }

    fn all_go_on(&self, what: &str) {
        for held in &self.held {
            exchange(&held.stream).unwrap_or_else(|error| panic!("{what}: port {}: {error}", held.port));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = Netns::delete(&self.name);
    }
}

fn change(bed: &mut Bed, backends: &[(u8, BackendState)]) {
    let backends: Vec<_> = backends.iter().map(|(last, state)| backend(bed, *last, *state)).collect();
    bed.apply(TCP_80, &backends);
}

/// Sends back what comes, at all backends' addresses, for as long as the namespace is there.
fn serve(peers: &Netns) {
    let listener = peers.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80))).expect("the namespace");
    let listener = listener.expect("a listener");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
}

fn exchange(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

/// What each client sends next, by its port.
fn next_numbers(seen: &Wire) -> BTreeMap<u16, u32> {
    let mut next = BTreeMap::new();
    while let Some(frame) = seen.receive(Duration::ZERO) {
        let sliced = etherparse::SlicedPacket::from_ethernet(&frame).expect("a packet");
        let Some(etherparse::TransportSlice::Tcp(tcp)) = sliced.transport else { continue };
        let length = u32::try_from(tcp.payload().len()).expect("short") + u32::from(tcp.syn());
        next.insert(tcp.source_port(), tcp.sequence_number().wrapping_add(length));
    }
    next
}

/// Steady slots, slots that have moved, and slots whose owner drains.
#[test]
fn what_the_backends_kernel_ignores_ends_no_flow_and_what_it_takes_does() {
    let mut scene = Scene::open();
    let changes: [(&str, &[(u8, BackendState)]); 3] = [
        ("steady slots", &[(2, Active), (3, Active)]),
        ("moved slots", &[(2, Active), (3, Active), (4, Active), (5, Active)]),
        ("draining backends", &[(2, Draining), (3, Draining), (4, Active), (5, Active)]),
    ];
    for (slots, backends) in changes {
        change(&mut scene.bed, backends);
        for (held, (_, flags, distance, data)) in scene.held.iter().zip(FORGED.iter().cycle()) {
            scene.forge(held, flags, *distance, data);
            scene.forge(held, "R", 0x7000_0000, b"");
        }
        assert_eq!(scene.live_later(), CONNECTIONS as u64, "{slots}: all of them hold up a drain");
        scene.all_go_on(slots);
    }

    // The backends' kernel takes these, and says nothing.
    let (gone, kept) = (CONNECTIONS / 2, CONNECTIONS - CONNECTIONS / 2);
    for held in scene.held.drain(..gone) {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&held.stream, sockopt::Linger, &at_once).expect("a socket option");
    }
    assert_eq!(scene.live_later(), kept as u64, "what is over holds up nothing");
    scene.all_go_on("beside those that are over");

    // Who knows the number ends the connection: its client still has it, and its backend no longer. Four bytes have followed.
    let held = scene.held.pop().expect("one");
    scene.forge(&held, "R", 4, b"");
    assert_eq!(scene.live_later(), kept as u64 - 1);
    assert!(exchange(&held.stream).is_err());
}
