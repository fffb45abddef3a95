//! Real packets through the attached programs, while what they run on is replaced, or flooded.
#![allow(clippy::cast_possible_truncation, reason = "constants of C's headers are wider than their fields")]

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;
#[path = "bed/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bed::{Bed, TCP_80};
use flow::Flow;
use lb_userspace::net::Netns;
use lb_userspace::service::BackendState::{Active, Draining};
use wire::Wire;

/// The clients of [`Flow::numbered`].
const CLIENTS: [u8; 3] = [198, 51, 100];
/// How many flows are sent before the first is waited for: a part of a veth's ring.
const BURST: usize = 50;

/// Both ends of the way: the client's, and that towards the backends.
struct Ends {
    client: Wire,
    backends: Wire,
}

impl Ends {
    fn open(bed: &Bed) -> Self {
        let netns: Netns = bed.peers();
        Self { client: Wire::open(&netns, "cl0", CLIENTS), backends: Wire::open(&netns, "slp-bed", CLIENTS) }
    }

    /// Sends a segment of each flow, and tells to which backend each went; what doesn't arrive is sent again `again` times.
    fn pass(&self, flows: &[Flow], flags: &str, again: u32) -> BTreeMap<u16, u8> {
        let mut owners = BTreeMap::new();
        for burst in flows.chunks(BURST) {
            for attempt in 0..=again {
                for flow in burst.iter().filter(|flow| !owners.contains_key(&flow.port)) {
                    self.client.send(&flow.segment(flags));
                }
                // Without another attempt, time is no reason to give a packet up for lost.
                let patience = Duration::from_secs(if attempt == again { 20 } else { 1 });
                while burst.iter().any(|flow| !owners.contains_key(&flow.port)) {
                    let Some(frame) = self.backends.receive(patience) else { break };
                    owners.insert(u16::from_be_bytes([frame[34], frame[35]]), frame[33]);
                }
            }
        }
        assert_eq!(owners.len(), flows.len(), "the rest was lost");
        owners
    }
}

fn flows(count: u16) -> Vec<Flow> {
    (0..count).map(Flow::numbered).collect()
}

/// What a daemon that was killed leaves is pinned, and one that starts loads its programs anew and puts them in the place of
/// those on the links: packets must not notice.
#[test]
fn programs_are_replaced_without_a_packet_lost_or_a_flow_moved() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let (ends, flows) = (Ends::open(&bed), flows(200));
    let owners = ends.pass(&flows, "S", 0);
    assert_eq!(ends.pass(&flows, "A", 0), owners);
    let done = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(ends.pass(&flows, "A", 0), owners);
                rounds += 1;
            }
            rounds
        });
        for states in [(Draining, Active), (Active, Draining), (Active, Active)] {
            bed.reopen();
            bed.with(TCP_80, &[(2, states.0), (3, states.1), (4, Active)]);
        }
        done.store(true, Ordering::Relaxed);
        traffic.join().expect("the traffic")
    });
    assert!(rounds > 0);
    assert_eq!(ends.pass(&flows, "A", 0), owners);
}

/// A hundred times as many first packets as there is room for, from as many clients, while slots move under live flows.
#[test]
fn a_flood_of_syns_breaks_no_connection_in_use() {
    const SYNS: u32 = 100_000;
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let (ends, flows) = (Ends::open(&bed), flows(1_000));
    let owners = ends.pass(&flows, "S", 0);
    assert_eq!(ends.pass(&flows, "A", 0), owners);
    let flood = Wire::open(&bed.peers(), "cl0", CLIENTS);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..SYNS {
                let [_, b, c, d] = number.to_be_bytes();
                flood.send(&Flow { client: Ipv4Addr::new(203, b, c, d), port: 1024 }.segment("S"));
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut rounds = 0;
        while !done.load(Ordering::Relaxed) {
            if rounds == 1 {
                bed.with(TCP_80, &[(2, Draining), (3, Active), (4, Active), (5, Active)]);
            }
            // The ring before the program may overflow: then a client sends again.
            assert_eq!(ends.pass(&flows, "A", 30), owners);
            rounds += 1;
        }
    });
    assert_eq!(ends.pass(&flows, "A", 0), owners);
    assert!(bed.new_flows(2) + bed.new_flows(3) > u64::from(SYNS) / 4, "the flood went through the program");
    bed.lb.sweep().expect("a sweep");
    let live = u64::try_from(flows.len()).expect("few");
    assert!(bed.live_flows(2) + bed.live_flows(3) >= live, "none of them was pushed out");
}
