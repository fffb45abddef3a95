//! Syslog over real sockets.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_userspace::net::Netns;
use sluice_southbound::syslog::{Intake, IntakeCounts, IntakeLimits, LONGEST, Listener, Received};
use tokio::net::TcpSocket;

/// A flood that CI can bear; more than may wait, so that the sender has to.
const FLOOD: usize = 100_000;
const PATIENCE: Duration = Duration::from_mins(1);

fn intake() -> Intake {
    Intake::new(IntakeLimits::default())
}

fn listener<S: Clone + Send + Sync + 'static>(
    intake: &Intake,
    knows: impl Fn(IpAddr) -> Option<S> + Send + Sync + 'static,
) -> Listener<S> {
    let here = Netns::current().expect("a namespace");
    Listener::open(&here, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), intake, knows).expect("a free port")
}

async fn receive<S>(listener: &mut Listener<S>) -> Received<S> {
    let next = tokio::time::timeout(PATIENCE, listener.messages.recv()).await;
    next.expect("a message comes").expect("it listens")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_and_tcp_in_both_framings() {
    let intake = intake();
    let mut listener = listener(&intake, |_| Some(()));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"<13>1 2026-11-25T10:00:00Z web app - - - over udp\n", listener.address).unwrap();
    let received = receive(&mut listener).await;
    assert_eq!((received.message.text.as_str(), received.message.app.as_deref()), ("over udp", Some("app")));
    assert_eq!(received.from, IpAddr::V4(Ipv4Addr::LOCALHOST));
    udp.send_to(b"no syslog at all", listener.address).unwrap();
    assert!(receive(&mut listener).await.message.malformed);

    let mut tcp = TcpStream::connect(listener.address).unwrap();
    tcp.write_all(
        b"<14>Oct 11 22:14:15 web app: a line\n20 <14>1 - - - - - - ab<15>Oct 11 22:14:15 web app: no end",
    )
    .unwrap();
    drop(tcp);
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(receive(&mut listener).await.message.text);
    }
    assert_eq!(texts, ["a line", "ab", "no end"]);
    assert_eq!(intake.counts(), IntakeCounts::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_is_counted_and_not_heard() {
    let intake = intake();
    let mut listener = listener(&intake, |from| (from == IpAddr::V4(Ipv4Addr::LOCALHOST)).then_some(()));
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    stranger.send_to(b"<13>stranger", listener.address).unwrap();
    let known = UdpSocket::bind("127.0.0.1:0").unwrap();
    known.send_to(b"<13>known", listener.address).unwrap();
    assert_eq!(receive(&mut listener).await.message.text, "known");
    assert_eq!(intake.counts(), IntakeCounts { unknown: 1, ..IntakeCounts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_whose_the_address_was_when_it_came() {
    let (intake, holder) = (intake(), Arc::new(AtomicU64::new(1)));
    let now = holder.clone();
    let mut listener = listener(&intake, move |_| match now.load(Ordering::Relaxed) {
        0 => None,
        number => Some(number),
    });
    let mut first = TcpStream::connect(listener.address).unwrap();
    first.write_all(b"<13>one\n").unwrap();
    assert_eq!(receive(&mut listener).await.sender, 1);
    holder.store(2, Ordering::Relaxed);
    first.write_all(b"<13>last\n").unwrap();
    assert_eq!(receive(&mut listener).await.sender, 1, "the connection is still the first one's");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"<13>other", listener.address).unwrap();
    let received = receive(&mut listener).await;
    holder.store(0, Ordering::Relaxed);
    assert_eq!((received.sender, received.message.text.as_str()), (2, "other"));
    assert_eq!(intake.counts(), IntakeCounts::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_over_tcp_waits_and_loses_nothing() {
    let intake = intake();
    let mut listener = listener(&intake, |_| Some(()));
    let address = listener.address;
    let sender = std::thread::spawn(move || {
        let mut tcp = std::io::BufWriter::new(TcpStream::connect(address).unwrap());
        for number in 0..FLOOD {
            let message = format!("<13>1 2026-11-25T10:00:00Z web app 1 - - line {number}");
            write!(tcp, "{} {message}", message.len()).unwrap();
        }
        tcp.flush().unwrap();
    });
    // Nobody takes a message yet: what does not fit has to wait in the sender.
    let before = receive(&mut listener).await;
    let fit = IntakeLimits::default().tcp as usize / before.room.bytes();
    until("as many as fit", || listener.messages.len() + 2 > fit / 10 * 9).await;
    assert!(listener.messages.len() <= fit && fit < FLOOD, "{} of {fit}", listener.messages.len());
    drop(before);
    for number in 1..FLOOD {
        assert_eq!(receive(&mut listener).await.message.text, format!("line {number}"));
    }
    sender.join().unwrap();
    assert_eq!(intake.counts().lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_messages_are_bounded_by_their_bytes() {
    const LONG: usize = 60_000;
    let intake = Intake::new(IntakeLimits { tcp: 1 << 20, udp: 1 << 20, ..IntakeLimits::default() });
    let mut listener = listener(&intake, |_| Some(()));
    let address = listener.address;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    // No UTF-8: as text each byte is three.
    let datagram = vec![0xff; LONG];
    let fit = (1 << 20) / (3 * LONG);
    // What the kernel drops on the way counts as lost too, so more may have to be sent.
    while intake.counts().lost == 0 || listener.messages.len() < fit {
        udp.send_to(&datagram, address).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(listener.messages.len(), fit, "of 64 KiB each a thousand times as much would fit");

    let sender = std::thread::spawn(move || {
        let mut tcp = TcpStream::connect(address).unwrap();
        let mut line = vec![0xff; LONGEST];
        line[LONGEST - 1] = b'\n';
        (0..100).for_each(|_| tcp.write_all(&line).unwrap());
    });
    let waiting = (1 << 20) / (3 * LONG) + (1 << 20) / (3 * LONGEST);
    until("as many as fit", || listener.messages.len() == waiting).await;
    for _ in 0..(1 << 20) / (3 * LONG) + 100 {
        assert!(receive(&mut listener).await.message.malformed);
    }
    sender.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_many_connections_stops_nobody_elses() {
    let intake = Intake::new(IntakeLimits { connections_of_one: 8, ..IntakeLimits::default() });
    let mut listener = listener(&intake, |_| Some(()));
    let address = listener.address;
    let open: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut ninth = TcpStream::connect(address).unwrap();
    assert_eq!(ninth.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    assert_eq!(intake.counts(), IntakeCounts { refused: 1, ..IntakeCounts::default() });

    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut other, b"<13>heard\n").await.unwrap();
    assert_eq!(receive(&mut listener).await.message.text, "heard");
    drop(open);
}
