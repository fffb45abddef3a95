//! The search for a proactive policy's parameters.

use std::time::Duration;

use super::{Contender, Measures};
use crate::spec::PolicySpec;

/// Parameters that are tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// As [`Proactive::change_cost`](crate::spec::Proactive::change_cost).
    pub change_cost: f64,
    /// As [`Proactive::margin`](crate::spec::Proactive::margin).
    pub margin: Duration,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuned {
    /// Which of the candidates.
    pub index: usize,
    /// Whether it makes no more changes than was asked for; where none does, it is the calmest.
    pub calm_enough: bool,
}

/// What is tried: a change that costs from a minute of a spare instance to days of one, each half as much again as
/// the one before, without a margin and with one of a minute. How often the number changes is what the choice is
/// about, so it is searched finely; everything else the policy finds out for itself, week by week.
#[must_use]
pub fn candidates() -> Vec<Candidate> {
    let costs = std::iter::successors(Some(0.02), |cost| Some(cost * 1.5)).take_while(|&cost| cost < 100.0);
    costs
        .flat_map(|cost| {
            [0, 1].map(|minutes| Candidate {
                change_cost: (cost * 1000.0_f64).round() / 1000.0,
                margin: Duration::from_mins(minutes),
            })
        })
        .collect()
}

impl Candidate {
    /// The contender with these parameters in each of its proactive policies.
    #[must_use]
    pub fn apply(&self, contender: &Contender) -> Contender {
        let mut tuned = contender.clone();
        for policy in &mut tuned.policies {
            if let PolicySpec::Proactive(policy) = policy {
                policy.change_cost = self.change_cost;
                policy.margin = self.margin;
            }
        }
        tuned
    }
}

/// The contender at its own pace, and at slower ones inwards, of which each is tried where the ones before leave every
/// candidate restless: for a load that moves slowly, what a change costs is not all that there is to say.
#[must_use]
pub fn paces(contender: &Contender) -> Vec<Contender> {
    let own = contender.group.pace.r#in.stabilization;
    let slower = [15, 60].map(Duration::from_mins).into_iter().filter(|&stabilization| stabilization > own);
    let paced = slower.map(|stabilization| {
        let mut paced = contender.clone();
        paced.group.pace.r#in.stabilization = stabilization;
        paced
    });
    std::iter::once(contender.clone()).chain(paced).collect()
}

/// How many changes an hour to ask for on a part of a load where a baseline makes these, so that on another part there
/// are not more than the baseline makes there: a count of events varies by its square root, and this is twice
/// that below it, though never less than half of it.
#[must_use]
pub fn calmer_than(baseline: &Measures) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
    let count = baseline.changes as f64;
    baseline.changes_per_hour * (1.0 - 2.0 / count.sqrt()).max(0.5)
}

/// The least excess among those with at most `most_changes` an hour; where there are none, the fewest changes. `None`
/// without results.
#[must_use]
pub fn choose(results: &[Measures], most_changes: f64) -> Option<Tuned> {
    let calm = results.iter().enumerate().filter(|(_, measures)| measures.changes_per_hour <= most_changes);
    let best = calm.min_by(|(_, a), (_, b)| a.excess.total_cmp(&b.excess));
    if let Some((index, _)) = best {
        return Some(Tuned { index, calm_enough: true });
    }
    let all = results.iter().enumerate();
    let calmest = all.min_by(|(_, a), (_, b)| a.changes_per_hour.total_cmp(&b.changes_per_hour));
    calmest.map(|(index, _)| Tuned { index, calm_enough: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::lineup;

    #[test]
    fn the_best_of_the_calm_ones_or_the_calmest() {
        let of = |excess, changes_per_hour| Measures { changes_per_hour, excess, ..Measures::default() };
        let results = [of(0.1, 5.0), of(0.3, 1.0), of(0.2, 2.0)];
        assert_eq!(choose(&results, 2.0), Some(Tuned { index: 2, calm_enough: true }));
        assert_eq!(choose(&results, 0.5), Some(Tuned { index: 1, calm_enough: false }));
        assert_eq!(choose(&[], 1.0), None);
    }

    #[test]
    fn few_changes_leave_more_room_than_many() {
        let of = |changes, changes_per_hour| Measures { changes, changes_per_hour, ..Measures::default() };
        assert!((calmer_than(&of(400, 2.0)) - 1.8).abs() < 1e-9);
        assert!((calmer_than(&of(25, 0.1)) - 0.06).abs() < 1e-9);
        assert!((calmer_than(&of(3, 0.1)) - 0.05).abs() < 1e-9);
        assert!(calmer_than(&of(0, 0.0)).abs() < 1e-9);
    }

    #[test]
    fn slower_paces_come_after_the_own_one() {
        let stabilized = |minutes| {
            let mut contender = lineup::dynamic(&lineup::plain(2, 40), 0.8);
            contender.group.pace.r#in.stabilization = Duration::from_mins(minutes);
            contender
        };
        let minutes = |contender: &Contender| contender.group.pace.r#in.stabilization.as_secs() / 60;
        let of = |own| paces(&stabilized(own)).iter().map(minutes).collect::<Vec<_>>();
        assert_eq!((of(0), of(15), of(120)), (vec![0, 15, 60], vec![15, 60], vec![120]));
    }

    #[test]
    fn candidates_are_what_a_tenant_file_may_say() {
        let all = candidates();
        assert!(all.len() < 60, "{}", all.len());
        assert!(all.iter().all(|candidate| candidate.change_cost > 0.0));
    }
}
