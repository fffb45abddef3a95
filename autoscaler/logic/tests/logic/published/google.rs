//! Google Compute Engine documentation, autoscaling groups of instances.

use std::time::Duration;

use sluice_logic::decision::Clip;
use sluice_logic::policy::tracked;
use sluice_logic::spec::{Amount, Direction, Pace, PolicySpec, ScaleInControl, Tolerance};

use super::{cpu, group};
use crate::fixture::at;

/// "Understanding autoscaler decisions", gaps between target and actual utilization: with a target of 0.7, where 1.5 more
/// would do, 2 are added, and where 1.5 fewer would do, 1 is removed.
/// <https://cloud.google.com/compute/docs/autoscaler/understanding-autoscaler-decisions>
#[test]
fn rounding_favours_capacity() {
    for (serving, utilization, change) in [(3, 1.05, 2), (6, 0.525, -1), (3, 0.7, 0)] {
        assert_eq!(
            tracked(serving, utilization, 0.7, Tolerance::default()),
            change,
            "{serving} at {utilization}"
        );
    }
}

/// "Understanding autoscaler decisions" and `coolDownPeriodSec` of the API's `AutoscalingPolicy`, the initialization
/// period, 60 s by default: on the way out the data of an instance that is still initializing are ignored, as they
/// don't represent its normal usage. The numbers are ours, the documentation has none.
/// <https://cloud.google.com/compute/docs/autoscaler#initialization_period>
#[test]
fn what_initializes_is_capacity_and_its_load_is_ignored() {
    // Two at 0.9 need three at 0.6, and the third has begun; it is busy with its own start.
    for (period, in_service_for, expected) in [(60, 30, 3), (60, 59, 3), (60, 62, 5), (0, 30, 5)] {
        let mut case = group(3, 0.9, vec![reactive()]);
        case.spec.pace.warm_up = Duration::from_secs(period);
        case.instances[2].since = at(1 - in_service_for);
        case.samples = crate::fixture::no_samples();
        for (instance, cpu) in case.instances.iter().zip([0.9, 0.9, 1.0]) {
            case.samples
                .push(&instance.id, &sluice_logic::spec::Metric::Cpu, at(0), cpu)
                .expect("a good sample");
        }
        let decision = case.decide();
        assert_eq!(decision.to, expected, "{in_service_for} s of {period} s: {}", decision.reason);
    }
}

/// "Scale in at your own pace with Compute Engine autoscaler controls" (Google Cloud's blog, 2020): where the load falls
/// by half, half of the instances go in one step after the stabilization period, and at most ten in twenty minutes
/// where a control says so.
#[test]
fn half_the_load_is_half_the_instances_unless_a_control_slows_it() {
    for (control, expected) in [(None, 20), (Some(10), 30)] {
        let mut case = group(40, 0.3, vec![reactive()]);
        let window = Duration::from_mins(20);
        case.spec.pace.scale_in_control =
            control.map(|most| ScaleInControl { most: Amount::Count(most), window });
        let peak = group(40, 0.6, vec![reactive()]).decide();
        case.history.record(&sluice_logic::decision::Decision { at: at(-660), ..peak });
        case.spec.pace.r#in.stabilization = Duration::from_mins(10);
        let low = case.decide();
        assert_eq!(low.to, 40, "the peak is held for ten minutes: {}", low.reason);
        case.history.record(&sluice_logic::decision::Decision { at: at(-659), ..low });
        let decision = case.decide();
        assert_eq!(decision.to, expected, "{}", decision.reason);
    }
}

fn reactive() -> PolicySpec {
    PolicySpec::Reactive(sluice_logic::spec::Reactive { signal: cpu(), threshold: 0.6 })
}

/// "Understanding autoscaler decisions", stabilization period: the size is what the peak load of the last ten minutes
/// needs.
#[test]
fn the_stabilization_period_keeps_what_the_peak_needs() {
    let mut case = group(10, 0.3, vec![reactive()]);
    case.spec.pace.r#in.stabilization = Duration::from_mins(10);
    let peak = group(8, 0.6, vec![reactive()]).decide();
    assert_eq!(peak.recommended, Some(8));
    for (minutes, expected) in [(9, 8), (11, 5)] {
        let mut history = sluice_logic::history::History::default();
        history.record(&sluice_logic::decision::Decision { at: at(1 - minutes * 60), ..peak.clone() });
        // From a moment later on only five are recommended.
        let low = sluice_logic::decision::Decision { recommended: Some(5), ..peak.clone() };
        history.record(&sluice_logic::decision::Decision { at: at(2 - minutes * 60), ..low });
        case.history = history;
        let decision = case.decide();
        assert_eq!(decision.to, expected, "{minutes} minutes after the peak: {}", decision.reason);
    }
}

/// "Managing scale-in risk", scale-in controls: never more than so many, or so many percent, below the peak of the
/// window.
#[test]
fn scale_in_controls_are_counted_from_the_peak() {
    for (most, expected) in [(Amount::Count(2), 8), (Amount::Percent(10), 9), (Amount::Percent(100), 2)] {
        let mut case = group(10, 0.1, vec![reactive()]);
        let control = ScaleInControl { most, window: Duration::from_mins(10) };
        case.spec.pace = Pace { scale_in_control: Some(control), ..Pace::default() };
        let peak = group(10, 0.6, vec![reactive()]).decide();
        case.history.record(&sluice_logic::decision::Decision { at: at(-300), ..peak });
        let decision = case.decide();
        assert_eq!(decision.to, expected, "{}", decision.reason);
        let clipped = Clip::ScaleInControl { to: expected, peak: 10 };
        assert_eq!(decision.clips.contains(&clipped), expected != 2);
    }
    assert_eq!(Direction::default().stabilization, Duration::ZERO);
}
