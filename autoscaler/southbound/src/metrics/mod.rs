//! Sources of metrics beside what providers and the load balancer count: exporters in the instances, and a Prometheus
//! server.
//!
//! Each is asked by itself and within its own time, so that one that hangs holds up no other. What can't be had is an
//! error of that instance or that source: missing data, never zero.

mod exporter;
mod http;
mod promql;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use futures_util::future::join_all;
use lb_userspace::net::Netns;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{Exporter, MetricSource, PromQuery};

use crate::probe;

/// An instance that a source may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub id: InstanceId,
    /// Its address on the tenant's first network.
    pub address: Ipv4Addr,
    /// Its address on the management network, where its exporter is read; `None`: it is read at the other one.
    pub management: Option<Ipv4Addr>,
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Whose; `None` is the group's as a whole.
    pub instance: Option<InstanceId>,
    /// As the source has it: of a counter, its count.
    pub value: f64,
}

/// Why a source, or an instance's exporter, gave no value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing came in time.
    #[error("{target} gave no answer within {after:?}")]
    TimedOut {
        /// Whom we asked.
        target: String,
        /// How long we waited.
        after: Duration,
    },
    /// It can't be reached, or the connection broke.
    #[error("{target} can't be asked: {reason}")]
    Unreachable {
        /// Whom we asked.
        target: String,
        /// What was met.
        reason: String,
    },
    /// It answered something else than was asked for.
    #[error("{target} answered {reason}")]
    Answer {
        /// Whom we asked.
        target: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a metric: of each target, or of the group.
///
/// A source that is pushed has nothing to be read. `management` and `transit` are the namespaces from which instances
/// are reached at the one address and the other; a Prometheus server is asked from the daemon's own.
pub async fn read(
    source: &MetricSource,
    management: Option<&Netns>,
    transit: &Netns,
    targets: &[Target],
    timeout: Duration,
) -> Vec<Result<Reading, SourceError>> {
    match source {
        MetricSource::Push => Vec::new(),
        MetricSource::Exporter(exporter) => {
            let read = |target| read_exporter(exporter, management, transit, target, timeout);
            join_all(targets.iter().map(read)).await
        }
        MetricSource::Prometheus(query) => {
            let asked = within(timeout, &query.url, ask_prometheus(query, targets)).await;
            asked.map_or_else(|error| vec![Err(error)], |readings| readings.into_iter().map(Ok).collect())
        }
    }
}

async fn read_exporter(
    exporter: &Exporter,
    management: Option<&Netns>,
    transit: &Netns,
    target: &Target,
    timeout: Duration,
) -> Result<Reading, SourceError> {
    let (netns, address) = management.zip(target.management).unwrap_or((transit, target.address));
    let address = SocketAddrV4::new(address, exporter.port);
    let name = format!("the exporter of {} at {address}", target.id);
    let reading = async {
        let connected = probe::connect(netns, address).await;
        let stream = connected.map_err(|error| unreachable(&name, &error))?;
        let text = http::get(stream, &name, &address.to_string(), &exporter.path).await?;
        exporter::value(&text, exporter)
            .map_err(|reason| SourceError::Answer { target: name.clone(), reason })
    };
    let value = within(timeout, &name, reading).await?;
    Ok(Reading { instance: Some(target.id.clone()), value })
}

async fn ask_prometheus(query: &PromQuery, targets: &[Target]) -> Result<Vec<Reading>, SourceError> {
    let name = &query.url;
    let (stream, host) = http::connect(name).await?;
    let arguments = [("query", query.query.as_str())];
    let arguments = serde_urlencoded::to_string(arguments)
        .map_err(|error| SourceError::Answer { target: name.clone(), reason: error.to_string() })?;
    let answer = http::get(stream, name, &host, &format!("/api/v1/query?{arguments}")).await?;
    promql::readings(&answer, query.by.as_deref(), targets)
        .map_err(|reason| SourceError::Answer { target: name.clone(), reason })
}

async fn within<T>(
    timeout: Duration,
    target: &str,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let late = || SourceError::TimedOut { target: target.to_owned(), after: timeout };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(late()))
}

fn unreachable(target: &str, error: &dyn std::error::Error) -> SourceError {
    SourceError::Unreachable { target: target.to_owned(), reason: error.to_string() }
}
