//! The outlook of a proactive policy.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Minute;
use super::accuracy::Accuracy;
use super::backtest::Backtests;
use super::levels::{Level, OUTLOOKS, Setting};
use super::load::LoadForecast;
use crate::policy::ceil_count;
use crate::spec::GroupSpec;

/// A forecast older than so many minutes is no forecast.
const STALE: Minute = 3;

/// What things cost, in units of a spare instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// A missing instance, counted in spare ones for the same time.
    pub shortage: f64,
    /// A change of the number, counted in hours of a spare instance.
    pub change: f64,
}

/// What a forecast is to be acted on with.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What one instance may carry, in the metric's own unit: the policy's threshold. Above 0.
    pub per_instance: f64,
    /// Fewest instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// Minutes, begun ones counted in full, from the launch of an instance until it serves, with the policy's margin.
    pub start: Minute,
    /// What is weighed.
    pub costs: Costs,
}

impl Terms {
    /// Of a group whose instances take `start_time` to serve.
    #[must_use]
    pub fn new(spec: &GroupSpec, per_instance: f64, start_time: Duration, costs: Costs) -> Self {
        let minutes = start_time.as_secs().div_ceil(60).max(1);
        let start = Minute::try_from(minutes).unwrap_or(Minute::MAX).min(12 * 60);
        Self { per_instance, min: spec.min, max: spec.max, start, costs }
    }

    /// How many instances carry a load of so many, within the limits.
    #[must_use]
    pub fn instances(&self, load: f64) -> u32 {
        ceil_count(load).max(self.min).min(self.max)
    }
}

/// What a proactive policy acts on. Demands are of the whole group, in the metric's unit times instances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expectation {
    /// The most until an instance started now would serve: with fewer instances some would be missing.
    pub until_served: f64,
    /// The most until the end of the outlook: where instances are added, so many are.
    pub ahead: f64,
    /// The largest `ahead` of the hold time: nobody goes below it.
    pub kept: f64,
    /// When an instance started now would serve.
    pub at: Timestamp,
    /// How good the last forecasts of `until_served` were, as [`Accuracy::relative_error`].
    pub relative_error: Option<f64>,
    /// The strategy that has been the cheapest.
    pub setting: Setting,
}

/// Why there is no [`Expectation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Too few forecasts have come due to know how wrong they are.
    #[error("it has seen too little of this load yet")]
    TooYoung,
    /// The newest minute is too old, or is of the future after the clock was set back.
    #[error("its newest minute is not of now: data are missing, or the clock was changed")]
    Stale,
}

/// The memory of a proactive policy: its forecasts, and how to act on them.
#[derive(Debug, Clone)]
pub struct ProactiveForecast {
    terms: Terms,
    forecast: LoadForecast,
    backtests: Backtests,
}

impl ProactiveForecast {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        // A decision at the end of a minute serves from the `start`th minute after it on, begun minutes in full.
        let until_served = terms.start + 1;
        let horizons: Vec<Minute> =
            std::iter::once(until_served).chain(OUTLOOKS.map(|outlook| outlook.max(until_served))).collect();
        Self { forecast: LoadForecast::new(&horizons), backtests: Backtests::new(terms.min), terms }
    }

    /// What it acts on.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The newest minute it was given.
    #[must_use]
    pub fn newest(&self) -> Option<Minute> {
        self.forecast.newest()
    }

    /// Takes the demand on the group in a minute that is over: the metric's mean over the instances in service times their
    /// number. `false` where it is refused, as by [`LoadForecast::observe`].
    pub fn observe(&mut self, minute: Minute, demand: f64) -> bool {
        let load = demand / self.terms.per_instance;
        let taken = self.forecast.observe(minute, load);
        if taken {
            self.backtests.observe(&self.terms, minute, load, &self.forecast);
        }
        taken
    }

    /// What is expected at `now`.
    pub fn expectation(&self, now: Timestamp) -> Result<Expectation, Silence> {
        let newest = self.forecast.newest().ok_or(Silence::TooYoung)?;
        let age = now.as_second().div_euclid(60) - newest;
        if !(0..=STALE).contains(&age) {
            return Err(Silence::Stale);
        }
        let provision = self.backtests.provision().ok_or(Silence::TooYoung)?;
        let in_unit = |level: Level| level.load * self.terms.per_instance;
        Ok(Expectation {
            until_served: in_unit(provision.until_served),
            ahead: in_unit(provision.ahead),
            kept: in_unit(provision.kept),
            at: now.checked_add(SignedDuration::from_mins(self.terms.start)).unwrap_or(Timestamp::MAX),
            relative_error: self.forecast.accuracy(0).map(Accuracy::relative_error),
            setting: self.backtests.setting(),
        })
    }
}
