//! Azure Monitor's autoscale: rules in profiles ("Understand autoscale settings", "Autoscale flapping").

use super::reading::{Name, amount};
use super::simple::ends;
use super::timing::{last_start, moment, within};
use super::{Answer, Situation, Wish};
use crate::history::Cooling;
use crate::samples::Load;
use crate::spec::{Profile, ProfileTime, Rule, RuleChange, Rules, Scope, Statistic};

/// Out if any rule to increase holds, the largest number wins; in only if all rules to decrease hold, the largest
/// number wins again; a scale-in that would make a rule to increase hold is made smaller, or not made at all.
///
/// Of the profiles a fixed date's comes before a recurring one's before the default. Where a metric is missing and
/// there are fewer than the profile's default, that many are wanted.
pub(super) fn answer(policy: &Rules, situation: &Situation<'_>) -> Answer {
    let (name, profile) = profile(policy, situation);
    let desired = situation.group.desired;
    let verdicts: Vec<Verdict<'_>> = profile.rules.iter().map(|rule| judge(rule, situation)).collect();
    let opinion = opinion(profile, &verdicts, desired);
    let last = situation.group.history.cooldown(Cooling::Rules);
    let waiting = last.and_then(|last| ends(last.since, last.length, situation.now));
    let (wish, what) = match (opinion.wish, waiting) {
        (Wish::Out(_) | Wish::In(_), Some(until)) if opinion.rule.is_some() => {
            (Wish::Hold, format!("{}, but its rules cool down until {until:.0}", opinion.reason))
        }
        (wish, _) => (wish, opinion.reason),
    };
    let answer = Answer {
        floor: Some(profile.min),
        cooldown: opinion.rule.map(|rule| rule.cooldown),
        ..Answer::new(wish, format!("profile {name}: {what}"))
    };
    match opinion.rule.or(profile.rules.first()).and_then(|rule| verdicts.iter().find(|v| v.rule == rule)) {
        Some(verdict) => answer.on(verdict.load),
        None => answer,
    }
}

/// The profile that holds now, and its name.
fn profile<'a>(policy: &'a Rules, situation: &Situation<'_>) -> (&'a str, &'a Profile) {
    let now = situation.now;
    let holds = |when: &ProfileTime| match when {
        ProfileTime::Fixed { from, to, time_zone } => {
            moment(*from, time_zone) <= now && now < moment(*to, time_zone)
        }
        ProfileTime::Recurring { cron, duration, time_zone } => {
            last_start(cron, time_zone, now).is_some_and(|start| within(start, *duration, now).is_some())
        }
    };
    let fixed = |when: &ProfileTime| matches!(when, ProfileTime::Fixed { .. });
    let dated = policy.profiles.iter().filter(|timed| fixed(&timed.when));
    let recurring = policy.profiles.iter().filter(|timed| !fixed(&timed.when));
    let found = dated.chain(recurring).find(|timed| holds(&timed.when));
    found.map_or(("default", &policy.default), |timed| (timed.name.as_str(), &timed.profile))
}

/// A rule and its load.
struct Verdict<'a> {
    rule: &'a Rule,
    load: Load,
    /// `None`: the metric is missing, or too little of it is known.
    holds: Option<bool>,
}

fn judge<'a>(rule: &'a Rule, situation: &Situation<'_>) -> Verdict<'a> {
    let Situation { group, samples, now, .. } = situation;
    let load = samples.load(group.instances, &rule.signal, group.spec.pace.warm_up, *now);
    let holds = match load {
        Load::Known { value, .. } => Some(rule.when.holds(value, rule.threshold)),
        // What is at least so much is a reason to add, but never one to remove.
        Load::Partial { at_least, .. } if rule.change.is_out() => {
            Some(true).filter(|_| rule.when.holds(at_least, rule.threshold))
        }
        Load::Partial { .. } | Load::Missing(_) => None,
    };
    Verdict { rule, load, holds }
}

struct Opinion<'a> {
    wish: Wish,
    reason: String,
    /// The rule that settled it.
    rule: Option<&'a Rule>,
}

