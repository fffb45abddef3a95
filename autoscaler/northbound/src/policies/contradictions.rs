//! What single policies can't show: whether they contradict each other.

use sluice_logic::spec::{Adjustment, Custom, Dynamic, PolicySpec, Profile, Rule, Rules, Signal, Static};

use super::reach::{Reach, reaches};
use crate::diagnostic::{Faults, Severity};
use crate::yaml::Spanned;

/// Reports policies that work against each other.
pub(crate) fn check(faults: &mut Faults<'_>, policies: &[Spanned<PolicySpec>]) {
    for (index, later) in policies.iter().enumerate() {
        for earlier in &policies[..index] {
            pair(faults, earlier, later);
            above_the_rules(faults, earlier, later);
            above_the_rules(faults, later, earlier);
        }
    }
    nobody_removes(faults, policies);
    not_forecast(faults, policies);
}

fn pair(faults: &mut Faults<'_>, earlier: &Spanned<PolicySpec>, later: &Spanned<PolicySpec>) {
    let line = earlier.span.line;
    if let (PolicySpec::Rules(_), PolicySpec::Rules(_)) = (&earlier.value, &later.value) {
        let message = format!("a second `rules`; the first is on line {line}");
        faults.error_with_help(later.span, message, "make it a profile, or more rules, of the first");
        return;
    }
    if let (Some((first, low)), Some((second, high))) = (follows(&earlier.value), follows(&later.value)) {
        if first == second {
            let message = format!(
                "this policy is about the same as the one on line {line}, {low} there and {high} \
                                   here"
            );
            faults.warning(
                later.span,
                message,
                "the larger number of instances wins, so only the lower of the two \
                                                 ever acts: remove the other",
            );
        }
        return;
    }
    if let Some(severity) = fight(&earlier.value, &later.value) {
        let message = format!(
            "this policy and the one on line {line} fire at the same load, one to add and one to \
                               remove"
        );
        let help = "leave room between the two thresholds".to_owned();
        faults.add(later.span, severity, message, Some(help));
    }
}

/// What a policy goes by in both directions, and the load that it keeps to.
fn follows(policy: &PolicySpec) -> Option<(&Signal, f64)> {
    match policy {
        PolicySpec::Reactive(it) => Some((&it.signal, it.threshold)),
        PolicySpec::TargetTracking(it) if !it.disable_scale_in => Some((&it.signal, it.target)),
        _ => None,
    }
}

/// Whether two policies on one signal can both hold, one to add and one to remove. It is an error where what the one adds
/// the other takes away again: where the one only adds, and so is not asked. A policy that goes by a proportion may be kept
/// from that by its rounding or its forecast.
fn fight(a: &PolicySpec, b: &PolicySpec) -> Option<Severity> {
    let (a, b) = (reaches(a), reaches(b));
    let pairs = a.iter().flat_map(|a| b.iter().flat_map(move |b| [(a, b), (b, a)]));
    let fights = pairs.filter(|(out, r#in)| out.fights(r#in));
    let severity = |(out, r#in): (&Reach<'_>, &Reach<'_>)| {
        let repeats = out.one_way && !out.in_proportion && !r#in.in_proportion;
        if repeats { Severity::Error } else { Severity::Warning }
    };
    fights.map(severity).min()
}

/// Warns where a schedule wants more than the rules beside it ever allow.
fn above_the_rules(faults: &mut Faults<'_>, schedule: &Spanned<PolicySpec>, rules: &Spanned<PolicySpec>) {
    let (
        PolicySpec::Static(Static { entries }) | PolicySpec::Custom(Custom { entries, .. }),
        PolicySpec::Rules(Rules { default, profiles }),
    ) = (&schedule.value, &rules.value)
    else {
        return;
    };
    let most = profiles.iter().map(|timed| timed.profile.max).fold(default.max, u32::max);
    if let Some(count) = entries.iter().map(|entry| entry.count).max().filter(|count| *count > most) {
        let message = format!(
            "the count {count} is above the max of the rules on line {}, which is {most}",
            rules.span.line
        );
        faults.warning(
            schedule.span,
            message,
            "while the entry holds the rules' max does not: lower the one, or raise the other",
        );
    }
}

/// Reports rules of a profile that add and remove at the same load.
pub(super) fn rules(faults: &mut Faults<'_>, rules: &[Spanned<Rule>]) {
    for out in rules.iter().filter(|rule| rule.value.change.is_out()) {
        for r#in in rules.iter().filter(|rule| !rule.value.change.is_out()) {
            if Reach::of_rule(&out.value, true).fights(&Reach::of_rule(&r#in.value, true)) {
                let message =
                    format!("this rule and the one on line {} fire at the same load", out.span.line);
                faults.error_with_help(r#in.span, message, "leave room between the two thresholds");
            }
        }
    }
}

/// Warns where a proactive policy looks at what is not forecast.
fn not_forecast(faults: &mut Faults<'_>, policies: &[Spanned<PolicySpec>]) {
    for policy in policies {
        let (PolicySpec::Proactive(proactive)
        | PolicySpec::Custom(Custom { dynamic: Dynamic::Proactive(proactive), .. })) = &policy.value
        else {
            continue;
        };
        if !proactive.signal.averages_instances() {
            let message = "only the average over the instances is forecast: with this signal the policy is the reactive \
                           rule";
            let help = "leave `of` and `statistic` out, or write `reactive`";
            faults.warning(policy.span, message, help);
        }
    }
}

/// Warns where instances are added, but nobody ever takes one away.
fn nobody_removes(faults: &mut Faults<'_>, policies: &[Spanned<PolicySpec>]) {
    let only_adds = |policy: &PolicySpec| match policy {
        PolicySpec::TargetTracking(policy) => policy.disable_scale_in,
        PolicySpec::Simple(policy) => policy.adjustment != Adjustment::Exact && policy.change > 0.0,
        PolicySpec::Step(policy) => {
            policy.adjustment != Adjustment::Exact && policy.steps.iter().all(|step| step.change > 0.0)
        }
        // Another profile may have a lower max.
        PolicySpec::Rules(Rules { default: Profile { rules, .. }, profiles }) => {
            profiles.is_empty() && !rules.is_empty() && rules.iter().all(|rule| rule.change.is_out())
        }
        _ => false,
    };
    let adds = policies.iter().find(|policy| only_adds(&policy.value));
    let abstains = |policy: &PolicySpec| only_adds(policy) || matches!(policy, PolicySpec::Predictive(_));
    if let Some(first) = adds
        && policies.iter().all(|policy| abstains(&policy.value))
    {
        let message = "these policies add instances, and none ever removes one";
        faults.warning(
            first.span,
            message,
            "add one that does, or take them away by hand with `sluice scale`",
        );
    }
}
