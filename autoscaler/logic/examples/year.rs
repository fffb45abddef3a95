//! What a simulated year of minutes costs: a daily wave with weekends and noise, by `policy: dynamic` and by the HPA.
//!
//! ```sh
//! cargo run --release -p sluice-logic --example year
//! ```
//!
//! Prints the CPU time of each, and a digest of its decisions: what makes a simulation faster must not change it.

use std::f64::consts::TAU;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_logic::simulate::{Contender, Gaps, Point, Setup, Trace, lineup, simulate};

const MINUTES: u32 = 365 * 24 * 60;
/// Instances that the peak needs.
const PEAK: f64 = 20.0;

fn main() {
    let trace = year();
    let setup = Setup::sized(trace.peak(), PEAK);
    let group = lineup::plain(2, 40);
    for contender in [lineup::dynamic(&group, setup.usable), lineup::hpa(&group, lineup::BASELINE_TARGET)] {
        measure(&contender, &trace, &setup);
    }
}

fn measure(contender: &Contender, trace: &Trace, setup: &Setup) {
    let begun = on_cpu();
    let run = simulate(contender, trace, setup, || ());
    let passed = on_cpu().saturating_sub(begun);
    let mut digest = DefaultHasher::new();
    for record in &run.records {
        (record.desired, record.in_service, record.starting, record.draining).hash(&mut digest);
    }
    for change in &run.changes {
        (change.at, change.from, change.to, &change.reason).hash(&mut digest);
    }
    println!(
        "{}: {} minutes in {passed:.2?}, {} changes, digest {:016x}",
        contender.name,
        run.records.len(),
        run.changes.len(),
        digest.finish()
    );
}

/// A wave of a day, less of it at weekends, with noise.
fn year() -> Trace {
    let begin = Timestamp::from_second(1_798_761_600).expect("2027-01-01T00:00Z");
    let mut rng = fastrand::Rng::with_seed(4);
    let points: Vec<Point> = (0..MINUTES)
        .map(|minute| {
            let day = f64::from(minute) / 1440.0;
            let busy = if day.rem_euclid(7.0) < 5.0 { 1.0 } else { 0.5 };
            let wave = 0.55 - 0.45 * (TAU * day).cos();
            let value = 1000.0 * wave * busy * (0.95 + 0.1 * rng.f64());
            Point { at: begin + SignedDuration::from_mins(minute.into()), value, line: minute.into() }
        })
        .collect();
    Trace::from_points(&points, Gaps::Refuse).expect("even minutes")
}

/// The time that this thread has had a core, whatever else the machine does.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number of nanoseconds"))
}
