//! Reads step and simple policies.

use std::time::Duration;

use sluice_logic::spec::{Adjustment, Comparison, Signal, Simple, Step, StepAdjustment};

use super::Limits;
use super::dynamic::warm_up;
use super::schedule::above_max;
use super::signal::{bound, difference, signal};
use crate::diagnostic::Faults;
use crate::reader::Fields;
use crate::value::{self, Complaint};
use crate::yaml::{Node, Spanned};

/// A change beyond this is a typing error.
const LARGEST_CHANGE: f64 = 10_000.0;

const HOW_TO_CHANGE: &str = "write how much to add, or with a minus to remove";

pub(super) fn step(faults: &mut Faults<'_>, fields: &mut Fields<'_>, limits: Limits) -> Option<Step> {
    let signal = signal(faults, fields, None);
    let threshold = bound(faults, fields, "threshold", signal.as_ref());
    let adjustment = adjustment(faults, fields);
    let min_magnitude = min_magnitude(faults, fields, adjustment);
    let warm_up = fields.optional(faults, &["warm_up"], warm_up);
    let items = fields.required_list(faults, "steps");
    fields.end(faults);
    let (items, signal) = (items?, signal?);
    let steps: Vec<_> = items.value.iter().map(|item| one_step(faults, item, &signal)).collect();
    let steps: Vec<Spanned<StepAdjustment>> = steps.into_iter().collect::<Option<_>>()?;
    if steps.is_empty() {
        faults.error_with_help(items.span, "`steps` is empty", "write `- {from: 0, change: 1}`");
        return None;
    }
    check_steps(faults, &steps, adjustment?);
    for step in &steps {
        exact_within_max(faults, adjustment?, Spanned::new(step.value.change, step.span), limits);
    }
    Some(Step {
        signal,
        threshold: threshold?.value,
        adjustment: adjustment?,
        steps: steps.into_iter().map(|step| step.value).collect(),
        min_magnitude: min_magnitude?,
        warm_up: warm_up?.map(|warm_up| warm_up.value),
    })
}

fn one_step(faults: &mut Faults<'_>, node: &Node, signal: &Signal) -> Option<Spanned<StepAdjustment>> {
    let mut fields = Fields::open(faults, "step", node)?;
    let lower = fields.optional(faults, &["from"], |node| difference(signal, node));
    let upper = fields.optional(faults, &["to"], |node| difference(signal, node));
    let change = fields.required(faults, &["change"], change);
    fields.end(faults);
    let (lower, upper) = (lower?, upper?);
    let step = StepAdjustment {
        lower: lower.map(|bound| bound.value),
        upper: upper.map(|bound| bound.value),
        change: change?.value,
    };
    let (low, high) = (step.lower.unwrap_or(f64::NEG_INFINITY), step.upper.unwrap_or(f64::INFINITY));
    if low >= high {
        faults.error_with_help(
            node.span,
            "this step has nothing between its bounds",
            "`from` is less than `to`",
        );
        return None;
    }
    if low < 0.0 && high > 0.0 {
        let message = "this step is on both sides of the threshold";
        faults.error_with_help(node.span, message, "split it at 0: bounds are relative to the threshold");
        return None;
    }
    Some(Spanned::new(step, node.span))
}

/// AWS's rules: on each side no gaps and no overlaps, and what is beyond the last step is open.
fn check_steps(faults: &mut Faults<'_>, steps: &[Spanned<StepAdjustment>], adjustment: Adjustment) {
    for step in steps {
        check_change(faults, Spanned::new(step.value.change, step.span), adjustment);
    }
    let (mut above, mut below): (Vec<_>, Vec<_>) = steps.iter().copied().partition(|step| low(step) >= 0.0);
    for side in [&mut above, &mut below] {
        side.sort_by(|a, b| low(a).total_cmp(&low(b)));
        check_bounds(faults, side);
    }
    if let Some(last) = above.last().filter(|step| high(step).is_finite()) {
        let message = "nothing is said of what is above this step";
        faults.error_with_help(last.span, message, "leave its `to` out: then it has no end");
    }
    if let Some(first) = below.first().filter(|step| low(step).is_finite()) {
        let message = "nothing is said of what is below this step";
        faults.error_with_help(first.span, message, "leave its `from` out: then it has no end");
    }
    if adjustment == Adjustment::Exact {
        check_numbers(faults, &[below, above].concat());
    } else {
        check_directions(faults, &above, &below);
    }
}

fn low(step: &Spanned<StepAdjustment>) -> f64 {
    step.value.lower.unwrap_or(f64::NEG_INFINITY)
}

fn high(step: &Spanned<StepAdjustment>) -> f64 {
    step.value.upper.unwrap_or(f64::INFINITY)
}

/// Reports gaps and overlaps of the steps of one side, lowest first.
fn check_bounds(faults: &mut Faults<'_>, side: &[Spanned<StepAdjustment>]) {
    for pair in side.windows(2) {
        let (end, start) = (high(&pair[0]), low(&pair[1]));
        if (end - start).abs() <= 1e-12 {
            continue;
        }
        let what = if start < end { "overlaps" } else { "leaves a gap to" };
        let message = format!("this step {what} the one on line {}", pair[0].span.line);
        faults.error_with_help(pair[1].span, message, "each step begins where the one before it ends");
    }
}

