//! Reads policies: one mapping of one key each, its kind. `docs/policies.md` has every key.

mod contradictions;
mod dynamic;
mod pace;
mod reach;
mod rules;
mod schedule;
mod signal;
mod step;

use sluice_logic::spec::{Custom, Dynamic, PolicySpec, Static};

pub(crate) use self::contradictions::check as contradictions;
pub(crate) use self::pace::pace;
pub(crate) use self::signal::warn_of_bare_one;
use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, listed, nearest};
use crate::yaml::{Kind, Node, Spanned};

/// Every kind, as it is written.
const KINDS: [&str; 9] =
    ["reactive", "target_tracking", "proactive", "static", "custom", "step", "simple", "rules", "predictive"];

/// The group's limits as far as they could be read: a schedule is judged by them.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) min: Option<Spanned<u32>>,
    pub(crate) max: Option<Spanned<u32>>,
}

/// Reads a list of policies, and judges whether they contradict each other. `None` has been reported.
pub(crate) fn policies(
    faults: &mut Faults<'_>,
    items: &[Node],
    limits: Limits,
) -> Option<Vec<Spanned<PolicySpec>>> {
    // All are read, so that all faults are found, before the first that is missing ends it.
    let read: Vec<_> =
        items.iter().map(|item| Some(Spanned::new(policy(faults, item, limits)?, item.span))).collect();
    let read: Vec<Spanned<PolicySpec>> = read.into_iter().collect::<Option<_>>()?;
    contradictions(faults, &read);
    Some(read)
}

/// A policy is a mapping of one key, its kind: `- reactive: {…}`.
fn policy(faults: &mut Faults<'_>, node: &Node, limits: Limits) -> Option<PolicySpec> {
    let (kind, mut fields) = kind(faults, "policy", &KINDS, node)?;
    let fields = &mut fields;
    Some(match kind {
        "reactive" => PolicySpec::Reactive(dynamic::reactive(faults, fields)?),
        "proactive" => PolicySpec::Proactive(dynamic::proactive(faults, fields)?),
        "target_tracking" => PolicySpec::TargetTracking(dynamic::target_tracking(faults, fields)?),
        "step" => PolicySpec::Step(step::step(faults, fields, limits)?),
        "simple" => PolicySpec::Simple(step::simple(faults, fields, limits)?),
        "static" => {
            let entries = schedule::entries(faults, fields, limits);
            fields.end(faults);
            PolicySpec::Static(Static { entries: entries? })
        }
        "custom" => PolicySpec::Custom(custom(faults, fields, limits)?),
        "rules" => PolicySpec::Rules(rules::rules(faults, fields, limits)?),
        _ => PolicySpec::Predictive(dynamic::predictive(faults, fields)?),
    })
}

fn custom(faults: &mut Faults<'_>, fields: &mut Fields<'_>, limits: Limits) -> Option<Custom> {
    let entries = schedule::entries(faults, fields, limits);
    let dynamic = fields.take(faults, &["dynamic"]);
    if dynamic.is_none() {
        fields.report_missing(faults, "dynamic");
    }
    fields.end(faults);
    let dynamic = dynamic.and_then(|node| {
        let kinds = ["reactive", "proactive", "target_tracking"];
        let (kind, mut fields) = kind(faults, "dynamic", &kinds, node.value)?;
        let fields = &mut fields;
        Some(match kind {
            "reactive" => Dynamic::Reactive(dynamic::reactive(faults, fields)?),
            "proactive" => Dynamic::Proactive(dynamic::proactive(faults, fields)?),
            _ => Dynamic::TargetTracking(dynamic::target_tracking(faults, fields)?),
        })
    });
    Some(Custom { entries: entries?, dynamic: dynamic? })
}

/// The one key of a mapping that says what is meant, and what is below it.
fn kind<'n>(
    faults: &mut Faults<'_>,
    what: &'static str,
    kinds: &[&'static str],
    node: &'n Node,
) -> Option<(&'static str, Fields<'n>)> {
    let Kind::Mapping(entries) = &node.kind else {
        // Says what was expected.
        Fields::open(faults, what, node)?;
        return None;
    };
    let [(key, value)] = entries.as_slice() else {
        let message = match entries.len() {
            0 => format!("a {what} needs its kind"),
            _ => format!("a {what} has one kind, and this mapping has {} keys", entries.len()),
        };
        let help = "write `- reactive: {threshold: 60%}`, and what belongs to it below it";
        faults.error_with_help(node.span, message, help);
        return None;
    };
    let Kind::Scalar { text, .. } = &key.kind else {
        faults.error(key.span, "a key must be a word");
        return None;
    };
    let name = crate::reader::normalised(text);
    let Some(known) = kinds.iter().find(|known| **known == name) else {
        let help = match nearest(&name, kinds) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it can be {}", listed(kinds)),
        };
        faults.error_with_help(key.span, format!("{what}: unknown kind {}", quote(text)), help);
        return None;
    };
    Some((known, Fields::open(faults, known, value)?))
}
