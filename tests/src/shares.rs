//! How new flows are shared out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_demo::traffic::ClientThread;
use sluice_logic::group::InstanceId;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections under way at the same time.
const AT_ONCE: usize = 64;

/// The number of flows each instance was given.
#[derive(Debug)]
pub struct Shares(pub BTreeMap<InstanceId, u32>);

impl Shares {
    /// Opens `flows` connections, each from another source address and port, asks who answers, and resets it. `ports`
    /// are those that are left: flows that have ended a short time ago may be with their backends still, and would be
    /// again.
    pub async fn measure(
        thread: &ClientThread,
        target: SocketAddrV4,
        sources: &[Ipv4Addr],
        (flows, ports): (u32, &mut Range<u16>),
    ) -> Result<Self> {
        ensure!(!sources.is_empty(), "no source addresses");
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut asked = JoinSet::new();
        let ends = ports.flat_map(|port| sources.iter().map(move |source| SocketAddrV4::new(*source, port)));
        for source in ends.take(usize::try_from(flows)?) {
            let slots = Arc::clone(&slots);
            let asking = async move {
                let _slot = slots.acquire().await?;
                let answer = tokio::time::timeout(Duration::from_secs(10), ask(source, target)).await;
                answer.with_context(|| format!("{source} has no answer"))?
            };
            asked.spawn_on(asking, thread.handle());
        }
        let mut shares = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            *shares.entry(answer??).or_default() += 1;
        }
        Ok(Self(shares))
    }

    /// The largest distance of a share from `1/n`, as a part of it: 0.05 is 5 %.
    #[must_use]
    pub fn worst(&self, n: u32) -> f64 {
        let total: u32 = self.0.values().sum();
        let fair = f64::from(total) / f64::from(n);
        let missing = if self.0.len() < usize::try_from(n).unwrap_or(usize::MAX) { 1.0 } else { 0.0 };
        self.0.values().map(|share| (f64::from(*share) / fair - 1.0).abs()).fold(missing, f64::max)
    }
}

async fn ask(source: SocketAddrV4, target: SocketAddrV4) -> Result<InstanceId> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::V4(source))?;
    let stream = socket.connect(SocketAddr::V4(target)).await.with_context(|| format!("from {source}"))?;
    // A RST at the end, so that no address is left in TIME_WAIT and the next round can have it.
    stream.set_zero_linger()?;
    let mut stream = BufStream::new(stream);
    stream.write_all(b"who\n").await?;
    stream.flush().await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    let (instance, _) =
        answer.split_once(' ').with_context(|| format!("{source}: unexpected answer {answer:?}"))?;
    Ok(InstanceId::from_label(instance))
}
