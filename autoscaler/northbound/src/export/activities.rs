//! Decisions, and what became of those that changed something.

use std::io::Write;

use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use sluice_logic::spec::TenantName;
use sluice_store::{Activity, DecisionRecord, Following, Outcome, Store};

use super::ExportError;
use super::samples::and_then;
use super::table::{Cell, Row, Table};

#[derive(Debug, Serialize)]
struct DecisionRow<'a> {
    tenant: &'a TenantName,
    #[serde(flatten)]
    record: DecisionRecord,
}

const DECISION_COLUMNS: [&str; 12] = [
    "time",
    "tenant",
    "action",
    "from",
    "to",
    "reason",
    "policies",
    "clips",
    "pending",
    "in_service",
    "draining",
    "problem",
];

/// As many as [`DECISION_COLUMNS`].
fn decision_cells<'a>(tenant: &'a TenantName, record: &'a DecisionRecord) -> Vec<Cell<'a>> {
    let decision = &record.decision;
    let policies: Vec<&str> = decision.policies.iter().map(|policy| policy.reason.as_str()).collect();
    let counts = [record.instances.pending, record.instances.in_service, record.instances.draining];
    let mut cells = vec![
        Cell::Time(decision.at),
        Cell::Text(tenant.as_str()),
        Cell::Words(word(&decision.action)),
        Cell::Whole(decision.from.into()),
        Cell::Whole(decision.to.into()),
        Cell::Text(&decision.reason),
        Cell::Words(policies.join("; ")),
        Cell::Words(decision.clips.iter().map(kind).collect::<Vec<_>>().join(" ")),
    ];
    cells.extend(counts.map(|count| Cell::Whole(count.into())));
    cells.push(record.problem.as_deref().map_or(Cell::Empty, Cell::Text));
    cells
}

/// A value without content as JSON names it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The kind of a tagged value as JSON names it.
fn kind(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value["kind"].as_str().unwrap_or_default().to_owned()
}

impl Row for DecisionRow<'_> {
    fn columns() -> Vec<&'static str> {
        DECISION_COLUMNS.to_vec()
    }

    fn cells(&self) -> Vec<Cell<'_>> {
        decision_cells(self.tenant, &self.record)
    }
}

#[derive(Debug, Serialize)]
struct ActivityRow<'a> {
    tenant: &'a TenantName,
    #[serde(flatten)]
    activity: Activity,
}

impl Row for ActivityRow<'_> {
    fn columns() -> Vec<&'static str> {
        [&DECISION_COLUMNS[..], &["outcome", "outcome_time", "took_seconds"]].concat()
    }

    fn cells(&self) -> Vec<Cell<'_>> {
        let mut cells = decision_cells(self.tenant, &self.activity.record);
        let at = match self.activity.outcome {
            Outcome::Reached { at } | Outcome::Overtaken { at, .. } => Some(at),
            Outcome::UnderWay { .. } => None,
        };
        cells.push(Cell::Text(self.activity.outcome.name()));
        cells.push(Cell::time(at));
        cells.push(Cell::number(self.activity.took().map(|took| took.as_secs_f64())));
        cells
    }
}

/// What begins within a day may end so long after it.
const LATE_HOURS: i64 = 2;

/// Writes the decisions that changed something, each with what became of it.
pub(super) fn activities<W: Write>(
    store: &Store,
    tenants: &[TenantName],
    (from, to): (Timestamp, Timestamp),
    table: &mut Table<W>,
) -> Result<(), ExportError> {
    table.head::<ActivityRow<'_>>()?;
    for tenant in tenants {
        let mut following = Following::default();
        let late = to.saturating_add(LATE_HOURS.hours()).unwrap_or(to);
        store.decisions(tenant, from, late, |record| following.take(record))?;
        let begun = |activity: &Activity| activity.record.decision.at < to;
        for activity in following.finish().into_iter().filter(begun) {
            table.row(&ActivityRow { tenant, activity })?;
        }
    }
    Ok(())
}

/// Writes every decision.
pub(super) fn decisions<W: Write>(
    store: &Store,
    tenants: &[TenantName],
    (from, to): (Timestamp, Timestamp),
    table: &mut Table<W>,
) -> Result<(), ExportError> {
    table.head::<DecisionRow<'_>>()?;
    for tenant in tenants {
        let mut written = Ok(());
        store.decisions(tenant, from, to, |record| {
            and_then(&mut written, || table.row(&DecisionRow { tenant, record }));
        })?;
        written?;
    }
    Ok(())
}
