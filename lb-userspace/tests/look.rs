//! What `sluice lb` shows, read from the pins beside the load balancer that made them.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use bed::{Bed, CLIENT, ICMP, TCP_80, VIP, backend_address};
use flow::Flow;
use lb_userspace::lb::look::{FlowFilter, FlowState, Look};
use lb_userspace::service::BackendState::{Active, Draining};
use lb_userspace::service::{BackendState, ServiceSelector};

fn look(bed: &Bed) -> Look {
    Look::open(&bed.settings.pin_root).expect("the pins open")
}

#[test]
fn services_and_backends_are_shown_with_their_parts() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Draining)]);
    bed.with(ICMP, &[(2, Active), (3, Active), (4, Draining)]);
    for number in 0..100 {
        bed.connect(Flow::numbered(number));
    }
    bed.lb.sweep().expect("a sweep");
    let look = look(&bed);
    let services = look.services().expect("services");
    let names: Vec<&str> = services.iter().map(|service| service.service.as_str()).collect();
    assert_eq!(names, ["45.45.45.45/icmp", "45.45.45.45:80/tcp"]);
    let http = &services[1];
    assert_eq!((http.active, http.draining, http.down, http.tracked_slots), (2, 1, 0, 0));
    assert_eq!(http.counters, bed.lb.counters().expect("counters").services[&TCP_80]);
    assert_eq!(http.counters.live_flows, 100);

    let backends = look.backends().expect("backends");
    let states: Vec<(IpAddr, BackendState)> =
        backends.iter().map(|backend| (backend.address, backend.state)).collect();
    let at = |last| IpAddr::V4(backend_address(last));
    assert_eq!(states, [(at(2), Active), (at(3), Active), (at(4), Draining)]);
    for backend in &backends {
        assert_eq!(backend.services.len(), 2);
        let share = backend.services[1].share;
        let fair = if backend.state == Active { 0.5 } else { 0.0 };
        assert!((share - fair).abs() < 0.001, "{} has {share}", backend.address);
    }
}

#[test]
fn draining_backends_that_serve_are_shown_as_such() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Draining)]);
    let look = look(&bed);
    assert!(!look.services().expect("services")[0].draining_serve);
    bed.with(TCP_80, &[(3, Draining)]);
    assert!(look.services().expect("services")[0].draining_serve);
    assert_eq!(look.backends().expect("backends")[0].services[0].slots, 65_537);
    let draining = bed.backend(3, Draining);
    bed.close(TCP_80, &[draining]);
    assert!(!look.services().expect("services")[0].draining_serve);
    assert_eq!(look.backends().expect("backends")[0].services[0].slots, 0);
}

#[test]
fn flows_are_shown_as_far_as_they_are_asked_for() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    bed.with(ICMP, &[(2, Active), (3, Active)]);
    let owners: Vec<u8> = (0..300).map(|number| bed.connect(Flow::numbered(number))).collect();
    let pinged = bed.backend_of(&Flow::numbered(300).ping(1));
    bed.answer(&Flow::numbered(300).pong(pinged, 1));
    // A ping that isn't answered is no flow.
    bed.uplink(&Flow::numbered(301).ping(1));
    bed.uplink(&Flow::numbered(5).segment("FA"));
    bed.answer(&Flow::numbered(5).answer_of(owners[5], "A", 2, 3, b""));
    bed.uplink(&Flow::numbered(6).segment("R"));
    bed.answer(&Flow::numbered(7).answer(owners[7], "R"));
    let look = look(&bed);
    let flows = |filter, limit| look.flows(filter, limit).expect("flows");

    let all = flows(FlowFilter::default(), 1_000);
    assert!(all.complete);
    let ports: BTreeSet<u16> = all.flows.iter().map(|flow| flow.client_port).collect();
    assert_eq!(all.flows.len(), ports.len(), "each once");
    // A flow may share its mark with another: then it isn't put down in this epoch.
    assert!((295..=301).contains(&ports.len()), "{} of 301", ports.len());
    for flow in all.flows.iter().filter(|flow| flow.vip_port.is_some()) {
        let number = flow.client_port - 10_000;
        assert_eq!(flow.backend, Some(IpAddr::V4(backend_address(owners[usize::from(number)]))));
        let state = match number {
            5 => FlowState::ClosedByClient,
            6 => FlowState::Suspect,
            7 => FlowState::Closed,
            _ => FlowState::Open,
        };
        assert_eq!(flow.state, state, "flow {number}");
        // The clock is the host's, and a busy host takes its time.
        assert!(flow.idle < 60, "flow {number}: {}", flow.idle);
    }
    let ping: ServiceSelector = "45.45.45.45/icmp".parse().expect("a service");
    let pings = flows(FlowFilter { service: Some(ping), ..FlowFilter::default() }, 10);
    assert_eq!(pings.flows.len(), 1);
    assert_eq!(pings.flows[0].state, FlowState::Open);
    assert_eq!((pings.flows[0].vip_port, pings.flows[0].client_port), (None, 10_300));

    let some = flows(FlowFilter::default(), 100);
    assert_eq!((some.flows.len(), some.complete), (100, false));
    let at_two = FlowFilter { backend: Some(IpAddr::V4(backend_address(2))), ..FlowFilter::default() };
    let shown: BTreeSet<u16> = flows(at_two, 1_000).flows.iter().map(|flow| flow.client_port).collect();
    for (port, owner) in (10_000..).zip(&owners).filter(|(port, _)| ports.contains(port)) {
        assert_eq!(shown.contains(&port), *owner == 2, "the flow from port {port}");
    }
    let client = "198.51.100.4/32".parse().expect("a client");
    let from_one = flows(FlowFilter { client: Some(client), ..FlowFilter::default() }, 1_000);
    assert!(from_one.flows.iter().all(|flow| [10_003, 10_203].contains(&flow.client_port)), "{from_one:?}");
    assert!(!from_one.flows.is_empty());
}

