//! What a round of decisions costs: 1,000 groups of 10 instances with windows of 15 minutes, on one core.
//!
//! ```sh
//! cargo run --release -p sluice-logic --example round [SECONDS]
//! ```
//!
//! A sample is taken every 5 s, or every so many seconds.
//!
//! Prints the CPU time of the fastest and the median of 20 rounds, and the memory that the process has used at most.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_logic::decision::{Group, decide};
use sluice_logic::group::{Instance, InstanceId, InstanceState};
use sluice_logic::history::History;
use sluice_logic::samples::Samples;
use sluice_logic::spec::{
    CloudName, GroupSpec, Metric, MissingData, Pace, PolicySpec, Reactive, Signal, TargetTracking, Tolerance,
};

const GROUPS: u32 = 1_000;
const INSTANCES: u32 = 10;
const WINDOW: Duration = Duration::from_mins(15);
const ROUNDS: usize = 20;

fn main() {
    let seconds = std::env::args().nth(1).map_or(5, |text| text.parse().expect("a number of seconds"));
    let interval = Duration::from_secs(seconds);
    let end = Timestamp::from_second(1_800_000_000).expect("a second of our century");
    let (spec, policies) = (spec(), policies());
    let groups: Vec<(Vec<Instance>, Samples)> =
        (0..GROUPS).map(|group| filled(group, interval, end)).collect();
    let history = History::default();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = on_cpu();
            let wanted: u32 = groups
                .iter()
                .map(|(instances, samples)| {
                    let group = Group {
                        spec: &spec,
                        policies: &policies,
                        instances,
                        desired: INSTANCES,
                        last_action: None,
                        history: &history,
                        outlooks: &[],
                    };
                    decide(&group, samples, end).to
                })
                .sum();
            let passed = on_cpu().saturating_sub(begun);
            assert!(wanted >= GROUPS * INSTANCES, "{wanted}");
            passed
        })
        .collect();
    times.sort();
    println!(
        "{GROUPS} groups of {INSTANCES}, 2 policies, {} samples each: {:.1?} at best, {:.1?} in the median",
        WINDOW.as_secs() / interval.as_secs(),
        times[0],
        times[ROUNDS / 2]
    );
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or("the memory is not known"));
}

/// The time that this thread has had a core, whatever else the machine does.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number of nanoseconds"))
}

fn spec() -> GroupSpec {
    GroupSpec {
        min: 2,
        max: 40,
        buffer_time: Duration::from_mins(2),
        cool_down: Duration::from_mins(5),
        pace: Pace::default(),
    }
}

/// Two policies on two metrics.
fn policies() -> Vec<PolicySpec> {
    let signal = |metric| Signal::mean(metric, WINDOW);
    vec![
        PolicySpec::Reactive(Reactive { signal: signal(Metric::Cpu), threshold: 0.6 }),
        PolicySpec::TargetTracking(TargetTracking {
            signal: signal(Metric::NewFlows),
            target: 100.0,
            disable_scale_in: false,
            warm_up: None,
            tolerance: Tolerance::default(),
            missing: MissingData::Hold,
        }),
    ]
}

/// A group with a full window of samples.
fn filled(group: u32, interval: Duration, end: Timestamp) -> (Vec<Instance>, Samples) {
    let since = end - SignedDuration::from_hours(2);
    let instances: Vec<Instance> = (0..INSTANCES)
        .map(|number| Instance {
            id: InstanceId::from_label(format!("group{group}-{number:08x}")),
            cloud: CloudName::default(),
            rank: 0,
            address: Ipv4Addr::UNSPECIFIED,
            state: InstanceState::InService,
            created: since,
            since,
            live_flows: None,
            failed: false,
            stopping: false,
        })
        .collect();
    let mut samples = Samples::new(WINDOW).sampled_every(interval);
    let interval = SignedDuration::try_from(interval).expect("seconds");
    let mut at = end - SignedDuration::try_from(WINDOW).expect("minutes");
    while at < end {
        at += interval;
        for instance in &instances {
            samples.push(&instance.id, &Metric::Cpu, at, 0.6).expect("a good sample");
            samples.push(&instance.id, &Metric::NewFlows, at, 110.0).expect("a good sample");
        }
    }
    (instances, samples)
}
