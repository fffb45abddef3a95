//! What `sluice lb watch` shows is what the program on the uplink has done.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::net::IpAddr;

use aya::programs::loaded_programs;
use bed::{Bed, CLIENT, ICMP, TCP_80, VIP, Verdict, backend_address};
use flow::Flow;
use lb_userspace::lb::Error;
use lb_userspace::lb::look::{ChosenBy, Look, Outcome, Sample, Watch, WatchFilter, Watched};
use lb_userspace::service::BackendState::{Active, Draining};
use packets::{Segment, tcp};

const EVERYTHING: WatchFilter = WatchFilter { service: None, client: None, all: false, every: 1 };

fn watch(bed: &Bed, filter: &WatchFilter) -> Watch {
    let look = Look::open(&bed.settings.pin_root).expect("the pins open");
    look.watch(filter).expect("the watcher takes its place")
}

fn samples(watch: &mut Watch) -> Vec<Sample> {
    std::iter::from_fn(|| watch.read()).collect()
}

/// What the watcher shows of one frame.
fn shown(bed: &Bed, watch: &mut Watch, frame: &[u8]) -> Sample {
    bed.uplink(frame);
    let mut samples = samples(watch);
    assert_eq!(samples.len(), 1, "{samples:?}");
    samples.remove(0)
}

fn backend(sample: &Sample) -> u8 {
    match sample.outcome {
        Outcome::Backend { to, .. } => match to.ip() {
            IpAddr::V4(to) => to.octets()[3],
            IpAddr::V6(to) => panic!("{to}"),
        },
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn each_decision_is_shown_with_its_backend_and_its_reason() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    bed.with(ICMP, &[(2, Active), (3, Active)]);
    let mut watch = watch(&bed, &EVERYTHING);
    let mut known = Vec::new();
    for number in 0..20 {
        let flow = Flow::numbered(number);
        let to = bed.backend_of(&flow.segment("S"));
        let begun = samples(&mut watch).remove(0);
        assert_eq!(backend(&begun), to);
        assert_eq!((begun.client, begun.client_port), (Some(IpAddr::V4(flow.client)), Some(flow.port)));
        assert_eq!((begun.vip, begun.vip_port), (Some(IpAddr::V4(VIP)), Some(80)));
        assert_eq!((begun.protocol.as_deref(), begun.flags.as_deref()), (Some("tcp"), Some("S")));
        assert!(matches!(begun.outcome, Outcome::Backend { new_flow: true, state: Some(Active), .. }));
        let slot = begun.slot.as_ref().expect("a slot");
        assert_eq!((slot.tracked, slot.owner), (false, Some(IpAddr::V4(backend_address(to)))));

        bed.answer(&flow.answer(to, "SA"));
        let second = shown(&bed, &mut watch, &flow.segment("A"));
        assert!(matches!(second.outcome, Outcome::Backend { new_flow: false, .. }), "{second}");
        assert_eq!(
            (begun.chosen_by, second.chosen_by),
            (Some(ChosenBy::SlotOwner), Some(ChosenBy::SlotOwner))
        );
        if to == 2 {
            known.push(flow);
        }
    }
    let ping = Flow::numbered(1);
    let first = shown(&bed, &mut watch, &ping.ping(1));
    let second = shown(&bed, &mut watch, &ping.ping(2));
    assert_eq!((first.chosen_by, second.chosen_by), (Some(ChosenBy::SlotOwner), Some(ChosenBy::Flow)));
    assert_eq!((first.vip_port, first.client_port), (None, Some(ping.port)));

    bed.with(TCP_80, &[(2, Draining), (3, Active)]);
    let kept = shown(&bed, &mut watch, &known[0].segment("A"));
    assert_eq!((backend(&kept), kept.chosen_by), (2, Some(ChosenBy::Flow)));
    assert!(kept.to_string().contains("19.0.0.2:80 (draining); its flow is known"), "{kept}");
    let unknown = (100..200).map(Flow::numbered);
    let mut others = unknown.map(|flow| shown(&bed, &mut watch, &flow.segment("A")));
    let kept = others.find(|sample| backend(sample) == 2).expect("one of many");
    assert_eq!(kept.chosen_by, Some(ChosenBy::SlotPreviousOwner));
}

#[test]
fn what_goes_to_no_backend_is_shown_with_its_reason() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[]);
    bed.with(ICMP, &[]);
    let mut watch = watch(&bed, &EVERYTHING);
    let flow = Flow::numbered(1);
    let reason = || "no_backend".to_owned();
    let answered = shown(&bed, &mut watch, &flow.segment("S"));
    assert_eq!(answered.outcome, Outcome::Answered { reason: reason() });
    assert_eq!(shown(&bed, &mut watch, &flow.ping(1)).outcome, Outcome::Dropped { reason: reason() });
    let torn = shown(&bed, &mut watch, &flow.segment("S")[..30]);
    assert_eq!(torn.outcome, Outcome::Dropped { reason: "ipv4_truncated".to_owned() });
    assert_eq!((torn.client, torn.length), (None, 30));
    let mut spoofed = flow.segment("S");
    spoofed[26..30].copy_from_slice(&VIP.octets());
    let spoofed = shown(&bed, &mut watch, &spoofed);
    assert_eq!(spoofed.outcome, Outcome::Dropped { reason: "impossible_source".to_owned() });
    // A VIP's port without a service.
    let elsewhere = Segment { source: flow.port, destination: 81, flags: "S", ..Segment::default() };
    let other = shown(&bed, &mut watch, &tcp(&flow.ends(), &elsewhere));
    let closed = Outcome::Answered { reason: "not_balanced".to_owned() };
    assert_eq!((&other.outcome, &other.slot), (&closed, &None));
}