#[test]
fn a_flow_whose_backend_is_gone_is_lost() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let gone = (0..50).filter(|&number| bed.connect(Flow::numbered(number)) == 2).count();
    bed.with(TCP_80, &[(3, Active)]);
    let known = look(&bed).flows(FlowFilter::default(), 1_000).expect("flows");
    let lost =
        known.flows.iter().filter(|flow| flow.state == FlowState::Lost && flow.backend.is_none()).count();
    assert!((1..=gone).contains(&lost), "{lost} of {gone}");
}

#[test]
fn drops_are_shown_by_reason() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[]);
    bed.uplink(&Flow::numbered(1).segment("S"));
    let drops = look(&bed).drops().expect("drops");
    let count = |reason: &str| drops.iter().find(|drop| drop.reason == reason).map(|drop| drop.packets);
    assert_eq!((count("no_backend"), count("fragment")), (Some(1), Some(0)));
}

#[test]
fn where_nothing_is_pinned_the_way_out_is_named() {
    let error =
        Look::open(Path::new("/sys/fs/bpf/sluice-of-nobody")).expect_err("nothing is there").to_string();
    assert!(error.contains("/sys/fs/bpf/sluice-of-nobody") && error.contains("sluice run"), "{error}");
    let bed = Bed::new();
    let other = bed.settings.pin_root.join("elsewhere");
    std::fs::create_dir_all(other.join("v999")).expect("a folder");
    let error = Look::open(&other).expect_err("another version is there").to_string();
    assert!(error.contains("v999"), "{error}");
}

mod explain {
    //! What is explained is what happens.

    use lb_userspace::lb::look::{ChosenBy, Explanation, Outcome, Question};
    use lb_userspace::service::Protocol;

    use super::*;

    fn ask(bed: &Bed, flow: Flow, protocol: Protocol, begins: bool) -> Explanation {
        let port = if protocol == Protocol::Icmp { 0 } else { 80 };
        let question = Question {
            client: SocketAddr::new(IpAddr::V4(flow.client), flow.port),
            to: SocketAddr::new(IpAddr::V4(VIP), port),
            protocol,
            begins,
        };
        let explained = look(bed).explain(&[question], &bed.settings.transit);
        explained.expect("an explanation").remove(0)
    }

    fn backend(explanation: &Explanation) -> u8 {
        match explanation.outcome {
            Outcome::Backend { to: SocketAddr::V4(to), .. } => to.ip().octets()[3],
            ref other => panic!("{other:?}"),
        }
    }

    /// Everything that packets meet or that is counted.
    fn traces(bed: &Bed) -> (lb_userspace::lb::Counters, usize) {
        let flows = look(bed).flows(FlowFilter::default(), 10_000).expect("flows").flows.len();
        let mut counters = bed.lb.counters().expect("counters");
        // What the kernel itself sends from the tenant's end of the veth.
        counters.drops.remove("not_allowed");
        (counters, flows)
    }

