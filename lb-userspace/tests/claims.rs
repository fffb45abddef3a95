//! What one end alone says makes no flow, ends none and moves none: both ends have to speak.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::time::Duration;

use bed::{Bed, ICMP, TCP_80, VIP, Verdict};
use flow::Flow;
use lb_common::abi::{CLAIM_STANDS, PROBES};
use lb_userspace::lb::look::{FlowFilter, Look};
use lb_userspace::service::BackendState::{Active, Draining};
use lb_userspace::service::{Protocol, ServiceKey};

const UDP_80: ServiceKey =
    ServiceKey { vip: std::net::IpAddr::V4(VIP), protocol: Protocol::Udp, port: Some(80) };

fn live(bed: &mut Bed) -> u64 {
    bed.lb.sweep().expect("a sweep");
    bed.lb.counters().expect("counters").backends.values().map(|counters| counters.live_flows).sum()
}

/// How many flows the table has, ended ones too.
fn known(bed: &Bed) -> usize {
    let look = Look::open(&bed.settings.pin_root).expect("the pins open");
    look.flows(FlowFilter::default(), 10_000).expect("flows").flows.len()
}

fn two_backends() -> Bed {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    bed
}

/// All slots of 2 move to another, and are tracked.
fn move_slots(bed: &mut Bed) {
    bed.with(TCP_80, &[(2, Draining), (3, Active), (4, Active)]);
}

/// A frame whose TCP checksum is wrong.
fn torn(mut frame: Vec<u8>) -> Vec<u8> {
    frame[50] ^= 0x55;
    frame
}

/// What a client, or someone in its name, may send after its SYN, and what a kernel that waits for the end of the handshake
/// answers. None of it makes a flow.
#[test]
fn what_a_client_says_alone_makes_no_flow() {
    type Say = fn(&Bed, Flow, u8);
    let cases: [(&str, Say); 9] = [
        ("a SYN", |_, _, _| {}),
        ("an ACK with a wrong checksum", |bed, flow, owner| {
            bed.answer(&flow.answer(owner, "SA"));
            bed.uplink(&torn(flow.segment("A")));
        }),
        ("an ACK of another number", |bed, flow, owner| {
            bed.answer(&flow.answer(owner, "SA"));
            bed.uplink(&flow.numbered_segment("A", 2, 3));
            bed.answer(&flow.answer_of(owner, "R", 3, 0, b""));
        }),
        ("an ACK before the SYN/ACK", |bed, flow, owner| {
            bed.uplink(&flow.segment("A"));
            bed.answer(&flow.answer(owner, "SA"));
        }),
        ("a SYN/ACK that is repeated", |bed, flow, owner| {
            for _ in 0..3 {
                bed.answer(&flow.answer(owner, "SA"));
            }
        }),
        ("segments out of the window, which are answered with the ACK of the SYN", |bed, flow, owner| {
            bed.answer(&flow.answer(owner, "SA"));
            for _ in 0..3 {
                bed.uplink(&flow.numbered_segment("A", 99_999, 99));
                assert_eq!(bed.answer(&flow.answer(owner, "A")).0, Verdict::Redirect);
            }
        }),
        ("a FIN", |bed, flow, owner| {
            bed.answer(&flow.answer(owner, "SA"));
            bed.uplink(&torn(flow.segment("FA")));
        }),
        ("a RST", |bed, flow, owner| {
            bed.answer(&flow.answer(owner, "SA"));
            bed.uplink(&flow.segment("R"));
        }),
        ("what is refused", |bed, flow, owner| {
            assert_eq!(bed.answer(&flow.answer(owner, "RA")).0, Verdict::Redirect);
            bed.uplink(&flow.segment("A"));
        }),
    ];
    for is_tracked in [false, true] {
        let mut bed = two_backends();
        if is_tracked {
            move_slots(&mut bed);
        }
        for ((name, say), first) in cases.into_iter().zip((0..).step_by(50)) {
            for number in first..first + 50 {
                let flow = Flow::numbered(number);
                let owner = bed.backend_of(&flow.segment("S"));
                say(&bed, flow, owner);
            }
            assert_eq!((live(&mut bed), known(&bed)), (0, 0), "{name}, tracked: {is_tracked}");
        }
    }
}

