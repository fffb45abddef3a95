//! Which instance was given which flow, and when: what a client can say about new flows and drains.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sluice_logic::group::InstanceId;

/// The flows that instances were given, by instance. Clones share one record.
#[derive(Debug, Clone, Default)]
pub struct Arrivals(Arc<Mutex<BTreeMap<InstanceId, Arrived>>>);

#[derive(Debug, Default)]
struct Arrived {
    /// When each flow began, in order of their first answers.
    begun: Vec<Timestamp>,
    first_answer: Option<Timestamp>,
}

impl Arrivals {
    /// A flow that began at `begun` (before its first packet was sent) has its first answer, from `instance`, now.
    pub fn add(&self, instance: &InstanceId, begun: Timestamp) {
        let mut instances = self.lock();
        let arrived = instances.entry(instance.clone()).or_default();
        arrived.begun.push(begun);
        arrived.first_answer.get_or_insert_with(Timestamp::now);
    }

    /// When the instance first answered.
    #[must_use]
    pub fn first_answer(&self, instance: &InstanceId) -> Option<Timestamp> {
        self.lock().get(instance)?.first_answer
    }

    /// How many flows the instance was given that began after one moment, and before the other where there is one: where it
    /// was draining meanwhile, each is one too many.
    #[must_use]
    pub fn begun_within(&self, instance: &InstanceId, after: Timestamp, before: Option<Timestamp>) -> u64 {
        let instances = self.lock();
        let begun = instances.get(instance).map_or(&[][..], |arrived| &arrived.begun);
        let is_within = |begun: &&Timestamp| **begun > after && before.is_none_or(|before| **begun < before);
        begun.iter().filter(is_within).count() as u64
    }

    /// How many flows each instance was given.
    #[must_use]
    pub fn flows(&self) -> BTreeMap<InstanceId, u64> {
        self.lock().iter().map(|(id, arrived)| (id.clone(), arrived.begun.len() as u64)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arrived>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_begun_after_a_drain_are_counted() {
        let arrivals = Arrivals::default();
        let id = InstanceId::from_label("a");
        let at = |second| Timestamp::from_second(second).expect("a timestamp");
        for begun in [10, 12, 11, 20] {
            arrivals.add(&id, at(begun));
        }
        assert_eq!(arrivals.begun_within(&id, at(11), None), 2);
        assert_eq!(arrivals.begun_within(&id, at(10), Some(at(20))), 2);
        assert_eq!(arrivals.begun_within(&id, at(20), None), 0);
        assert_eq!(arrivals.begun_within(&InstanceId::from_label("b"), at(0), None), 0);
        assert!(arrivals.first_answer(&id).is_some());
        assert_eq!(arrivals.flows().get(&id), Some(&4));
    }
}
