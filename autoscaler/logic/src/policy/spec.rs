//! What is asked of a policy without looking at its load.

use std::time::Duration;

use crate::spec::{Custom, Dynamic, Metric, PolicySpec, Proactive, Reactive, Signal, TargetTracking};

impl PolicySpec {
    /// Its kind, as it is written in a file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::Custom(_) => "custom",
            Self::Reactive(_) => "reactive",
            Self::Proactive(_) => "proactive",
            Self::TargetTracking(_) => "target_tracking",
            Self::Step(_) => "step",
            Self::Simple(_) => "simple",
            Self::Rules(_) => "rules",
            Self::Predictive(_) => "predictive",
        }
    }

    /// The signals that it looks at, of every profile.
    #[must_use]
    pub fn signals(&self) -> Vec<&Signal> {
        match self {
            Self::Static(_) | Self::Predictive(_) => Vec::new(),
            Self::Custom(policy) => vec![policy.dynamic.signal()],
            Self::Reactive(policy) => vec![&policy.signal],
            Self::Proactive(policy) => vec![&policy.signal],
            Self::TargetTracking(policy) => vec![&policy.signal],
            Self::Step(policy) => vec![&policy.signal],
            Self::Simple(policy) => vec![&policy.signal],
            Self::Rules(policy) => {
                let profiles = policy.profiles.iter().map(|timed| &timed.profile);
                let rules = [&policy.default].into_iter().chain(profiles).flat_map(|profile| &profile.rules);
                rules.map(|rule| &rule.signal).collect()
            }
        }
    }

    /// How far it looks back: the longest of its windows.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.signals().iter().map(|signal| signal.window).max().unwrap_or_default()
    }

    /// The metric that it is about and what it is compared with, where there is one of each.
    #[must_use]
    pub fn bound(&self) -> Option<(&Metric, f64)> {
        match self {
            Self::Static(_) | Self::Rules(_) => None,
            Self::Custom(Custom { dynamic, .. }) => Some((&dynamic.signal().metric, dynamic.bound())),
            Self::Reactive(Reactive { signal, threshold })
            | Self::Proactive(Proactive { signal, threshold, .. }) => Some((&signal.metric, *threshold)),
            Self::TargetTracking(TargetTracking { signal, target, .. }) => Some((&signal.metric, *target)),
            Self::Step(policy) => Some((&policy.signal.metric, policy.threshold)),
            Self::Simple(policy) => Some((&policy.signal.metric, policy.threshold)),
            Self::Predictive(policy) => Some((&policy.metric, policy.target)),
        }
    }
}

impl Dynamic {
    /// What it looks at.
    #[must_use]
    pub fn signal(&self) -> &Signal {
        match self {
            Self::Reactive(policy) => &policy.signal,
            Self::Proactive(policy) => &policy.signal,
            Self::TargetTracking(policy) => &policy.signal,
        }
    }

    fn bound(&self) -> f64 {
        match self {
            Self::Reactive(policy) => policy.threshold,
            Self::Proactive(policy) => policy.threshold,
            Self::TargetTracking(policy) => policy.target,
        }
    }
}
