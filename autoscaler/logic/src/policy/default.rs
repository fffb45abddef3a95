//! What scales a tenant that says nothing but `policy: dynamic`.

use std::time::Duration;

use crate::spec::{MissingData, PolicySpec, Proactive, Signal, TargetTracking, Tolerance};

/// The window of the default policies' signal: what is forecast is minutes.
pub const DEFAULT_POLICIES_WINDOW: Duration = Duration::from_mins(1);

/// The default: a proactive policy and target tracking, both at `threshold` and on the same signal.
///
/// The proactive one provides for what is coming; target tracking is the net below it. It goes by the load of now only,
/// so it adds what a forecast did not see, and lets nobody go whom the load of now still needs. How it was chosen,
/// and what it does on real load, is in `docs/default-policy.md`.
#[must_use]
pub fn default_policies(signal: &Signal, threshold: f64) -> Vec<PolicySpec> {
    let proactive = Proactive {
        signal: signal.clone(),
        threshold,
        margin: Duration::ZERO,
        shortage_cost: Proactive::default_shortage_cost(),
        change_cost: Proactive::default_change_cost(),
    };
    let tracking = TargetTracking {
        signal: signal.clone(),
        target: threshold,
        disable_scale_in: false,
        warm_up: None,
        tolerance: Tolerance::default(),
        missing: MissingData::default(),
    };
    vec![PolicySpec::Proactive(proactive), PolicySpec::TargetTracking(tracking)]
}