/// Each of these shows that the backend has the flow.
#[test]
fn a_flow_is_real_once_its_backend_says_so() {
    type Say = fn(&Bed, Flow, u8);
    let cases: [(&str, Say); 5] = [
        ("the client's ACK of what the backend has said", |bed, flow, _| {
            bed.uplink(&flow.segment("A"));
        }),
        ("data of the backend's", |bed, flow, owner| {
            bed.answer(&flow.data(owner));
        }),
        ("an ACK of more than the SYN", |bed, flow, owner| {
            bed.answer(&flow.answer_of(owner, "A", 2, 102, b""));
        }),
        ("a FIN of the backend's", |bed, flow, owner| {
            bed.answer(&flow.answer_of(owner, "FA", 2, 2, b""));
        }),
        ("data after an ACK that was lost", |bed, flow, owner| {
            bed.uplink(&torn(flow.segment("A")));
            bed.answer(&flow.data(owner));
        }),
    ];
    for is_tracked in [false, true] {
        let mut bed = two_backends();
        if is_tracked {
            move_slots(&mut bed);
        }
        for ((name, say), first) in cases.into_iter().zip((0..).step_by(20)) {
            for number in first..first + 20 {
                let owner = bed.half_open(Flow::numbered(number));
                say(&bed, Flow::numbered(number), owner);
            }
            let flows = usize::from(first + 20);
            assert_eq!((live(&mut bed), known(&bed)), (flows as u64, flows), "{name}, tracked: {is_tracked}");
        }
    }
}

/// An upload whose handshake wasn't seen: the backend acknowledges one thing after the other.
#[test]
fn an_upload_that_was_not_known_is_real_when_its_acknowledgements_go_on() {
    let mut bed = two_backends();
    bed.lb.sweep_after(Duration::from_secs(10)).expect("a sweep");
    let flow = Flow::numbered(7);
    let owner = bed.backend_of(&flow.segment("A"));
    assert_eq!(bed.answer(&flow.answer_of(owner, "A", 2, 100, b"")).0, Verdict::Drop);
    bed.uplink(&flow.segment("A"));
    for (acknowledged, flows) in [(100, 0), (100, 0), (200, 1)] {
        bed.answer(&flow.answer_of(owner, "A", 2, acknowledged, b""));
        assert_eq!(live(&mut bed), flows, "{acknowledged}");
    }
}

/// A forged RST, FIN or SYN, with any number: the flow neither ends nor moves, and holds up its drain.
#[test]
fn a_forged_segment_ends_no_flow_and_moves_none() {
    let forged: [(&str, &[(&str, u32)]); 5] = [
        ("a RST", &[("R", 0x1234_5678)]),
        ("a RST with the right number", &[("R", 2)]),
        ("a FIN", &[("FA", 0x1234_5678)]),
        ("a SYN", &[("S", 0x1234_5678)]),
        ("a RST, and then a SYN", &[("R", 0x1234_5678), ("S", 0x1234_5678)]),
    ];
    let mut bed = two_backends();
    let flows: Vec<Flow> = (0..200).map(Flow::numbered).collect();
    let owners = bed.connect_all(&flows);
    // The slots of the second half have moved when the segments come.
    for half in [&flows[..100], &flows[100..]] {
        for (flow, (_, segments)) in half.iter().zip(forged.iter().cycle()) {
            for (flags, number) in *segments {
                bed.uplink(&flow.numbered_segment(flags, *number, 77));
            }
        }
        bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active), (5, Active)]);
    }
    for seconds in [0, 6, 6] {
        bed.lb.sweep_after(Duration::from_secs(seconds)).expect("a sweep");
    }
    move_slots(&mut bed);
    assert_eq!(live(&mut bed), 200, "all of them hold up the drain");
    for ((flow, owner), (name, _)) in flows.iter().zip(owners).zip(forged.iter().cycle()) {
        assert_eq!(bed.backend_of(&flow.segment("A")), owner, "{name}");
    }
}

