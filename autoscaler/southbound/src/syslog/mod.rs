//! Takes syslog in: RFC 5424 and RFC 3164, over UDP (RFC 5426) and TCP (RFC 6587).
//!
//! Whose a message is, is found when it comes: later its address may be another's. A sender on TCP is slowed down when
//! whoever keeps the messages can't keep up, so that none is lost; on UDP there is no way to do that, and what finds no
//! room is counted.

mod framing;
mod intake;
mod message;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use jiff::Timestamp;
use lb_userspace::net::Netns;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval};
use sluice_store::logs::LogMessage;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::framing::trimmed;
pub use self::framing::{Framing, LONGEST};
pub use self::intake::{Intake, IntakeCounts, IntakeLimits, Room};
pub use self::message::read;

/// Most bytes read at once of a connection.
const READ: usize = 8 << 10;
/// A connection without a byte for so long has ended: its sender opens another.
const IDLE: Duration = Duration::from_hours(2);
/// What the kernel has dropped is counted so often.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// After an error of `accept`, such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(100);
/// A silent sender is asked after so many seconds whether it is still there,
const ASK_AFTER: u32 = 60;
/// then after so many seconds each time,
const ASK_EVERY: u32 = 10;
/// and has gone when it has not answered so often.
const ASK_TIMES: u32 = 6;

/// A message that has come.
#[derive(Debug)]
pub struct Received<S> {
    /// When, by our clock.
    pub at: Timestamp,
    /// From where.
    pub from: IpAddr,
    /// Whose address that was then; of a connection, when it was opened.
    pub sender: S,
    /// What it says.
    pub message: LogMessage,
    /// Taken until it is kept.
    pub room: Room,
}

/// Listens on UDP and TCP.
#[derive(Debug)]
pub struct Listener<S> {
    /// Where it listens; the port that was chosen where none was given.
    pub address: SocketAddr,
    /// What comes; the intake's limits bound it.
    pub messages: mpsc::UnboundedReceiver<Received<S>>,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl<S: Clone + Send + Sync + 'static> Listener<S> {
    /// Listens in a namespace. `knows` says whose an address is: what comes from another is counted and not read.
    ///
    /// # Errors
    /// When the address can't be had.
    pub fn open(
        netns: &Netns,
        address: SocketAddr,
        intake: &Intake,
        knows: impl Fn(IpAddr) -> Option<S> + Send + Sync + 'static,
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
        let (received, messages) = mpsc::unbounded_channel();
        let acceptor = Acceptor { intake: intake.clone(), knows: Arc::new(knows), received };
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(udp, acceptor.clone()));
        tasks.spawn(connections(tcp, acceptor));
        Ok(Self { address, messages, _tasks: tasks })
    }
}

/// Who is let in, how much of it, and where to.
struct Acceptor<S> {
    intake: Intake,
    knows: Arc<dyn Fn(IpAddr) -> Option<S> + Send + Sync>,
    received: mpsc::UnboundedSender<Received<S>>,
}

impl<S> Clone for Acceptor<S> {
    fn clone(&self) -> Self {
        Self { intake: self.intake.clone(), knows: self.knows.clone(), received: self.received.clone() }
    }
}

impl<S> Acceptor<S> {
    /// Whose an address is; what comes from another is counted.
    fn sender(&self, from: IpAddr) -> Option<S> {
        let sender = (self.knows)(from);
        if sender.is_none() {
            tracing::debug!(%from, "syslog from there is not taken");
            self.intake.unknown();
        }
        sender
    }
}

async fn datagrams<S>(socket: UdpSocket, acceptor: Acceptor<S>) {
    let mut buffer = vec![0; LONGEST];
    let (mut dropped, mut counting) = (0, tokio::time::interval(COUNT_EVERY));
    counting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = counting.tick() => {
                if let Ok(now) = drops(&socket) {
                    acceptor.intake.lost(now.wrapping_sub(mem::replace(&mut dropped, now)));
                }
                continue;
            }
        };
        let Ok((length, from)) = received else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (at, from) = (Timestamp::now(), from.ip());
        let Some(sender) = acceptor.sender(from) else { continue };
        // A datagram is one message (RFC 5426, 3.1), but for a newline that some senders end it with.
        let message = read(trimmed(buffer.get(..length).unwrap_or_default()));
        if let Some(room) = acceptor.intake.room_now(&message)
            && acceptor.received.send(Received { at, from, sender, message, room }).is_err()
        {
            return;
        }
    }
}

