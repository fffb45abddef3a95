//! The forecasts of a group's policies.

use std::time::Duration;

use jiff::Timestamp;

use super::Minute;
use super::predictive::SeasonalForecast;
use super::proactive::{Costs, Expectation, ProactiveForecast, Terms};
use crate::group::Instance;
use crate::outlook::Outlook;
use crate::samples::{Load, Samples};
use crate::spec::{Custom, Dynamic, GroupSpec, Metric, PolicySpec, Predictive, Proactive, Signal};

const MINUTE: Duration = Duration::from_mins(1);

/// The forecasts of a group's policies: one for each that looks ahead.
///
/// It takes minutes, whether they come from [`Samples`] as they pass or from kept history, and says what each policy is
/// to be told.
#[derive(Debug, Clone)]
pub struct Forecasts {
    /// Beside the policies.
    forecasts: Vec<Option<PolicyForecast>>,
}

/// The forecast of one policy.
#[derive(Debug, Clone)]
struct PolicyForecast {
    metric: Metric,
    forecast: Forecast,
}

#[derive(Debug, Clone)]
enum Forecast {
    Proactive(Box<ProactiveForecast>),
    Seasonal(SeasonalForecast),
    /// Of a signal of which no history is kept that it could be made of.
    None,
}

impl Forecasts {
    /// Those that have seen nothing yet, of a group whose instances take `start_time` from their launch until they serve.
    #[must_use]
    pub fn new(spec: &GroupSpec, policies: &[PolicySpec], start_time: Duration) -> Self {
        let of_policy = |policy: &PolicySpec| match policy {
            PolicySpec::Proactive(policy)
            | PolicySpec::Custom(Custom { dynamic: Dynamic::Proactive(policy), .. }) => {
                Some(PolicyForecast::proactive(policy, spec, start_time))
            }
            PolicySpec::Predictive(policy) => Some(PolicyForecast::predictive(policy, start_time)),
            _ => None,
        };
        Self { forecasts: policies.iter().map(of_policy).collect() }
    }

    /// Whether these are about the same things as `others`, whatever they have seen.
    #[must_use]
    pub fn serve(&self, others: &Self) -> bool {
        let same = |ours: &Option<PolicyForecast>, other: &Option<PolicyForecast>| match (ours, other) {
            (Some(ours), Some(other)) => ours.metric == other.metric && ours.forecast.serves(&other.forecast),
            (None, None) => true,
            _ => false,
        };
        self.forecasts.len() == others.forecasts.len()
            && self.forecasts.iter().zip(&others.forecasts).all(|(ours, other)| same(ours, other))
    }

    /// The metrics that they need minutes of.
    pub fn metrics(&self) -> impl Iterator<Item = &Metric> {
        self.forecasts.iter().flatten().map(|of_policy| &of_policy.metric)
    }

    /// Takes the demand on the group in a minute of the past, as it was kept. Minutes come in their order.
    pub fn recall(&mut self, metric: &Metric, minute: Minute, demand: f64) {
        for of_policy in self.forecasts.iter_mut().flatten().filter(|of_policy| of_policy.metric == *metric) {
            of_policy.forecast.observe(minute, demand);
        }
    }

    /// Takes the last full minute before `now` from the samples, where it has not been taken yet. May be called in every
    /// round. A minute in which the load is not known is a gap.
    pub fn observe(&mut self, samples: &Samples, instances: &[Instance], now: Timestamp) {
        let minute = last_full_minute(now);
        for of_policy in self.forecasts.iter_mut().flatten() {
            let taken = of_policy.forecast.newest().is_some_and(|newest| newest >= minute);
            if !taken && let Some(demand) = demand(samples, instances, &of_policy.metric, now) {
                of_policy.forecast.observe(minute, demand);
            }
        }
    }

    /// What each policy is to be told: beside the policies, as [`Group::outlooks`](crate::decision::Group::outlooks).
    #[must_use]
    pub fn outlooks(&self, now: Timestamp) -> Vec<Option<Outlook>> {
        self.forecasts
            .iter()
            .map(|of_policy| of_policy.as_ref().map(|of_policy| of_policy.outlook(now)))
            .collect()
    }
}

