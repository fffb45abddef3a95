//! What can be measured, and how many samples become one number.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::span;

/// A quantity that is sampled, of each instance or of the group as a whole.
///
/// As text, in files, JSON and the store: `cpu`, `memory`, `network_in`, `network_out`, `packets`, `bytes`, `new_flows`,
/// `live_flows`, or `custom/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// CPU utilisation: CPU time used ÷ (time × the template's cores). 1.0 is all of them.
    Cpu,
    /// Memory utilisation: memory in use ÷ memory granted. 1.0 is all of it.
    Memory,
    /// Bytes a second that the instance received on its tenant's networks, whoever sent them.
    NetworkIn,
    /// Bytes a second that the instance sent on its tenant's networks, to whomever.
    NetworkOut,
    /// Packets a second towards the instance, from the XDP program.
    Packets,
    /// Bytes a second towards the instance, from the XDP program.
    Bytes,
    /// Flows begun a second, from the XDP program.
    NewFlows,
    /// Live flows, from the XDP program.
    LiveFlows,
    /// What users push or a source reads, in its own unit.
    Custom(MetricName),
}

impl Metric {
    /// Those that Sluice measures by itself.
    pub const BUILT_IN: [Self; 8] = [
        Self::Cpu,
        Self::Memory,
        Self::NetworkIn,
        Self::NetworkOut,
        Self::Packets,
        Self::Bytes,
        Self::NewFlows,
        Self::LiveFlows,
    ];

    /// Whether it is a share of what an instance has, so that people read and write it in percent.
    #[must_use]
    pub fn is_share(&self) -> bool {
        matches!(self, Self::Cpu | Self::Memory)
    }

    /// What people call it, with its unit where it is no share.
    #[must_use]
    pub fn title(&self) -> &str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::NetworkIn => "network in, bytes/s",
            Self::NetworkOut => "network out, bytes/s",
            Self::Packets => "packets/s",
            Self::Bytes => "bytes/s",
            Self::NewFlows => "new flows/s",
            Self::LiveFlows => "live flows",
            Self::Custom(name) => name.as_str(),
        }
    }

    /// Its name as in a file: of a custom metric without `custom/`.
    fn word(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::NetworkIn => "network_in",
            Self::NetworkOut => "network_out",
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::NewFlows => "new_flows",
            Self::LiveFlows => "live_flows",
            Self::Custom(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self, Self::Custom(_)) {
            f.write_str(CUSTOM)?;
        }
        f.write_str(self.word())
    }
}

/// What a custom metric's text begins with, so that a misspelt built-in one is a fault and not a metric that nobody
/// pushes.
const CUSTOM: &str = "custom/";

/// Why a text is not a [`Metric`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMetric {
    /// Neither built in nor custom.
    #[error(
        "`{0}` is not a metric: cpu, memory, network_in, network_out, packets, bytes, new_flows, live_flows, \
         or custom/<name> for one of your own"
    )]
    Unknown(String),
    /// A custom metric's name is not one.
    #[error(transparent)]
    Name(#[from] BadMetricName),
}

impl FromStr for Metric {
    type Err = BadMetric;

    fn from_str(text: &str) -> Result<Self, BadMetric> {
        if let Some(name) = text.strip_prefix(CUSTOM) {
            return Ok(Self::Custom(name.parse()?));
        }
        let built_in = Self::BUILT_IN.into_iter().find(|metric| metric.word() == text);
        built_in.ok_or_else(|| BadMetric::Unknown(text.to_owned()))
    }
}

impl TryFrom<String> for Metric {
    type Error = BadMetric;

    fn try_from(text: String) -> Result<Self, BadMetric> {
        text.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

/// A custom metric's name: 1 to 64 of `a–z`, `0–9`, `_`, `-` and `.`, the first a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName(Arc<str>);

/// Why a text is not a [`MetricName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a metric's name: 1 to 64 of a-z, 0-9, `_`, `-` and `.`, the first a letter")]
pub struct BadMetricName(String);

impl MetricName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MetricName {
    type Error = BadMetricName;

    fn try_from(text: String) -> Result<Self, BadMetricName> {
        text.parse()
    }
}

impl From<MetricName> for String {
    fn from(name: MetricName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl FromStr for MetricName {
    type Err = BadMetricName;

    fn from_str(text: &str) -> Result<Self, BadMetricName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if starts_well && text.len() <= 64 && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(BadMetricName(text.to_owned()))
        }
    }
}

/// One number made of the values of several instances at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Statistic {
    /// The mean.
    #[default]
    Average,
    /// The least.
    Min,
    /// The largest.
    Max,
    /// All together.
    Sum,
    /// That of the instance sampled last.
    Last,
    /// How many instances have a value.
    Count,
    /// The value that so many percent of the instances are at or below (nearest rank).
    Percentile(Percentile),
}

/// More than 0 and at most 100.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percentile(f64);

impl Percentile {
    /// `None` where it is not more than 0 and at most 100.
    #[must_use]
    pub fn new(percent: f64) -> Option<Self> {
        (percent > 0.0 && percent <= 100.0).then_some(Self(percent))
    }

