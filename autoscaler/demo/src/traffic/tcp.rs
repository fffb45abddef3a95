//! TCP connections that are held open.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::group::InstanceId;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arrivals::Arrivals;
use super::failure::Failure;
use super::flows::{BrokenFlow, FlowCounts, FlowLog, OpenFlow};
use super::sources::Sources;
use super::{ClientThread, spread, spread_over};

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

/// TCP connections that are held open, each with a line sent and its echo checked at every interval.
///
/// A connection is broken by a refused or reset connection, an end of the stream that we did not ask for, a missing
/// or wrong answer, and an answer from another instance than the first one's.
#[derive(Debug)]
pub struct TcpHolders {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    settings: HolderSettings,
    log: FlowLog,
    exchanges: AtomicU64,
    next: AtomicU64,
    stop: CancellationToken,
}

impl TcpHolders {
    /// Opens the connections, evenly over one interval.
    #[must_use]
    pub fn start(thread: &ClientThread, settings: HolderSettings) -> Self {
        let tasks = TaskTracker::new();
        let count = settings.count;
        let shared = Arc::new(Shared {
            settings,
            log: FlowLog::default(),
            exchanges: AtomicU64::new(0),
            next: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        for holder in 0..count {
            tasks.spawn_on(Arc::clone(&shared).hold(u64::from(holder)), thread.handle());
        }
        tasks.close();
        Self { shared, tasks }
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> FlowCounts {
        self.shared.log.counts()
    }

    /// Lines sent and answered.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.shared.exchanges.load(Ordering::Relaxed)
    }

    /// How many connections were answered both before and after that moment.
    #[must_use]
    pub fn held_across(&self, moment: Timestamp) -> u64 {
        self.shared.log.held_across(moment)
    }

    /// The connections that broke, oldest first, at most 200.
    #[must_use]
    pub fn broken(&self) -> Vec<BrokenFlow> {
        self.shared.log.broken()
    }

    /// Closes all connections gracefully and returns when the last one has ended.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Shared {
    /// One holder: connection after connection until stopped.
    async fn hold(self: Arc<Self>, holder: u64) {
        self.pause(self.settings.interval.mul_f64(spread(holder))).await;
        while !self.stop.is_cancelled() {
            let flow = self.log.open();
            let outcome = self.converse(&flow).await;
            let failed = outcome.is_err();
            flow.end(outcome);
            if failed {
                // What is broken stays broken for a while; do not hammer it.
                self.pause(self.settings.interval.max(Duration::from_millis(100))).await;
            }
        }
    }

    async fn converse(&self, flow: &OpenFlow) -> Result<(), Failure> {
        let nth = self.next.fetch_add(1, Ordering::Relaxed);
        let end = Instant::now() + spread_over(&self.settings.lifetime, nth);
        let begun = Timestamp::now();
        let mut stream = BufStream::new(self.connect(self.settings.sources.of(nth)).await?);
        for line in 0_u64.. {
            let instance = self.exchange(&mut stream, flow, &format!("hold {nth} {line}")).await?;
            if line == 0 {
                self.settings.arrivals.add(&instance, begun);
            }
            self.pause(self.settings.interval.min(end.saturating_duration_since(Instant::now()))).await;
            if self.stop.is_cancelled() || Instant::now() >= end {
                break;
            }
        }
        self.close(&mut stream).await
    }

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

    async fn pause(&self, length: Duration) {
        tokio::select! {
            () = sleep(length) => {}
            () = self.stop.cancelled() => {}
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
