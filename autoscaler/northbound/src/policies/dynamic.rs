//! Reads the policies that follow the load.

use std::time::Duration;

use sluice_logic::spec::{
    Metric, MissingData, Predictive, PredictiveMode, Proactive, Reactive, TargetTracking, Tolerance,
};

use super::signal::{bound, rate, signal};
use crate::diagnostic::Faults;
use crate::reader::Fields;
use crate::value::{self, Complaint};
use crate::yaml::{Kind, Node};

pub(super) fn reactive(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Reactive> {
    let signal = signal(faults, fields, None);
    let threshold = bound(faults, fields, "threshold", signal.as_ref());
    fields.end(faults);
    Some(Reactive { signal: signal?, threshold: threshold?.value })
}

pub(super) fn proactive(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Proactive> {
    let signal = signal(faults, fields, None);
    let threshold = bound(faults, fields, "threshold", signal.as_ref());
    let margin = fields.defaulted(faults, &["margin"], Duration::ZERO, |node| {
        value::duration(Duration::ZERO..=Duration::from_hours(1), node)
    });
    let cost = Proactive::default_shortage_cost();
    let shortage_cost = fields.defaulted(faults, &["shortage_cost"], cost, |node| {
        value::number_within(0.0..=1000.0, " spare instances", node)
    });
    let cost = Proactive::default_change_cost();
    let change_cost = fields.defaulted(faults, &["change_cost"], cost, |node| {
        value::number_within(0.0..=1000.0, " hours of a spare instance", node)
    });
    fields.end(faults);
    Some(Proactive {
        signal: signal?,
        threshold: threshold?.value,
        margin: margin?,
        shortage_cost: shortage_cost?,
        change_cost: change_cost?,
    })
}

pub(super) fn target_tracking(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<TargetTracking> {
    let signal = signal(faults, fields, None);
    let target = bound(faults, fields, "target", signal.as_ref());
    let disable_scale_in = fields.defaulted(faults, &["disable_scale_in"], false, value::boolean);
    let warm_up = fields.optional(faults, &["warm_up"], warm_up);
    let tolerance = tolerance(faults, fields);
    let missing = fields.defaulted(faults, &["missing"], MissingData::Hold, |node| {
        value::choice(&[("hold", MissingData::Hold), ("assume", MissingData::Assume)], &[], node)
    });
    fields.end(faults);
    Some(TargetTracking {
        signal: signal?,
        target: target?.value,
        disable_scale_in: disable_scale_in?,
        warm_up: warm_up?.map(|warm_up| warm_up.value),
        tolerance: tolerance?,
        missing: missing?,
    })
}

/// An hour is the longest that an instance can take to be warm: longer it would only hide a fault.
pub(super) fn warm_up(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::ZERO..=Duration::from_hours(1), node)
}

/// Largest tolerance on the way out: a thousand times the target.
const LARGEST_EXCESS: f64 = 1_000.0;

/// One number for both directions, or one for each.
fn tolerance(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Tolerance> {
    let Some(found) = fields.take(faults, &["tolerance"]) else { return Some(Tolerance::default()) };
    if let Kind::Mapping(_) = &found.value.kind {
        let mut fields = Fields::open(faults, "tolerance", found.value)?;
        let out = fields.defaulted(faults, &["out"], 0.0, excess);
        let r#in = fields.defaulted(faults, &["in"], 0.0, shortfall);
        fields.end(faults);
        return Some(Tolerance { out: out?, r#in: r#in? });
    }
    match shortfall(found.value) {
        Ok(both) => Some(Tolerance { out: both, r#in: both }),
        Err(complaint) => {
            faults.complain(found.value.span, "tolerance", complaint);
            None
        }
    }
}

/// By how much a load may be above its target. Twice the target and more is what some can bear.
fn excess(node: &Node) -> Result<f64, Complaint> {
    if matches!(value::number(node), Ok(0.0)) {
        return Ok(0.0);
    }
    let excess = value::percentage(node)?;
    if excess <= LARGEST_EXCESS {
        return Ok(excess);
    }
    Err(Complaint::new(format!(
        "{:.0} % is out of range: 0 to {:.0} %",
        excess * 100.0,
        LARGEST_EXCESS * 100.0
    )))
}

/// By how much a load may be below its target: no load is below 0.
fn shortfall(node: &Node) -> Result<f64, Complaint> {
    let shortfall = excess(node)?;
    if shortfall < 1.0 {
        return Ok(shortfall);
    }
    Err(Complaint::with_help(
        "with a tolerance of 100 % or more it would never go in",
        "write `{out: 200%, in: 10%}` for one that is so large on the way out only; `disable_scale_in: true` keeps all",
    ))
}

pub(super) fn predictive(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Predictive> {
    let metric = fields.defaulted(faults, &["metric"], Metric::Cpu, value::metric);
    let target = fields.required(faults, &["target"], |node| match &metric {
        None => Ok(f64::NAN),
        Some(metric) if metric.is_share() => value::share(node),
        Some(metric) => rate(metric, node),
    });
    let modes = [
        ("forecast_only", PredictiveMode::ForecastOnly),
        ("forecast_and_scale", PredictiveMode::ForecastAndScale),
    ];
    let mode = fields
        .defaulted(faults, &["mode"], PredictiveMode::ForecastOnly, |node| value::choice(&modes, &[], node));
    let buffer = Predictive::default_scheduling_buffer();
    let scheduling_buffer = fields.defaulted(faults, &["scheduling_buffer"], buffer, |node| {
        value::duration(Duration::ZERO..=Duration::from_secs(3599), node)
    });
    let max_capacity_buffer =
        fields.optional(faults, &["max_capacity_buffer"], |node| value::whole(0..=100, node));
    fields.end(faults);
    Some(Predictive {
        metric: metric?,
        target: target?.value,
        mode: mode?,
        scheduling_buffer: scheduling_buffer?,
        max_capacity_buffer: max_capacity_buffer?.map(|percent| percent.value),
    })
}