impl PolicyForecast {
    fn proactive(policy: &Proactive, spec: &GroupSpec, start_time: Duration) -> Self {
        if !policy.signal.averages_instances() {
            return Self { metric: policy.signal.metric.clone(), forecast: Forecast::None };
        }
        let costs = Costs { shortage: policy.shortage_cost, change: policy.change_cost };
        let terms = Terms::new(spec, policy.threshold, start_time + policy.margin, costs);
        let forecast = Forecast::Proactive(Box::new(ProactiveForecast::new(terms)));
        Self { metric: policy.signal.metric.clone(), forecast }
    }

    fn predictive(policy: &Predictive, start_time: Duration) -> Self {
        let ahead = (start_time + policy.scheduling_buffer).as_secs().div_ceil(60);
        let ahead = Minute::try_from(ahead).unwrap_or(Minute::MAX / 2);
        Self { metric: policy.metric.clone(), forecast: Forecast::Seasonal(SeasonalForecast::new(ahead)) }
    }

    fn outlook(&self, now: Timestamp) -> Outlook {
        match &self.forecast {
            Forecast::Proactive(forecast) => expected(forecast, now),
            Forecast::Seasonal(forecast) => of_season(forecast, now),
            Forecast::None => Outlook::Silent {
                reason:
                    "only the average over the instances is forecast, and this policy looks at something else"
                        .to_owned(),
            },
        }
    }
}

impl Forecast {
    fn observe(&mut self, minute: Minute, demand: f64) {
        match self {
            Self::Proactive(forecast) => {
                forecast.observe(minute, demand);
            }
            Self::Seasonal(forecast) => forecast.observe(minute, demand),
            Self::None => {}
        }
    }

    fn newest(&self) -> Option<Minute> {
        match self {
            Self::Proactive(forecast) => forecast.newest(),
            Self::Seasonal(forecast) => forecast.newest(),
            Self::None => None,
        }
    }

    /// Whether both forecast the same, whatever they have seen.
    fn serves(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Proactive(ours), Self::Proactive(other)) => ours.terms() == other.terms(),
            (Self::Seasonal(ours), Self::Seasonal(other)) => ours.ahead() == other.ahead(),
            (Self::None, Self::None) => true,
            _ => false,
        }
    }
}

fn of_season(forecast: &SeasonalForecast, now: Timestamp) -> Outlook {
    match forecast.season(now) {
        Ok(season) => Outlook::Expected {
            demand: season.demand,
            at: season.at,
            error: Some(season.relative_error),
            ahead: None,
            kept: None,
        },
        Err(silence) => Outlook::Silent { reason: silence.to_string() },
    }
}

fn expected(forecast: &ProactiveForecast, now: Timestamp) -> Outlook {
    match forecast.expectation(now) {
        Ok(Expectation { until_served, ahead, kept, at, relative_error, .. }) => Outlook::Expected {
            demand: until_served,
            at,
            error: relative_error,
            ahead: Some(ahead),
            kept: Some(kept),
        },
        Err(silence) => Outlook::Silent { reason: silence.to_string() },
    }
}

/// The newest minute that is over at `now`.
#[must_use]
pub fn last_full_minute(now: Timestamp) -> Minute {
    now.as_second().div_euclid(60) - 1
}

/// The demand on the group over the minute before `now`: the metric's mean over the instances in service, times their
/// number; `None` where it is not known. An instance in service for less than it has carried only a part of
/// its share, so the mean is over the others, and counts for all.
#[must_use]
pub fn demand(samples: &Samples, instances: &[Instance], metric: &Metric, now: Timestamp) -> Option<f64> {
    let signal = Signal::mean(metric.clone(), MINUTE);
    let serving = instances.iter().filter(|instance| instance.is_serving()).count();
    let of_all = |value: f64| value * f64::from(u32::try_from(serving).unwrap_or(u32::MAX));
    [MINUTE, Duration::ZERO].into_iter().find_map(|warm_up| {
        match samples.load(instances, &signal, warm_up, now) {
            Load::Known { value, .. } => Some(of_all(value)),
            Load::Partial { .. } | Load::Missing(_) => None,
        }
    })
}
