//! AWS's simple scaling.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::reading::{Reading, span};
use super::step::{adjusted, change_words};
use super::{Answer, Situation, Wish};
use crate::group::{Instance, InstanceState};
use crate::history::Cooling;
use crate::samples::Load;
use crate::spec::{Adjustment, Simple};

/// One change of the desired number while the comparison holds, then nothing until the cooldown is over ("Simple
/// scaling policies", "Scaling cooldowns"). The cooldown begins when the instances of the action have started, or
/// drained.
pub(super) fn answer(policy: &Simple, situation: &Situation<'_>) -> Answer {
    let Situation { group, samples, now, .. } = situation;
    let load = samples.load(group.instances, &policy.signal, group.spec.pace.warm_up, *now);
    let reading = Reading { signal: &policy.signal, load, what: "threshold", bound: policy.threshold };
    let (value, complete) = match load {
        Load::Known { value, .. } => (value, true),
        Load::Partial { at_least, .. } => (at_least, false),
        Load::Missing(_) => return Answer::new(Wish::Unknown, reading.to_string()).on(load),
    };
    let fires = policy.when.holds(value, policy.threshold);
    let wanted = adjusted(group.desired, policy.adjustment, policy.change, policy.min_magnitude);
    let wish = if fires { Wish::between(group.desired, wanted) } else { Wish::Hold };
    let reason = if fires {
        format!("{reading}: {}", Words(policy.adjustment, policy.change))
    } else {
        format!("{reading}: it is not {}", policy.when.symbol())
    };
    let only_adds = policy.adjustment != Adjustment::Exact && policy.change >= 0.0;
    let (wish, reason) = match (wish, cooling(situation, wish)) {
        (Wish::Out(_), Some(wait)) => (Wish::Hold, format!("{reason}, but {wait}")),
        (Wish::Out(_), None) => (wish, reason),
        // A value that is too low because instances are unmeasured removes nobody.
        _ if !complete => (Wish::Unknown, format!("{reason}; too little is known to remove")),
        (Wish::In(_), Some(wait)) => (Wish::Hold, format!("{reason}, but {wait}")),
        (Wish::Hold, _) if only_adds => (Wish::Abstain, reason),
        (wish, _) => (wish, reason),
    };
    Answer { cooldown: Some(policy.cooldown), ..Answer::new(wish, reason).on(load) }
}

/// Why a simple policy waits, where it does. A drain holds up no instance that is to be added: on the way out its cooldown
/// begins when the action's instances have started.
fn cooling(situation: &Situation<'_>, wish: Wish) -> Option<String> {
    let Situation { group, now, .. } = situation;
    let last = group.history.cooldown(Cooling::Simple)?;
    let adds = matches!(wish, Wish::Out(_));
    let starts = |instance: &Instance| !instance.failed && instance.state == InstanceState::Pending;
    let begun = if adds {
        // A history from before starts were kept apart says nothing of them: what is there now does.
        let started = group.history.started().unwrap_or(last.since);
        (!group.instances.iter().any(starts)).then_some(started)
    } else {
        group.history.settled()
    };
    match begun {
        None if adds => Some("its cooldown has not begun, as instances are starting".to_owned()),
        None => Some("its cooldown has not begun, as instances are starting or draining".to_owned()),
        Some(begun) => {
            let until = ends(begun.max(last.since), last.length, *now)?;
            Some(format!("it cools down until {until:.0}"))
        }
    }
}

/// The end of a cooldown that is not over.
pub(super) fn ends(since: Timestamp, length: Duration, now: Timestamp) -> Option<Timestamp> {
    let until = since.min(now).checked_add(span(length)).unwrap_or(Timestamp::MAX);
    (now < until).then_some(until)
}

struct Words(Adjustment, f64);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        change_words(f, self.0, self.1)
    }
}
