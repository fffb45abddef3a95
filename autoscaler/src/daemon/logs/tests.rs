use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use sluice_northbound::api::{EventKind, EventQuery};
use sluice_store::logs::{LogLimits, LogMessage};
use tempfile::TempDir;

use super::*;
use crate::daemon::testing::{at, name};

const DAY: Duration = Duration::from_hours(24);

fn logs(size: u64) -> (TempDir, Logs, EventLog) {
    let directory = tempfile::tempdir().unwrap();
    let book = LogBook::new(directory.path().join("logs"), LogLimits { keep: DAY, size });
    let events = EventLog::open(&directory.path().join("events")).unwrap();
    (directory, Logs::new(book, None, Vec::new(), None), events)
}

fn line(text: &str) -> (LogOwner, LogLine) {
    let message = LogMessage { text: text.to_owned(), ..LogMessage::default() };
    let line = LogLine { at: at(0), from: [19, 0, 0, 5].into(), instance: None, message };
    (LogOwner::Tenant(name("demo")), line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_bounded_and_what_is_left_at_the_end_is_in_the_last_ones() {
    const LINES: usize = 200;
    let intake = Intake::new(IntakeLimits::default());
    let senders = Senders::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let (here, address) = (Netns::current().unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let mut listener = Listener::open(&here, address, &intake, move |from| senders.of(from)).unwrap();
    let address = listener.address;
    let sending = std::thread::spawn(move || {
        let line = format!("<13>{}\n", "x".repeat(60_000));
        let mut tcp = TcpStream::connect(address).unwrap();
        (0..LINES).for_each(|_| tcp.write_all(line.as_bytes()).unwrap());
    });
    // Less than there is room for.
    while listener.messages.len() < LINES {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sending.join().unwrap();
    let end = CancellationToken::new();
    end.cancel();
    let mut sizes = Vec::new();
    while let Some(batch) = gather(&mut listener.messages, &end).await {
        sizes.push(batch.len());
        let bytes: usize = batch.iter().map(|received| received.room.bytes()).sum();
        assert!(bytes < BATCH_BYTES + (64 << 10), "{bytes}");
    }
    assert_eq!((sizes.len(), sizes.iter().sum()), (3, LINES), "{sizes:?}");
}

#[tokio::test]
async fn a_port_that_another_has_is_a_problem_until_it_is_free() {
    let (_directory, logs, events) = logs(1 << 20);
    let (logs, problems, netns) = (Arc::new(logs), Problems::default(), Netns::current().unwrap());
    let other = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap();
    let place = Place { side: Side::Transit, netns, address };
    let listening = listen(&logs, &problems, &events, &place);
    assert!(tokio::time::timeout(Duration::from_millis(50), listening).await.is_err());
    let [problem] = problems.list().try_into().unwrap();
    assert!(problem.what.contains("in use") && problem.way_out.contains("sport = :"), "{problem:?}");
    drop(other);
    listen(&logs, &problems, &events, &place).await;
    assert_eq!(problems.list(), []);
    let kinds: Vec<_> = events.query(&EventQuery::default()).await.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::ProblemFound, EventKind::ProblemSolved]);
}

#[tokio::test]
async fn a_day_that_is_full_is_an_event_of_its_tenant() {
    let (_directory, logs, events) = logs(1_600);
    while logs.book.counts().lost < 3 {
        logs.write(vec![line("a line")], &events);
    }
    let of_demo = EventQuery { tenant: Some(name("demo")), ..EventQuery::default() };
    let found = events.query(&of_demo).await.events;
    assert_eq!(found.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::LogsLost]);
    assert!(found[0].message.contains("it is full"), "{}", found[0].message);
}

#[test]
fn a_clock_that_is_far_ahead_of_what_is_kept_is_not_believed() {
    let (_directory, logs, events) = logs(1 << 20);
    logs.write(vec![line("of then")], &events);
    let (then, now) = (at(0), std::time::Instant::now());
    let ahead = then.checked_add(jiff::SignedDuration::from_hours(9_000)).unwrap();
    let mut clock = clock(&logs.book);
    assert!(clock.believes(then, now) && !clock.believes(ahead, now));
}

#[tokio::test]
async fn what_is_too_old_goes_while_nothing_comes() {
    let (_directory, logs, events) = logs(1 << 20);
    logs.write(vec![line("old")], &events);
    let turn = std::cell::Cell::new(0);
    let now = || Some(at(turn.replace(turn.get() + 1) * 2 * 86_400));
    let gone = async {
        while !logs.book.owners().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = tokio::time::sleep(Duration::from_mins(1));
    tokio::select! {
        () = mind(&logs, &events, Duration::from_millis(5), now) => {}
        () = gone => {}
        () = patience => panic!("it is still there after turn {}", turn.get()),
    }
    assert!(turn.get() >= 2, "it was not too old at first");
}