/// What the client says is borne out by the backend.
#[test]
fn an_end_counts_when_the_backend_bears_it_out() {
    type End = fn(&Bed, Flow, u8);
    let ends: [(&str, u64, End); 6] = [
        ("a RST of the backend's", 0, |bed, flow, owner| {
            bed.uplink(&flow.segment("R"));
            bed.answer(&flow.answer(owner, "R"));
        }),
        ("both FINs, the client's first", 0, |bed, flow, owner| {
            bed.uplink(&flow.segment("FA"));
            bed.answer(&flow.answer(owner, "FA"));
        }),
        ("both FINs, the client's acknowledged before", 0, |bed, flow, owner| {
            bed.uplink(&flow.segment("FA"));
            bed.answer(&flow.answer_of(owner, "A", 2, 3, b""));
            bed.answer(&flow.answer_of(owner, "FA", 2, 3, b""));
        }),
        ("both FINs, the backend's first", 0, |bed, flow, owner| {
            bed.answer(&flow.answer_of(owner, "FA", 2, 2, b""));
            bed.uplink(&flow.numbered_segment("FA", 2, 3));
            bed.answer(&flow.answer_of(owner, "A", 3, 3, b""));
        }),
        ("a FIN that the backend doesn't acknowledge", 1, |bed, flow, owner| {
            bed.uplink(&flow.numbered_segment("FA", 4_711, 2));
            bed.answer(&flow.answer_of(owner, "FA", 2, 2, b""));
        }),
        ("the client's FIN alone", 1, |bed, flow, owner| {
            bed.uplink(&flow.segment("FA"));
            bed.answer(&flow.answer_of(owner, "A", 2, 3, b""));
        }),
    ];
    let mut bed = two_backends();
    let mut all = 0;
    for ((name, left, end), number) in ends.into_iter().zip(0..) {
        let flow = Flow::numbered(number);
        let owner = bed.connect(flow);
        end(&bed, flow, owner);
        all += left;
        assert_eq!(live(&mut bed), all, "{name}");
    }
}

/// A backend that takes a RST says nothing, nor does one that ignores it: it is asked, and has ended the flow when it
/// leaves all that unanswered. What it sends afterwards shows that it hasn't.
#[test]
fn a_reset_stands_when_its_backend_stays_silent_and_its_next_packet_belies_it() {
    let mut bed = two_backends();
    let (flow, other) = (Flow::numbered(1), Flow::numbered(2));
    let owner = bed.connect(flow);
    bed.connect(other);
    move_slots(&mut bed);
    bed.uplink(&flow.numbered_segment("R", 0x1234_5678, 0));
    let second = Duration::from_secs(1);
    let until_silent = u32::from(CLAIM_STANDS + PROBES);
    for _ in 1..until_silent {
        bed.lb.sweep_after(second).expect("a sweep");
        assert_eq!(live(&mut bed), 2);
    }
    bed.lb.sweep_after(second).expect("a sweep");
    assert_eq!((live(&mut bed), known(&bed)), (1, 2), "it is kept for what is late");
    assert_eq!(bed.backend_of(&flow.segment("A")), owner);
    assert_eq!(bed.answer(&flow.data(owner)).0, Verdict::Redirect);
    assert_eq!(live(&mut bed), 2);
    assert_eq!(bed.backend_of(&flow.segment("A")), owner);

    // It ends all the same when the backend says so.
    bed.answer(&flow.answer(owner, "R"));
    assert_eq!(live(&mut bed), 1);
}

