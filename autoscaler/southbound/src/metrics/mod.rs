//! Sources of metrics beside what providers and the load balancer count: exporters in the instances, and a Prometheus
//! server.
//!
//! Each is asked by itself and within its own time, so that one that hangs holds up no other. What can't be had is an
//! error of that instance or that source: missing data, never zero.
//!
//! What an exporter or a server answers is its tenant's word, and may be anything. It is read in pieces, of which a reading
//! keeps one at a time; [`Quota`] says how many answers of a tenant, and of all together, are read at once, and
//! `work` that no more than one thread is busy with them.

mod exposition;
mod http;
mod promql;
mod quota;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use lb_userspace::net::Netns;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{Exporter, MetricSource, PromQuery};

use self::exposition::{Format, Page, Value};
use self::http::Answer;
pub use self::quota::Quota;
use self::quota::work;
use crate::probe;

/// Largest answer of a Prometheus server, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// So much of a page is read before it is worked on, in bytes: a fraction of a millisecond's work.
const PIECE: usize = 64 << 10;

/// A page whose beginning has come has to come whole within this time: exporters collect first, and then write.
const PAGE_TIME: Duration = Duration::from_secs(2);

/// So much of what somebody else wrote stands in a message, in characters.
const MOST_SHOWN: usize = 120;

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
    /// When it was measured, where the source says so; otherwise it is of now.
    pub at: Option<Timestamp>,
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
/// A source that is pushed has nothing to be read. `quota` is the tenant's. `management` and `transit` are the namespaces
/// from which instances are reached at the one address and the other; a Prometheus server is asked from the daemon's own.
pub async fn read(
    source: &MetricSource,
    quota: &Quota,
    management: Option<&Netns>,
    transit: &Netns,
    targets: &[Target],
    timeout: Duration,
) -> Vec<Result<Reading, SourceError>> {
    match source {
        MetricSource::Push => Vec::new(),
        MetricSource::Exporter(exporter) => {
            let read = async |target| {
                let _asked = quota.ask().await;
                read_exporter(exporter, quota, management, transit, target, timeout).await
            };
            join_all(targets.iter().map(read)).await
        }
        MetricSource::Prometheus(query) => {
            let _asked = quota.ask().await;
            let asked = within(timeout, &query.url, ask_prometheus(query, quota, targets)).await;
            asked.unwrap_or_else(|error| vec![Err(error)])
        }
    }
}

async fn read_exporter(
    exporter: &Exporter,
    quota: &Quota,
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
        let (host, accept) = (address.to_string(), accept(exporter));
        let answer = http::get(stream, &name, &host, &exporter.path, accept).await?;
        let _read = quota.read().await;
        let slow = |_| SourceError::Answer {
            target: name.clone(),
            reason: format!("too slowly: its page was not whole after {PAGE_TIME:?}"),
        };
        tokio::time::timeout(PAGE_TIME, page(answer, exporter)).await.map_err(slow)?
    };
    let Value { value, at } = within(timeout, &name, reading).await?;
    Ok(Reading { instance: Some(target.id.clone()), value, at })
}

/// The formats that can be read. Names that are not of letters only are asked for where one is wanted: an exporter
/// writes them with underscores otherwise, as ever.
fn accept(exporter: &Exporter) -> &'static str {
    let is_classic = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if is_classic(&exporter.series) && exporter.labels.keys().all(|name| is_classic(name)) {
        "text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.5, */*;q=0.1"
    } else {
        "text/plain;version=1.0.0;escaping=allow-utf-8, \
         application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5, */*;q=0.1"
    }
}

/// Reads a page as it comes.
async fn page(mut answer: Answer, exporter: &Exporter) -> Result<Value, SourceError> {
    let kind = answer.content_type().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let format = match kind.as_str() {
        "application/openmetrics-text" => Format::OpenMetrics,
        "application/vnd.google.protobuf" => {
            return Err(answer.wrong("in protobuf, though it was asked for text".to_owned()));
        }
        _ => Format::Text,
    };
    let mut page = Page::new(exporter.clone(), format);
    let mut length = 0;
    loop {
        let mut piece = Vec::new();
        let mut is_last = false;
        while piece.len() < PIECE && !is_last {
            let data = answer.next().await?;
            is_last = data.is_none();
            piece.extend_from_slice(&data.unwrap_or_default());
        }
        length += piece.len();
        if length > exposition::LARGEST {
            return Err(answer.wrong(exposition::too_large()));
        }
        let pushed = work(move || page.push(&piece).map(|()| page)).await;
        page = pushed.map_err(|reason| answer.wrong(reason))?;
        if is_last {
            return work(move || page.finish()).await.map_err(|reason| answer.wrong(reason));
        }
    }
}

async fn ask_prometheus(
    query: &PromQuery,
    quota: &Quota,
    targets: &[Target],
) -> Result<Vec<Result<Reading, SourceError>>, SourceError> {
    let name = &query.url;
    let wrong = |reason| SourceError::Answer { target: name.clone(), reason };
    let (stream, host) = http::connect(name).await?;
    let arguments = [("query", query.query.as_str())];
    let arguments = serde_urlencoded::to_string(arguments).map_err(|error| wrong(error.to_string()))?;
    let path = format!("/api/v1/query?{arguments}");
    let answer = http::get(stream, name, &host, &path, "application/json").await?;
    let _read = quota.read().await;
    let answer = answer.whole(LARGEST_ANSWER).await?;
    let (by, targets) = (query.by.clone(), targets.to_vec());
    let readings = work(move || promql::readings(&answer, by.as_deref(), &targets)).await;
    let readings = readings.map_err(wrong)?;
    Ok(readings.into_iter().map(|reading| reading.map_err(wrong)).collect())
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

/// What somebody else wrote, for a message: its beginning, with no character that a terminal acts on.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(MOST_SHOWN).collect();
    let more = if beginning.len() < text.len() { "…" } else { "" };
    let plain: String = beginning
        .chars()
        .flat_map(|c| if matches!(c, '"' | '\\' | '\'') { vec![c] } else { c.escape_debug().collect() })
        .collect();
    format!("`{plain}{more}`")
}
