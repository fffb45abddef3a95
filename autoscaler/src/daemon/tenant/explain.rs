//! What would happen now, and why not more.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sluice_logic::decision::{Clip, Decision};
use sluice_logic::policy::{Evaluation, Wish};
use sluice_logic::spec::Metric;
use sluice_northbound::api::{Explanation, NewestSample};
use sluice_store::Census;

use super::Tenant;

impl Tenant {
    /// Runs the policies without following them.
    pub(super) fn explain(&self) -> Explanation {
        let now = Timestamp::now();
        let instances = self.instances();
        let decision = self.decide_within(&self.limits(now), &instances, now);
        let (mut why_not_more, mut why_not_fewer) = (more(&decision), fewer(&decision));
        if self.is_leaving() {
            let leaving = "the tenant is being removed: its file is gone".to_owned();
            why_not_more.insert(0, leaving.clone());
            why_not_fewer.insert(0, leaving);
        }
        why_not_more.extend(self.problem());
        Explanation {
            tenant: self.spec.name.clone(),
            desired: self.desired(),
            min: self.spec.group.min,
            max: self.spec.group.max,
            instances: Census::of(&instances),
            why_not_more,
            why_not_fewer,
            decision,
            newest: self.newest(),
            refused: self.refused(),
            store_problem: self.host.store.health().problem,
        }
    }

    fn newest(&self) -> Vec<NewestSample> {
        let metrics: Vec<Metric> = Metric::BUILT_IN.into_iter().chain(self.pushed.iter().cloned()).collect();
        let of_group = metrics.iter().filter_map(|metric| {
            let (at, value) = self.samples.newest_of_group(metric)?;
            Some(NewestSample { instance: None, metric: metric.clone(), at, value })
        });
        let of_instances = self.members.keys().flat_map(|id| metrics.iter().map(move |metric| (id, metric)));
        let of_instances = of_instances.filter_map(|(id, metric)| {
            let (at, value) = self.samples.newest(id, metric)?;
            Some(NewestSample { instance: Some(id.clone()), metric: metric.clone(), at, value })
        });
        of_group.chain(of_instances).collect()
    }

    fn refused(&self) -> BTreeMap<String, u64> {
        self.samples.refused().iter().map(|(why, count)| (why.to_string(), count)).collect()
    }
}

/// Why it adds nothing, or no more than it does.
fn more(decision: &Decision) -> Vec<String> {
    let mut reasons = clips(decision, |clip| match clip {
        Clip::Max { .. } => true,
        Clip::Min { .. } | Clip::Floor { .. } | Clip::ScaleInControl { .. } => false,
        Clip::Stabilization { .. } | Clip::RateLimit { .. } | Clip::BufferTime { .. } => {
            wants(decision, |wish| matches!(wish, Wish::Out(_)))
        }
    });
    let settled = |policy: &&Evaluation| !matches!(policy.wish, Wish::Out(_));
    reasons.extend(policies(decision, settled));
    if reasons.is_empty() && decision.to <= decision.from {
        reasons.push(none(decision));
    }
    reasons
}

/// Why it removes nothing, or no more than it does.
fn fewer(decision: &Decision) -> Vec<String> {
    let mut reasons = clips(decision, |clip| match clip {
        Clip::Min { .. } | Clip::Floor { .. } | Clip::ScaleInControl { .. } => true,
        Clip::Max { .. } => false,
        Clip::Stabilization { .. } | Clip::RateLimit { .. } | Clip::BufferTime { .. } => {
            wants(decision, |wish| matches!(wish, Wish::In(_)))
        }
    });
    // It goes in only if all agree; one that abstains has nothing against it.
    let against = |policy: &&Evaluation| !matches!(policy.wish, Wish::In(_) | Wish::Abstain);
    reasons.extend(policies(decision, against));
    if reasons.is_empty() && decision.to >= decision.from {
        reasons.push(none(decision));
    }
    reasons
}

fn wants(decision: &Decision, is: impl Fn(Wish) -> bool) -> bool {
    decision.policies.iter().any(|policy| is(policy.wish))
}

fn clips(decision: &Decision, counts: impl Fn(&Clip) -> bool) -> Vec<String> {
    decision.clips.iter().filter(|clip| counts(clip)).map(ToString::to_string).collect()
}

fn policies<'a>(
    decision: &'a Decision,
    which: impl Fn(&&'a Evaluation) -> bool + 'a,
) -> impl Iterator<Item = String> + 'a {
    let numbered = decision.policies.iter().enumerate();
    numbered
        .filter(move |(_, policy)| which(policy))
        .map(|(n, policy)| format!("policy {}: {}", n + 1, policy.reason))
}

fn none(decision: &Decision) -> String {
    if decision.policies.is_empty() {
        "no policy: the number stays where a person puts it (`sluice scale`)".to_owned()
    } else {
        decision.reason.clone()
    }
}
