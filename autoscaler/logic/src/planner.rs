//! The steps from the instances there are to the number there should be.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::group::{Instance, InstanceId, InstanceState, elapsed};
use crate::spec::GroupSpec;

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    /// Make one more instance.
    Launch {
        /// Why.
        reason: String,
    },
    /// Give it no new flow.
    Drain {
        /// Which.
        id: InstanceId,
        /// Why.
        reason: String,
    },
    /// Shut it down and remove it.
    Terminate {
        /// Which.
        id: InstanceId,
        /// Why.
        reason: String,
    },
}

/// What should be done now so that what is becomes what should be.
///
/// - Instances that are pending or in service and have not failed are the capacity; it is brought to `desired`.
/// - Failed instances are terminated, and a replacement is launched in the same plan.
/// - What is too many goes from the least preferred cloud first, and there newest first (by creation, then by id).
///   Pending instances go before all others, wherever and however old they are, and are terminated at once, as they
///   have no flows: so a plan never brings the number in service below `desired`, or below what it is. Those in service
///   are drained.
/// - A draining instance is terminated when it has no live flow left, or when its cool-down is over. While some are
///   desired and none is in service, it takes new flows, as one that still serves is better than none: then only the
///   end of its cool-down terminates it. It never is in service again.
/// - Draining instances come on top of `desired`, and so of the maximum. One that a person drains lowers nothing:
///   it is replaced.
///
/// Steps are in the order in which they should begin: launches first, as they take longest. A plan looks at the
/// instances only, so that the next round repairs what a crash cut short; what is `terminating` is left to whoever
/// removes it.
#[must_use]
pub fn plan(spec: &GroupSpec, desired: u32, instances: &[Instance], now: Timestamp) -> Vec<Step> {
    let capacity: Vec<&Instance> = instances.iter().filter(|instance| instance.is_capacity()).collect();
    let count = u32::try_from(capacity.len()).unwrap_or(u32::MAX);
    let mut steps: Vec<Step> = launches(desired, count).collect();
    steps.extend(removals(desired, count, capacity));
    let awaited = desired > 0 && !instances.iter().any(Instance::is_serving);
    steps.extend(instances.iter().filter_map(|instance| ending(spec, instance, !awaited, now)));
    steps
}

/// A tenant that leaves keeps its instances for so long, or for the group's cool-down where that is shorter, also without a
/// live flow: it may be back.
pub const RETURNS_WITHIN: Duration = Duration::from_secs(30);

/// What should be done now for the group of a tenant that has been leaving since then. Nothing is launched or replaced, and
/// its instances take no new flow.
///
/// - One is terminated when it has no live flow left, but not before [`RETURNS_WITHIN`], or when the cool-down is over.
/// - One that was draining before, or has failed, goes as in [`plan`].
#[must_use]
pub fn plan_leaving(spec: &GroupSpec, since: Timestamp, instances: &[Instance], now: Timestamp) -> Vec<Step> {
    let passed = elapsed(since, now);
    let leaving = |instance: &Instance| {
        if instance.failed || !instance.is_capacity() {
            return ending(spec, instance, true, now);
        }
        let is_idle = instance.state == InstanceState::Pending || instance.live_flows == Some(0);
        let reason = if passed >= spec.cool_down {
            format!("its tenant leaves, {}", cool_down_is_over(spec, instance))
        } else if is_idle && passed >= RETURNS_WITHIN {
            "its tenant leaves, and it has no live flow".to_owned()
        } else {
            return None;
        };
        Some(Step::Terminate { id: instance.id.clone(), reason })
    };
    instances.iter().filter_map(leaving).collect()
}

fn cool_down_is_over(spec: &GroupSpec, instance: &Instance) -> String {
    let cool_down = SignedDuration::try_from(spec.cool_down).unwrap_or(SignedDuration::MAX);
    let flows =
        instance.live_flows.map_or_else(|| "an unknown number of".to_owned(), |flows| flows.to_string());
    format!("its cool-down of {cool_down:#} is over, {flows} live flows are cut")
}

fn launches(desired: u32, count: u32) -> impl Iterator<Item = Step> {
    (count..desired).map(move |_| Step::Launch {
        reason: format!("{desired} are desired, {count} are pending or in service"),
    })
}

fn removals(desired: u32, count: u32, mut capacity: Vec<&Instance>) -> impl Iterator<Item = Step> {
    let surplus = usize::try_from(count.saturating_sub(desired)).unwrap_or(usize::MAX);
    if surplus > 0 {
        capacity.sort_by_key(|instance| {
            let pending = instance.state == InstanceState::Pending;
            (!pending, Reverse((instance.rank, instance.created, &instance.id)))
        });
    }
    capacity.into_iter().take(surplus).map(move |instance| {
        let id = instance.id.clone();
        let reason = format!("{desired} are desired, {count} are pending or in service");
        if instance.state == InstanceState::Pending {
            Step::Terminate { id, reason: format!("{reason}; it is not in service yet, so it goes first") }
        } else {
            Step::Drain { id, reason: format!("{reason}; it is the newest on the least preferred cloud") }
        }
    })
}

/// The end of an instance that has failed or has drained; `idle_ends` says whether it has drained once no live flow is left.
fn ending(spec: &GroupSpec, instance: &Instance, idle_ends: bool, now: Timestamp) -> Option<Step> {
    let leaves = matches!(instance.state, InstanceState::Terminating | InstanceState::Terminated);
    let drains = instance.state == InstanceState::Draining;
    let reason = match instance.live_flows {
        _ if leaves => return None,
        _ if instance.failed => format!("it failed while {}", instance.state),
        Some(0) if drains && idle_ends => "it has drained: no live flow is left".to_owned(),
        _ if drains && elapsed(instance.since, now) >= spec.cool_down => cool_down_is_over(spec, instance),
        _ => return None,
    };
    Some(Step::Terminate { id: instance.id.clone(), reason })
}
