//! Google Compute Engine documentation, autoscaling groups of instances.

use std::time::Duration;

use sluice_logic::decision::Clip;
use sluice_logic::policy::tracked;
use sluice_logic::spec::{Amount, Direction, Pace, PolicySpec, ScaleInControl, Tolerance};

use super::{cpu, group};
use crate::fixture::at;

/// "Understanding autoscaler decisions": a need of 1.5 more is rounded up to 2, on the way down fewer are removed.
#[test]
fn rounding_favours_capacity() {
    assert_eq!(tracked(3, 0.9, 0.6, Tolerance::default()), 2, "4.5 are needed");
    assert_eq!(tracked(6, 0.45, 0.6, Tolerance::default()), -1, "4.5 are needed");
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
