//! Examples that others have published, restated as numbers. Each test names the page of their documentation.

mod aws;
mod azure;
mod google;
mod kubernetes;

use std::time::Duration;

use sluice_logic::decision::Decision;
use sluice_logic::spec::{Metric, PolicySpec, Scope, Signal};

use crate::fixture::{BUFFER_TIME, Case, at, in_service, limits, sampled};

/// The mean CPU over a minute.
fn cpu() -> Signal {
    Signal::mean(Metric::Cpu, Duration::from_mins(1))
}

/// A value of the group, divided by its instances.
fn per_instance(metric: Metric) -> Signal {
    Signal { scope: Scope::Group { per_instance: true }, ..Signal::mean(metric, Duration::from_mins(1)) }
}

/// So many instances, from 1 to 100 allowed, at that CPU.
fn group(count: u32, cpu: f64, policies: Vec<PolicySpec>) -> Case {
    let mut case = Case::of(count, 0.0);
    case.spec = limits(1, 100);
    case.policies = policies;
    case.samples = sampled(&case.instances, 0.0, cpu);
    case
}

/// As if all that was decided had been done, and the load were `cpu` from then on.
fn follow(case: &mut Case, decision: &Decision, cpu: f64) {
    case.desired = decision.to;
    case.instances = in_service(decision.to);
    case.samples = sampled(&case.instances, 0.0, cpu);
    case.last_action = Some(at(0) - jiff::SignedDuration::try_from(BUFFER_TIME).expect("two minutes"));
}
