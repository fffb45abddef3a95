//! AWS's step scaling.

use super::reading::Reading;
use super::wish::towards;
use super::{Answer, Situation, Wish};
use crate::samples::Load;
use crate::spec::{Adjustment, Step, StepAdjustment};

/// The number after a change, by AWS's rounding ("Scaling adjustment types for step and simple scaling").
///
/// Percent: above 1 it is rounded down, from 0 to 1 it is 1, from −1 to 0 it is −1, below −1 it is rounded towards
/// zero: 12.7 is 12, 0.67 is 1, −0.58 is −1, −6.67 is −6. A change of some percent is at least `min_magnitude`. What is
/// not a number changes nothing.
#[must_use]
pub fn adjusted(current: u32, adjustment: Adjustment, change: f64, min_magnitude: u32) -> u32 {
    let whole = |number: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "limited to 33 bits; not a number is 0")]
        let whole = number.clamp(-f64::from(u32::MAX), f64::from(u32::MAX)).trunc() as i64;
        whole
    };
    let by = match adjustment {
        Adjustment::Exact => return u32::try_from(whole(change).max(0)).unwrap_or(u32::MAX),
        Adjustment::Change => whole(change),
        Adjustment::Percent => {
            let exact = f64::from(current) * change / 100.0;
            let sign = if exact > 0.0 { 1 } else { -1 };
            // A billionth short of a whole number is that number: 10 % of 30 is 3.
            let rounded = whole(exact + exact.signum() * super::ROUNDING);
            match exact {
                _ if exact == 0.0 || exact.is_nan() => 0,
                _ => sign * rounded.abs().max(1).max(i64::from(min_magnitude)),
            }
        }
    };
    u32::try_from((i64::from(current) + by).max(0)).unwrap_or(u32::MAX)
}

/// The step whose bounds the difference between signal and threshold is in ("Step scaling policies"): above the
/// threshold a lower bound is inclusive and an upper one exclusive, below it the other way round.
#[must_use]
pub fn matching_step(steps: &[StepAdjustment], difference: f64) -> Option<&StepAdjustment> {
    // 60 % less 50 % is a bit short of 10 %, and still at that bound.
    let slack = super::ROUNDING * difference.abs().max(1.0);
    let lower = |step: &StepAdjustment| step.lower.unwrap_or(f64::NEG_INFINITY);
    let upper = |step: &StepAdjustment| step.upper.unwrap_or(f64::INFINITY);
    let (up, down) = (difference + slack, difference - slack);
    // At the threshold itself the step above it holds.
    let above = steps.iter().find(|step| lower(step) >= 0.0 && lower(step) <= up && up < upper(step));
    above.or_else(|| steps.iter().find(|step| lower(step) < 0.0 && lower(step) < down && down <= upper(step)))
}

/// Whether a change takes instances away, wherever the group is.
fn removes(adjustment: Adjustment, change: f64) -> bool {
    adjustment == Adjustment::Exact || change < 0.0
}

/// The step that matches is a change of the current capacity, the instances that are warm: while those of a step are
/// warming up, a step of the same size adds nothing, and a larger one only the difference.
pub(super) fn answer(policy: &Step, situation: &Situation<'_>) -> Answer {
    let Situation { group, samples, now, .. } = situation;
    let warm_up = policy.warm_up.unwrap_or(group.spec.pace.warm_up);
    let load = samples.load(group.instances, &policy.signal, warm_up, *now);
    let reading = Reading { signal: &policy.signal, load, what: "threshold", bound: policy.threshold };
    let (value, current, complete) = match load {
        Load::Known { value, instances, .. } => (value, instances, true),
        Load::Partial { at_least, instances, unmeasured, .. } => (at_least, instances + unmeasured, false),
        Load::Missing(_) => return Answer::new(Wish::Unknown, reading.to_string()).on(load),
    };
    let step = matching_step(&policy.steps, value - policy.threshold);
    let wanted =
        step.map_or(current, |step| adjusted(current, policy.adjustment, step.change, policy.min_magnitude));
    let change = i64::from(wanted) - i64::from(current);
    let (wish, what) = towards(situation.standing(), current, change);
    let reason = match step {
        Some(step) => format!("{reading}: {}, {what}", Words(policy.adjustment, step)),
        None => format!("{reading}: no step is about that"),
    };
    let (wish, reason) = match wish {
        Wish::Out(_) => (wish, reason),
        _ if !complete => (Wish::Unknown, format!("{reason}; too little is known to remove")),
        Wish::In(_) if situation.is_growing(warm_up) => {
            (Wish::Hold, format!("{reason}, but none goes while instances are starting or warming up"))
        }
        Wish::Hold if !policy.steps.iter().any(|step| removes(policy.adjustment, step.change)) => {
            (Wish::Abstain, format!("{reason}; it only adds"))
        }
        wish => (wish, reason),
    };
    Answer::new(wish, reason).on(load)
}

/// A step as people read it.
struct Words<'a>(Adjustment, &'a StepAdjustment);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lower, upper) = (self.1.lower, self.1.upper);
        let bound = |bound: Option<f64>| bound.map_or_else(|| "…".to_owned(), |bound| bound.to_string());
        write!(f, "the step from {} to {} says ", bound(lower), bound(upper))?;
        change_words(f, self.0, self.1.change)
    }
}

/// A change as people read it.
pub(super) fn change_words(
    f: &mut std::fmt::Formatter<'_>,
    adjustment: Adjustment,
    change: f64,
) -> std::fmt::Result {
    match adjustment {
        Adjustment::Change => write!(f, "{change:+}"),
        Adjustment::Percent => write!(f, "{change:+} %"),
        Adjustment::Exact => write!(f, "exactly {change}"),
    }
}
