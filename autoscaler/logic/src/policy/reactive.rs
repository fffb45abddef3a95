//! The base rule.

use super::reading::{Reading, unusable};
use super::wish::{Standing, ceil, towards};
use super::{Answer, Situation, Wish};
use crate::samples::{Load, Missing};
use crate::spec::Reactive;

/// The reactive rule: how many instances more (positive) or fewer (negative) bring the load to the threshold.
///
/// Out: `ceil((load − threshold) / threshold × n)`. In: `floor((threshold − load) / threshold × n)`. Both round to
/// the safe side: after either, the same traffic gives a load at or below the threshold. Within
/// [`ROUNDING`](super::ROUNDING) of a whole number both give that number. `load` and `threshold` are of one unit; the
/// load is finite and not negative, the threshold finite and positive. Without an instance in service there is no load,
/// and the answer is 0.
#[must_use]
pub fn reactive(in_service: u32, load: f64, threshold: f64) -> i64 {
    if in_service == 0 {
        return 0;
    }
    ceil((load - threshold) / threshold * f64::from(in_service))
}

pub(super) fn answer(policy: &Reactive, situation: &Situation<'_>) -> Answer {
    let Reactive { signal, threshold } = policy;
    if let Some(why) = unusable("threshold", *threshold) {
        return Answer::new(Wish::Unknown, why);
    }
    let Situation { group, samples, now, .. } = situation;
    let load = samples.load(group.instances, signal, group.spec.pace.warm_up, *now);
    let reading = Reading { signal, load, what: "threshold", bound: *threshold };
    let (wish, reason) = wish(situation.standing(), &reading, |n, load| reactive(n, load, *threshold));
    Answer::new(wish, reason).on(load)
}

/// What a change by the load means, with missing data not being zero: unmeasured instances count at 0 on the way
/// out, and where that adds nothing, nothing is known.
pub(super) fn wish(
    standing: Standing,
    reading: &Reading<'_>,
    change: impl Fn(u32, f64) -> i64,
) -> (Wish, String) {
    match reading.load {
        Load::Known { value, instances, .. } => {
            let (wish, what) = towards(standing, instances, change(instances, value));
            (wish, format!("{reading}: {what}"))
        }
        Load::Partial { at_least, instances, unmeasured, .. } => {
            let serving = instances.saturating_add(unmeasured);
            let change = change(serving, at_least);
            let (wish, what) = towards(standing, serving, change);
            // A part of the load says of no number that it is enough, also where not all that are desired can be had.
            if change > 0 && !matches!(wish, Wish::In(_)) {
                return (wish, format!("{reading}: {what}"));
            }
            (Wish::Unknown, format!("{reading}: not enough to add, and too little is known to remove"))
        }
        Load::Missing(Missing::NothingInService) if standing.desired == 0 => {
            let way_out =
                "nothing can be measured with no instance; `sluice scale` or a minimum above 0 begins it";
            (Wish::Unknown, format!("{reading}; {way_out}"))
        }
        Load::Missing(_) => (Wish::Unknown, reading.to_string()),
    }
}
