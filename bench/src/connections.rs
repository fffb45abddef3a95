//! Short TCP connections: connect, one request, one answer, close.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_userspace::net::Netns;
use nix::sys::socket;

const PORT: u16 = 8080;
const THREADS: usize = 4;
const REQUEST: &[u8] = b"?";
const ANSWER: &[u8] = b"!";
/// No answer within this is a failed connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers each connection and closes it first, so that the wait after the end of a connection is the server's and the
/// client's ports are free at once.
pub(crate) struct Server {
    listener: Arc<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens on all addresses of the namespace.
    pub(crate) fn start(netns: &Netns) -> Result<Self> {
        let listener = netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
        let listener = Arc::new(listener.with_context(|| format!("cannot listen on port {PORT}"))?);
        let accept = |_| {
            let listener = Arc::clone(&listener);
            thread::spawn(move || {
                while let Ok((connection, _)) = listener.accept() {
                    // The client counts what fails.
                    let _ = answer(connection);
                }
            })
        };
        let threads = (0..THREADS).map(accept).collect();
        Ok(Self { listener, threads })
    }
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; REQUEST.len()];
    connection.read_exact(&mut request)?;
    connection.write_all(ANSWER)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the threads' `accept`.
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What the client saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Connections {
    /// Answered and closed, per second.
    pub(crate) rate: f64,
    /// Refused, timed out or broken.
    pub(crate) failed: u64,
}

/// Makes connections to the address for a time, a few at once.
pub(crate) fn run(client: &Netns, address: Ipv4Addr, time: Duration) -> Result<Connections> {
    let to = SocketAddr::from((address, PORT));
    let started = Instant::now();
    let counts = client.run(|| {
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|_| scope.spawn(|| connect_until(to, started + time))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
        })
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let done: u64 = counts.iter().map(|(done, _)| done).sum();
    Ok(Connections { rate: done as f64 / seconds, failed: counts.iter().map(|(_, failed)| failed).sum() })
}

fn connect_until(to: SocketAddr, end: Instant) -> (u64, u64) {
    let (mut done, mut failed) = (0, 0);
    while Instant::now() < end {
        match ask(to) {
            Ok(()) => done += 1,
            Err(_) => failed += 1,
        }
    }
    (done, failed)
}

fn ask(to: SocketAddr) -> std::io::Result<()> {
    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(REQUEST)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    connection.shutdown(Shutdown::Both)?;
    if answer == ANSWER { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
