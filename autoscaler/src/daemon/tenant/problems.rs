//! What of a tenant could not be done, until it can.

use std::fmt;

use sluice_northbound::api::EventKind;

use super::Tenant;

/// What a round may fail at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Making its first network, or removing all.
    Network,
    /// Letting its instances reach the outside.
    Outbound,
    /// Making its other networks.
    OtherNetworks,
    /// Joining its instances to their networks again.
    Ports,
    /// Removing networks that its file has no more.
    OldNetworks,
    /// Setting its services in the load balancer.
    Services,
    /// Making its public addresses known, or taking them away.
    Addresses,
    /// Saving its state.
    State,
    /// Launching an instance.
    Launch,
    /// Removing an instance.
    Removal,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "its network",
            Self::Outbound => "its instances' outbound connections",
            Self::OtherNetworks => "its other networks",
            Self::Ports => "its instances' ports",
            Self::OldNetworks => "the networks that its file has no more",
            Self::Services => "its services in the load balancer",
            Self::Addresses => "its public addresses",
            Self::State => "its state file",
            Self::Launch => "launching an instance",
            Self::Removal => "removing an instance",
        })
    }
}

impl Tenant {
    /// Takes in how something went. A failure is an event when it is new; it is shown until the same work
    /// succeeds, and the work is tried again in a later round.
    pub(super) fn outcome<T>(&mut self, work: Work, result: anyhow::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.problems.remove(&work);
                Some(value)
            }
            Err(error) => {
                let reason = format!("{error:#}");
                if self.problems.get(&work) != Some(&reason) {
                    let message = format!("{work}: {reason}; it is tried again");
                    self.host.events.record(self.event(EventKind::StepFailed, message));
                    self.problems.insert(work, reason);
                }
                None
            }
        }
    }

    /// All that does not work now, for `sluice status`.
    pub(super) fn problem(&self) -> Option<String> {
        let work = self.problems.iter().map(|(work, reason)| format!("{work}: {reason}"));
        let problems: Vec<String> = work.chain(self.source_problems().cloned()).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}
