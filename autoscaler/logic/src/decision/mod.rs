//! How many instances there should be, and why.
//!
//! The order of things, each of which may clip the one before: what the policies want together, the limits and what a
//! policy protects, stabilization, rate limits and scale-in control, the buffer time.

mod clip;
mod combine;
mod pace;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use clip::Clip;

use self::combine::combine;
use crate::group::{Instance, InstanceState};
use crate::history::History;
use crate::outlook::Outlook;
pub use crate::planner::{RETURNS_WITHIN, Step, plan, plan_leaving};
use crate::policy::{Evaluation, Situation, Wish, evaluate};
use crate::samples::Samples;
use crate::spec::{GroupSpec, PolicySpec};

/// A group at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// Its limits and pace.
    pub spec: &'a GroupSpec,
    /// What decides.
    pub policies: &'a [PolicySpec],
    /// Its instances, in any order.
    pub instances: &'a [Instance],
    /// How many there should be, by the last decision.
    pub desired: u32,
    /// When the last scaling action began.
    pub last_action: Option<Timestamp>,
    /// Its recent past.
    pub history: &'a History,
    /// What is expected, beside `policies`; `None`, or missing at the end, for those that don't look ahead.
    pub outlooks: &'a [Option<Outlook>],
}

/// What a decision does to the desired number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays.
    #[default]
    Nothing,
    /// A policy raises it.
    Out,
    /// The policies lower it.
    In,
    /// It was outside the limits, or below what a policy protects, and is brought back.
    Repair,
    /// A person sets it.
    Manual,
}

/// What was decided at one moment, also "nothing".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The desired count before.
    pub from: u32,
    /// The desired count from now on.
    pub to: u32,
    /// Why, for people: one sentence with its numbers.
    pub reason: String,
    /// What it does.
    #[serde(default)]
    pub action: Action,
    /// What each policy saw and wanted, in the order of the tenant file.
    #[serde(default)]
    pub policies: Vec<Evaluation>,
    /// What kept it from what was wanted, in the order in which it was applied.
    #[serde(default)]
    pub clips: Vec<Clip>,
    /// When the last scaling action began, from now on: to be kept together with `to`, as
    /// [`GroupState::record`](crate::group::GroupState::record) does.
    #[serde(default)]
    pub last_action: Option<Timestamp>,
    /// What the policies want together, within the limits, before anything tames it; `None` where they don't know, or
    /// were not asked.
    #[serde(default)]
    pub recommended: Option<u32>,
    /// How long the kind of policy that settled it waits now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// The place in `policies` of the one that settled it; `None` where none did, as with a repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_by: Option<usize>,
    /// Whether an instance is starting or draining.
    #[serde(default)]
    pub settling: bool,
    /// Whether an instance is starting.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starting: bool,
    /// The group's own maximum, where `to` is above it: a policy has raised it, or had, and it is on its way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceeds: Option<u32>,
}

impl Decision {
    /// The policy that settled it, where one did.
    pub(crate) fn settling_policy(&self) -> Option<&Evaluation> {
        self.policies.get(self.settled_by?)
    }
}

/// Why a number set by a person is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManualError {
    /// The group's limits don't allow it.
    #[error(
        "{count} is outside this group's limits, {min} to {max}: choose a number within them, or change them in the \
         tenant file"
    )]
    OutsideLimits {
        /// What was asked for.
        count: u32,
        /// Fewest instances.
        min: u32,
        /// Most instances.
        max: u32,
    },
}

