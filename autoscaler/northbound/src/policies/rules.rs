//! Reads Azure's rules.

use std::time::Duration;

use sluice_logic::spec::{Profile, ProfileTime, Rule, RuleChange, Rules, TimedProfile, Zone};

use super::schedule::{cron, date, duration, time_zone, within_max};
use super::signal::{bound, signal};
use super::step::{comparison, cooldown};
use super::{Limits, contradictions};
use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint};
use crate::yaml::{Node, Spanned};

/// Azure's `timeGrain` where it is not written: its metrics have a value each minute.
const DEFAULT_GRAIN: Duration = Duration::from_mins(1);

/// Azure's default cooldown.
const DEFAULT_COOLDOWN: Duration = Duration::from_mins(5);

/// Azure's limit.
const MOST_RULES: usize = 10;
/// Azure's limit.
const MOST_PROFILES: usize = 20;

pub(super) fn rules(faults: &mut Faults<'_>, fields: &mut Fields<'_>, limits: Limits) -> Option<Rules> {
    let zone = time_zone(faults, fields);
    let default = match fields.section(faults, "default") {
        Section::Open(mut fields) => {
            let profile = profile(faults, &mut fields, limits);
            fields.end(faults);
            profile
        }
        Section::Refused => None,
        Section::Absent => {
            fields.report_missing(faults, "default");
            None
        }
    };
    let items = fields.optional_list(faults, "profiles");
    fields.end(faults);
    let items = items?;
    // A zone that is not known leaves the rest to be judged.
    let judged = zone.clone().unwrap_or_default();
    if let Some(items) = items.filter(|items| items.value.len() > MOST_PROFILES) {
        let message =
            format!("{} profiles are more than the {MOST_PROFILES} there may be", items.value.len());
        faults.error(items.span, message);
    }
    let profiles: Vec<_> = items
        .map_or(&[][..], |items| items.value)
        .iter()
        .map(|item| timed(faults, item, &judged, limits))
        .collect();
    zone?;
    Some(Rules { default: default?, profiles: profiles.into_iter().collect::<Option<_>>()? })
}

fn timed(faults: &mut Faults<'_>, node: &Node, zone: &Zone, limits: Limits) -> Option<TimedProfile> {
    let mut fields = Fields::open(faults, "profile", node)?;
    let name = fields.required(faults, &["name"], |node| value::name(64, node));
    let when = when(faults, &mut fields, zone);
    let profile = profile(faults, &mut fields, limits);
    fields.end(faults);
    Some(TimedProfile { name: name?.value, when: when?, profile: profile? })
}

/// `from` and `to`, or `cron` and `duration`.
fn when(faults: &mut Faults<'_>, fields: &mut Fields<'_>, zone: &Zone) -> Option<ProfileTime> {
    // All are read before the first that is bad ends it: the others are no unknown keys.
    let from = fields.optional(faults, &["from"], date);
    let to = fields.optional(faults, &["to"], date);
    let pattern = fields.optional(faults, &["cron"], |node| cron(node, zone));
    let length = fields.optional(faults, &["duration"], duration);
    let time_zone = zone.clone();
    match (from?, to?, pattern?, length?) {
        (Some(from), Some(to), None, None) if from.value < to.value => {
            Some(ProfileTime::Fixed { from: from.value, to: to.value, time_zone })
        }
        (Some(_), Some(to), None, None) => {
            faults.error_with_help(to.span, "the profile ends before it begins", "`to` is later than `from`");
            None
        }
        (None, None, Some(cron), Some(duration)) => {
            Some(ProfileTime::Recurring { cron: cron.value, duration: duration.value, time_zone })
        }
        (None, None, Some(_), None) => {
            fields.report_missing(faults, "duration");
            None
        }
        _ => {
            let help = "write `from` and `to` for a date, or `cron` and `duration` for a recurrence";
            faults.error_with_help(fields.span, "a profile needs its time", help);
            None
        }
    }
}

