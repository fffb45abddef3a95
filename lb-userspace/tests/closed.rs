//! A client behind a veth hears that a port is closed, whatever its end of the veth is set to.

mod bed;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use bed::{Bed, TCP_80, UPLINK_MAC, VIP};
use lb_userspace::lb::attach_receiver;
use lb_userspace::net::MacAddr;

/// Far longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// With a client that has a way to the VIP, where nothing listens.
fn with_a_client() -> Bed {
    let mut bed = Bed::new();
    bed.apply(TCP_80, &[]);
    let mac = MacAddr(UPLINK_MAC).to_string();
    run(&bed, "ip address add 198.51.100.7/24 dev cl0");
    run(&bed, "ip route add 45.45.45.45 dev cl0");
    run(&bed, &format!("ip neigh add 45.45.45.45 lladdr {mac} dev cl0"));
    bed
}

/// Runs a command in the client's namespace.
fn run(bed: &Bed, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let status = bed.peers().run(|| Command::new(words[0]).args(&words[1..]).status().expect("it runs"));
    assert!(status.expect("the namespace").success(), "{command}");
}

/// How a connection to a port of the VIP ends.
fn connect(bed: &Bed, port: u16) -> ErrorKind {
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((VIP, port)), PATIENCE).map(drop);
    bed.peers().run(connect).expect("the namespace").expect_err("closed").kind()
}

/// What a datagram to a port of the VIP is answered with.
fn ask(bed: &Bed, port: u16) -> ErrorKind {
    let ask = || {
        let socket = UdpSocket::bind("198.51.100.7:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((VIP, port))?;
        socket.send(b"is somebody there?")?;
        socket.recv(&mut [0; 8])
    };
    bed.peers().run(ask).expect("the namespace").expect_err("closed").kind()
}

fn is_refused(bed: &Bed, what: &str) {
    assert_eq!(connect(bed, 80), ErrorKind::ConnectionRefused, "a service without a backend, {what}");
    assert_eq!(connect(bed, 9), ErrorKind::ConnectionRefused, "a port without a service, {what}");
    assert_eq!(ask(bed, 9), ErrorKind::ConnectionRefused, "a datagram, {what}");
}

#[test]
fn a_client_behind_a_veth_is_refused() {
    let bed = with_a_client();
    is_refused(&bed, "plain");
    run(&bed, "ethtool -K cl0 gro on");
    is_refused(&bed, "with NAPI");
    run(&bed, "ethtool -K cl0 gro off");
    let _receiver = attach_receiver(&bed.peers(), "cl0").expect("attached");
    is_refused(&bed, "with an XDP program");
}

#[test]
fn it_is_refused_after_the_daemon_was_replaced_too() {
    let mut bed = with_a_client();
    bed.reopen();
    is_refused(&bed, "plain");
}
