//! A maximum that was edited below the desired number, on the group's way down to it.

use jiff::Timestamp;
use serde_json::json;
use sluice_logic::decision::{self, Action, Decision, Group};
use sluice_logic::easing::{Eased, ease};
use sluice_logic::group::Instance;
use sluice_logic::spec::GroupSpec;
use sluice_northbound::api::EventKind;

use super::Tenant;

impl Tenant {
    /// The group's limits as they hold now.
    pub(super) fn limits(&self, now: Timestamp) -> GroupSpec {
        GroupSpec { max: self.eased(now).max, ..self.spec.group.clone() }
    }

    fn eased(&self, now: Timestamp) -> Eased {
        let limits = &self.spec.group;
        let exceeds = self.group.history.exceeds_by_policy(limits.max);
        ease(limits, self.desired(), exceeds, self.group.easing, now)
    }

    /// Decides by these limits. A step on the way down to the file's maximum says that it is one.
    pub(super) fn decide_within(
        &self,
        limits: &GroupSpec,
        instances: &[Instance],
        now: Timestamp,
    ) -> Decision {
        let group = Group { spec: limits, ..self.as_group(instances) };
        let mut decision = decision::decide(&group, &self.samples, now);
        let max = self.spec.group.max;
        if limits.max > max && decision.action == Action::Repair && decision.to < decision.from {
            let Decision { from, to, .. } = decision;
            decision.reason = format!(
                "{from} → {to}: on the way down to the maximum of {max}, a quarter in each buffer time"
            );
        }
        decision
    }

    /// The group's limits as they hold now; where a maximum that had come down is raised again, the number goes back first.
    pub(super) fn ease(&mut self, now: Timestamp) -> GroupSpec {
        let desired = self.desired();
        let eased = self.eased(now);
        self.group.easing = eased.easing;
        if let Some(restored) = eased.restored {
            let reason = format!(
                "{desired} → {restored}: the maximum is {} again, and {restored} were desired before it came down",
                self.spec.group.max
            );
            let decision = Decision {
                at: now,
                from: desired,
                to: restored,
                reason,
                action: Action::Repair,
                last_action: self.group.last_action,
                ..Decision::default()
            };
            self.host.events.record(self.event(EventKind::ScaleOut, &decision.reason).with(json!(decision)));
            self.accept(decision);
        }
        GroupSpec { max: eased.max, ..self.spec.group.clone() }
    }
}