/// The datagrams that the kernel has dropped since the socket was made, as its buffer was full; modulo 2³².
fn drops(socket: &UdpSocket) -> io::Result<u32> {
    /// `SK_MEMINFO_DROPS`, and how many there are (`linux/sock_diag.h`).
    const DROPS: usize = 8;
    const COUNT: usize = 9;
    let mut numbers = [0_u32; COUNT];
    let mut length = libc::socklen_t::try_from(size_of_val(&numbers)).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes to the array, which has so many, and says how many in `length`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(numbers[DROPS]) } else { Err(io::Error::last_os_error()) }
}

async fn connections<S: Clone + Send + Sync + 'static>(listener: TcpListener, acceptor: Acceptor<S>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok((stream, from)) => (stream, from.ip()),
            Err(error) => {
                tracing::warn!(%error, "a syslog connection can't be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(sender) = acceptor.sender(from) else { continue };
        let Some(place) = acceptor.intake.place(from) else {
            tracing::debug!(%from, "there are too many syslog connections: this one is closed");
            continue;
        };
        let acceptor = acceptor.clone();
        open.spawn(async move {
            let _place = place;
            if let Err(error) = connection(stream, from, &sender, &acceptor).await {
                tracing::debug!(%from, %error, "a syslog connection has ended");
            }
        });
    }
}

async fn connection<S: Clone>(
    mut stream: TcpStream,
    from: IpAddr,
    sender: &S,
    acceptor: &Acceptor<S>,
) -> io::Result<()> {
    ask_when_silent(&stream)?;
    let (mut framing, mut buffer) = (Framing::default(), vec![0; READ]);
    let take = async |message: Vec<u8>| {
        let (at, message) = (Timestamp::now(), read(&message));
        // Waits while there is none: then the sender waits too.
        let room = acceptor.intake.room(&message).await?;
        acceptor.received.send(Received { at, from, sender: sender.clone(), message, room }).ok()
    };
    loop {
        let length = tokio::time::timeout(IDLE, stream.read(&mut buffer)).await??;
        framing.extend(buffer.get(..length).unwrap_or_default());
        while let Some(message) = framing.next_message() {
            if take(message).await.is_none() {
                return Ok(());
            }
        }
        if length == 0 {
            if let Some(message) = framing.finish() {
                take(message).await;
            }
            return Ok(());
        }
    }
}

/// A sender that is gone without a word does not keep its place.
fn ask_when_silent(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, KeepAlive, &true)?;
    setsockopt(stream, TcpKeepIdle, &ASK_AFTER)?;
    setsockopt(stream, TcpKeepInterval, &ASK_EVERY)?;
    Ok(setsockopt(stream, TcpKeepCount, &ASK_TIMES)?)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::sys::socket::getsockopt;

    use super::*;

    #[tokio::test]
    async fn what_the_kernel_drops_is_counted() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..5_000 {
            sender.send_to(&[b'x'; 1_000], socket.local_addr().unwrap()).unwrap();
        }
        let mut kept = 0;
        socket.readable().await.unwrap();
        while socket.try_recv(&mut [0; 1_000]).is_ok() {
            kept += 1;
        }
        assert!(kept < 5_000, "the buffer holds more than this");
        assert_eq!(drops(&socket).unwrap(), 5_000 - kept);
    }

    #[tokio::test]
    async fn what_the_kernel_drops_counts_as_lost() {
        const SENT: usize = 5_000;
        let intake = Intake::new(IntakeLimits::default());
        let (here, address) = (Netns::current().unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let mut listener = Listener::open(&here, address, &intake, |_| Some(())).unwrap();
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // The listener is on this thread, and takes nothing meanwhile.
        for _ in 0..SENT {
            sender.send_to(&[b'x'; 1_000], listener.address).unwrap();
        }
        let mut kept = 0;
        let all = async {
            loop {
                while listener.messages.try_recv().is_ok() {
                    kept += 1;
                }
                if kept + usize::try_from(intake.counts().lost).unwrap() == SENT {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("each is kept or counted");
        assert!(kept < SENT, "the buffer holds more than this");
    }

    #[tokio::test]
    async fn a_silent_sender_is_asked_whether_it_is_there() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        ask_when_silent(&stream).unwrap();
        assert!(getsockopt(&stream, KeepAlive).unwrap());
        assert_eq!(getsockopt(&stream, TcpKeepIdle).unwrap(), ASK_AFTER);
    }
}
