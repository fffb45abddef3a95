//! A flood of SYNs beside connections of the kernel's own, through the attached programs.
#![allow(clippy::cast_possible_truncation, reason = "constants of C's headers are wider than their fields")]

mod bed;
#[path = "bed/connections.rs"]
mod connections;
#[path = "bed/flood.rs"]
mod flood;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;
#[path = "bed/wire.rs"]
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bed::{Bed, TCP_80};
use connections::{Connections, backend};
use flood::Flood;
use lb_userspace::service::BackendState::{Active, Draining};
use wire::Wire;

const CONNECTIONS: usize = 1_000;
/// How many SYNs pass the program before, and how many after the slots have moved: hundreds of times as many as the
/// table of first packets has places.
const SYNS: u64 = 500_000;

/// Waits until so many more flows have begun.
fn wait_for_syns(bed: &Bed, count: u64) {
    let syns = || bed.lb.counters().expect("counters").services[&TCP_80].new_flows;
    let (before, start) = (syns(), Instant::now());
    while syns() < before + count {
        assert!(start.elapsed() < Duration::from_mins(2), "the flood isn't there: {}", syns() - before);
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!("{} SYNs in {:.1?}", syns() - before, start.elapsed());
}

/// Ends the flood, also where the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_connection_breaks_in_a_flood_of_syns() {
    let mut bed = Bed::new();
    let of = |bed: &Bed, states: &[_]| -> Vec<_> {
        states.iter().map(|&(last, state)| backend(bed, last, state)).collect()
    };
    let before = of(&bed, &[(2, Active), (3, Active)]);
    bed.apply(TCP_80, &before);
    let connections = Connections::open(&bed, CONNECTIONS);
    let (wire, flood) = (Wire::open(&connections.clients, "cl0", [0; 3]), Flood::new(0x51_0ce));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flood.run(&wire, &stop));
        let _ending = Ending(&stop);
        wait_for_syns(&bed, SYNS);
        connections.all_go_on();
        // Now flows have to be looked up, and first packets are put down.
        let after = of(&bed, &[(2, Draining), (3, Active), (4, Active), (5, Active)]);
        bed.apply(TCP_80, &after);
        wait_for_syns(&bed, SYNS);
        connections.all_go_on();
    });
    bed.lb.sweep().expect("a sweep");
    let live = bed.live_flows(2) + bed.live_flows(3);
    assert!(live >= CONNECTIONS as u64, "{live} of {CONNECTIONS} connections are known");
    eprintln!("{} messages", connections.close());
}