/// Decides how many instances there should be.
///
/// - A desired number outside the limits (the tenant edited them), or below what a policy protects (a static entry
///   has begun), is brought back at once, whatever else is wanted and the buffer time says: that is a repair, not a
///   scaling action, and begins no buffer time. What a policy protects never goes beyond the maximum.
/// - A desired number above the maximum because a policy had raised it goes back as any number goes in: when all agree, or
///   none is asked, at the pace of that direction and after the buffer time. Nothing is added meanwhile.
/// - Out if any policy wants out, and the largest wish wins. In only if all agree, and the smallest wins; a policy
///   without data agrees to nothing.
/// - The pace of the direction then tames it: stabilization, rate limits, scale-in control.
/// - Within the buffer time of the last scaling action the number stays; the time may be another one for each direction.
/// - A `last_action` of the future means that the clock was set back. It counts as now, and the decision's own
///   `last_action` says so: the group waits for one buffer time, not until the clock has caught up.
///
/// Nine instances at a load of 80, where 60 is the threshold, become twelve:
///
/// ```
/// use std::net::Ipv4Addr;
/// use std::time::Duration;
///
/// use jiff::Timestamp;
/// use sluice_logic::decision::{Group, decide};
/// use sluice_logic::group::{Instance, InstanceId, InstanceState};
/// use sluice_logic::history::History;
/// use sluice_logic::samples::Samples;
/// use sluice_logic::spec::{CloudName, GroupSpec, Metric, Pace, PolicySpec, Reactive, Signal, TenantName};
///
/// let start = Timestamp::from_second(1_700_000_000)?;
/// let measured = Timestamp::from_second(1_700_000_600)?;
/// let window = Duration::from_mins(5);
/// let tenant = TenantName::try_from("demo".to_owned())?;
/// let instances: Vec<Instance> = (1..=9)
///     .map(|number| Instance {
///         id: InstanceId::new(&tenant, number),
///         cloud: CloudName::default(),
///         rank: 0,
///         address: Ipv4Addr::from(0x1300_0000 + number),
///         state: InstanceState::InService,
///         created: start,
///         since: start,
///         live_flows: None,
///         failed: false,
///         stopping: false,
///     })
///     .collect();
/// let mut samples = Samples::new(window);
/// for instance in &instances {
///     samples.push(&instance.id, &Metric::Packets, measured, 80.0).map_err(|why| format!("{why:?}"))?;
/// }
///
/// let spec = GroupSpec {
///     min: 1,
///     max: 20,
///     buffer_time: Duration::from_mins(2),
///     cool_down: Duration::from_mins(5),
///     pace: Pace::default(),
/// };
/// let signal = Signal::mean(Metric::Packets, window);
/// let decision = decide(
///     &Group {
///         spec: &spec,
///         policies: &[PolicySpec::Reactive(Reactive { signal, threshold: 60.0 })],
///         instances: &instances,
///         desired: 9,
///         last_action: None,
///         history: &History::default(),
///         outlooks: &[],
///     },
///     &samples,
///     measured,
/// );
/// assert_eq!(decision.to, 12, "{}", decision.reason);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn decide(group: &Group<'_>, samples: &Samples, now: Timestamp) -> Decision {
    let policies: Vec<Evaluation> = group
        .policies
        .iter()
        .enumerate()
        .map(|(index, policy)| {
            let outlook = group.outlooks.get(index).and_then(Option::as_ref);
            evaluate(policy, &Situation { group, samples, outlook, now })
        })
        .collect();
    let last_action = group.last_action.map(|at| at.min(now));
    let limits = Limits::of(group.spec, &policies);
    let combined = combine(&policies);
    let followed = follow(group, &limits, &combined, last_action, now);
    let outcome = match repair(group, &limits) {
        // Where a policy wants more than another protects, and may have it now, the two are one step up.
        Some(repaired)
            if limits.protector.is_some()
                && followed.action == Action::Out
                && group.desired < repaired.to
                && repaired.to < followed.to =>
        {
            followed
        }
        Some(repaired) => repaired,
        None => followed,
    };
    let acts = matches!(outcome.action, Action::Out | Action::In);
    let settled_by = combined.policy.filter(|_| acts);
    Decision {
        at: now,
        from: group.desired,
        to: outcome.to,
        reason: outcome.reason,
        action: outcome.action,
        cooldown: settled_by.and_then(|index| policies.get(index)?.cooldown),
        settled_by,
        policies,
        clips: outcome.clips,
        last_action: if acts { Some(now) } else { last_action },
        recommended: outcome.recommended,
        settling: any_is(group.instances, &[InstanceState::Pending, InstanceState::Draining]),
        starting: any_is(group.instances, &[InstanceState::Pending]),
        exceeds: Some(group.spec.max).filter(|&max| outcome.to > max),
    }
}

/// Decides what a person says: the desired number becomes `count`.
///
/// It does not wait for a buffer time, since a person knows why, but it begins one: the policies see its effect
/// before they change the number again. Where a policy had raised the maximum, the way back to it may go in steps.
pub fn manual(group: &Group<'_>, count: u32, now: Timestamp) -> Result<Decision, ManualError> {
    let (from, max) = (group.desired, group.spec.max);
    if count < group.spec.min || count > max.max(from) {
        return Err(ManualError::OutsideLimits { count, min: group.spec.min, max });
    }
    let changes = from != count;
    let last_action = group.last_action.map(|at| at.min(now));
    Ok(Decision {
        at: now,
        from,
        to: count,
        reason: if changes {
            format!("{from} → {count}: set by hand")
        } else {
            format!("stays at {from}: set by hand to what it is already")
        },
        action: if changes { Action::Manual } else { Action::Nothing },
        last_action: if changes { Some(now) } else { last_action },
        settling: any_is(group.instances, &[InstanceState::Pending, InstanceState::Draining]),
        starting: any_is(group.instances, &[InstanceState::Pending]),
        exceeds: Some(max).filter(|&max| count > max),
        ..Decision::default()
    })
}