/// Handshakes that nobody ends push out one another, and no flow.
#[test]
fn a_flood_of_handshakes_fills_no_flow_table() {
    let mut bed = two_backends();
    let flows: Vec<Flow> = (0..300).map(Flow::numbered).collect();
    let owners = bed.connect_all(&flows);
    move_slots(&mut bed);
    // More than the table of flows has room for.
    let spoofed: Vec<Flow> = (0..9_000_u16)
        .map(|number| Flow { client: std::net::Ipv4Addr::from(0x0a00_0001 + u32::from(number)), port: 9 })
        .collect();
    let frames: Vec<_> = spoofed.iter().map(|flow| flow.segment("S")).collect();
    let answers: Vec<_> = spoofed
        .iter()
        .zip(bed.uplink_all(&frames).iter().map(flow::owner))
        .map(|(flow, owner)| flow.answer(owner, "SA"))
        .collect();
    assert!(bed.answer_all(&answers).iter().all(|(verdict, _)| *verdict == Verdict::Redirect));
    let acks: Vec<_> = spoofed.iter().map(|flow| torn(flow.segment("A"))).collect();
    bed.uplink_all(&acks);
    assert_eq!((live(&mut bed), known(&bed)), (300, 300));
    let fresh = Flow::numbered(5_000);
    let owner = bed.connect(fresh);
    for (flow, owner) in flows.iter().zip(owners).chain([(&fresh, owner)]) {
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
    }
}

/// An instance sends nothing to those who haven't asked, whatever it sends before.
#[test]
fn only_answers_to_what_came_in_leave() {
    let bed = two_backends();
    bed.lb.program("uplink").expect("the program");
    let flow = Flow::numbered(1);
    for _ in 0..3 {
        for (flags, data) in
            [("SA", &b""[..]), ("A", b""), ("A", b"data"), ("FA", b""), ("R", b""), ("RA", b"")]
        {
            let before = bed.drops("unsolicited");
            let (verdict, _) = bed.answer(&flow.answer_of(2, flags, 7, 8, data));
            assert_eq!((verdict, bed.drops("unsolicited")), (Verdict::Drop, before + 1), "{flags} {data:?}");
        }
    }
}

/// An idle connection that was forgotten goes on as soon as its client speaks.
#[test]
fn an_idle_connection_costs_one_repetition_and_goes_on() {
    let mut bed = two_backends();
    let flow = Flow::numbered(1);
    let owner = bed.connect(flow);
    for _ in 0..2 {
        bed.lb.sweep_after(Duration::from_secs(400)).expect("a sweep");
        assert_eq!(known(&bed), 0);
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
        assert_eq!(bed.answer(&flow.data(owner)).0, Verdict::Drop);
        // Either end repeats what it has said.
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
        assert_eq!(bed.answer(&flow.data(owner)).0, Verdict::Redirect);
        assert_eq!(live(&mut bed), 1);
    }
}

/// A stream of the backend's keeps its flow, as UDP and as echo replies: it holds up a drain and is known.
#[test]
fn answers_keep_a_flow_without_connection_alive() {
    let mut bed = Bed::new();
    bed.with(ICMP, &[(2, Active), (3, Active)]);
    bed.with(UDP_80, &[(2, Active), (3, Active)]);
    let (ping, stream) = (Flow::numbered(1), Flow::numbered(2));
    let (pinged, owner) = (bed.backend_of(&ping.ping(1)), bed.backend_of(&stream.datagram()));
    assert_eq!(live(&mut bed), 0, "nobody has answered");
    assert_eq!(bed.answer(&stream.datagram_from(5 - owner)).0, Verdict::Drop, "the other wasn't asked");
    for _ in 0..20 {
        assert_eq!(bed.answer(&ping.pong(pinged, 1)).0, Verdict::Redirect);
        assert_eq!(bed.answer(&stream.datagram_from(owner)).0, Verdict::Redirect);
        bed.lb.sweep_after(Duration::from_secs(20)).expect("a sweep");
        assert_eq!((live(&mut bed), known(&bed)), (2, 2));
        bed.with(UDP_80, &[(owner, Draining), (5 - owner, Active)]);
        assert_eq!(bed.backend_of(&stream.datagram()), owner, "it stays");
    }
    bed.lb.sweep_after(Duration::from_secs(121)).expect("a sweep");
    assert_eq!(live(&mut bed), 0);
    assert_eq!(bed.answer(&stream.datagram_from(owner)).0, Verdict::Drop, "nobody listens any more");
}