#[test]
fn what_is_not_asked_for_is_not_shown() {
    let one = Flow::numbered(1);
    let mut elsewhere = one.segment("S");
    elsewhere[33] = 46;
    let frames = [
        one.segment("S"),
        Flow::numbered(2).segment("S"),
        one.ping(1),
        elsewhere,
        one.segment("S")[..30].to_vec(),
    ];
    let client = format!("{}/32", one.client).parse().expect("a client");
    let service = "45.45.45.45:80/tcp".parse().expect("a service");
    for (name, filter, expected) in [
        ("everything that is a service's", EVERYTHING, 4),
        ("everything", WatchFilter { all: true, ..EVERYTHING }, 5),
        ("one client", WatchFilter { client: Some(client), ..EVERYTHING }, 2),
        ("one service", WatchFilter { service: Some(service), ..EVERYTHING }, 2),
        ("both", WatchFilter { client: Some(client), service: Some(service), ..EVERYTHING }, 1),
    ] {
        let mut bed = Bed::new();
        bed.with(TCP_80, &[(2, Active)]);
        bed.with(ICMP, &[(2, Active)]);
        let mut watch = watch(&bed, &filter);
        bed.uplink_all(&frames);
        let mut samples = samples(&mut watch);
        // The uplink's other end is a kernel, which looks for IPv6 routers now and then.
        samples.retain(|sample| sample.client.is_none_or(|client| client.is_ipv4()));
        assert_eq!(samples.len(), expected, "{name}: {samples:?}");
        let watched = watch.watched().expect("counts");
        if !filter.all {
            assert_eq!(watched, Watched { wanted: expected as u64, lost: 0 }, "{name}");
        }
    }
}

#[test]
fn one_in_so_many_is_shown() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let frame = Flow::numbered(1).segment("A");
    // The CPU that runs them may change: then each has its own count.
    let mut sampled = watch(&bed, &WatchFilter { every: 10, ..EVERYTHING });
    bed.uplink_all(&vec![frame; 1_000]);
    let shown = samples(&mut sampled).len();
    let cpus = aya::util::nr_cpus().expect("the CPUs");
    assert!((100 - cpus..=100).contains(&shown), "{shown}");
    assert_eq!(sampled.watched().expect("counts"), Watched { wanted: 1_000, lost: 0 });
}

#[test]
fn what_is_read_too_slowly_is_counted() {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let frame = Flow::numbered(1).segment("A");
    let mut slow = watch(&bed, &EVERYTHING);
    bed.uplink_all(&vec![frame; 4_000]);
    let shown = samples(&mut slow).len() as u64;
    let Watched { wanted, lost } = slow.watched().expect("counts");
    assert_eq!(wanted, 4_000);
    assert!(lost > 0, "the ring holds less");
    assert_eq!(shown + lost, wanted);
}

#[test]
fn one_watches_at_a_time() {
    let bed = Bed::new();
    let mut first = watch(&bed, &EVERYTHING);
    let look = Look::open(&bed.settings.pin_root).expect("the pins open");
    assert!(matches!(look.watch(&EVERYTHING), Err(Error::Watched)));
    assert!(!first.follow().expect("the first keeps its place"));
}

#[test]
fn a_watcher_follows_to_a_new_program_and_leaves_nothing() {
    let ours = || {
        let names = |name: &str| name == "watch";
        let running = loaded_programs().flatten();
        running.filter(|program| program.name_as_str().is_some_and(names)).map(|program| program.id()).max()
    };
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active)]);
    let frame = Flow { client: CLIENT, port: 40_000 }.segment("A");
    let mut watch = watch(&bed, &EVERYTHING);
    assert!(!watch.follow().expect("nothing has changed"));
    bed.reopen();
    assert_eq!(bed.uplink(&frame).0, Verdict::Redirect);
    assert_eq!(samples(&mut watch).len(), 0, "another program is there now");
    assert!(watch.follow().expect("the new program takes the watcher too"));
    assert_eq!(backend(&shown(&bed, &mut watch, &frame)), 2);
    let last = ours().expect("the watcher's program is there");
    drop(watch);
    // Other tests may watch, but not with this program. The kernel frees it after a grace period.
    let gone = || !loaded_programs().flatten().any(|program| program.id() == last);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !gone() {
        assert!(std::time::Instant::now() < patience, "program {last} is still loaded");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(bed.uplink(&frame).0, Verdict::Redirect);
}
