//! Takes syslog in: RFC 5424 and RFC 3164, over UDP (RFC 5426) and TCP (RFC 6587).
//!
//! A sender on TCP is slowed down when whoever keeps the messages can't keep up, so that none is lost; on UDP there is
//! no way to do that, and what finds no room is counted.

mod framing;
mod message;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use lb_userspace::net::Netns;
use sluice_store::logs::LogMessage;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use self::framing::trimmed;
pub use self::framing::{Framing, LONGEST};
pub use self::message::read;

/// Messages that may wait to be kept.
const WAITING: usize = 16_384;
/// Connections at one time; the next waits.
const MOST_CONNECTIONS: usize = 4_096;
/// A connection without a byte for so long has ended: its sender opens another.
const IDLE: Duration = Duration::from_hours(2);
/// After an error of `accept`, such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// A message that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// When, by our clock.
    pub at: Timestamp,
    /// From where.
    pub from: IpAddr,
    /// What it says.
    pub message: LogMessage,
}

/// Messages that found no room.
#[derive(Debug, Clone, Default)]
pub struct Lost(Arc<AtomicU64>);

impl Lost {
    /// How many so far, all of them from UDP.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Listens on UDP and TCP.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens; the port that was chosen where none was given.
    pub address: SocketAddr,
    /// What comes.
    pub messages: mpsc::Receiver<Received>,
    /// What found no room.
    pub lost: Lost,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl Listener {
    /// Listens in a namespace. `admits` says whose messages are taken in: what comes from elsewhere is not read.
    ///
    /// # Errors
    /// When the address can't be had.
    pub fn open(
        netns: &Netns,
        address: SocketAddr,
        admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let bind = move || -> io::Result<_> {
            let tcp = std::net::TcpListener::bind(address)?;
            let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
            tcp.set_nonblocking(true)?;
            udp.set_nonblocking(true)?;
            Ok((tcp, udp))
        };
        let (tcp, udp) = netns.run(bind)??;
        let address = tcp.local_addr()?;
        let (tcp, udp) = (TcpListener::from_std(tcp)?, UdpSocket::from_std(udp)?);
        let (sender, messages) = mpsc::channel(WAITING);
        let (lost, admits) = (Lost::default(), Arc::new(admits));
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(udp, sender.clone(), lost.clone(), admits.clone()));
        tasks.spawn(connections(tcp, sender, admits));
        Ok(Self { address, messages, lost, _tasks: tasks })
    }
}

type Admits = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

async fn datagrams(socket: UdpSocket, sender: mpsc::Sender<Received>, lost: Lost, admits: Admits) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(datagram) = buffer.get(..length).filter(|_| admits(from.ip())) else { continue };
        // A datagram is one message (RFC 5426, 3.1), but for a newline that some senders end it with.
        if sender.try_send(received(from.ip(), trimmed(datagram))).is_err() {
            lost.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn connections(listener: TcpListener, sender: mpsc::Sender<Received>, admits: Admits) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) if admits(from.ip()) => {
                let sender = sender.clone();
                open.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = connection(stream, from.ip(), sender).await {
                        tracing::debug!(%from, %error, "a syslog connection has ended");
                    }
                });
            }
            Ok((_, from)) => tracing::debug!(%from, "syslog from there is not taken"),
            Err(error) => {
                tracing::warn!(%error, "a syslog connection can't be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, from: IpAddr, sender: mpsc::Sender<Received>) -> io::Result<()> {
    let (mut framing, mut buffer) = (Framing::default(), vec![0; 64 << 10]);
    loop {
        let length = tokio::time::timeout(IDLE, stream.read(&mut buffer)).await??;
        framing.extend(buffer.get(..length).unwrap_or_default());
        while let Some(message) = framing.next_message() {
            // Waits while there is no room: then the sender waits too.
            if sender.send(received(from, &message)).await.is_err() {
                return Ok(());
            }
        }
        if length == 0 {
            if let Some(message) = framing.finish() {
                let _ = sender.send(received(from, &message)).await;
            }
            return Ok(());
        }
    }
}

fn received(from: IpAddr, message: &[u8]) -> Received {
    Received { at: Timestamp::now(), from, message: read(message) }
}
