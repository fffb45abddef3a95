//! Which backend has a flow, through every change of the service, on the real programs and maps.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bed::{Bed, ICMP, TCP_80, Verdict};
use flow::{Flow, owner};
use lb_userspace::service::BackendState;
use lb_userspace::service::BackendState::{Active, Draining};

#[test]
fn flows_are_shared_within_five_percent() {
    for count in [2u8, 3, 5] {
        let mut bed = Bed::new();
        let backends: Vec<_> = (2..2 + count).map(|last| (last, Active)).collect();
        bed.with(TCP_80, &backends);
        let mut shares = BTreeMap::<u8, u32>::new();
        // The hash is keyed anew in each bed, and shares are as chance has it: with so many flows 5 % are five standard
        // deviations or more, where the share of one backend in five of 10,000 flows would miss them once in 80 times.
        let flows = 10_000 * u16::from(count - 1);
        let frames: Vec<_> = (0..flows).map(|number| Flow::numbered(number).segment("S")).collect();
        for outcome in bed.uplink_all(&frames) {
            *shares.entry(owner(&outcome)).or_default() += 1;
        }
        let fair = f64::from(flows) / f64::from(count);
        for (last, share) in shares {
            assert!((f64::from(share) - fair).abs() <= fair * 0.05, "{count} backends: {last} has {share}");
        }
    }
}

#[test]
fn flows_stay_while_backends_come_and_drain() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..300).map(|number| bed.connect(Flow::numbered(number))).collect();
    let changes: [&[(u8, BackendState)]; 4] = [
        &[(2, Active), (3, Active), (4, Active), (5, Active)],
        &[(2, Active), (3, Draining), (4, Active), (5, Active)],
        &[(2, Draining), (3, Draining), (5, Active)],
        &[(2, Active), (3, Draining)],
    ];
    for change in changes {
        bed.with(TCP_80, change);
        for (number, &owner) in (0..).zip(&owners) {
            assert_eq!(
                bed.backend_of(&Flow::numbered(number).segment("A")),
                owner,
                "flow {number} at {change:?}"
            );
        }
    }
}

#[test]
fn live_flows_are_counted_and_end_with_fins_resets_and_time() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    bed.with(ICMP, &[(2, Active)]);
    for number in 0..10 {
        bed.connect(Flow::numbered(number));
    }
    // A SYN that nothing has followed yet is no live flow.
    bed.half_open(Flow::numbered(10));
    bed.backend_of(&Flow::numbered(11).ping(1));
    bed.answer(&Flow::numbered(11).pong(2, 1));
    // Nor is a ping that isn't answered.
    bed.backend_of(&Flow::numbered(12).ping(1));
    bed.backend_of(&Flow::numbered(12).ping(2));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 11);
    assert_eq!(bed.lb.counters().expect("counters").services[&TCP_80].live_flows, 10);

    // Both FINs end a flow, one does not, and the backend's RST does.
    bed.uplink(&Flow::numbered(0).segment("FA"));
    bed.uplink(&Flow::numbered(1).segment("FA"));
    bed.answer(&Flow::numbered(1).answer(2, "FA"));
    bed.answer(&Flow::numbered(3).answer(2, "RA"));
    // The client's word isn't enough.
    bed.uplink(&Flow::numbered(2).segment("R"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 9);

    // 31 s: the ping has ended; 351 s: the rest.
    for (seconds, live) in [(31, 8), (320, 0)] {
        bed.lb.sweep_after(Duration::from_secs(seconds)).expect("a sweep");
        assert_eq!(bed.live_flows(2), live, "{seconds} s later");
    }
}

#[test]
fn a_flow_of_which_only_the_syn_was_seen_stays_when_its_slot_moves() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> =
        (0..300).map(|number| bed.backend_of(&Flow::numbered(number).segment("S"))).collect();
    bed.with(TCP_80, &[(2, Draining), (3, Active), (4, Active), (5, Active)]);
    for (number, &owner) in (0..).zip(&owners) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
    }
}

