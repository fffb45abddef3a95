//! The reactive rule on the expected load.

use super::reading::{Reading, amount, unusable};
use super::wish::{ceil, towards};
use super::{Answer, Situation, Wish, reactive};
use crate::outlook::Outlook;
use crate::samples::Load;
use crate::spec::Proactive;

/// The demand of now and the expected one, the larger of the two, against the threshold. With the demand of now it
/// can't do worse than the reactive rule when the load runs away from the forecast; a scale-in waits until neither
/// needs the instances. While the forecast is silent it is the reactive rule, and says so.
pub(super) fn answer(policy: &Proactive, situation: &Situation<'_>) -> Answer {
    let Proactive { signal, threshold, .. } = policy;
    if let Some(why) = unusable("threshold", *threshold) {
        return Answer::new(Wish::Unknown, why);
    }
    let Situation { group, samples, outlook, now } = situation;
    let load = samples.load(group.instances, signal, group.spec.pace.warm_up, *now);
    let reading = Reading { signal, load, what: "threshold", bound: *threshold };
    let (wish, reason) = match (outlook, load) {
        (Some(Outlook::Expected { demand, at, .. }), Load::Known { value, instances, .. })
            if demand.is_finite() && instances > 0 =>
        {
            let expected = demand.max(0.0) / f64::from(instances);
            let needed = expected.max(value) / threshold * f64::from(instances);
            let change = ceil(needed) - i64::from(instances);
            let (wish, what) = towards(group.desired, instances, change);
            let expected = amount(&signal.metric, expected);
            (wish, format!("{reading}; {expected} is expected at {at:.0}: {what}"))
        }
        (outlook, _) => {
            let (wish, reason) =
                reactive::wish(group.desired, &reading, |n, load| reactive::reactive(n, load, *threshold));
            (wish, format!("{reason}; {}", silent(*outlook)))
        }
    };
    Answer::new(wish, reason).on(load)
}

/// Why there is no forecast to act on.
pub(super) fn silent(outlook: Option<&Outlook>) -> String {
    match outlook {
        Some(Outlook::Silent { reason }) => format!("the forecast is silent: {reason}"),
        Some(Outlook::Expected { .. }) => {
            "the load of now is not known well enough to weigh the forecast".to_owned()
        }
        None => "there is no forecast yet".to_owned(),
    }
}
