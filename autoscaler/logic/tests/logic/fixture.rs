//! Small groups, made by hand.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::decision::{Decision, Group, decide};
use sluice_logic::group::{Instance, InstanceId, InstanceState};
use sluice_logic::history::History;
use sluice_logic::samples::Samples;
use sluice_logic::spec::{CloudName, GroupSpec, Metric, Pace, PolicySpec, Reactive, Signal, TenantName};

pub(crate) const WINDOW: Duration = Duration::from_mins(5);
pub(crate) const BUFFER_TIME: Duration = Duration::from_mins(2);
pub(crate) const COOL_DOWN: Duration = Duration::from_mins(1);
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a second of our century")
}

pub(crate) fn id(unique: u32) -> InstanceId {
    InstanceId::new(&TenantName::try_from("demo".to_owned()).expect("a tenant name"), unique)
}

pub(crate) fn limits(min: u32, max: u32) -> GroupSpec {
    GroupSpec { min, max, buffer_time: BUFFER_TIME, cool_down: COOL_DOWN, pace: Pace::default() }
}

pub(crate) fn reactive(metric: Metric, threshold: f64, window: Duration) -> PolicySpec {
    PolicySpec::Reactive(Reactive { signal: Signal::mean(metric, window), threshold })
}

pub(crate) fn packets(threshold: f64) -> PolicySpec {
    reactive(Metric::Packets, threshold, WINDOW)
}

pub(crate) fn cpu(threshold: f64) -> PolicySpec {
    reactive(Metric::Cpu, threshold, WINDOW)
}

pub(crate) fn instance(unique: u32, state: InstanceState) -> Instance {
    Instance {
        id: id(unique),
        cloud: CloudName::default(),
        rank: 0,
        address: Ipv4Addr::from(0x1300_0000 + unique),
        state,
        created: at(i64::from(unique) - 1000),
        since: at(i64::from(unique) - 900),
        live_flows: None,
        failed: false,
        stopping: false,
    }
}

pub(crate) fn in_service(count: u32) -> Vec<Instance> {
    (0..count).map(|n| instance(n, InstanceState::InService)).collect()
}

pub(crate) fn no_samples() -> Samples {
    Samples::new(WINDOW).sampled_every(INTERVAL)
}

/// One sample of each metric policies are about here, at second 0.
pub(crate) fn sampled(instances: &[Instance], packets: f64, cpu: f64) -> Samples {
    let mut samples = no_samples();
    for instance in instances {
        samples.push(&instance.id, &Metric::Packets, at(0), packets).expect("a good sample");
        samples.push(&instance.id, &Metric::Cpu, at(0), cpu).expect("a good sample");
    }
    samples
}

pub(crate) struct Case {
    pub(crate) spec: GroupSpec,
    pub(crate) policies: Vec<PolicySpec>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) desired: u32,
    pub(crate) last_action: Option<Timestamp>,
    pub(crate) history: History,
    pub(crate) samples: Samples,
}

impl Case {
    /// So many instances in service, 1 to 20 allowed, each with so many packets a second, 60 being the threshold.
    pub(crate) fn of(count: u32, packets_each: f64) -> Self {
        let instances = in_service(count);
        Self {
            spec: limits(1, 20),
            policies: vec![packets(60.0)],
            samples: sampled(&instances, packets_each, 0.0),
            instances,
            desired: count,
            last_action: None,
            history: History::default(),
        }
    }

    pub(crate) fn group(&self) -> Group<'_> {
        Group {
            spec: &self.spec,
            policies: &self.policies,
            instances: &self.instances,
            desired: self.desired,
            last_action: self.last_action,
            history: &self.history,
            outlooks: &[],
        }
    }

    pub(crate) fn decide(&self) -> Decision {
        decide(&self.group(), &self.samples, at(1))
    }
}