#[test]
fn slots_need_lookups_only_where_and_as_long_as_a_change_has_made_it_necessary() {
    let mut bed = Bed::new();
    let tracked = |bed: &Bed| bed.lb.tracked_slots(&TCP_80).expect("the table");
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..300).map(|number| bed.connect(Flow::numbered(number))).collect();
    assert_eq!(tracked(&bed), 0, "no flow is older than the table");

    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active)]);
    let moved = tracked(&bed);
    assert!((20_000..24_000).contains(&moved), "a third of the slots has moved: {moved}");

    // Half the flows go on, the other half ends; then slots come to rest but where a flow isn't the owner's.
    for _ in 0..6 {
        bed.lb.sweep_after(Duration::from_secs(100)).expect("a sweep");
        for (number, &owner) in (0..150).zip(&owners) {
            let flow = Flow::numbered(number);
            assert_eq!(bed.backend_of(&flow.segment("A")), owner, "flow {number}");
            bed.answer(&flow.answer(owner, "A"));
        }
    }
    let left = tracked(&bed);
    assert!((1..=150).contains(&left), "{left} slots are left");

    // All flows end, and a change that no flow has seen leaves no slot tracked for long.
    bed.lb.sweep_after(Duration::from_secs(400)).expect("a sweep");
    bed.lb.sweep_after(Duration::from_secs(65)).expect("a sweep");
    assert_eq!(tracked(&bed), 0);
}

#[test]
fn a_new_process_goes_on_with_tracked_slots() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> =
        (0..300).map(|number| bed.backend_of(&Flow::numbered(number).segment("S"))).collect();
    let backends = [(2, Active), (3, Draining), (4, Active)];
    bed.with(TCP_80, &backends);
    let before = bed.lb.tracked_slots(&TCP_80).expect("the table");
    bed.reopen();
    bed.with(TCP_80, &backends);
    assert_eq!(bed.lb.tracked_slots(&TCP_80).expect("the table"), before);
    for (number, &owner) in (0..).zip(&owners) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
    }
}

#[test]
fn an_open_flow_on_a_port_that_had_another_is_live() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    bed.connect(flow);
    bed.uplink(&flow.segment("FA"));
    bed.answer(&flow.answer(2, "FA"));
    bed.uplink(&flow.segment("A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 0);
    bed.half_open(flow);
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 0, "not open yet");
    bed.backend_of(&flow.segment("A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 1);
}

#[test]
fn a_port_used_again_after_its_flow_is_forgotten_has_a_live_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    for _ in 0..3 {
        bed.connect(flow);
        bed.lb.sweep().expect("a sweep");
        assert_eq!(bed.live_flows(2), 1);
        bed.uplink(&flow.segment("FA"));
        bed.answer(&flow.answer(2, "FA"));
        bed.uplink(&flow.segment("A"));
        // Longer than a closed flow is remembered, and within an epoch.
        bed.lb.sweep_after(Duration::from_secs(6)).expect("a sweep");
        assert_eq!(bed.live_flows(2), 0);
    }
}

#[test]
fn a_flow_in_use_does_not_grow_old() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    bed.connect(Flow::numbered(0));
    for _ in 0..5 {
        bed.lb.sweep_after(Duration::from_mins(5)).expect("a sweep");
        bed.backend_of(&Flow::numbered(0).segment("A"));
        bed.answer(&Flow::numbered(0).answer(2, "A"));
    }
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 1);
}

