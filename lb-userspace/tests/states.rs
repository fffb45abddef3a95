//! Backends that drain, close, are gone or are down: who has their flows.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use bed::{Bed, ICMP, TCP_80, Verdict};
use flow::Flow;
use lb_userspace::service::BackendState::{Active, Down, Draining};

#[test]
fn a_draining_backend_gets_no_new_flow() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    bed.with(ICMP, &[(2, Active), (3, Active)]);
    let ping = (0..1000).map(Flow::numbered).find(|flow| bed.backend_of(&flow.ping(1)) == 3).expect("one");
    bed.with(TCP_80, &[(2, Active), (3, Draining)]);
    bed.with(ICMP, &[(2, Active), (3, Draining)]);
    let before = bed.new_flows(3);
    for number in 1000..1500 {
        assert_eq!(bed.connect(Flow::numbered(number)), 2);
        assert_eq!(bed.backend_of(&Flow::numbered(number).ping(1)), 2);
    }
    assert_eq!(bed.backend_of(&ping.ping(2)), 3, "a running ping stays");
    assert_eq!(bed.new_flows(3), before);
}

#[test]
fn draining_backends_serve_while_none_is_active() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active)]);
    bed.with(ICMP, &[(3, Active)]);
    let mut owners: Vec<(u16, u8)> =
        (0..300).map(|number| (number, bed.connect(Flow::numbered(number)))).collect();
    bed.with(TCP_80, &[(2, Active), (3, Draining), (4, Draining)]);
    // The active one is gone, and its flows with it.
    bed.with(TCP_80, &[(3, Draining), (4, Draining)]);
    bed.with(ICMP, &[(3, Draining)]);
    owners.retain(|&(_, owner)| owner != 2);
    owners.extend((1000..1100).map(|number| (number, bed.connect(Flow::numbered(number)))));
    let shared = |owner| owners.iter().filter(|&&(number, had)| number >= 1000 && had == owner).count();
    assert!(shared(3) > 20 && shared(4) > 20, "{owners:?}");
    assert_eq!(bed.backend_of(&Flow::numbered(0).ping(1)), 3);
    assert_eq!(bed.drops("no_backend"), 0);

    bed.reopen();
    // One is active again: it has what begins from now on, and nothing of what began before.
    bed.with(TCP_80, &[(3, Draining), (4, Draining), (5, Active)]);
    let before = [3, 4].map(|last| bed.new_flows(last));
    for number in 2000..2200 {
        assert_eq!(bed.connect(Flow::numbered(number)), 5);
    }
    for (number, owner) in owners {
        assert_eq!(bed.backend_of(&Flow::numbered(number).segment("A")), owner, "flow {number}");
    }
    assert_eq!([3, 4].map(|last| bed.new_flows(last)), before);
}

#[test]
fn a_service_that_is_closing_leaves_old_flows_with_draining_backends_and_takes_no_new_one() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..100).map(|number| bed.connect(Flow::numbered(number))).collect();
    let draining = [bed.backend(2, Draining), bed.backend(3, Draining)];
    bed.close(TCP_80, &draining);
    let are_kept = |bed: &Bed| {
        (0..)
            .zip(&owners)
            .all(|(number, &owner)| bed.backend_of(&Flow::numbered(number).segment("A")) == owner)
    };
    let is_refused =
        |bed: &Bed, number| bed.uplink(&Flow::numbered(number).segment("S")).0 == Verdict::Transmit;
    assert!(are_kept(&bed) && is_refused(&bed, 1000));
    // Another process knows it from the maps.
    bed.reopen();
    assert!(bed.lb.services()[0].closing);
    bed.close(TCP_80, &draining);
    assert!(are_kept(&bed) && is_refused(&bed, 1001));
    // It goes on after all.
    bed.apply(TCP_80, &draining);
    assert!(!bed.lb.services()[0].closing);
    assert!(are_kept(&bed) && !is_refused(&bed, 1002));
}

#[test]
fn flows_of_a_backend_that_is_gone_go_elsewhere_and_never_to_its_successor_by_place() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let flow = Flow::numbered(0);
    bed.connect(flow);
    bed.with(TCP_80, &[(3, Active)]);
    assert_eq!(bed.connect(flow), 3);
    // Places are used again: what remains of a flow to 3 must not be taken for one to 4.
    bed.with(TCP_80, &[(4, Active), (5, Active)]);
    let owner = bed.connect(Flow::numbered(7));
    bed.with(TCP_80, &[]);
    let other = if owner == 4 { 5 } else { 4 };
    bed.with(TCP_80, &[(other, Active), (6, Active)]);
    let fresh = bed.new_flows(other) + bed.new_flows(6);
    bed.connect(Flow::numbered(7));
    assert_eq!(bed.new_flows(other) + bed.new_flows(6), fresh + 1);
}

#[test]
fn a_backend_that_is_down_gets_nothing() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let flow = (0..1000).map(Flow::numbered).find(|&flow| bed.connect(flow) == 3).expect("one");
    bed.with(TCP_80, &[(2, Active), (3, Down)]);
    assert_eq!(bed.backend_of(&flow.segment("A")), 2, "which resets what it does not know");
    bed.with(TCP_80, &[(2, Down), (3, Down)]);
    assert_eq!(bed.uplink(&flow.segment("S")).0, Verdict::Transmit, "no active backend");
}
