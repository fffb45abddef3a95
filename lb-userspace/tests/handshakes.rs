//! Handshakes: a SYN that is repeated, one that two backends answer, one that nobody ends.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::time::Duration;

use bed::{Bed, TCP_80, Verdict};
use flow::Flow;
use lb_userspace::service::BackendState::{Active, Draining};

fn live(bed: &mut Bed) -> u64 {
    bed.lb.sweep().expect("a sweep");
    bed.lb.counters().expect("counters").backends.values().map(|counters| counters.live_flows).sum()
}

fn two_backends() -> Bed {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    bed
}

/// A SYN that is repeated after its slot has moved goes to the backend that has answered the first one; another that
/// answers too, since both were under way, isn't heard.
#[test]
fn a_repeated_syn_stays_with_its_backend() {
    let mut bed = two_backends();
    let flows: Vec<Flow> = (0..200).map(Flow::numbered).collect();
    let owners: Vec<u8> = flows.iter().map(|flow| bed.half_open(*flow)).collect();
    for change in [
        &[(2, Active), (3, Active), (4, Active)][..],
        &[(2, Draining), (3, Active), (4, Active), (5, Active)],
    ] {
        bed.with(TCP_80, change);
        for (flow, &owner) in flows.iter().zip(&owners) {
            assert_eq!(bed.backend_of(&flow.segment("S")), owner, "{}", flow.port);
            let other = if owner == 4 { 5 } else { 4 };
            assert_eq!(bed.answer(&flow.answer(other, "SA")).0, Verdict::Drop, "the client hears of one");
            assert_eq!(bed.answer(&flow.answer(owner, "SA")).0, Verdict::Redirect);
        }
    }
    for (flow, &owner) in flows.iter().zip(&owners) {
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
    }
    assert_eq!(live(&mut bed), 200);
    // After its time it is another's.
    let late = Flow::numbered(1_000);
    assert_eq!(bed.half_open(late), bed.backend_of(&late.segment("S")));
    bed.lb.sweep_after(Duration::from_secs(65)).expect("a sweep");
    bed.with(TCP_80, &[(6, Active)]);
    assert_eq!(bed.backend_of(&late.segment("S")), 6);
}

/// A backend that drains soon after it has come gives its slots back, and has the handshakes that are under way: until they can't
/// be any more, their flows are looked up.
#[test]
fn a_slot_that_is_given_back_does_not_rest_before_handshakes_are_over() {
    let mut bed = two_backends();
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active)]);
    let flows: Vec<Flow> = (0..50).map(Flow::numbered).collect();
    let owners: Vec<u8> = flows.iter().map(|flow| bed.half_open(*flow)).collect();
    assert!(owners.contains(&4));
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Draining)]);
    for _ in 0..2 {
        bed.lb.sweep_after(Duration::from_secs(11)).expect("a sweep");
    }
    for (flow, &owner) in flows.iter().zip(&owners) {
        assert_eq!(bed.backend_of(&flow.segment("S")), owner);
        assert_eq!(bed.answer(&flow.answer(owner, "SA")).0, Verdict::Redirect);
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
    }
    assert_eq!(live(&mut bed), 50);
}

/// A backend whose client has repeated its SYN repeats its answer twice: for that, and since its own timer runs out
/// at that time. The second one may come after the client's ACK of the first.
#[test]
fn a_handshake_that_is_repeated_after_its_end_ends_no_flow() {
    let mut bed = two_backends();
    // For the third one's flows the previous owners of their slots are others.
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active)]);
    let flows: Vec<Flow> = (0..50).map(Flow::numbered).collect();
    let owners: Vec<u8> = flows.iter().map(|flow| bed.connect(*flow)).collect();
    assert!(owners.contains(&4));
    bed.with(TCP_80, &[(2, Active), (3, Draining), (4, Draining), (5, Active)]);
    for (flow, &owner) in flows.iter().zip(&owners) {
        let repeated = bed.answer(&flow.answer(owner, "SA")).0;
        assert_eq!(repeated, Verdict::Redirect, "its client acknowledges it again");
    }
    assert_eq!(live(&mut bed), 50);
    for (flow, &owner) in flows.iter().zip(&owners) {
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
    }
    // With another number it is another connection's, which is not open yet.
    for (flow, &owner) in flows.iter().zip(&owners) {
        assert_eq!(bed.backend_of(&flow.segment("S")), owner);
        bed.answer(&flow.answer_of(owner, "SA", 4_711, 2, b""));
    }
    assert_eq!(live(&mut bed), 0);
}

/// Both SYNs are under way when the slot moves.
#[test]
fn of_two_backends_that_answer_the_first_has_the_flow() {
    let mut bed = two_backends();
    let flow =
        (0..100).map(Flow::numbered).find(|flow| bed.backend_of(&flow.segment("S")) == 2).expect("one");
    bed.with(TCP_80, &[(2, Draining), (3, Active)]);
    assert_eq!(bed.backend_of(&flow.segment("S")), 3, "the first has not been answered");
    assert_eq!(bed.answer(&flow.answer_of(2, "SA", 500, 2, b"")).0, Verdict::Redirect);
    assert_eq!(bed.answer(&flow.answer_of(3, "SA", 900, 2, b"")).0, Verdict::Drop);
    assert_eq!(bed.backend_of(&flow.numbered_segment("A", 2, 501)), 2);
    assert_eq!(bed.backend_of(&flow.segment("S")), 2);
    assert_eq!(live(&mut bed), 1);
}
