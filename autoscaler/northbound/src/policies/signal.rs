//! Reads what a policy looks at, and amounts in a metric's unit.

use std::time::Duration;

use sluice_logic::spec::{Aggregation, Metric, Scope, Signal, Statistic};

use crate::diagnostic::{Faults, quote};
use crate::reader::Fields;
use crate::tenant::DEFAULT_WINDOW;
use crate::value::{self, Complaint};
use crate::yaml::{Node, Span, Spanned};

/// The longest window: a day is the longest that the large clouds offer.
const LONGEST_WINDOW: Duration = Duration::from_hours(24);

/// The keys of a signal, which stand among those of its policy. `grain` is the default of the key `grain`. `None` has
/// been reported.
pub(super) fn signal(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    grain: Option<Duration>,
) -> Option<Signal> {
    let metric = fields.defaulted(faults, &["metric"], Metric::Cpu, value::metric);
    let of_group = fields.defaulted(faults, &["of"], false, |node| {
        value::choice(&[("instances", false), ("group", true)], &[], node)
    });
    let statistic = fields.optional(faults, &["statistic"], statistic);
    let per_instance = fields.optional(faults, &["per_instance"], value::boolean);
    let aggregation = fields.defaulted(faults, &["aggregation"], Aggregation::Average, aggregation);
    let window = fields.defaulted(faults, &["window"], DEFAULT_WINDOW, window);
    let written = fields.optional(faults, &["grain"], window_or_grain);
    let scope = match (of_group?, statistic?, per_instance?) {
        (true, Some(statistic), _) => {
            let message =
                "`statistic` is taken over instances, and this policy looks at the group as a whole";
            faults.error_with_help(statistic.span, message, "remove it, or write `of: instances`");
            return None;
        }
        (true, None, per_instance) => Scope::Group { per_instance: per_instance.is_some_and(|it| it.value) },
        (false, _, Some(per_instance)) => {
            let message = "`per_instance` divides a metric of the group, and this policy looks at instances";
            faults.error_with_help(per_instance.span, message, "remove it, or write `of: group`");
            return None;
        }
        (false, statistic, None) => {
            Scope::Instances { statistic: statistic.map_or(Statistic::Average, |it| it.value) }
        }
    };
    let (window, written) = (window?, written?);
    if let Some(grain) = written.filter(|grain| grain.value > window) {
        faults.error_with_help(
            grain.span,
            "the grain is longer than the window",
            "a window has one or more grains",
        );
    }
    let grain = written.map(|grain| grain.value).or(grain.map(|grain| grain.min(window)));
    Some(Signal { metric: metric?, scope, aggregation: aggregation?, window, grain })
}

fn window(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::from_millis(100)..=LONGEST_WINDOW, node)
}

fn window_or_grain(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::from_secs(1)..=LONGEST_WINDOW, node)
}

fn statistic(node: &Node) -> Result<Statistic, Complaint> {
    let word = value::text(node)?;
    word.parse().map_err(|_| Complaint::new(format!("expected {}, found {}", Statistic::WORDS, quote(&word))))
}

fn aggregation(node: &Node) -> Result<Aggregation, Complaint> {
    let choices = [
        ("average", Aggregation::Average),
        ("minimum", Aggregation::Minimum),
        ("maximum", Aggregation::Maximum),
        ("total", Aggregation::Total),
        ("last", Aggregation::Last),
        ("count", Aggregation::Count),
    ];
    value::choice(&choices, &[], node)
}

/// A threshold or a target that must be there and is more than 0. What is compared with a metric that was not read is
/// not judged.
pub(super) fn bound(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    signal: Option<&Signal>,
) -> Option<Spanned<f64>> {
    let is_share = signal.is_some_and(Signal::is_share);
    let bound = fields.required(faults, &[name], |node| match signal {
        None => Ok((f64::NAN, false)),
        Some(_) if is_share => Ok((value::share(node)?, value::is_bare_one(node))),
        Some(signal) => Ok((rate(&signal.metric, node)?, false)),
    })?;
    if bound.value.1 {
        warn_of_bare_one(faults, name, bound.span);
    }
    Some(Spanned::new(bound.value.0, bound.span))
}

/// Says that a share of 1 is all.
pub(crate) fn warn_of_bare_one(faults: &mut Faults<'_>, name: &str, span: Span) {
    let message = format!("a `{name}` of 1 is 100 %");
    faults.warning(span, message, "write `100%`, or `1%` if you mean that");
}

/// A number in the unit of what is no share, or not any more.
pub(super) fn rate(metric: &Metric, node: &Node) -> Result<f64, Complaint> {
    if value::text(node).is_ok_and(|text| text.trim_end().ends_with('%')) {
        return Err(no_percent(metric));
    }
    match value::number(node)? {
        number if number > 0.0 => Ok(number),
        number => Err(Complaint::new(format!("{number} is not more than 0"))),
    }
}

/// A difference in a metric's unit, of either sign. Of a share it is in percent: 10 and `10%` are 0.1.
pub(super) fn difference(signal: &Signal, node: &Node) -> Result<f64, Complaint> {
    let text = value::text(node)?;
    let percent = text.trim().strip_suffix('%');
    let number = match percent {
        Some(number) => value::parse_number(number.trim())
            .ok_or_else(|| Complaint::new(format!("expected a number, found {}", quote(&text))))?,
        None => value::number(node)?,
    };
    match (signal.is_share(), percent) {
        (true, _) => Ok(number / 100.0),
        (false, None) => Ok(number),
        (false, Some(_)) => Err(no_percent(&signal.metric)),
    }
}

fn no_percent(metric: &Metric) -> Complaint {
    if metric.is_share() {
        let message = format!("a sum, a total or a count of `{metric}` is not in percent");
        return Complaint::with_help(message, "write a number: a sum and a total have 1 for each 100 %");
    }
    let message = "only `cpu` and `memory` are measured in percent";
    Complaint::with_help(message, "write a number in the metric's unit")
}
