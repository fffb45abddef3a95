//! The parameters of Azure Monitor's autoscale: rules in profiles.

use std::time::Duration;

use jiff::civil;
use serde::{Deserialize, Serialize};

use super::metric::Signal;
use super::schedule::{Cron, Zone};
use super::span;
use super::step::Comparison;

/// Rules in profiles, one profile at a time: a fixed date's before a recurring one's before the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// What holds when no other does.
    pub default: Profile,
    /// The others; of several of one kind that hold, the first does.
    #[serde(default)]
    pub profiles: Vec<TimedProfile>,
}

/// Limits and rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Fewest instances while it holds; the group's minimum holds too.
    pub min: u32,
    /// Most instances while it holds; the group's maximum holds too.
    pub max: u32,
    /// The number wanted where a metric is missing and there are fewer.
    pub default: u32,
    /// Out if any rule to increase holds, in if all rules to decrease hold.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A profile for some times only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedProfile {
    /// For people.
    pub name: String,
    /// When it holds.
    #[serde(flatten)]
    pub when: ProfileTime,
    /// What holds then.
    #[serde(flatten)]
    pub profile: Profile,
}

/// When a profile holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileTime {
    /// Once.
    Fixed {
        /// From when on.
        from: civil::DateTime,
        /// Until when.
        to: civil::DateTime,
        /// Whose wall clock.
        #[serde(default)]
        time_zone: Zone,
    },
    /// Again and again.
    Recurring {
        /// When it begins.
        cron: Cron,
        /// How long it holds.
        #[serde(with = "span")]
        duration: Duration,
        /// Whose wall clock.
        #[serde(default)]
        time_zone: Zone,
    },
}

/// A condition and what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What is looked at: `statistic` over the instances in each `grain`, `aggregation` over the `window`.
    #[serde(flatten)]
    pub signal: Signal,
    /// How it is compared.
    pub when: Comparison,
    /// With what. Finite and not negative.
    pub threshold: f64,
    /// What is done.
    pub change: RuleChange,
    /// After an action of this rule no rule of the group acts for so long.
    #[serde(with = "span")]
    pub cooldown: Duration,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleChange {
    /// So many more.
    Increase(u32),
    /// So many fewer.
    Decrease(u32),
    /// So many percent more, at least one.
    IncreasePercent(u32),
    /// So many percent fewer, at least one.
    DecreasePercent(u32),
    /// So many, where there are fewer.
    IncreaseTo(u32),
    /// So many, where there are more.
    DecreaseTo(u32),
}

impl RuleChange {
    /// Whether it adds.
    #[must_use]
    pub fn is_out(self) -> bool {
        matches!(self, Self::Increase(_) | Self::IncreasePercent(_) | Self::IncreaseTo(_))
    }
}
