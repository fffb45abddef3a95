//! Syslog over real sockets.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use lb_userspace::net::Netns;
use sluice_southbound::syslog::{Listener, Received};

/// A flood that CI can bear; more than may wait, so that the sender has to.
const FLOOD: usize = 40_000;

fn listener(admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Listener {
    let here = Netns::current().expect("a namespace");
    Listener::open(&here, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), admits).expect("a free port")
}

async fn receive(listener: &mut Listener) -> Received {
    let next = tokio::time::timeout(Duration::from_secs(30), listener.messages.recv()).await;
    next.expect("a message comes").expect("it listens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_and_tcp_in_both_framings() {
    let mut listener = listener(|_| true);
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
    assert_eq!(listener.lost.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_admitted_is_not_heard() {
    let mut listener = listener(|from| from == IpAddr::V4(Ipv4Addr::LOCALHOST));
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    stranger.send_to(b"<13>stranger", listener.address).unwrap();
    let known = UdpSocket::bind("127.0.0.1:0").unwrap();
    known.send_to(b"<13>known", listener.address).unwrap();
    assert_eq!(receive(&mut listener).await.message.text, "known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_over_tcp_waits_and_loses_nothing() {
    let mut listener = listener(|_| true);
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
    while listener.messages.len() < listener.messages.max_capacity() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 0..FLOOD {
        assert_eq!(receive(&mut listener).await.message.text, format!("line {number}"));
    }
    sender.join().unwrap();
    assert_eq!(listener.lost.count(), 0);
}
