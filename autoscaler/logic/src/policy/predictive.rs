//! A minimum from a forecast.

use super::proactive::silent;
use super::reading::{amount, unusable};
use super::wish::ceil_count;
use super::{Answer, Situation, Wish};
use crate::outlook::Outlook;
use crate::spec::{Predictive, PredictiveMode};

/// `ceil(demand / target)` as a minimum, where demand is the largest expected until an instance started now, and the
/// scheduling buffer, are past. It abstains from everything else: a forecast never removes an instance, nor keeps
/// others from it.
pub(super) fn answer(policy: &Predictive, situation: &Situation<'_>) -> Answer {
    if let Some(why) = unusable("target", policy.target) {
        return Answer::new(Wish::Abstain, why);
    }
    let Some(Outlook::Expected { demand, at, error, .. }) = situation.outlook else {
        return Answer::new(Wish::Abstain, silent(situation.outlook));
    };
    let expected = ceil_count(demand / policy.target);
    let demand = amount(policy.metric.is_share(), *demand);
    let off =
        error.map(|error| format!("; its last forecasts were off by {:.0} % of the load", error * 100.0));
    let off = off.unwrap_or_default();
    let said = format!("{} of {demand} is expected by {at:.0}, which needs {expected}{off}", policy.metric);
    if policy.mode == PredictiveMode::ForecastOnly {
        return Answer::new(Wish::Abstain, format!("{said}; it only forecasts"));
    }
    let max = situation.group.spec.max;
    let buffer = policy.max_capacity_buffer.filter(|_| expected >= max);
    let raised_max =
        buffer.map(|percent| ceil_count(f64::from(expected) * (1.0 + f64::from(percent) / 100.0)).max(max));
    Answer { floor: Some(expected), raised_max, ..Answer::new(Wish::Abstain, said) }
}
