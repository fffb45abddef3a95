//! At which pace a group's number changes, direction by direction.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::span;

/// What tames a group beyond its limits and its buffer time. Everything is off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// An instance in service for less is no load that counts, but capacity: AWS's default instance warm-up,
    /// Google's initialization period.
    #[serde(with = "span")]
    pub warm_up: Duration,
    /// On the way out.
    pub out: Direction,
    /// On the way in.
    #[serde(rename = "in")]
    pub r#in: Direction,
    /// Google's scale-in control.
    pub scale_in_control: Option<ScaleInControl>,
}

/// The pace in one direction: the HPA's `behavior.scaleUp` and `behavior.scaleDown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Direction {
    /// The number goes only so far as every recommendation of this time allows: on the way out to the least of
    /// them, on the way in to the largest.
    #[serde(with = "span")]
    pub stabilization: Duration,
    /// How fast the number may change. Empty: as fast as is wanted.
    pub limits: Vec<RateLimit>,
    /// Which of several limits holds.
    pub select: Select,
    /// After a scaling action no further one in this direction starts for so long; `None`: as the group's
    /// [`buffer_time`](super::GroupSpec::buffer_time) says.
    #[serde(with = "span::option", skip_serializing_if = "Option::is_none")]
    pub buffer_time: Option<Duration>,
}

/// At most so much change within a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// How much: of the number at the beginning of the period.
    pub most: Amount,
    /// How long a period is.
    #[serde(with = "span")]
    pub period: Duration,
}

/// Instances, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many percent.
    Percent(u32),
}

/// Which of several rate limits holds: the HPA's `selectPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The one that allows the largest change.
    #[default]
    Max,
    /// The one that allows the least change.
    Min,
    /// None: no change in this direction.
    Disabled,
}

/// The number stays within so many of the largest recommendation of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleInControl {
    /// How far below the peak it may be.
    pub most: Amount,
    /// How far back the peak is looked for: Google allows up to 60 minutes.
    #[serde(with = "span")]
    pub window: Duration,
}
