//! What containers use, as dockerd tells it: a stream for each, with a frame a second.
//!
//! dockerd reads a container's counters once a second, whoever asks. A single question waits for that; a stream has
//! always the last ones at hand.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sluice_logic::group::InstanceId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::ports::Ports;
use crate::provider::{InstanceMetrics, InstanceSpec};

/// A frame serves so long: two that did not come are a busy dockerd, more are one that hangs.
const FRESH: Duration = Duration::from_secs(3);

/// The streams of the instances that were asked for.
#[derive(Debug, Default)]
pub(super) struct Statistics(Mutex<HashMap<InstanceId, Stream>>);

/// What came last of a container.
pub(super) type Latest = watch::Receiver<Option<Frame>>;

#[derive(Debug)]
struct Stream {
    latest: Latest,
    /// Held for its effect: it is followed until then.
    _follower: AbortOnDropHandle<()>,
}

/// A container's counters, and when they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    came: Instant,
    metrics: InstanceMetrics,
}

impl Statistics {
    /// The stream of an instance's container, where one is followed that has not ended.
    pub(super) fn of(&self, id: &InstanceId) -> Option<Latest> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, stream| stream.latest.has_changed().is_ok());
        streams.get(id).map(|stream| stream.latest.clone())
    }

    /// Follows an instance's container. To be called on a tokio runtime.
    pub(super) fn follow(
        &self,
        docker: Docker,
        ports: Arc<Ports>,
        spec: InstanceSpec,
        container: String,
    ) -> Latest {
        let (sender, latest) = watch::channel(None);
        let id = spec.id.clone();
        let follower = tokio::spawn(follow(docker, ports, spec, container, sender));
        let stream = Stream { latest: latest.clone(), _follower: AbortOnDropHandle::new(follower) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, stream);
        latest
    }

    /// Ends an instance's stream.
    pub(super) fn forget(&self, id: &InstanceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The last frame, after a wait for the first one; or why there is none.
pub(super) async fn last(mut latest: Latest) -> Result<InstanceMetrics, &'static str> {
    let frame = latest.wait_for(Option::is_some).await.map_err(|_| "dockerd tells nothing more of it")?;
    let fresh = frame.filter(|frame| frame.came.elapsed() <= FRESH);
    fresh.map(|frame| frame.metrics).ok_or("dockerd has told nothing of it for seconds")
}

/// Takes in frames until the container has ended or dockerd goes.
async fn follow(
    docker: Docker,
    ports: Arc<Ports>,
    spec: InstanceSpec,
    container: String,
    sender: watch::Sender<Option<Frame>>,
) {
    let options = StatsOptionsBuilder::default().stream(true).build();
    let mut frames = pin!(docker.stats(&container, Some(options)));
    let end = loop {
        let frame = match frames.try_next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        let Some((at, cpu)) = used(&frame) else { break None };
        // dockerd knows nothing of the tenant's networks: our ports have counted.
        let traffic = ports.traffic(&spec).await.ok();
        let memory = frame.memory_stats.as_ref().and_then(in_use);
        let metrics = InstanceMetrics { at, cpu, memory, traffic };
        sender.send_replace(Some(Frame { came: Instant::now(), metrics }));
    };
    tracing::debug!(id = %spec.id, error = ?end, "dockerd tells nothing more of it");
}

/// When it was read, and the CPU time used until then. A container that does not run has used none, at no time.
fn used(frame: &ContainerStatsResponse) -> Option<(Timestamp, Duration)> {
    let nanos = frame.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage.filter(|nanos| *nanos > 0)?;
    let at = frame.read.as_ref()?.parse().ok()?;
    Some((at, Duration::from_nanos(nanos)))
}

/// Bytes of memory, without what the kernel keeps of files and would give up: the way of `docker stats`
/// (Docker Engine API, `ContainerStats`).
fn in_use(memory: &ContainerMemoryStats) -> Option<u64> {
    let of = |name| memory.stats.as_ref().and_then(|stats| stats.get(name));
    // Version 1 of cgroups, then version 2.
    let files = of("total_inactive_file").or_else(|| of("inactive_file")).copied().unwrap_or(0);
    Some(memory.usage?.saturating_sub(files))
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerCpuStats, ContainerCpuUsage};

    use super::*;

    fn frame(read: &str, nanos: u64) -> ContainerStatsResponse {
        let cpu_usage = ContainerCpuUsage { total_usage: Some(nanos), ..Default::default() };
        ContainerStatsResponse {
            read: Some(read.to_owned()),
            cpu_stats: Some(ContainerCpuStats { cpu_usage: Some(cpu_usage), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_container_that_has_ended_has_no_metrics() {
        let read = used(&frame("2026-01-02T03:04:05.006007008Z", 1_500)).expect("it runs");
        assert_eq!(read.0.as_nanosecond() % 1_000_000_000, 6_007_008);
        assert_eq!(read.1, Duration::from_nanos(1_500));
        assert_eq!(used(&frame("0001-01-01T00:00:00Z", 0)), None);
        assert_eq!(used(&ContainerStatsResponse::default()), None);
    }

    #[test]
    fn memory_in_use_is_without_what_is_kept_of_files() {
        let memory = |stats: &[(&str, u64)]| ContainerMemoryStats {
            usage: Some(100),
            stats: Some(stats.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()),
            ..Default::default()
        };
        assert_eq!(in_use(&memory(&[("total_inactive_file", 30), ("inactive_file", 7)])), Some(70));
        assert_eq!(in_use(&memory(&[("inactive_file", 20)])), Some(80));
        assert_eq!(in_use(&memory(&[])), Some(100));
        assert_eq!(in_use(&ContainerMemoryStats::default()), None);
    }

    #[tokio::test]
    async fn a_frame_serves_for_seconds_only() {
        let metrics =
            InstanceMetrics { at: Timestamp::UNIX_EPOCH, cpu: Duration::ZERO, memory: None, traffic: None };
        let now = Instant::now();
        let (sender, latest) = watch::channel(Some(Frame { came: now, metrics }));
        assert_eq!(last(latest.clone()).await, Ok(metrics));
        let came = now.checked_sub(FRESH * 2).expect("the host is up for longer");
        sender.send_replace(Some(Frame { came, metrics }));
        assert!(last(latest.clone()).await.is_err(), "dockerd hangs");
        sender.send_replace(None);
        drop(sender);
        assert!(last(latest).await.is_err(), "the container has ended");
    }
}
