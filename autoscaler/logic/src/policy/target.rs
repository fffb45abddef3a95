//! Target tracking, by AWS's and the HPA's rules.

use super::reading::{Reading, unusable};
use super::wish::{ceil, towards};
use super::{Answer, Situation, Wish, reactive};
use crate::samples::Load;
use crate::spec::{MissingData, Signal, TargetTracking, Tolerance};

/// How many more or fewer keep the signal at or below the target: `ceil(n × value / target) − n`.
///
/// Conservative both ways, as AWS documents it ("Target tracking scaling policies for Amazon EC2 Auto Scaling"): 1.5
/// more than needed is 2 to add, 1.5 fewer is 1 to remove. No change while `value / target` is within
/// the tolerance ("Horizontal Pod Autoscaling", algorithm details). `value` is finite and not negative, `target`
/// finite and positive.
#[must_use]
pub fn tracked(n: u32, value: f64, target: f64, tolerance: Tolerance) -> i64 {
    let ratio = value / target;
    // A ratio at the tolerance's very edge is within it, whatever the last bit says.
    if ratio - 1.0 <= tolerance.out + 1e-9 && 1.0 - ratio <= tolerance.r#in + 1e-9 {
        return 0;
    }
    ceil(f64::from(n) * ratio) - i64::from(n)
}

/// What the HPA knows of a set of pods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assumed {
    /// The mean over the measured ones.
    pub mean: f64,
    /// How many those are.
    pub measured: u32,
    /// How many are in service without samples.
    pub missing: u32,
    /// How many are not ready yet.
    pub unready: u32,
    /// What a missing one is taken to use on the way in: the target, or all of a share.
    pub full: f64,
}

/// The HPA's rule with missing and not-ready instances ("Horizontal Pod Autoscaling", algorithm details): how many more
/// or fewer than `measured + missing + unready`.
///
/// On the way out missing and unready ones count at 0, on the way in missing ones count at `full` and unready ones not
/// at all. Where this moves the ratio into the tolerance or turns the direction, no change.
#[must_use]
pub fn hpa(known: Assumed, target: f64, tolerance: Tolerance) -> i64 {
    let Assumed { mean, measured, missing, unready, full } = known;
    let of = |count: u32| f64::from(count);
    let first = mean / target;
    let (sum, count) = if first > 1.0 {
        (mean * of(measured), of(measured) + of(missing) + of(unready))
    } else {
        (mean * of(measured) + full * of(missing), of(measured) + of(missing))
    };
    if count == 0.0 {
        return 0;
    }
    let ratio = sum / count / target;
    let turned = (first > 1.0) != (ratio > 1.0);
    let within = ratio - 1.0 <= tolerance.out + 1e-9 && 1.0 - ratio <= tolerance.r#in + 1e-9;
    if turned || within {
        return 0;
    }
    let current = i64::from(measured) + i64::from(missing) + i64::from(unready);
    let change = ceil(ratio * count) - current;
    // What is counted may be fewer than there are: more of a rising load than there are, or none.
    if first > 1.0 { change.max(0) } else { change.min(0) }
}

pub(super) fn answer(policy: &TargetTracking, situation: &Situation<'_>) -> Answer {
    let TargetTracking { signal, target, tolerance, missing, .. } = policy;
    if let Some(why) = unusable("target", *target) {
        return Answer::new(Wish::Unknown, why);
    }
    let Situation { group, samples, now, .. } = situation;
    let warm_up = policy.warm_up.unwrap_or(group.spec.pace.warm_up);
    let load = samples.load(group.instances, signal, warm_up, *now);
    let reading = Reading { signal, load, what: "target", bound: *target };
    let (wish, reason) = match known(load, signal, *target).filter(|_| *missing == MissingData::Assume) {
        Some(known) => {
            assumed(Assumed { unready: situation.unready(warm_up), ..known }, policy, situation, &reading)
        }
        None => {
            reactive::wish(situation.standing(), &reading, |n, value| tracked(n, value, *target, *tolerance))
        }
    };
    let (wish, reason) = restrained(policy, situation.is_growing(warm_up), wish, reason);
    Answer::new(wish, reason).on(load)
}

/// What is known of a load that the HPA's rule is about.
fn known(load: Load, signal: &Signal, target: f64) -> Option<Assumed> {
    let (mean, measured, missing) = match load {
        Load::Known { value, instances, .. } => (value, instances, 0),
        Load::Partial { measured, instances, unmeasured, gaps: false, .. } => {
            (measured, instances, unmeasured)
        }
        Load::Partial { .. } | Load::Missing(_) => return None,
    };
    let full = if signal.metric.is_share() { target.max(1.0) } else { target };
    signal.averages_instances().then_some(Assumed { mean, measured, missing, unready: 0, full })
}

fn assumed(
    known: Assumed,
    policy: &TargetTracking,
    situation: &Situation<'_>,
    reading: &Reading<'_>,
) -> (Wish, String) {
    let Assumed { mean, measured, missing, unready, .. } = known;
    let change = hpa(known, policy.target, policy.tolerance);
    let (wish, what) = towards(situation.standing(), measured + missing + unready, change);
    let counted = match (mean > policy.target, missing, unready) {
        (_, 0, 0) | (false, 0, _) => String::new(),
        (true, 0, _) => format!("; {unready} not ready yet counted at 0"),
        (true, _, 0) => "; those without samples count at 0".to_owned(),
        (true, _, _) => {
            format!("; those without samples, and {unready} not ready yet, count at 0")
        }
        (false, _, _) => "; those without samples count at their full load".to_owned(),
    };
    (wish, format!("{reading}{counted}: {what}"))
}

/// What it may not do although the load would let it.
fn restrained(policy: &TargetTracking, growing: bool, wish: Wish, reason: String) -> (Wish, String) {
    match wish {
        Wish::In(_) | Wish::Hold if policy.disable_scale_in => {
            (Wish::Abstain, format!("{reason}; it only adds"))
        }
        // The HPA leaves out those that are not ready, and goes in by the others.
        Wish::In(_) if growing && policy.missing == MissingData::Hold => {
            (Wish::Hold, format!("{reason}, but none goes while instances are starting or warming up"))
        }
        wish => (wish, reason),
    }
}