    #[test]
    fn a_question_leaves_no_trace_and_is_answered_as_the_packet_will_be() {
        let mut bed = Bed::new();
        bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active)]);
        bed.with(ICMP, &[(2, Active), (3, Active), (4, Active)]);
        for number in 0..2 {
            let flow = Flow::numbered(number);
            let before = traces(&bed);
            let new = ask(&bed, flow, Protocol::Tcp, true);
            let ping = ask(&bed, flow, Protocol::Icmp, false);
            assert_eq!(traces(&bed), before);
            assert!(
                matches!(new.outcome, Outcome::Backend { new_flow: true, state: Some(Active), .. }),
                "{new:?}"
            );
            assert_eq!(new.chosen_by, Some(ChosenBy::SlotOwner));
            assert_eq!(new.same_program, Some(true));
            assert_eq!(new.service.as_deref(), Some("45.45.45.45:80/tcp"));
            assert_eq!(bed.connect(flow), backend(&new));
            assert_eq!(bed.backend_of(&flow.ping(1)), backend(&ping));
        }
    }

    #[test]
    fn the_reason_follows_the_flow_through_a_drain() {
        let mut bed = Bed::new();
        bed.with(TCP_80, &[(2, Active), (3, Active)]);
        let on_two = |bed: &Bed, numbers: std::ops::Range<u16>, flags: &[&str]| {
            let begun = |number: &u16| {
                let flow = Flow::numbered(*number);
                flags.iter().all(|flags| bed.backend_of(&flow.segment(flags)) == 2)
            };
            Flow::numbered(numbers.into_iter().find(begun).expect("one of many"))
        };
        let known = (0..50).map(Flow::numbered).find(|flow| bed.connect(*flow) == 2).expect("one of many");
        let half_open =
            (50..100).map(Flow::numbered).find(|flow| bed.half_open(*flow) == 2).expect("one of many");
        let unknown = on_two(&bed, 100..150, &["S"]);
        bed.with(TCP_80, &[(2, Draining), (3, Active)]);

        let explained = ask(&bed, known, Protocol::Tcp, false);
        assert_eq!((explained.chosen_by, backend(&explained)), (Some(ChosenBy::Flow), 2));
        assert!(explained.to_string().contains("draining"), "{explained}");
        assert_eq!(explained.flow.as_ref().map(|flow| flow.state), Some(FlowState::Open));

        // A SYN that is repeated goes where the first one has gone.
        let explained = ask(&bed, half_open, Protocol::Tcp, true);
        assert_eq!((explained.chosen_by, backend(&explained)), (Some(ChosenBy::Flow), 2));
        assert_eq!(explained.flow, None);

        let explained = ask(&bed, unknown, Protocol::Tcp, false);
        assert_eq!((explained.chosen_by, backend(&explained)), (Some(ChosenBy::SlotPreviousOwner), 2));
        let slot = explained.slot.expect("a slot");
        let at = |last| Some(IpAddr::V4(backend_address(last)));
        assert_eq!((slot.tracked, slot.owner, slot.previous_owner), (true, at(3), at(2)));

        let explained = ask(&bed, unknown, Protocol::Tcp, true);
        assert_eq!((explained.chosen_by, backend(&explained)), (Some(ChosenBy::SlotOwner), 3));
    }

    #[test]
    fn what_goes_to_no_backend_is_explained_too() {
        let mut bed = Bed::new();
        bed.with(TCP_80, &[]);
        bed.with(ICMP, &[]);
        let reason = "no_backend".to_owned();
        let flow = Flow { client: CLIENT, port: 40_000 };
        let explained = ask(&bed, flow, Protocol::Tcp, true);
        assert_eq!(explained.outcome, Outcome::Answered { reason: reason.clone() });
        assert_eq!(ask(&bed, flow, Protocol::Icmp, false).outcome, Outcome::Dropped { reason });
        bed.lb.remove(&TCP_80).expect("removed");
        let explained = ask(&bed, flow, Protocol::Tcp, true);
        let closed = Outcome::Answered { reason: "not_balanced".to_owned() };
        assert_eq!((explained.outcome, explained.service), (closed, None));
        bed.lb.remove(&ICMP).expect("removed");
        assert_eq!(ask(&bed, flow, Protocol::Tcp, true).outcome, Outcome::Kernel, "no VIP any more");
    }
}
