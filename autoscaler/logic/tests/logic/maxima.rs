//! Maxima that a forecast has raised, and what becomes of the instances when it no longer does.

use std::time::Duration;

use sluice_logic::decision::{Action, Clip, Decision, Group, decide};
use sluice_logic::outlook::Outlook;
use sluice_logic::spec::{Amount, Metric, PolicySpec, Predictive, PredictiveMode, RateLimit};

use crate::fixture::{Case, at, cpu, in_service, limits, no_samples, sampled};

fn predictive() -> PolicySpec {
    PolicySpec::Predictive(Predictive {
        metric: Metric::Cpu,
        target: 0.5,
        mode: PredictiveMode::ForecastAndScale,
        scheduling_buffer: Predictive::default_scheduling_buffer(),
        max_capacity_buffer: Some(10),
    })
}

/// Twenty instances of at most 40, which a forecast has made 50 a second ago; now there is none, and so much load.
fn raised(policies: Vec<PolicySpec>, load: f64) -> Case {
    let mut case = Case { spec: limits(1, 40), policies, ..Case::of(20, 0.0) };
    case.samples = sampled(&case.instances, 0.0, 0.5);
    let expected = Outlook::Expected { demand: 25.0, at: at(300), error: Some(0.1), ahead: None, kept: None };
    let decision = decide(&Group { outlooks: &[Some(expected)], ..case.group() }, &case.samples, at(0));
    assert_eq!((decision.to, decision.action, decision.exceeds), (50, Action::Repair, Some(40)));
    case.history.record(&decision);
    case.desired = decision.to;
    case.instances = in_service(50);
    case.samples = sampled(&case.instances, 0.0, load);
    case
}

#[test]
fn what_a_maximum_was_raised_for_goes_when_the_policies_let_it_go() {
    let cases = [
        (0.2, 20, Action::In, "as few as are needed"),
        (0.45, 45, Action::In, "no more than can go"),
        (0.5, 50, Action::Nothing, "all are needed"),
        (0.9, 50, Action::Nothing, "but nothing is added"),
    ];
    for (load, to, action, why) in cases {
        let decision = raised(vec![predictive(), cpu(0.5)], load).decide();
        assert_eq!((decision.to, decision.action), (to, action), "{why}: {}", decision.reason);
        assert_eq!(decision.exceeds, Some(40).filter(|_| to > 40));
        assert_eq!(decision.clips.contains(&Clip::Max { max: 40 }), load > 0.5, "{}", decision.reason);
    }
}

#[test]
fn it_goes_at_the_pace_at_which_any_instance_goes() {
    let mut case = raised(vec![predictive(), cpu(0.5)], 0.2);
    let goes = |case: &Case| (case.decide().to, case.decide().action);
    case.last_action = Some(at(0));
    assert_eq!(goes(&case), (50, Action::Nothing), "after the buffer time");
    case.last_action = None;
    assert_eq!(case.decide().last_action, Some(at(1)), "which it begins");
    case.spec.pace.r#in.limits = vec![RateLimit { most: Amount::Count(3), period: Duration::from_mins(1) }];
    assert_eq!(goes(&case), (47, Action::In), "within the rate limits");
    let peak = Decision { recommended: Some(50), exceeds: Some(40), at: at(0), ..Decision::default() };
    case.history.record(&peak);
    case.spec.pace.r#in.stabilization = Duration::from_mins(5);
    assert_eq!(goes(&case), (50, Action::Nothing), "after the stabilization window");
}

#[test]
fn nobody_goes_while_the_load_is_not_known() {
    let mut case = raised(vec![predictive(), cpu(0.5)], 0.5);
    case.samples = no_samples();
    for _ in 0..2 {
        let decision = case.decide();
        assert_eq!((decision.to, decision.exceeds), (50, Some(40)), "{}", decision.reason);
        case.history.record(&decision);
    }
}

#[test]
fn where_no_policy_is_asked_it_goes_to_the_maximum() {
    let decision = raised(vec![predictive()], 0.5).decide();
    assert_eq!((decision.to, decision.action), (40, Action::In));
    assert!(decision.reason.ends_with(", but 40 is the maximum"), "{}", decision.reason);
}

#[test]
fn a_maximum_that_is_edited_while_it_is_raised_holds_at_once() {
    let mut case = raised(vec![predictive(), cpu(0.5)], 0.5);
    case.spec.max = 30;
    assert_eq!((case.decide().to, case.decide().action), (30, Action::Repair));
    case.spec.max = 45;
    assert_eq!((case.decide().to, case.decide().action), (50, Action::Nothing), "more than it was is no cut");
}
