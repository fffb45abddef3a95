//! The built-in responder: what an instance runs whose template names no command.
//!
//! It names its instance and costs CPU, so that balancing can be seen and load is real. On its one port it speaks
//! two protocols, told apart by a connection's first bytes:
//!
//! - an HTTP/1 request is answered with the instance's id as the body and in the header `X-Sluice-Instance`;
//! - anything else is echoed line by line, each line led by the instance's id: `hello` → `demo-00000001 hello`.
//!
//! A datagram (UDP, the same port) comes back in the same way. Each request, each line and each datagram costs
//! [`Options::request_cost`] of CPU time. An instance at its CPU limit takes longer for it, as a real one does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::descriptors;

mod burn;
mod connection;
mod datagrams;

/// Connections that wait to be accepted; a flood of new ones must not meet a full queue.
const BACKLOG: u32 = 4096;

/// After SIGTERM, requests that have begun may take so long.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Threads that spend CPU time, so that requests which cost much do not keep others from being accepted.
const WORKERS: usize = 4;

/// What a responder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The name it gives: `SLUICE_INSTANCE`.
    pub instance: String,
    /// The port it listens on, TCP and UDP, on all addresses; 0 is any: `SLUICE_PORT`.
    pub port: u16,
    /// CPU time of one request: `SLUICE_REQUEST_COST`, in µs.
    pub request_cost: Duration,
}

/// A variable of the environment is not what a responder needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} must be {expected}, and is {found:?}")]
pub struct BadOption {
    /// Which.
    pub variable: &'static str,
    /// What it should be.
    pub expected: &'static str,
    /// What it is; `None` when it is not set.
    pub found: Option<String>,
}

impl Options {
    /// Reads the options from the environment that the `netns` provider gives to an instance.
    pub fn from_env() -> Result<Self, BadOption> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadOption> {
        fn number<T: std::str::FromStr>(
            variable: &'static str,
            expected: &'static str,
            found: Option<String>,
        ) -> Result<T, BadOption> {
            let parsed = found.as_deref().and_then(|text| text.parse().ok());
            parsed.ok_or(BadOption { variable, expected, found })
        }
        let instance = get("SLUICE_INSTANCE").ok_or(BadOption {
            variable: "SLUICE_INSTANCE",
            expected: "the instance's id",
            found: None,
        })?;
        let port = number("SLUICE_PORT", "a port", get("SLUICE_PORT"))?;
        let cost = number("SLUICE_REQUEST_COST", "a number of µs", get("SLUICE_REQUEST_COST"))?;
        Ok(Self { instance, port, request_cost: Duration::from_micros(cost) })
    }
}

/// Answers until SIGTERM or SIGINT, then ends what has begun and returns.
///
/// Makes its own runtime: one thread for all connections, so that thousands of idle ones cost little, and a few
/// for the CPU time of requests.
pub fn run(options: Options) -> io::Result<()> {
    descriptors::raise_limit();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(WORKERS).build()?;
    let served = runtime.block_on(async {
        let listener = listen(options.port)?;
        let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, options.port)).await?;
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let ended = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        // Each datagram is answered in full: its end can come at any time.
        tokio::spawn(datagrams::serve(datagrams, options.clone()));
        serve(listener, options, ended).await;
        Ok(())
    });
    runtime.shutdown_background();
    served
}

/// Answers on `listener` until `ended`, then ends what has begun.
async fn serve(listener: TcpListener, options: Options, ended: impl Future<Output = ()>) {
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    tokio::pin!(ended);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut ended => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection::serve(stream, options.clone(), stop.clone()));
            }
            // Out of file descriptors, or the client has gone: neither ends the responder.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    drop(listener);
    stop.cancel();
    connections.close();
    let _ = tokio::time::timeout(LAST_REQUESTS, connections.wait()).await;
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    socket.listen(BACKLOG)
}

/// Answers go out at once.
fn without_delay(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
}

#[cfg(test)]
mod tests;
