//! Instances that exist as numbers.

use std::net::Ipv4Addr;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use super::Setup;
use crate::group::{Event, Instance, InstanceId, InstanceState};
use crate::planner::Step;
use crate::spec::CloudName;

/// The instances, and when each has started or drained.
pub(super) struct Fleet {
    instances: Vec<Instance>,
    /// Beside `instances`: when the state of one that starts or drains ends.
    due: Vec<Timestamp>,
    launched: u32,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) starting: u32,
    pub(super) in_service: u32,
    pub(super) draining: u32,
}

impl Fleet {
    /// So many that serve since `start`.
    pub(super) fn new(count: u32, start: Timestamp) -> Self {
        let mut fleet = Self { instances: Vec::new(), due: Vec::new(), launched: 0 };
        for _ in 0..count {
            fleet.launch(start, start);
        }
        fleet.pass(start);
        fleet
    }

    pub(super) fn instances(&self) -> &[Instance] {
        &self.instances
    }

    pub(super) fn count(&self) -> Count {
        let mut count = Count::default();
        for instance in &self.instances {
            match instance.state {
                InstanceState::Pending => count.starting += 1,
                InstanceState::InService => count.in_service += 1,
                _ => count.draining += 1,
            }
        }
        count
    }

    fn launch(&mut self, now: Timestamp, ready: Timestamp) {
        self.launched = self.launched.wrapping_add(1);
        self.instances.push(Instance {
            id: InstanceId::from_label(format!("simulated-{:08x}", self.launched)),
            cloud: CloudName::default(),
            rank: 0,
            address: Ipv4Addr::UNSPECIFIED,
            state: InstanceState::Pending,
            created: now,
            since: now,
            live_flows: None,
            failed: false,
            stopping: false,
        });
        self.due.push(ready);
    }

    /// Time goes on to `now`: those that have started serve, those that have drained have no flow left.
    pub(super) fn pass(&mut self, now: Timestamp) {
        for (instance, &due) in self.instances.iter_mut().zip(&self.due).filter(|(_, due)| **due <= now) {
            match instance.state {
                InstanceState::Pending => apply(instance, Event::Ready, due),
                InstanceState::Draining => instance.live_flows = Some(0),
                _ => {}
            }
        }
    }

    /// Does what a plan says. What is terminated is gone, and named.
    pub(super) fn carry_out(
        &mut self,
        steps: &[Step],
        setup: &Setup,
        rng: &mut Rng,
        now: Timestamp,
    ) -> Vec<InstanceId> {
        let mut gone = Vec::new();
        for step in steps {
            match step {
                Step::Launch { .. } => {
                    let takes = start_time(setup, rng);
                    self.launch(now, now.checked_add(takes).unwrap_or(Timestamp::MAX));
                }
                Step::Drain { id, .. } => {
                    if let Some(place) = self.place(id) {
                        apply(&mut self.instances[place], Event::Drain, now);
                        self.due[place] = now.checked_add(setup.drain_time).unwrap_or(Timestamp::MAX);
                    }
                }
                Step::Terminate { id, .. } => {
                    if let Some(place) = self.place(id) {
                        self.instances.remove(place);
                        self.due.remove(place);
                        gone.push(id.clone());
                    }
                }
            }
        }
        gone
    }

    fn place(&self, id: &InstanceId) -> Option<usize> {
        self.instances.iter().position(|instance| instance.id == *id)
    }
}

fn start_time(setup: &Setup, rng: &mut Rng) -> Duration {
    let spread = setup.start_spread.as_secs_f64() * (2.0 * rng.f64() - 1.0);
    Duration::try_from_secs_f64(setup.start_time.as_secs_f64() + spread).unwrap_or_default()
}

/// The fleet asks for nothing that the state machine refuses, as a plan doesn't either.
fn apply(instance: &mut Instance, event: Event, at: Timestamp) {
    let taken = instance.apply(event, at);
    debug_assert!(taken.is_ok(), "{taken:?}");
}
