//! What is printed and written of the runs.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use sluice_logic::simulate::{Change, Measures, Run, Setup};

use crate::cli::output::{self, Table};

/// A contender and what it did.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) measures: Measures,
    /// Its excess as a multiple of the first baseline's, the HPA's.
    pub(super) relative_excess: Option<f64>,
    pub(super) changes: Vec<Change>,
    #[serde(skip)]
    pub(super) run: Run,
}

/// The whole of a comparison, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) trace: &'a str,
    pub(super) setup: &'a Setup,
    /// The steps that were scored: from this number on.
    pub(super) scored_from: usize,
    pub(super) steps: usize,
    pub(super) outcomes: &'a [Outcome],
}

/// The excess as a multiple of the HPA's, where that has any.
pub(super) fn relative(ours: &Measures, hpa: &Measures) -> Option<f64> {
    (hpa.excess > 0.0).then(|| ours.excess / hpa.excess)
}

/// The measures side by side.
pub(super) fn table(outcomes: &[Outcome]) -> Table {
    let mut table = output::table(&[
        "policy",
        "excess",
        "÷ HPA",
        "supply/demand",
        "θU %",
        "θO %",
        "τU %",
        "τO %",
        "changes",
        "changes/h",
        "instance h",
        "cost",
    ]);
    for Outcome { name, measures: m, relative_excess, .. } in outcomes {
        table.add_row(vec![
            name.clone(),
            format!("{:.3}", m.excess),
            output::or_dash(*relative_excess, |relative| format!("{relative:.2}")),
            format!("{:.3}", m.supply_per_demand),
            format!("{:.3}", m.under_provisioned_percent),
            format!("{:.1}", m.over_provisioned_percent),
            format!("{:.2}", m.under_provisioned_time_percent),
            format!("{:.1}", m.over_provisioned_time_percent),
            m.changes.to_string(),
            format!("{:.2}", m.changes_per_hour),
            format!("{:.0}", m.instance_hours),
            format!("{:.0}", m.cost),
        ]);
    }
    table
}

/// A line of the CSV file.
#[derive(Serialize)]
struct Line<'a> {
    policy: &'a str,
    timestamp: jiff::Timestamp,
    load: f64,
    demand: u32,
    in_service: u32,
    starting: u32,
    draining: u32,
    desired: u32,
}

/// Writes every step of every run.
pub(super) fn write_csv(path: &Path, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut writer = csv::Writer::from_writer(File::create(path).with_context(cannot)?);
    for outcome in outcomes {
        for record in &outcome.run.records {
            let line = Line {
                policy: &outcome.name,
                timestamp: record.at,
                load: record.load,
                demand: record.demand,
                in_service: record.in_service,
                starting: record.starting,
                draining: record.draining,
                desired: record.desired,
            };
            writer.serialize(line).with_context(cannot)?;
        }
    }
    writer.flush().with_context(cannot)
}