/// Of numbers themselves, lowest step first.
fn check_numbers(faults: &mut Faults<'_>, steps: &[Spanned<StepAdjustment>]) {
    for pair in steps.windows(2).filter(|pair| pair[1].value.change < pair[0].value.change) {
        let line = pair[0].span.line;
        let message = format!("this step wants fewer than the one on line {line}, at more load");
        faults.error_with_help(pair[1].span, message, "more load never needs fewer instances");
    }
}

fn check_directions(
    faults: &mut Faults<'_>,
    above: &[Spanned<StepAdjustment>],
    below: &[Spanned<StepAdjustment>],
) {
    let mut all = above.iter().chain(below);
    if let Some(first) = all.clone().next().filter(|_| all.all(|step| step.value.change == 0.0)) {
        faults.error_with_help(first.span, "no step changes anything", HOW_TO_CHANGE);
    }
    for (side, wrong, what) in [(above, -1.0, "removes above"), (below, 1.0, "adds below")] {
        for step in side.iter().filter(|step| step.value.change * wrong > 0.0) {
            let message = format!("this step {what} the threshold");
            faults.error_with_help(step.span, message, "more load never needs fewer instances");
        }
    }
}

/// Warns of a number itself that the group has only where a forecast raises its maximum.
fn exact_within_max(faults: &mut Faults<'_>, adjustment: Adjustment, change: Spanned<f64>, limits: Limits) {
    if adjustment == Adjustment::Exact
        && let Some(message) = above_max("the number", change.value, limits)
    {
        faults.warning(change.span, message, "the group goes to its max; lower the one, or raise the other");
    }
}

pub(super) fn simple(faults: &mut Faults<'_>, fields: &mut Fields<'_>, limits: Limits) -> Option<Simple> {
    let signal = signal(faults, fields, None);
    let when = fields.required(faults, &["when"], comparison);
    let threshold = bound(faults, fields, "threshold", signal.as_ref());
    let adjustment = adjustment(faults, fields);
    let change = fields.required(faults, &["change"], change);
    let min_magnitude = min_magnitude(faults, fields, adjustment);
    let cooldown = fields.defaulted(faults, &["cooldown"], Simple::default_cooldown(), cooldown);
    fields.end(faults);
    let (when, change, adjustment) = (when?, change?, adjustment?);
    check_change(faults, change, adjustment);
    if adjustment != Adjustment::Exact && change.value == 0.0 {
        faults.error_with_help(change.span, "a change of 0 changes nothing", HOW_TO_CHANGE);
    }
    let above = matches!(when.value, Comparison::Above | Comparison::AtLeast);
    let below = matches!(when.value, Comparison::Below | Comparison::AtMost);
    if adjustment != Adjustment::Exact && (above && change.value < 0.0 || below && change.value > 0.0) {
        let message = if above { "it removes when the load is high" } else { "it adds when the load is low" };
        faults.error_with_help(change.span, message, "turn the sign of `change`, or the comparison");
    }
    exact_within_max(faults, adjustment, change, limits);
    Some(Simple {
        signal: signal?,
        when: when.value,
        threshold: threshold?.value,
        adjustment,
        change: change.value,
        min_magnitude: min_magnitude?,
        cooldown: cooldown?,
    })
}

/// Azure's longest cooldown is a week; AWS's is shorter.
pub(super) fn cooldown(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::ZERO..=Duration::from_hours(7 * 24), node)
}

/// As a sign in quotes, or as a word: YAML takes a bare `>` for the beginning of a text.
pub(super) fn comparison(node: &Node) -> Result<Comparison, Complaint> {
    let words = [
        ("above", Comparison::Above),
        ("at_least", Comparison::AtLeast),
        ("below", Comparison::Below),
        ("at_most", Comparison::AtMost),
        ("equal", Comparison::Equal),
        ("not_equal", Comparison::NotEqual),
    ];
    let choices: Vec<_> = Comparison::ALL.into_iter().chain(words).collect();
    value::choice(&choices, &[], node)
}

fn adjustment(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Adjustment> {
    let choices =
        [("change", Adjustment::Change), ("exact", Adjustment::Exact), ("percent", Adjustment::Percent)];
    fields.defaulted(faults, &["adjustment"], Adjustment::Change, |node| value::choice(&choices, &[], node))
}

fn min_magnitude(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    adjustment: Option<Adjustment>,
) -> Option<u32> {
    let written = fields.optional(faults, &["min_magnitude"], |node| value::whole(1..=10_000, node))?;
    if let (Some(written), Some(Adjustment::Change | Adjustment::Exact)) = (written, adjustment) {
        let message = "`min_magnitude` is for percentages only";
        faults.error_with_help(written.span, message, "write `adjustment: percent`, or remove it");
    }
    Some(written.map_or(0, |written| written.value))
}

/// Instances come whole, and there are never fewer than none.
fn check_change(faults: &mut Faults<'_>, change: Spanned<f64>, adjustment: Adjustment) {
    if adjustment != Adjustment::Percent && change.value.fract() != 0.0 {
        let message = format!("a change of {} is not a whole number of instances", change.value);
        faults.error_with_help(change.span, message, "write a whole number, or `adjustment: percent`");
    }
    if adjustment == Adjustment::Exact && change.value < 0.0 {
        let message = "there can't be fewer than 0 instances";
        faults.error_with_help(change.span, message, "with `adjustment: exact` it is the number itself");
    }
}

fn change(node: &Node) -> Result<f64, Complaint> {
    value::number_within(-LARGEST_CHANGE..=LARGEST_CHANGE, "", node)
}
