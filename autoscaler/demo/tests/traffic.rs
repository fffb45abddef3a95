//! The clients against a plain responder on the other end of the veth: they must see what is wrong, and nothing
//! else.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use sluice_demo::traffic::{
    Arrivals, ClientThread, FailureKind, HolderSettings, HttpLoad, HttpSettings, PingSettings, Pings,
    TcpHolders,
};
use sluice_demo::world::{GATEWAY, Network};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

const PORT: u16 = 8080;
const TARGET: SocketAddrV4 = SocketAddrV4::new(GATEWAY, PORT);

/// Answers as an instance does, and can be told to misbehave.
#[derive(Default)]
struct Responder {
    renamed: AtomicBool,
    rude: AtomicBool,
    lines: AtomicU64,
}

impl Responder {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let me = Arc::clone(&self);
            tokio::spawn(async move { me.converse(stream).await });
        }
    }

    async fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufStream::new(stream);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 || self.rude.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.lines.fetch_add(1, Ordering::Relaxed);
            let name = if self.renamed.load(Ordering::Relaxed) { "other" } else { "one" };
            if line.starts_with("GET ") {
                while stream.read_line(&mut line).await? > 2 {}
                let body = format!("{name} /\n");
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await?;
                return stream.shutdown().await;
            }
            stream.write_all(format!("{name} {line}").as_bytes()).await?;
            stream.flush().await?;
        }
    }
}

struct Bench {
    network: Network,
    clients: ClientThread,
    _server: ClientThread,
    responder: Arc<Responder>,
}

impl Bench {
    async fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let network = Network::create(name).await.expect("a network");
        let server = ClientThread::enter(network.transit()).expect("a thread in the transit namespace");
        let responder = Arc::new(Responder::default());
        let listener =
            server.handle().spawn(TcpListener::bind(TARGET)).await.expect("joined").expect("bound");
        server.handle().spawn(Arc::clone(&responder).serve(listener));
        let clients = network.clients().expect("a client thread");
        Self { network, clients, _server: server, responder }
    }

    fn holders(&self, count: u32, lifetime: Duration) -> TcpHolders {
        TcpHolders::start(
            &self.clients,
            HolderSettings {
                target: TARGET,
                count,
                lifetime: lifetime..=lifetime * 2,
                interval: Duration::from_millis(100),
                timeout: Duration::from_secs(2),
                sources: self.network.sources().expect("sources"),
                arrivals: Arrivals::default(),
            },
        )
    }

    fn pings(&self, target: Ipv4Addr) -> Pings {
        Pings::start(
            &self.clients,
            PingSettings {
                target,
                count: 20,
                lifetime: Duration::from_millis(500)..=Duration::from_secs(1),
                interval: Duration::from_millis(50),
                timeout: Duration::from_millis(500),
                sources: self.network.sources().expect("sources"),
            },
        )
    }
}

/// Waits for a condition that must come true within ten seconds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 s: {what}");
}

#[tokio::test]
async fn held_connections_are_answered_closed_and_opened_anew() {
    let bench = Bench::new("sltr-hold").await;
    let holders = bench.holders(200, Duration::from_millis(700));
    until("all open", || holders.counts().open_by_instance.values().sum::<u64>() == 200).await;
    let moment = Timestamp::now();
    until("a second round", || holders.counts().completed >= 200).await;
    holders.stop().await;
    let counts = holders.counts();
    assert_eq!((counts.broken, counts.open), (0, 0), "{:?}", holders.broken());
    assert_eq!(counts.opened, counts.completed);
    let held = holders.held_across(moment);
    assert!((190..=200).contains(&held), "{held} of 200 were held");
    assert_eq!(holders.exchanges(), bench.responder.lines.load(Ordering::Relaxed));
}

#[tokio::test]
async fn another_instance_on_a_held_connection_is_seen() {
    let bench = Bench::new("sltr-other").await;
    let holders = bench.holders(10, Duration::from_mins(1));
    until("all open", || holders.counts().open_by_instance.values().sum::<u64>() == 10).await;
    bench.responder.renamed.store(true, Ordering::Relaxed);
    until("all broken", || holders.counts().failures.get(&FailureKind::OtherInstance) == Some(&10)).await;
    holders.stop().await;
}

#[tokio::test]
async fn an_early_end_and_a_refusal_are_seen() {
    let bench = Bench::new("sltr-rude").await;
    let holders = bench.holders(10, Duration::from_mins(1));
    until("all open", || holders.counts().open_by_instance.values().sum::<u64>() == 10).await;
    bench.responder.rude.store(true, Ordering::Relaxed);
    until("all broken", || holders.counts().failures.get(&FailureKind::ClosedByPeer) >= Some(&10)).await;
    holders.stop().await;

    let nobody = SocketAddrV4::new(GATEWAY, PORT + 1);
    let settings = HttpSettings {
        target: nobody,
        rate: 100.0,
        timeout: Duration::from_secs(1),
        sources: bench.network.sources().expect("sources"),
        arrivals: Arrivals::default(),
    };
    let load = HttpLoad::start(&bench.clients, settings).expect("load");
    until("refusals", || load.counts().failures.get(&FailureKind::Refused) >= Some(&10)).await;
    load.stop().await;
    let counts = load.counts();
    assert_eq!((counts.answered, counts.sent), (0, counts.failed));
}

#[tokio::test]
async fn pings_are_matched_and_the_lost_ones_counted() {
    let bench = Bench::new("sltr-ping").await;
    let pings = bench.pings(GATEWAY);
    until("several identifiers", || pings.counts().streams.completed >= 40).await;
    pings.stop().await;
    let counts = pings.counts();
    assert_eq!((counts.lost, counts.sent), (0, counts.answered), "{:?}", pings.broken());

    // On the link, and with nobody there: ARP has no answer.
    let pings = bench.pings(Ipv4Addr::new(198, 51, 100, 200));
    until("lost ones", || pings.counts().lost >= 20).await;
    pings.stop().await;
    assert_eq!(pings.counts().answered, 0);
}

#[tokio::test]
async fn http_load_keeps_its_rate_and_names_the_instance() {
    let bench = Bench::new("sltr-http").await;
    let settings = HttpSettings {
        target: TARGET,
        rate: 0.0,
        timeout: Duration::from_secs(5),
        sources: bench.network.sources().expect("sources"),
        arrivals: Arrivals::default(),
    };
    let load = HttpLoad::start(&bench.clients, settings).expect("load");
    load.set_rate(200.0);
    let began = tokio::time::Instant::now();
    until("600 answers", || load.counts().answered >= 600).await;
    let took = began.elapsed().as_secs_f64();
    load.stop().await;
    let counts = load.counts();
    assert!((2.5..6.0).contains(&took), "600 requests at 200 a second took {took} s");
    assert_eq!((counts.failed, counts.slow, counts.sent), (0, 0, counts.answered), "{:?}", load.failures());
    assert_eq!(counts.by_instance.values().sum::<u64>(), counts.answered);
    assert!(counts.p50_us > 0 && counts.p50_us <= counts.p99_us && counts.p99_us <= counts.max_us);
}
