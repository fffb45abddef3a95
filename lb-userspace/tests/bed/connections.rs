//! TCP connections of the kernel's own, through the VIP, that transfer data and check it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lb_userspace::net::{MacAddr, Netns};
use lb_userspace::service::{Backend, BackendState, Reach};
use nix::libc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bed::{Bed, CLIENT, TENANT_MAC, VIP, backend_address};

/// All backends are addresses of one interface.
const BACKEND_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x44]);
/// The last bytes of their addresses.
const BACKENDS: std::ops::RangeInclusive<u8> = 2..=5;
/// What goes over a connection and comes back at once.
const MESSAGE: usize = 4096;
/// Between two messages of a connection.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection on which nothing has come back for so long is taken for broken.
const PATIENCE: Duration = Duration::from_mins(2);

/// A namespace of clients, a server behind the VIP, and so many connections between them.
pub(crate) struct Connections {
    pub(crate) clients: Netns,
    name: String,
    /// The messages that have come back, by connection.
    exchanges: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    client: JoinHandle<Vec<String>>,
    /// Serves until the clients have ended: a message of theirs may be under way.
    stop_serving: Arc<AtomicBool>,
    server: JoinHandle<()>,
}

/// A backend of the server's.
pub(crate) fn backend(bed: &Bed, last: u8, state: BackendState) -> Backend {
    let reach = Reach::Link { interface: bed.interface, source_mac: TENANT_MAC, mac: BACKEND_MAC };
    Backend { address: IpAddr::V4(backend_address(last)), reach, weight: 1, state }
}

impl Connections {
    /// Opens them; each has exchanged a message when this returns.
    pub(crate) fn open(bed: &Bed, count: usize) -> Self {
        allow_descriptors(2 * count + 200).expect("more file descriptors");
        let name = format!("slconnections{}", std::process::id());
        let clients = Netns::create(&name).expect("a namespace");
        connect_namespaces(bed, &clients, &name);
        let (stop, stop_serving) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let exchanges: Arc<Vec<_>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
        let (peers, until) = (bed.peers(), Arc::clone(&stop_serving));
        let (listening, is_listening) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || in_namespace(&peers, serve(until, listening)));
        is_listening.recv().expect("the server listens");
        let (netns, until, counts) = (clients.clone(), Arc::clone(&stop), Arc::clone(&exchanges));
        let client = std::thread::spawn(move || in_namespace(&netns, run_all(until, counts)));
        let connections = Self { clients, name, exchanges, stop, client, stop_serving, server };
        connections.all_go_on();
        connections
    }

    /// Waits until each connection has exchanged another message.
    pub(crate) fn all_go_on(&self) {
        let counts = || self.exchanges.iter().map(|count| count.load(Ordering::Relaxed));
        let before: Vec<u64> = counts().collect();
        let began = Instant::now();
        loop {
            let stuck = counts().zip(&before).filter(|(now, before)| now == *before).count();
            if stuck == 0 {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{stuck} connections are stuck");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends them, and tells how many messages there were; none may have been broken.
    pub(crate) fn close(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let broken = self.client.join().expect("the clients");
        self.stop_serving.store(true, Ordering::Relaxed);
        self.server.join().expect("the server");
        Netns::delete(&self.name).expect("deleted");
        assert!(broken.is_empty(), "{} connections broke: {}", broken.len(), broken[0]);
        self.exchanges.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// The client's end moves to the clients, for which no address of a backend is their own.
pub(crate) fn connect_namespaces(bed: &Bed, clients: &Netns, name: &str) {
    let (transit, peers) = (bed.settings.transit.clone(), bed.peers());
    ip(&peers, &format!("link set cl0 netns {name}"));
    ip(clients, &format!("address add {CLIENT}/24 dev cl0"));
    ip(clients, "link set cl0 up");
    ip(clients, &format!("route add {VIP}/32 dev cl0"));
    ip(clients, &format!("neighbour add {VIP} lladdr 02:00:00:00:00:22 dev cl0 nud permanent"));
    ip(&transit, "address add 198.51.100.1/24 dev up0");
    ip(&peers, &format!("link set slp-bed address {BACKEND_MAC}"));
    for last in BACKENDS {
        ip(&peers, &format!("address add {}/24 dev slp-bed", backend_address(last)));
    }
    ip(&peers, &format!("neighbour add 19.0.0.1 lladdr {TENANT_MAC} dev slp-bed nud permanent"));
    ip(&peers, "route add 198.51.100.0/24 via 19.0.0.1 dev slp-bed");
    // What comes from anywhere else ends here: a flood is to load the balancer, not the server.
    peers.set_sysctl("ipv4/conf/all/rp_filter", "1").expect("a sysctl");
}

fn ip(netns: &Netns, arguments: &str) {
    let run = || Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(netns.run(run).expect("the namespace").success(), "ip {arguments}");
}

fn in_namespace<T: Send>(netns: &Netns, work: impl Future<Output = T> + Send) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    netns.run(|| runtime.block_on(work)).expect("the namespace")
}

/// Sends back what comes.
async fn serve(stop: Arc<AtomicBool>, listening: std::sync::mpsc::Sender<()>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).await.expect("a listener");
    let _ = listening.send(());
    while !stop.load(Ordering::Relaxed) {
        let accepted = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        if let Ok(Ok((mut stream, _))) = accepted {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    }
}

/// Runs a connection for each count until it is time to stop; what has broken.
async fn run_all(stop: Arc<AtomicBool>, exchanges: Arc<Vec<AtomicU64>>) -> Vec<String> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..exchanges.len() {
        let (stop, exchanges) = (Arc::clone(&stop), Arc::clone(&exchanges));
        tasks.spawn(async move { run(&stop, &exchanges[number], number).await });
    }
    let mut broken = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        broken.extend(ended.expect("a connection").err().map(|error| error.to_string()));
    }
    broken
}

async fn run(stop: &AtomicBool, count: &AtomicU64, number: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::from((VIP, 80))).await?;
    let mut back = vec![0; MESSAGE];
    while !stop.load(Ordering::Relaxed) {
        let round = usize::try_from(count.load(Ordering::Relaxed)).expect("few");
        let message: Vec<u8> = (0..MESSAGE).map(|byte| (byte * 7 + number * 31 + round) as u8).collect();
        stream.write_all(&message).await?;
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await??;
        if back != message {
            return Err(io::Error::other("other data came back"));
        }
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Raises the process's limit of open files.
fn allow_descriptors(count: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let wanted = libc::rlim_t::try_from(count).expect("a number");
    // SAFETY: the limit outlives the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_cur.max(wanted);
    limit.rlim_max = limit.rlim_max.max(wanted);
    // SAFETY: as above.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