    /// In percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        self.0
    }
}

/// Why a text is not a [`Statistic`] or an [`Aggregation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not one of {expected}")]
pub struct UnknownWord {
    found: String,
    expected: &'static str,
}

impl Statistic {
    /// What can be written for one.
    pub const WORDS: &str = "average, min, max, sum, last, count, or a percentile such as p95";
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Average => "average",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Last => "last",
            Self::Count => "count",
            Self::Percentile(rank) => return write!(f, "p{}", rank.0),
        })
    }
}

impl FromStr for Statistic {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let percentile = |text: &str| text.strip_prefix('p')?.parse().ok().and_then(Percentile::new);
        Ok(match text {
            "average" => Self::Average,
            "min" => Self::Min,
            "max" => Self::Max,
            "sum" => Self::Sum,
            "last" => Self::Last,
            "count" => Self::Count,
            _ => Self::Percentile(
                percentile(text)
                    .ok_or_else(|| UnknownWord { found: text.to_owned(), expected: Self::WORDS })?,
            ),
        })
    }
}

impl TryFrom<String> for Statistic {
    type Error = UnknownWord;

    fn try_from(text: String) -> Result<Self, UnknownWord> {
        text.parse()
    }
}

impl From<Statistic> for String {
    fn from(statistic: Statistic) -> Self {
        statistic.to_string()
    }
}

/// One number made of values over time, by the names of Azure's `timeAggregation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The mean.
    #[default]
    Average,
    /// The least.
    Minimum,
    /// The largest.
    Maximum,
    /// All together.
    Total,
    /// The newest.
    Last,
    /// How many there are.
    Count,
}

/// Whose samples a policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Those of each instance in service, made one number by a statistic.
    Instances {
        /// Which.
        #[serde(default)]
        statistic: Statistic,
    },
    /// Those of the group as a whole: the length of a queue, say.
    Group {
        /// Divided by the instances in service before it is compared: Azure's `dividePerInstance`, the HPA's
        /// `AverageValue`, what AWS calls a backlog per instance.
        #[serde(default)]
        per_instance: bool,
    },
}

impl Default for Scope {
    fn default() -> Self {
        Self::Instances { statistic: Statistic::default() }
    }
}

/// What a policy looks at: a metric, and how its samples become one number.
///
/// Without a `grain` each instance's samples are aggregated over the window first, and the statistic is taken of
/// what comes out: the order of the reactive rule and of the HPA. With one the statistic is taken in each grain of
/// time first, and aggregated over the window: the order of Azure (`timeGrain`, `timeWindow`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What.
    pub metric: Metric,
    /// Whose.
    #[serde(default)]
    pub scope: Scope,
    /// How the window becomes one number.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// How far it looks back: (`now − window`, `now`].
    #[serde(with = "span")]
    pub window: Duration,
    /// The length of a grain; `None`: window first, then instances.
    #[serde(default, with = "span::option", skip_serializing_if = "Option::is_none")]
    pub grain: Option<Duration>,
}

impl Signal {
    /// The mean over the window of each instance, averaged over the instances in service.
    #[must_use]
    pub fn mean(metric: Metric, window: Duration) -> Self {
        let (scope, aggregation) = (Scope::default(), Aggregation::default());
        Self { metric, scope, aggregation, window, grain: None }
    }

    /// Whether its value is a share of what an instance has, so that people read and write it in percent. A share summed
    /// over instances or over time, or counted, is no share of anything any more.
    #[must_use]
    pub fn is_share(&self) -> bool {
        let statistic =
            matches!(self.scope, Scope::Instances { statistic: Statistic::Sum | Statistic::Count });
        let aggregation = matches!(self.aggregation, Aggregation::Total | Aggregation::Count);
        self.metric.is_share() && !statistic && !aggregation
    }

    /// Whether it is an average over the instances: what forecasts and the HPA's rule for missing pods are about.
    #[must_use]
    pub fn averages_instances(&self) -> bool {
        matches!(self.scope, Scope::Instances { statistic: Statistic::Average })
    }
}
