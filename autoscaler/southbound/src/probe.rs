//! Whether an instance is ready: its port takes a TCP connection from the transit namespace, by the same way as
//! its clients' packets.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use lb_userspace::net::Netns;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};

/// From a refused connection to the next attempt: an instance is new only once.
const RETRY: Duration = Duration::from_millis(2);

/// One attempt waits so long, as the kernel repeats a lost SYN only after a second.
const ATTEMPT: Duration = Duration::from_millis(200);

/// An instance was not ready in time.
#[derive(Debug, thiserror::Error)]
#[error("{target} took no connection within {waited:?}: {last}")]
pub struct NotReady {
    /// What was tried.
    pub target: SocketAddrV4,
    /// For how long.
    pub waited: Duration,
    /// What the last attempt met.
    pub last: io::Error,
}

/// Waits until `target` takes a TCP connection, at most for `patience`. Returns how long it took.
pub async fn wait_until_ready(
    transit: &Netns,
    target: SocketAddrV4,
    patience: Duration,
) -> Result<Duration, NotReady> {
    let begin = Instant::now();
    let deadline = begin + patience;
    loop {
        let attempt_ends = deadline.min(Instant::now() + ATTEMPT);
        let last = match timeout_at(attempt_ends, connect(transit, target)).await {
            Ok(Ok(_)) => return Ok(begin.elapsed()),
            Ok(Err(error)) => error,
            Err(_) => io::Error::from(io::ErrorKind::TimedOut),
        };
        if Instant::now() + RETRY >= deadline {
            return Err(NotReady { target, waited: begin.elapsed(), last });
        }
        sleep(RETRY).await;
    }
}

/// Connects to `target` from inside a namespace.
pub async fn connect(netns: &Netns, target: SocketAddrV4) -> io::Result<TcpStream> {
    let netns = netns.clone();
    let make = move || netns.run(TcpSocket::new_v4).and_then(std::convert::identity);
    let socket = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
    socket.connect(SocketAddr::V4(target)).await
}
