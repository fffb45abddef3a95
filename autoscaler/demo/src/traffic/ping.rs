//! Streams of ICMP echo requests.
//!
//! They use the kernel's ping sockets (`SOCK_DGRAM` with `IPPROTO_ICMP`), one a stream: the kernel gives each
//! socket an identifier of its own, which is what the load balancer takes as the flow, and delivers to it the
//! replies with that identifier alone. `net.ipv4.ping_group_range` of the namespace must allow them.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket as StdUdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, socket};
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::ClientThread;
use super::failure::{Failure, FailureKind};
use super::flows::FlowCounts;
use super::held::{Client, Held, Life};
use super::sources::Sources;

/// ICMP echo request (RFC 792).
const ECHO_REQUEST: u8 = 8;
/// ICMP echo reply (RFC 792).
const ECHO_REPLY: u8 = 0;
/// The header of an echo request or reply.
const HEADER: usize = 8;
/// What `ping` sends by default.
const PAYLOAD: usize = 56;

/// What [`Pings`] do.
#[derive(Debug, Clone)]
pub struct PingSettings {
    /// The service.
    pub target: Ipv4Addr,
    /// Streams at the same time.
    pub count: u32,
    /// How long a stream keeps its identifier before it takes a new one.
    pub lifetime: RangeInclusive<Duration>,
    /// The time between two requests of a stream.
    pub interval: Duration,
    /// A request without its reply for so long is lost.
    pub timeout: Duration,
    /// The addresses they come from.
    pub sources: Sources,
}

/// How the requests and replies have fared so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingCounts {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered in time.
    pub answered: u64,
    /// Requests not answered in time.
    pub lost: u64,
    /// The streams; a stream with a lost request is broken.
    pub streams: FlowCounts,
}

impl PingCounts {
    /// The lost requests whose reply did not come in time.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.streams.failures.get(&FailureKind::Timeout).copied().unwrap_or_default()
    }
}

/// Streams of ICMP echo requests, each reply matched with its request.
pub type Pings = Held<Pinging>;

/// What a stream does.
#[derive(Debug)]
pub struct Pinging {
    settings: PingSettings,
    sent: AtomicU64,
    answered: AtomicU64,
    lost: AtomicU64,
}

impl Pings {
    /// Starts the streams, evenly over one interval.
    #[must_use]
    pub fn start(thread: &ClientThread, settings: PingSettings) -> Self {
        let zero = || AtomicU64::new(0);
        Self::begin(thread, Pinging { settings, sent: zero(), answered: zero(), lost: zero() })
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> PingCounts {
        let pinging = &self.shared.client;
        PingCounts {
            answered: pinging.answered.load(Ordering::Relaxed),
            lost: pinging.lost.load(Ordering::Relaxed),
            sent: pinging.sent.load(Ordering::Relaxed),
            streams: self.shared.log.counts(),
        }
    }
}

impl Client for Pinging {
    fn count(&self) -> u32 {
        self.settings.count
    }

    fn interval(&self) -> Duration {
        self.settings.interval
    }

    fn lifetime(&self) -> &RangeInclusive<Duration> {
        &self.settings.lifetime
    }

    async fn keep(&self, life: &Life<'_>) -> Result<(), Failure> {
        let socket = open(self.settings.sources.of(life.nth), self.settings.target)
            .map_err(|error| Failure::socket("a ping socket", &error))?;
        let mut due = Instant::now();
        for sequence in 0_u16..=u16::MAX {
            self.ping_once(&socket, sequence).await?;
            life.flow.answered();
            due = (due + self.settings.interval).max(Instant::now());
            life.pause_until(due).await;
            if life.is_over() {
                break;
            }
        }
        Ok(())
    }
}

impl Pinging {
    async fn ping_once(&self, socket: &UdpSocket, sequence: u16) -> Result<(), Failure> {
        let limit = self.settings.timeout;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let outcome = timeout(limit, exchange(socket, sequence)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::timeout("an echo reply", limit)));
        let counter = if outcome.is_ok() { &self.answered } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }
}

/// Sends one request and waits for its reply; replies to earlier ones, which are lost by now, are passed over.
async fn exchange(socket: &UdpSocket, sequence: u16) -> Result<(), Failure> {
    let request = echo_request(sequence);
    socket.send(&request).await.map_err(|error| Failure::socket("an echo request", &error))?;
    let mut reply = [0; HEADER + PAYLOAD + 1];
    loop {
        let length =
            socket.recv(&mut reply).await.map_err(|error| Failure::socket("an echo reply", &error))?;
        match judge(&request, &reply[..length]) {
            Reply::Ours => return Ok(()),
            Reply::Earlier => {}
            Reply::Spoiled => return Err(Failure::bad_answer(&format!("{:02x?}", &reply[..length]))),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Ours,
    Earlier,
    Spoiled,
}

/// Compares a reply with its request. Checksum and identifier are the kernel's: it fills them in and checks them.
fn judge(request: &[u8], reply: &[u8]) -> Reply {
    if reply.len() != request.len() || reply[0] != ECHO_REPLY || reply[HEADER..] != request[HEADER..] {
        Reply::Spoiled
    } else if reply[6..HEADER] == request[6..HEADER] {
        Reply::Ours
    } else {
        Reply::Earlier
    }
}

fn echo_request(sequence: u16) -> [u8; HEADER + PAYLOAD] {
    let mut packet = [0; HEADER + PAYLOAD];
    packet[0] = ECHO_REQUEST;
    packet[6..HEADER].copy_from_slice(&sequence.to_be_bytes());
    for (place, byte) in packet[HEADER..].iter_mut().zip(0..) {
        *place = byte;
    }
    packet
}

/// Opens a ping socket; the kernel chooses its identifier.
fn open(source: Ipv4Addr, target: Ipv4Addr) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, SockProtocol::Icmp)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    // A ping socket takes the same calls as a UDP one: connect with an address, send and receive.
    let socket = StdUdpSocket::from(socket);
    socket.connect((target, 0))?;
    UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_matched_by_sequence_and_content() {
        let request = echo_request(0x1234);
        let mut reply = request;
        reply[0] = ECHO_REPLY;
        assert_eq!(judge(&request, &reply), Reply::Ours);
        reply[7] = 0x33;
        assert_eq!(judge(&request, &reply), Reply::Earlier);
        reply[20] ^= 1;
        assert_eq!(judge(&request, &reply), Reply::Spoiled);
        assert_eq!(judge(&request, &[]), Reply::Spoiled);
    }
}