fn opinion<'a>(profile: &Profile, verdicts: &[Verdict<'a>], desired: u32) -> Opinion<'a> {
    let bounded = |count: u32| count.min(profile.max).max(profile.min);
    let without_rule = |wish, reason| Opinion { wish, reason, rule: None };
    let (outs, ins): (Vec<&Verdict<'_>>, Vec<&Verdict<'_>>) =
        verdicts.iter().partition(|verdict| verdict.rule.change.is_out());
    let firing = outs.iter().filter(|verdict| verdict.holds == Some(true));
    let largest =
        firing.map(|verdict| (after(verdict.rule.change, desired), *verdict)).max_by_key(|(n, _)| *n);
    if let Some((wanted, verdict)) = largest
        && bounded(wanted) > desired
    {
        let wish = Wish::between(desired, bounded(wanted));
        return Opinion { wish, reason: words(verdict), rule: Some(verdict.rule) };
    }
    if let Some(missing) = verdicts.iter().find(|verdict| verdict.holds.is_none()) {
        let reason = format!("{} is not known well enough", Name(&missing.rule.signal));
        return match Wish::between(desired, bounded(profile.default)) {
            wish @ Wish::Out(_) => {
                without_rule(wish, format!("{reason}, and {} are the default", profile.default))
            }
            _ => without_rule(Wish::Unknown, reason),
        };
    }
    if desired != bounded(desired) {
        let reason = format!("it has from {} to {}", profile.min, profile.max);
        return without_rule(Wish::between(desired, bounded(desired)), reason);
    }
    if let Some((_, verdict)) = largest {
        return without_rule(Wish::Hold, format!("{}, but {} is its maximum", words(verdict), profile.max));
    }
    if ins.is_empty() {
        return without_rule(
            Wish::Abstain,
            "no rule to increase holds, and there is none to decrease".to_owned(),
        );
    }
    match ins.iter().find(|verdict| verdict.holds != Some(true)) {
        Some(verdict) => without_rule(Wish::Hold, format!("{}, so nothing changes", words(verdict))),
        None => scale_in(&ins, &outs, desired, profile),
    }
}

/// All rules to decrease hold: the smallest removal, as far as it makes no rule to increase hold.
fn scale_in<'a>(ins: &[&Verdict<'a>], outs: &[&Verdict<'a>], desired: u32, profile: &Profile) -> Opinion<'a> {
    let wanted =
        ins.iter().map(|verdict| (after(verdict.rule.change, desired), *verdict)).max_by_key(|(n, _)| *n);
    let Some((count, verdict)) = wanted else {
        return Opinion { wish: Wish::Hold, reason: "nothing changes".to_owned(), rule: None };
    };
    let target = count.max(profile.min).min(desired);
    let reason = words(verdict);
    let fits = |count: &u32| outs.iter().all(|out| !would_fire(out, desired, *count));
    match (target..desired).find(fits) {
        Some(count) => {
            let less = if count > target { ", fewer than that against flapping" } else { "" };
            let wish = Wish::between(desired, count);
            Opinion { wish, reason: format!("{reason}{less}"), rule: Some(verdict.rule) }
        }
        None if target < desired => {
            let reason = format!("{reason}, but a rule to increase would hold at once (flapping)");
            Opinion { wish: Wish::Hold, reason, rule: None }
        }
        None => Opinion { wish: Wish::Hold, reason: format!("{reason}, but none can go"), rule: None },
    }
}

/// Whether a rule to increase would hold with `count` instead of `desired` instances: its metric becomes
/// `value × desired / count`, where it is one of each instance.
fn would_fire(verdict: &Verdict<'_>, desired: u32, count: u32) -> bool {
    let (Load::Known { value, .. } | Load::Partial { at_least: value, .. }) = verdict.load else {
        return true;
    };
    let shared = match verdict.rule.signal.scope {
        Scope::Instances { statistic } => !matches!(statistic, Statistic::Sum | Statistic::Count),
        Scope::Group { per_instance } => per_instance,
    };
    let projected = match (shared, count) {
        (false, _) => value,
        (true, 0) => return true,
        (true, count) => value * f64::from(desired) / f64::from(count),
    };
    verdict.rule.when.holds(projected, verdict.rule.threshold)
}

/// The number after a rule's change; a percentage is rounded towards no change, but is at least one.
fn after(change: RuleChange, current: u32) -> u32 {
    let share = |percent: u32| {
        let exact = u64::from(current) * u64::from(percent) / 100;
        u32::try_from(exact).unwrap_or(u32::MAX).max(1)
    };
    match change {
        RuleChange::Increase(count) => current.saturating_add(count),
        RuleChange::IncreasePercent(percent) => current.saturating_add(share(percent)),
        RuleChange::IncreaseTo(count) => current.max(count),
        RuleChange::Decrease(count) => current.saturating_sub(count),
        RuleChange::DecreasePercent(percent) => current.saturating_sub(share(percent)),
        RuleChange::DecreaseTo(count) => current.min(count),
    }
}

/// A rule, what its load is, and what it does.
fn words(verdict: &Verdict<'_>) -> String {
    let Rule { signal, when, threshold, change, .. } = verdict.rule;
    let value = match verdict.load {
        Load::Known { value, .. } => amount(signal.is_share(), value).to_string(),
        Load::Partial { at_least, .. } => format!("at least {}", amount(signal.is_share(), at_least)),
        Load::Missing(_) => "not known".to_owned(),
    };
    let bound = amount(signal.is_share(), *threshold);
    let what = match change {
        RuleChange::Increase(count) => format!("{count} more"),
        RuleChange::Decrease(count) => format!("{count} fewer"),
        RuleChange::IncreasePercent(percent) => format!("{percent} % more"),
        RuleChange::DecreasePercent(percent) => format!("{percent} % fewer"),
        RuleChange::IncreaseTo(count) | RuleChange::DecreaseTo(count) => format!("to {count}"),
    };
    format!("{} is {value}, the rule at {} {bound} says {what}", Name(signal), when.symbol())
}
