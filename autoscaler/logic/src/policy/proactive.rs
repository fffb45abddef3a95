//! The reactive rule on the expected load.

use super::reading::{Reading, amount, unusable};
use super::wish::{ceil, towards};
use super::{Answer, Situation, Wish, reactive};
use crate::outlook::Outlook;
use crate::samples::Load;
use crate::spec::Proactive;

/// Where the demand of now or the expected one, the larger of the two, needs more than there are, it adds for what
/// comes soon after as well; otherwise it removes what neither needs, nor what comes soon after. With the demand
/// of now it can't do worse than the reactive rule when the load runs away from the forecast. While the forecast is
/// silent it is the reactive rule, and says so.
pub(super) fn answer(policy: &Proactive, situation: &Situation<'_>) -> Answer {
    let Proactive { signal, threshold, .. } = policy;
    if let Some(why) = unusable("threshold", *threshold) {
        return Answer::new(Wish::Unknown, why);
    }
    let Situation { group, samples, outlook, now } = situation;
    let load = samples.load(group.instances, signal, group.spec.pace.warm_up, *now);
    let reading = Reading { signal, load, what: "threshold", bound: *threshold };
    let (wish, reason) = match (outlook, load) {
        (Some(Outlook::Expected { demand, at, ahead, kept, .. }), Load::Known { value, instances, .. })
            if demand.is_finite() && instances > 0 =>
        {
            let serving = f64::from(instances);
            let needed = demand.max(value * serving);
            let count = |demand: f64| ceil(demand.max(needed) / threshold);
            let desired = i64::from(group.desired);
            let grows = count(needed) > desired;
            let (then, why) =
                if grows { (ahead, "expected soon after") } else { (kept, "kept for what comes") };
            let then = then.filter(|then| then.is_finite()).unwrap_or(*demand);
            // What is only kept is no reason to add.
            let wanted = if grows { count(then) } else { count(then).min(desired) };
            let (wish, what) = towards(situation.standing(), instances, wanted - i64::from(instances));
            let [expected, then] = [*demand, then].map(|demand| amount(signal.is_share(), demand / serving));
            (wish, format!("{reading}; {expected} is expected at {at:.0}, {then} is {why}: {what}"))
        }
        (outlook, _) => {
            let (wish, reason) = reactive::wish(situation.standing(), &reading, |n, load| {
                reactive::reactive(n, load, *threshold)
            });
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
