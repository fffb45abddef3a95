use std::collections::HashMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

/// A responder in this process.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    fn new(request_cost: Duration) -> Self {
        let listener = listen(0).expect("a port");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().expect("bound").port()));
        let (stop, stopped) = oneshot::channel();
        let options = Options { instance: "demo-00000001".to_owned(), port: 0, request_cost };
        let ended = async {
            let _ = stopped.await;
        };
        Self { address, stop, served: tokio::spawn(serve(listener, options, ended)) }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer).await.expect("an answer");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test]
async fn lines_come_back_with_the_name() {
    let responder = Running::new(Duration::ZERO);
    let mut stream = responder.connect().await;
    for line in ["hello\n", "GETTING\n", "\n"] {
        stream.write_all(line.as_bytes()).await.expect("sent");
        assert_eq!(read_some(&mut stream).await, format!("demo-00000001 {line}"));
    }
    stream.write_all(b"no end").await.expect("sent");
    stream.shutdown().await.expect("shut");
    assert_eq!(read_some(&mut stream).await, "demo-00000001 no end");
    assert_eq!(read_some(&mut stream).await, "");
}

#[tokio::test]
async fn datagrams_come_back_with_the_name() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = socket.local_addr().expect("bound");
    let options = Options { instance: "demo-00000001".to_owned(), port: 0, request_cost: Duration::ZERO };
    tokio::spawn(datagrams::serve(socket, options));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    client.connect(address).await.expect("connected");
    let longest = vec![b'x'; 60_000];
    for datagram in [b"hello".as_slice(), b"", &longest] {
        client.send(datagram).await.expect("sent");
        let mut answer = vec![0; 65_536];
        let length = client.recv(&mut answer).await.expect("an answer");
        assert_eq!(answer[..length], [b"demo-00000001 ", datagram].concat());
    }
}

#[tokio::test]
async fn http_is_known_by_its_first_bytes_however_they_come() {
    let responder = Running::new(Duration::ZERO);
    let mut stream = responder.connect().await;
    for round in 0..2 {
        for part in ["G", "E", "T / HTTP/1.1\r\nHost: ", "vip\r\n\r\n"] {
            stream.write_all(part.as_bytes()).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let mut answer = read_some(&mut stream).await;
        while !answer.ends_with("demo-00000001\n") {
            answer.push_str(&read_some(&mut stream).await);
        }
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "round {round}: {answer}");
        assert!(answer.contains("x-sluice-instance: demo-00000001\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_gets_its_answer() {
    let responder = Running::new(Duration::from_millis(50));
    let mut stream = responder.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n").await.expect("sent");
    stream.shutdown().await.expect("all sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn idle_connections_are_held_and_keep_nobody_out() {
    let responder = Running::new(Duration::ZERO);
    descriptors::raise_limit();
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(responder.connect().await);
    }
    let mut stream = responder.connect().await;
    stream.write_all(b"x\n").await.expect("sent");
    assert_eq!(read_some(&mut stream).await, "demo-00000001 x\n");
    for stream in &mut idle {
        stream.write_all(b"y\n").await.expect("sent");
        assert_eq!(read_some(stream).await, "demo-00000001 y\n");
    }
}

#[tokio::test]
async fn a_request_that_has_begun_is_answered_before_the_end() {
    let responder = Running::new(Duration::from_millis(100));
    let (mut busy, mut idle, mut web) =
        (responder.connect().await, responder.connect().await, responder.connect().await);
    idle.write_all(b"x\n").await.expect("sent");
    assert_eq!(read_some(&mut idle).await, "demo-00000001 x\n");
    busy.write_all(b"x\n").await.expect("sent");
    web.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n").await.expect("sent");
    // Both requests have been read when the responder is told to end.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(20) {
        tokio::task::yield_now().await;
    }
    responder.stop.send(()).expect("still there");
    assert_eq!(read_some(&mut busy).await, "demo-00000001 x\n");
    assert!(read_some(&mut web).await.contains("200 OK"));
    responder.served.await.expect("ended");
    assert_eq!(read_some(&mut idle).await, "");
    assert!(begin.elapsed() < LAST_REQUESTS);
}

#[tokio::test]
async fn requests_cost_cpu_time_and_do_not_keep_others_waiting() {
    let responder = Running::new(Duration::from_millis(60));
    let begin = Instant::now();
    let mut stream = responder.connect().await;
    stream.write_all(b"x\n").await.expect("sent");
    tokio::task::yield_now().await;
    for _ in 0..100 {
        drop(responder.connect().await);
    }
    assert_eq!(read_some(&mut stream).await, "demo-00000001 x\n");
    assert!(begin.elapsed() >= Duration::from_millis(60));
}

#[test]
fn options_come_from_the_environment() {
    let given = HashMap::from([
        ("SLUICE_INSTANCE", "demo-00000001"),
        ("SLUICE_PORT", "8080"),
        ("SLUICE_REQUEST_COST", "1500"),
    ]);
    let read = |without: &str, port: &str| {
        Options::from_variables(|name| match name {
            name if name == without => None,
            "SLUICE_PORT" => Some(port.to_owned()),
            name => given.get(name).map(|&value| value.to_owned()),
        })
    };
    let options = read("", "8080").expect("options");
    assert_eq!((options.port, options.request_cost), (8080, Duration::from_micros(1500)));
    for variable in given.keys() {
        assert!(read(variable, "8080").expect_err("missing").to_string().contains(variable));
    }
    assert!(read("", "99999").expect_err("no port").to_string().contains("99999"));
}