/// Whether an instance that has not failed is in one of these states.
fn any_is(instances: &[Instance], states: &[InstanceState]) -> bool {
    instances.iter().any(|instance| !instance.failed && states.contains(&instance.state))
}

/// Between what the number may be: the group's limits, and what its policies make of them.
struct Limits {
    /// The group's minimum, or what a policy protects.
    min: u32,
    /// The policy whose floor is above the group's minimum.
    protector: Option<usize>,
    /// The group's maximum, or what a policy has put in its place.
    max: u32,
}

impl Limits {
    fn of(spec: &GroupSpec, policies: &[Evaluation]) -> Self {
        let max = policies.iter().filter_map(|policy| policy.raised_max).fold(spec.max, u32::max);
        let floors = policies.iter().enumerate().filter_map(|(index, policy)| Some((policy.floor?, index)));
        // The first of equals, so that the reason stays the same from one round to the next.
        let highest = floors.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let highest = highest.filter(|(floor, _)| *floor > spec.min);
        let min = highest.map_or(spec.min, |(floor, _)| floor).min(max);
        Self { min, protector: highest.map(|(_, index)| index), max }
    }

    fn clamp(&self, count: u32) -> u32 {
        count.max(self.min).min(self.max)
    }

    fn min_clip(&self) -> Clip {
        match self.protector {
            Some(policy) => Clip::Floor { floor: self.min, policy },
            None => Clip::Min { min: self.min },
        }
    }

    /// What has clipped `wanted`, if anything has.
    fn clip(&self, wanted: u32) -> Option<Clip> {
        match wanted {
            _ if wanted > self.max => Some(Clip::Max { max: self.max }),
            _ if wanted < self.min => Some(self.min_clip()),
            _ => None,
        }
    }
}

struct Outcome {
    to: u32,
    recommended: Option<u32>,
    action: Action,
    clips: Vec<Clip>,
    reason: String,
}

fn repair(group: &Group<'_>, limits: &Limits) -> Option<Outcome> {
    let from = group.desired;
    let to = limits.clamp(from);
    let was_raised = group.history.exceeded().is_some_and(|max| max <= group.spec.max);
    let clip = limits.clip(from).filter(|clip| !(was_raised && matches!(clip, Clip::Max { .. })))?;
    let why = match &clip {
        Clip::Floor { floor, policy } => format!("below {floor}, which policy {} protects", policy + 1),
        Clip::Max { max } => format!("above the maximum of {max}"),
        _ => format!("below the minimum of {}", limits.min),
    };
    let reason = format!("{from} → {to}: {from} is {why}; a repair, so no buffer time holds it up");
    Some(Outcome { to, recommended: None, action: Action::Repair, clips: vec![clip], reason })
}

fn follow(
    group: &Group<'_>,
    limits: &Limits,
    combined: &combine::Combined,
    last_action: Option<Timestamp>,
    now: Timestamp,
) -> Outcome {
    let from = group.desired;
    // Above a maximum that is no longer raised there is no more to have, and what there is may stay until the policies let it
    // go, or none is asked.
    let max = match combined.wish {
        Wish::Out(_) | Wish::Abstain => limits.max,
        Wish::In(_) | Wish::Hold | Wish::Unknown => limits.max.max(from),
    };
    let limits = Limits { max, ..*limits };
    let (wanted, within, action) = match combined.wish {
        Wish::Out(more) => {
            let wanted = from.saturating_add(more.get());
            (wanted, limits.clamp(wanted).max(from), Action::Out)
        }
        Wish::In(fewer) => {
            let wanted = from.saturating_sub(fewer.get());
            (wanted, limits.clamp(wanted), Action::In)
        }
        Wish::Abstain => (from, limits.clamp(from), Action::In),
        Wish::Hold | Wish::Unknown => (from, limits.clamp(from), Action::Nothing),
    };
    let recommended = Some(within).filter(|_| combined.wish != Wish::Unknown);
    let mut clips: Vec<Clip> = limits.clip(wanted).into_iter().collect();
    let to = pace::tame(group, within, now, &mut clips);
    let buffer_time = if to > from { group.spec.buffer_time_out() } else { group.spec.buffer_time_in() };
    let waits = last_action.map(|at| at.checked_add(buffer_time).unwrap_or(Timestamp::MAX));
    let waits = waits.filter(|&until| to != from && now < until);
    clips.extend(waits.map(|until| Clip::BufferTime { until }));
    let limited: String = clips.iter().map(Clip::words).collect();
    let why = &combined.reason;
    if to == from || waits.is_some() {
        let reason = format!("stays at {from}: {why}{limited}");
        return Outcome { to: from, recommended, action: Action::Nothing, clips, reason };
    }
    Outcome { to, recommended, action, clips, reason: format!("{from} → {to}: {why}{limited}") }
}