#[test]
fn a_flow_whose_handshake_was_not_seen_is_known_by_its_answers() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    // No cell is as young as the clock any more.
    bed.lb.sweep_after(Duration::from_secs(10)).expect("a sweep");
    bed.backend_of(&flow.segment("A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 0, "in a steady slot a client's word alone costs no look-up");
    assert_eq!(bed.answer(&flow.data(2)).0, Verdict::Drop, "nothing is known to have asked for it");
    bed.backend_of(&flow.segment("A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 0);
    assert_eq!(bed.answer(&flow.data(2)).0, Verdict::Redirect, "repeated");
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 1);
    bed.answer(&flow.answer(2, "R"));
    bed.answer(&flow.answer(2, "A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 0, "what has ended stays so");
}

#[test]
fn a_handshake_that_takes_its_time_is_noticed_by_its_last_packet() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    bed.backend_of(&flow.segment("S"));
    bed.lb.sweep_after(Duration::from_secs(30)).expect("a sweep");
    bed.backend_of(&flow.segment("S"));
    bed.answer(&flow.answer(2, "SA"));
    bed.lb.sweep_after(Duration::from_secs(2)).expect("a sweep");
    bed.backend_of(&flow.segment("A"));
    bed.lb.sweep().expect("a sweep");
    assert_eq!(bed.live_flows(2), 1);
}

/// A backend that has lost its way, or whose tenant wants to know what happens.
#[test]
fn what_a_backend_sends_in_anothers_flow_says_nothing_of_it() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let flow = (0..1000).map(Flow::numbered).find(|&flow| bed.connect(flow) == 2).expect("one");
    let never_begun = (1000..1100).map(Flow::numbered);
    let live = |bed: &mut Bed, seconds| {
        bed.lb.sweep_after(Duration::from_secs(seconds)).expect("a sweep");
        (bed.live_flows(2), bed.live_flows(3))
    };
    // The others that have begun end.
    live(&mut bed, 300);
    bed.answer(&flow.answer(2, "A"));
    assert_eq!(live(&mut bed, 60), (1, 0));

    // Only one of them has been asked: these are flows whose beginning wasn't seen, whose client is heard when both have sent.
    never_begun.for_each(|flow| {
        for _ in 0..2 {
            bed.answer(&flow.data(2));
            bed.answer(&flow.data(3));
            bed.uplink(&flow.segment("A"));
        }
    });
    let (two, three) = live(&mut bed, 0);
    assert_eq!(two + three, 101, "none is counted twice");
    for flags in ["A", "SA", "FA", "RA"] {
        bed.answer(&flow.answer(3, flags));
        assert_eq!(live(&mut bed, 0), (two, three), "{flags}");
    }
    bed.uplink(&flow.segment("FA"));
    bed.answer(&flow.answer(2, "FA"));
    assert_eq!(live(&mut bed, 0), (two - 1, three), "what its own backend sends ends it");
}

#[test]
fn a_flow_lives_by_what_its_own_backend_sends() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let flow = (0..1000).map(Flow::numbered).find(|&flow| bed.connect(flow) == 2).expect("one");
    // In each epoch the other's answer is the first.
    for _ in 0..4 {
        bed.lb.sweep_after(Duration::from_secs(100)).expect("a sweep");
        bed.answer(&flow.answer(3, "A"));
        bed.answer(&flow.answer(2, "A"));
    }
    bed.lb.sweep().expect("a sweep");
    assert_eq!((bed.live_flows(2), bed.live_flows(3)), (1, 0));
    for _ in 0..4 {
        bed.lb.sweep_after(Duration::from_secs(100)).expect("a sweep");
        bed.answer(&flow.answer(3, "A"));
    }
    bed.lb.sweep().expect("a sweep");
    assert_eq!((bed.live_flows(2), bed.live_flows(3)), (0, 0), "another's answers don't keep it");
}

#[test]
fn a_port_used_again_is_a_new_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    bed.connect(flow);
    bed.with(TCP_80, &[(2, Draining), (3, Active)]);
    assert_eq!(bed.backend_of(&flow.segment("S")), 2, "a SYN can't take a live flow away");
    bed.uplink(&flow.segment("FA"));
    bed.answer(&flow.answer(2, "FA"));
    assert_eq!(bed.backend_of(&flow.segment("A")), 2, "the last ACK still gets there");
    assert_eq!(bed.connect(flow), 3, "the next connection goes elsewhere");
}

#[test]
fn a_flood_of_first_packets_pushes_out_no_live_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..500).map(|number| bed.connect(Flow::numbered(number))).collect();
    // Ten times what the table of first packets holds, from as many sources.
    for number in 0u32..10_240 {
        let [_, b, c, d] = number.to_be_bytes();
        let flow = Flow { client: Ipv4Addr::new(203, b, c, d), port: 1 };
        bed.uplink(&flow.segment("S"));
    }
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active), (5, Active)]);
    for (number, &owner) in (0..).zip(&owners) {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
    }
}
