//! What single policies can't show: whether they contradict each other.

use sluice_logic::spec::{Comparison, Custom, Dynamic, PolicySpec, Rule, Signal, Simple};

use crate::diagnostic::Faults;
use crate::yaml::Spanned;

/// Reports policies that work against each other.
pub(crate) fn check(faults: &mut Faults<'_>, policies: &[Spanned<PolicySpec>]) {
    for (index, later) in policies.iter().enumerate() {
        for earlier in &policies[..index] {
            pair(faults, earlier, later);
        }
    }
    nobody_removes(faults, policies);
    not_forecast(faults, policies);
}

fn pair(faults: &mut Faults<'_>, earlier: &Spanned<PolicySpec>, later: &Spanned<PolicySpec>) {
    let line = earlier.span.line;
    match (&earlier.value, &later.value) {
        (PolicySpec::Rules(_), PolicySpec::Rules(_)) => {
            let message = format!("a second `rules`; the first is on line {line}");
            faults.error_with_help(later.span, message, "make it a profile, or more rules, of the first");
        }
        (PolicySpec::Simple(a), PolicySpec::Simple(b)) if fight(a, b) => {
            let message = format!(
                "this policy and the one on line {line} fire at the same load, one to add and one to \
                                   remove"
            );
            faults.error_with_help(later.span, message, "leave room between the two thresholds");
        }
        (a, b) => {
            let follows = |policy: &PolicySpec| match policy {
                PolicySpec::Reactive(it) => Some((it.signal.clone(), it.threshold)),
                PolicySpec::TargetTracking(it) => Some((it.signal.clone(), it.target)),
                _ => None,
            };
            if let (Some((first, low)), Some((second, high))) = (follows(a), follows(b))
                && first == second
            {
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
        }
    }
}

/// Whether two simple policies on one signal can both hold, one to add and one to remove.
fn fight(a: &Simple, b: &Simple) -> bool {
    if a.signal != b.signal || a.change * b.change >= 0.0 {
        return false;
    }
    let (out, r#in) = if a.change > 0.0 { (a, b) } else { (b, a) };
    overlap((out.when, out.threshold), (r#in.when, r#in.threshold))
}

/// Whether a load can be above the one and below the other.
fn overlap(above: (Comparison, f64), below: (Comparison, f64)) -> bool {
    let is_above = matches!(above.0, Comparison::Above | Comparison::AtLeast);
    let is_below = matches!(below.0, Comparison::Below | Comparison::AtMost);
    let touches = above.0 == Comparison::AtLeast && below.0 == Comparison::AtMost;
    is_above && is_below && (above.1 < below.1 || (touches && above.1 <= below.1))
}

/// Reports rules of a profile that add and remove at the same load.
pub(super) fn rules(faults: &mut Faults<'_>, rules: &[Spanned<Rule>]) {
    let same = |a: &Signal, b: &Signal| a.metric == b.metric && a.scope == b.scope;
    for out in rules.iter().filter(|rule| rule.value.change.is_out()) {
        for r#in in rules.iter().filter(|rule| !rule.value.change.is_out()) {
            let (above, below) = (&out.value, &r#in.value);
            if same(&above.signal, &below.signal)
                && overlap((above.when, above.threshold), (below.when, below.threshold))
            {
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
        PolicySpec::Simple(policy) => policy.change > 0.0,
        PolicySpec::Step(policy) => policy.steps.iter().all(|step| step.change > 0.0),
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
