//! What each policy wants, as a pure function of the load: one module a kind, each with its formula and its source.
//!
//! The number of instances a policy computes with is the number in service and warm, as only they carry the load. What
//! it wants is counted from the desired number: instances that are pending, or wanted and not even begun, are capacity
//! on its way and answer the same load, so they are taken off what is still to be added. Two in service at
//! twice their threshold need two more; while these two start, nothing further is wanted.

mod azure;
mod custom;
mod default;
mod predictive;
mod proactive;
mod reactive;
mod reading;
mod simple;
mod spec;
mod statics;
mod step;
mod target;
mod timing;
mod wish;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use default::{DEFAULT_POLICIES_WINDOW, default_policies};
pub use reactive::reactive;
pub use step::{adjusted, matching_step};
pub use target::{Assumed, hpa, tracked};
pub use timing::{NeverFires, first_start};
use wish::Standing;
pub(crate) use wish::ceil_count;
pub use wish::{ROUNDING, Wish};

use crate::decision::Group;
use crate::outlook::Outlook;
use crate::samples::{Load, Samples};
use crate::spec::PolicySpec;
use std::time::Duration;

/// A policy, what it saw and what it wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The policy and its parameters.
    pub policy: PolicySpec,
    /// The load in the metric's own unit; `None` where it is not known. Where instances are unmeasured, the
    /// least it can be.
    pub load: Option<f64>,
    /// Instances in service with fresh samples.
    pub instances: u32,
    /// Instances in service without.
    pub unmeasured: u32,
    /// Samples that went into the load.
    pub samples: u32,
    /// What is expected, where the policy acts on a forecast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
    /// What it wants.
    pub wish: Wish,
    /// The number below which it lets nobody go: that of a static entry, of an Azure profile, of a forecast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u32>,
    /// The maximum that it puts in the place of the group's, where it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised_max: Option<u32>,
    /// How long its kind waits after it has acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// Why, for people, with its numbers.
    pub reason: String,
}

/// What a policy is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) group: &'a Group<'a>,
    pub(crate) samples: &'a Samples,
    pub(crate) outlook: Option<&'a Outlook>,
    pub(crate) now: Timestamp,
}

/// What a policy answers, before it is put together with what it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    load: Option<Load>,
    wish: Wish,
    floor: Option<u32>,
    raised_max: Option<u32>,
    cooldown: Option<Duration>,
    reason: String,
}

impl Answer {
    fn new(wish: Wish, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { load: None, wish, floor: None, raised_max: None, cooldown: None, reason }
    }

    fn on(self, load: Load) -> Self {
        Self { load: Some(load), ..self }
    }
}

/// What a policy wants of a group.
pub(crate) fn evaluate(policy: &PolicySpec, situation: &Situation<'_>) -> Evaluation {
    let answer = match policy {
        PolicySpec::Static(policy) => statics::answer(&policy.entries, situation),
        PolicySpec::Custom(policy) => custom::answer(policy, situation),
        PolicySpec::Reactive(policy) => reactive::answer(policy, situation),
        PolicySpec::Proactive(policy) => proactive::answer(policy, situation),
        PolicySpec::TargetTracking(policy) => target::answer(policy, situation),
        PolicySpec::Step(policy) => step::answer(policy, situation),
        PolicySpec::Simple(policy) => simple::answer(policy, situation),
        PolicySpec::Rules(policy) => azure::answer(policy, situation),
        PolicySpec::Predictive(policy) => predictive::answer(policy, situation),
    };
    let (load, instances, unmeasured, samples) = match answer.load {
        Some(Load::Known { value, instances, samples }) => (Some(value), instances, 0, samples),
        Some(Load::Partial { at_least, instances, unmeasured, samples, .. }) => {
            (Some(at_least), instances, unmeasured, samples)
        }
        Some(Load::Missing(_)) => (None, 0, situation.serving(), 0),
        None => (None, 0, 0, 0),
    };
    Evaluation {
        policy: policy.clone(),
        load,
        instances,
        unmeasured,
        samples,
        outlook: situation.outlook.cloned(),
        wish: answer.wish,
        floor: answer.floor,
        raised_max: answer.raised_max,
        cooldown: answer.cooldown,
        reason: answer.reason,
    }
}

impl Situation<'_> {
    /// Instances in service that have not failed.
    fn serving(&self) -> u32 {
        let serving = self.group.instances.iter().filter(|instance| instance.is_serving()).count();
        u32::try_from(serving).unwrap_or(u32::MAX)
    }

    /// Whether instances are on their way: pending, or not warm yet. Those that are wanted and can't be launched are not.
    fn is_growing(&self, warm_up: Duration) -> bool {
        let Standing { desired, capacity } = self.standing();
        capacity >= desired && self.ready(warm_up) < desired
    }

    /// How many instances there are, and how many there should be.
    fn standing(&self) -> Standing {
        let capacity = self.group.instances.iter().filter(|instance| instance.is_capacity()).count();
        Standing { desired: self.group.desired, capacity: u32::try_from(capacity).unwrap_or(u32::MAX) }
    }

    /// How many there are, or are wanted, beside those that are in service and warm.
    fn unready(&self, warm_up: Duration) -> u32 {
        let Standing { desired, capacity } = self.standing();
        capacity.max(desired).saturating_sub(self.ready(warm_up))
    }

    fn ready(&self, warm_up: Duration) -> u32 {
        let ready = self.group.instances.iter().filter(|instance| {
            instance.is_serving() && crate::group::elapsed(instance.since, self.now) >= warm_up
        });
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }
}
