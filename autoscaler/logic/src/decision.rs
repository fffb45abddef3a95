//! How many instances there should be, and why.
//!
//! The order of things, each of which may clip the one before: what the policies want together, the group's limits,
//! its buffer time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::group::Instance;
pub use crate::planner::{Step, plan};
use crate::policy::{Evaluation, Wish, evaluate};
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
    /// It was outside the limits and is brought back.
    Repair,
    /// A person sets it.
    Manual,
}

/// What kept a decision from what was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Clip {
    /// The group's minimum.
    Min {
        /// Fewest instances.
        min: u32,
    },
    /// The group's maximum.
    Max {
        /// Most instances.
        max: u32,
    },
    /// The last scaling action began less than the buffer time ago.
    BufferTime {
        /// From when on the next may begin.
        until: Timestamp,
    },
}

/// What was decided at one moment, also "nothing".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
/// - A desired number outside the limits (the tenant edited them) is brought back at once, whatever the policies
///   and the buffer time say: that is a repair, not a scaling action, and begins no buffer time.
/// - Out if any policy wants out, and the largest wish wins. In only if all agree, and the smallest wins; a policy
///   without data agrees to nothing.
/// - Within the buffer time of the last scaling action the number stays.
/// - A `last_action` of the future means that the clock was set back. It counts as now, and the decision's own
///   `last_action` says so: the group waits for one buffer time, not until the clock has caught up.
#[must_use]
pub fn decide(group: &Group<'_>, samples: &Samples, now: Timestamp) -> Decision {
    let look = |policy| evaluate(policy, group.desired, group.instances, samples, now);
    let policies: Vec<Evaluation> = group.policies.iter().map(look).collect();
    let last_action = group.last_action.map(|at| at.min(now));
    let outcome = repair(group).unwrap_or_else(|| follow(group, combine(&policies), last_action, now));
    let acts = matches!(outcome.action, Action::Out | Action::In);
    Decision {
        at: now,
        from: group.desired,
        to: outcome.to,
        reason: outcome.reason,
        action: outcome.action,
        policies,
        clips: outcome.clips,
        last_action: if acts { Some(now) } else { last_action },
    }
}

/// Decides what a person says: the desired number becomes `count`.
///
/// It does not wait for a buffer time, since a person knows why, but it begins one: the policies see its effect
/// before they change the number again.
pub fn manual(group: &Group<'_>, count: u32, now: Timestamp) -> Result<Decision, ManualError> {
    if group.spec.clamp(count) != count {
        return Err(ManualError::OutsideLimits { count, min: group.spec.min, max: group.spec.max });
    }
    let from = group.desired;
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
        policies: Vec::new(),
        clips: Vec::new(),
        last_action: if changes { Some(now) } else { last_action },
    })
}

struct Outcome {
    to: u32,
    action: Action,
    clips: Vec<Clip>,
    reason: String,
}

fn repair(group: &Group<'_>) -> Option<Outcome> {
    let GroupSpec { min, max, .. } = *group.spec;
    let from = group.desired;
    let to = group.spec.clamp(from);
    let (limit, clip) = match to {
        _ if to == from => return None,
        _ if to > from => (format!("below the minimum of {min}"), Clip::Min { min }),
        _ => (format!("above the maximum of {max}"), Clip::Max { max }),
    };
    let reason = format!("{from} → {to}: {from} is {limit}; a repair, so no buffer time holds it up");
    Some(Outcome { to, action: Action::Repair, clips: vec![clip], reason })
}

/// What the policies want together, and the reason of the one that settles it.
fn combine(policies: &[Evaluation]) -> (Wish, String) {
    let outs = policies.iter().filter_map(|p| match p.wish {
        Wish::Out(more) => Some((more, p)),
        _ => None,
    });
    // The first of equals, so that the reason stays the same from one round to the next.
    if let Some((more, policy)) = outs.reduce(|best, next| if next.0 > best.0 { next } else { best }) {
        return (Wish::Out(more), policy.reason.clone());
    }
    let blocks = |wish: Wish| policies.iter().find(|p| p.wish == wish);
    if let Some(policy) = blocks(Wish::Unknown).or_else(|| blocks(Wish::Hold)) {
        let others = policies.iter().any(|p| matches!(p.wish, Wish::In(_)));
        let veto = if others { ", and it goes in only if all policies agree" } else { "" };
        return (policy.wish, format!("{}{veto}", policy.reason));
    }
    let ins = policies.iter().filter_map(|p| match p.wish {
        Wish::In(fewer) => Some((fewer, p)),
        _ => None,
    });
    match ins.reduce(|best, next| if next.0 < best.0 { next } else { best }) {
        Some((fewer, policy)) => (Wish::In(fewer), policy.reason.clone()),
        None => (Wish::Hold, "there is no policy, so it changes by hand only".to_owned()),
    }
}

fn follow(
    group: &Group<'_>,
    (wish, why): (Wish, String),
    last_action: Option<Timestamp>,
    now: Timestamp,
) -> Outcome {
    let from = group.desired;
    let (wanted, action) = match wish {
        Wish::Out(more) => (from.saturating_add(more.get()), Action::Out),
        Wish::In(fewer) => (from.saturating_sub(fewer.get()), Action::In),
        Wish::Hold | Wish::Unknown => (from, Action::Nothing),
    };
    let to = group.spec.clamp(wanted);
    let (mut clips, limit) = limit(group.spec, wanted, to);
    if to == from {
        return Outcome {
            to,
            action: Action::Nothing,
            clips,
            reason: format!("stays at {from}: {why}{limit}"),
        };
    }
    let until = last_action.map(|at| at.checked_add(group.spec.buffer_time).unwrap_or(Timestamp::MAX));
    if let Some(until) = until.filter(|&until| now < until) {
        clips.push(Clip::BufferTime { until });
        let reason = format!("stays at {from}: {why}{limit}; waits for the buffer time until {until:.0}");
        return Outcome { to: from, action: Action::Nothing, clips, reason };
    }
    Outcome { to, action, clips, reason: format!("{from} → {to}: {why}{limit}") }
}

fn limit(spec: &GroupSpec, wanted: u32, to: u32) -> (Vec<Clip>, String) {
    match to.cmp(&wanted) {
        std::cmp::Ordering::Equal => (Vec::new(), String::new()),
        std::cmp::Ordering::Less => {
            (vec![Clip::Max { max: spec.max }], format!(", but {} is the maximum", spec.max))
        }
        std::cmp::Ordering::Greater => {
            (vec![Clip::Min { min: spec.min }], format!(", but {} is the minimum", spec.min))
        }
    }
}
