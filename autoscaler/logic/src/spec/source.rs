//! Where a tenant's own metrics come from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MetricName;

/// A metric of a tenant's own, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricSpec {
    /// Policies know it as `custom/<name>`.
    pub name: MetricName,
    /// Where it comes from.
    pub source: MetricSource,
    /// It is read so often; of one that is pushed, how often it is expected.
    pub interval: Duration,
    /// A source that takes longer to answer has failed.
    pub timeout: Duration,
    /// Its data count as missing when the newest sample is older.
    pub stale_after: Duration,
}

/// Where a metric comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricSource {
    /// Users push it: `sluice push`.
    Push,
    /// An exporter in each instance, by Prometheus's text format.
    Exporter(Exporter),
    /// A query of a Prometheus server.
    Prometheus(PromQuery),
}

/// An exporter in each instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exporter {
    /// The TCP port on which it answers.
    pub port: u16,
    /// The HTTP path.
    pub path: String,
    /// The name of the series, such as `node_load1`. Where several have it and the labels, their sum is the value.
    pub series: String,
    /// The labels that a series must have.
    pub labels: BTreeMap<String, String>,
    /// Whether it is a counter, of which the increase a second is the value.
    pub rate: bool,
}

/// A query of a Prometheus server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromQuery {
    /// The server, such as `http://127.0.0.1:9090`.
    pub url: String,
    /// In `PromQL`; an instant query.
    pub query: String,
    /// The label that names an instance: by its address, with or without a port, or by its id. Without it the answer is
    /// one value, of the group as a whole.
    pub by: Option<String>,
}
