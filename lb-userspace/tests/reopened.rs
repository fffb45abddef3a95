//! Clients that begin a connection where they, or others with their address, had one before: after a crash, by a translation of
//! addresses that gives a port out again, or on purpose.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use bed::{Bed, TCP_80, Verdict};
use flow::Flow;
use lb_userspace::service::BackendState::{Active, Draining};

/// Flows of three backends, in slots that have moved since: those of the third have neither their owner nor who had them before.
fn moved(flows: &[Flow]) -> (Bed, Vec<u8>) {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    bed.with(TCP_80, &[(2, Active), (3, Active), (4, Active)]);
    let owners = bed.connect_all(flows);
    assert!(owners.contains(&4));
    bed.with(TCP_80, &[(2, Active), (3, Draining), (4, Draining), (5, Active)]);
    (bed, owners)
}

/// The second connection's handshake, with numbers of its own, by the backend that gets its SYN; which one that is.
fn begin_again(bed: &Bed, flow: Flow) -> u8 {
    let backend = bed.backend_of(&flow.numbered_segment("S", 7_000, 0));
    let answer = flow.answer_of(backend, "SA", 9_000, 7_001, b"");
    assert_eq!(bed.answer(&answer).0, Verdict::Redirect, "{} is answered by {backend}", flow.port);
    backend
}

fn acknowledge(bed: &Bed, flow: Flow) -> u8 {
    bed.backend_of(&flow.numbered_segment("A", 7_001, 9_001))
}

/// While the end of the first is in doubt, its backend gets the SYN and is heard, wherever its slot is now.
#[test]
fn a_connection_that_begins_where_another_may_have_ended_is_answered() {
    let ends: [(&str, &[&str]); 4] = [
        ("nothing was said of an end", &[]),
        ("the client's RST", &["R"]),
        ("the client's FIN", &["FA"]),
        ("both", &["FA", "R"]),
    ];
    let flows: Vec<Flow> = (0..80).map(Flow::numbered).collect();
    let (bed, owners) = moved(&flows);
    for ((flow, owner), (name, segments)) in flows.iter().zip(owners).zip(ends.iter().cycle()) {
        for flags in *segments {
            bed.uplink(&flow.segment(flags));
        }
        assert_eq!(begin_again(&bed, *flow), owner, "{name}");
        assert_eq!(acknowledge(&bed, *flow), owner, "{name}");
        assert_eq!(bed.answer(&flow.answer_of(owner, "A", 9_001, 7_001, b"data")).0, Verdict::Redirect);
    }
}

/// The first one's end becomes known while the second one's SYN is under way.
#[test]
fn an_answer_is_heard_though_the_connection_before_has_ended_since_it_was_asked_for() {
    let flows: Vec<Flow> = (0..40).map(Flow::numbered).collect();
    let (bed, owners) = moved(&flows);
    for (flow, owner) in flows.iter().zip(owners) {
        assert_eq!(bed.backend_of(&flow.numbered_segment("S", 7_000, 0)), owner);
        bed.answer(&flow.answer(owner, "R"));
        let answer = flow.answer_of(owner, "SA", 9_000, 7_001, b"");
        assert_eq!(bed.answer(&answer).0, Verdict::Redirect, "{}, of {owner}", flow.port);
        assert_eq!(bed.backend_of(&flow.numbered_segment("S", 7_000, 0)), owner, "it is repeated");
        assert_eq!(acknowledge(&bed, *flow), owner);
    }
}

/// A backend with an older connection of the same ends, which isn't known here, acknowledges that instead of the SYN.
/// The client's RST to that has to reach it, or it never takes the new one (RFC 9293, 3.5.1).
#[test]
fn a_reset_goes_to_the_backend_that_has_asked_for_it() {
    let flows: Vec<Flow> = (0..40).map(Flow::numbered).collect();
    // The first half has no entry, and the other one of a connection that has ended at another backend.
    let (bed, owners) = moved(&flows[20..]);
    for (flow, owner) in flows[20..].iter().zip(owners) {
        bed.answer(&flow.answer(owner, "R"));
    }
    let mut elsewhere = 0;
    for flow in flows {
        let late = bed.backend_of(&flow.segment("A"));
        let owner = bed.backend_of(&flow.numbered_segment("S", 7_000, 0));
        elsewhere += u8::from(late != owner);
        for number in [4_711, 4_712] {
            assert_eq!(bed.answer(&flow.answer_of(owner, "A", 800, number, b"")).0, Verdict::Redirect);
        }
        let reset = flow.numbered_segment("R", 4_712, 0);
        assert_eq!(bed.backend_of(&reset), owner, "{}", flow.port);
        assert_eq!(begin_again(&bed, flow), owner);
        assert_eq!(acknowledge(&bed, flow), owner);
    }
    assert!(elsewhere > 10, "{elsewhere}: else nothing was asked");
}