fn profile(faults: &mut Faults<'_>, fields: &mut Fields<'_>, limits: Limits) -> Option<Profile> {
    let count = |node: &Node| value::whole(1..=10_000, node);
    let min = fields.required(faults, &["min"], count);
    let max = fields.required(faults, &["max"], count);
    let default = fields.required(faults, &["default"], count);
    let items = fields.optional_list(faults, "rules");
    let (min, max, default, items) = (min?, max?, default?, items?);
    within_max(faults, "the profile's max", max, limits);
    if let Some(least) = limits.min.filter(|least| max.value < least.value) {
        let message = format!(
            "the profile's max {} is below the group's min, which is {} on line {}",
            max.value, least.value, least.span.line
        );
        faults.warning(max.span, message, "the group's min holds: raise the one, or lower the other");
    }
    if min.value > max.value {
        faults.error_with_help(
            min.span,
            "the profile's min is above its max",
            "the min can't be more than the max",
        );
    }
    if !(min.value..=max.value).contains(&default.value) {
        let message = format!("the default {} is outside {} to {}", default.value, min.value, max.value);
        faults.error_with_help(default.span, message, "it is the number where a metric is missing");
    }
    let nodes = items.map_or(&[][..], |items| items.value);
    if let Some(items) = items.filter(|items| items.value.len() > MOST_RULES) {
        let message = format!("{} rules are more than the {MOST_RULES} there may be", items.value.len());
        faults.error(items.span, message);
    }
    let rules: Vec<_> = nodes.iter().map(|node| Some(Spanned::new(rule(faults, node)?, node.span))).collect();
    let rules: Vec<Spanned<Rule>> = rules.into_iter().collect::<Option<_>>()?;
    contradictions::rules(faults, &rules);
    let rules = rules.into_iter().map(|rule| rule.value).collect();
    Some(Profile { min: min.value, max: max.value, default: default.value, rules })
}

fn rule(faults: &mut Faults<'_>, node: &Node) -> Option<Rule> {
    let mut fields = Fields::open(faults, "rule", node)?;
    let signal = signal(faults, &mut fields, Some(DEFAULT_GRAIN));
    let when = fields.required(faults, &["when"], comparison);
    let threshold = bound(faults, &mut fields, "threshold", signal.as_ref());
    let change = change(faults, &mut fields);
    let cooldown = fields.defaulted(faults, &["cooldown"], DEFAULT_COOLDOWN, cooldown);
    fields.end(faults);
    Some(Rule {
        signal: signal?,
        when: when?.value,
        threshold: threshold?.value,
        change: change?,
        cooldown: cooldown?,
    })
}

/// Exactly one of four keys.
fn change(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<RuleChange> {
    let count = |node: &Node| value::whole(1..=10_000, node);
    let increase = fields.optional(faults, &["increase"], amount)?;
    let decrease = fields.optional(faults, &["decrease"], amount)?;
    let increase_to = fields.optional(faults, &["increase_to"], count)?;
    let decrease_to = fields.optional(faults, &["decrease_to"], count)?;
    let by = |found: Option<Spanned<(u32, bool)>>,
              count: fn(u32) -> RuleChange,
              percent: fn(u32) -> RuleChange| {
        found.map(
            |Spanned { value: (number, is_percent), .. }| {
                if is_percent { percent(number) } else { count(number) }
            },
        )
    };
    let to =
        |found: Option<Spanned<u32>>, change: fn(u32) -> RuleChange| found.map(|count| change(count.value));
    let written = [
        by(increase, RuleChange::Increase, RuleChange::IncreasePercent),
        by(decrease, RuleChange::Decrease, RuleChange::DecreasePercent),
        to(increase_to, RuleChange::IncreaseTo),
        to(decrease_to, RuleChange::DecreaseTo),
    ];
    let mut written = written.into_iter().flatten();
    if let (Some(change), None) = (written.next(), written.next()) {
        return Some(change);
    }
    let help = "write one of `increase: 1`, `decrease: 1`, `increase: 10%`, `decrease: 10%`, `increase_to: 5`, \
                `decrease_to: 2`";
    faults.error_with_help(fields.span, "a rule has exactly one change", help);
    None
}

/// So many, or so many percent, and which of the two it is.
fn amount(node: &Node) -> Result<(u32, bool), Complaint> {
    let text = value::text(node)?;
    let Some(percent) = text.trim().strip_suffix('%') else {
        return value::whole(1..=10_000, node).map(|count| (count, false));
    };
    let number = percent.trim().parse().ok().filter(|percent| (1..=1000).contains(percent));
    number
        .map(|percent| (percent, true))
        .ok_or_else(|| Complaint::new(format!("expected 1% to 1000%, found {}", quote(&text))))
}
