//! Real packets through the attached programs, while what they run on is replaced or changed.
#![allow(clippy::cast_possible_truncation, reason = "constants of C's headers are wider than their fields")]

mod bed;
#[path = "bed/ends.rs"]
mod ends;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;
#[path = "bed/wire.rs"]
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::maps::MapData;
use bed::{Bed, TCP_80};
use ends::Ends;
use flow::Flow;
use lb_common::abi::VERSION;
use lb_userspace::lb::{Error, LoadBalancer};
use lb_userspace::service::BackendState::{Active, Draining};

fn flows(count: u16) -> Vec<Flow> {
    (0..count).map(Flow::numbered).collect()
}

/// The object as another release might have it: one that knows IPv6 by another number.
fn another_object() -> Vec<u8> {
    let mut object = lb_userspace::object::object().expect("the object").to_vec();
    // Of an instruction that compares a register with a constant and jumps: its first byte, and its last four.
    let compares = |code: u8| matches!(code, 0x15 | 0x16 | 0x55 | 0x56);
    let is_place = |at: &usize| compares(object[*at]) && object[at + 4..at + 8] == 0x86dd_u32.to_le_bytes();
    let places: Vec<usize> = (0..object.len() - 8).step_by(8).filter(is_place).collect();
    for &at in &places {
        object[at + 4..at + 8].copy_from_slice(&0x86de_u32.to_le_bytes());
    }
    assert!(!places.is_empty(), "no instruction has the number");
    object
}

/// Whether the program on the uplink knows IPv6: it counts a frame that ends within its header.
fn knows_ipv6(bed: &Bed, ends: &Ends, flow: Flow) -> bool {
    let before = bed.drops("ipv6_truncated");
    let mut frame = flow.segment("A");
    frame.truncate(20);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    ends.client.send(&frame);
    // A frame behind it has arrived, so it has been seen.
    ends.pass(&[flow], "A");
    bed.drops("ipv6_truncated") > before
}

/// What a daemon that was killed leaves is pinned, and one that starts puts its programs in the place of those on the
/// links, be they the same or another release's: packets must not notice.
#[test]
fn programs_are_replaced_without_a_packet_lost_or_a_flow_moved() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let (ends, flows) = (Ends::open(&bed), flows(200));
    let owners = ends.connect(&flows);
    assert_eq!(owners.len(), flows.len());
    let same = lb_userspace::object::object().expect("the object");
    let other = another_object();
    let known = flows[0];
    assert!(knows_ipv6(&bed, &ends, known));
    for (object, knows, states) in [
        (&*other, false, (Draining, Active)),
        (&*other, false, (Active, Draining)),
        (same, true, (Active, Active)),
        (&*other, false, (Draining, Active)),
        (same, true, (Active, Active)),
    ] {
        let done = AtomicBool::new(false);
        let rounds = thread::scope(|scope| {
            let traffic = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(ends.pass(&flows, "A"), owners);
                    rounds += 1;
                }
                rounds
            });
            bed.upgrade(object);
            bed.with(TCP_80, &[(2, states.0), (3, states.1), (4, Active)]);
            done.store(true, Ordering::Relaxed);
            traffic.join().expect("the traffic")
        });
        assert!(rounds > 0);
        assert_eq!(ends.pass(&flows, "A"), owners);
        assert_eq!(knows_ipv6(&bed, &ends, known), knows, "the program on the link is the new one");
    }
}

/// An upgrade to another layout is refused, and what is pinned goes on as it was.
#[test]
fn pins_of_another_layout_are_left_alone() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let (ends, flows) = (Ends::open(&bed), flows(50));
    let owners = ends.pass(&flows, "S");
    let root = bed.settings.pin_root.clone();
    let own = root.join(format!("v{VERSION}"));

    let older = root.join("v1");
    std::fs::create_dir(&older).expect("a folder");
    let error = LoadBalancer::open(&bed.settings).expect_err("another version's pins are there");
    assert!(matches!(&error, Error::OtherVersion { found, .. } if found == "v1"), "{error}");
    assert_eq!(ends.pass(&flows, "A"), owners);
    std::fs::remove_dir(&older).expect("removed");

    // The map of the drops' counts in the place of the flows': sizes as of no version.
    let (flows_pin, set_aside) = (own.join("flows"), own.join("links/set-aside"));
    std::fs::rename(&flows_pin, &set_aside).expect("renamed");
    MapData::from_pin(own.join("drops")).expect("a map").pin(&flows_pin).expect("pinned");
    let error = LoadBalancer::open(&bed.settings).expect_err("the map has other sizes");
    let is_of_flows = |error: &Error| matches!(error, Error::OtherLayout { map: "flows", .. });
    assert!(is_of_flows(&error), "{error}");
    assert_eq!(ends.pass(&flows, "A"), owners);
    std::fs::remove_file(&flows_pin).expect("removed");
    std::fs::rename(&set_aside, &flows_pin).expect("renamed");

    bed.reopen();
    assert!(bed.lb.adopted());
    assert_eq!(ends.pass(&flows, "A"), owners);
}
