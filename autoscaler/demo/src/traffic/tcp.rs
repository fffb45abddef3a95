//! TCP connections that are held open.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::group::InstanceId;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::ClientThread;
use super::arrivals::Arrivals;
use super::failure::Failure;
use super::flows::{FlowCounts, OpenFlow};
use super::held::{Client, Held, Life};
use super::sources::Sources;

/// What [`TcpHolders`] do.
#[derive(Debug, Clone)]
pub struct HolderSettings {
    /// The service.
    pub target: SocketAddrV4,
    /// Connections open at the same time.
    pub count: u32,
    /// How long each is kept before it is closed and opened anew.
    pub lifetime: RangeInclusive<Duration>,
    /// The pause between two exchanges on a connection.
    pub interval: Duration,
    /// How long an answer (or the connection's beginning or end) may take before the connection counts as broken.
    pub timeout: Duration,
    /// The addresses they come from.
    pub sources: Sources,
    /// Where the instances' new connections are written down.
    pub arrivals: Arrivals,
}

/// TCP connections that are held open, each with a line sent and its echo checked at every interval, and closed
/// gracefully at the end of their life.
///
/// A connection is broken by a refused or reset connection, an end of the stream that we did not ask for, a missing
/// or wrong answer, and an answer from another instance than the first one's.
pub type TcpHolders = Held<Holding>;

/// What the holder of a connection does.
#[derive(Debug)]
pub struct Holding {
    settings: HolderSettings,
    exchanges: AtomicU64,
}

impl TcpHolders {
    /// Opens the connections, evenly over one interval.
    #[must_use]
    pub fn start(thread: &ClientThread, settings: HolderSettings) -> Self {
        Self::begin(thread, Holding { settings, exchanges: AtomicU64::new(0) })
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> FlowCounts {
        self.shared.log.counts()
    }

    /// Lines sent and answered.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.shared.client.exchanges.load(Ordering::Relaxed)
    }
}

impl Client for Holding {
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
        let begun = Timestamp::now();
        let mut stream = BufStream::new(self.connect(self.settings.sources.of(life.nth)).await?);
        for line in 0_u64.. {
            let text = format!("hold {} {line}", life.nth);
            let instance = self.exchange(&mut stream, life.flow, &text).await?;
            if line == 0 {
                self.settings.arrivals.add(&instance, begun);
            }
            life.pause_until(Instant::now() + self.settings.interval).await;
            if life.is_over() {
                break;
            }
        }
        self.close(&mut stream).await
    }
}

impl Holding {
    async fn connect(&self, source: Ipv4Addr) -> Result<TcpStream, Failure> {
        connect(source, self.settings.target, self.settings.timeout).await
    }

    async fn exchange(
        &self,
        stream: &mut BufStream<TcpStream>,
        flow: &OpenFlow,
        text: &str,
    ) -> Result<InstanceId, Failure> {
        let limit = self.settings.timeout;
        let answer = timeout(limit, async {
            stream.write_all(format!("{text}\n").as_bytes()).await?;
            stream.flush().await?;
            let mut answer = String::new();
            stream.read_line(&mut answer).await?;
            Ok(answer)
        });
        let answer = answer.await.map_err(|_| Failure::timeout("an answer", limit))?;
        let answer = answer.map_err(|error| Failure::socket("an exchange", &error))?;
        if answer.is_empty() {
            return Err(Failure::closed_by_peer("an exchange"));
        }
        let instance = instance_of(&answer, text)?;
        flow.answered_by(&instance)?;
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        Ok(instance)
    }

    /// Ends the connection from our side and waits for the other's end.
    async fn close(&self, stream: &mut BufStream<TcpStream>) -> Result<(), Failure> {
        let limit = self.settings.timeout;
        let end = timeout(limit, async {
            stream.shutdown().await?;
            stream.read(&mut [0; 64]).await
        });
        let read = end.await.map_err(|_| Failure::timeout("the end of a connection", limit))?;
        match read.map_err(|error| Failure::socket("the end of a connection", &error))? {
            0 => Ok(()),
            _ => Err(Failure::bad_answer("more than was asked for")),
        }
    }
}

/// Opens a connection from `source`.
pub(super) async fn connect(
    source: Ipv4Addr,
    target: SocketAddrV4,
    limit: Duration,
) -> Result<TcpStream, Failure> {
    let attempt = async {
        let socket = TcpSocket::new_v4()?;
        // An address that has connections in TIME_WAIT can be used again.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream = socket.connect(SocketAddr::V4(target)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let opened = timeout(limit, attempt).await.map_err(|_| Failure::timeout("a connection", limit))?;
    opened.map_err(|error| Failure::socket("a connection", &error))
}

/// The instance named by an answer `<instance> <text>`.
fn instance_of(answer: &str, text: &str) -> Result<InstanceId, Failure> {
    match answer.trim_end().split_once(' ') {
        Some((instance, echo)) if echo == text && !instance.is_empty() => {
            Ok(InstanceId::from_label(instance))
        }
        _ => Err(Failure::bad_answer(answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::FailureKind;

    #[test]
    fn an_answer_names_its_instance_and_repeats_the_line() {
        assert_eq!(instance_of("demo-1 hold 3 4\n", "hold 3 4"), Ok(InstanceId::from_label("demo-1")));
        for wrong in ["demo-1 hold 3 5\n", "demo-1\n", " hold 3 4\n", "hold 3 4\n"] {
            let failure = instance_of(wrong, "hold 3 4").expect_err(wrong);
            assert_eq!(failure.kind, FailureKind::BadAnswer);
        }
    }
}
