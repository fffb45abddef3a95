//! Samples: as one-minute roll-ups, and as they were taken.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use sluice_logic::spec::TenantName;
use sluice_store::{Rollup, Store, Subject};

use super::ExportError;
use super::table::{Cell, Row, Table};

/// The time, and a [`Series`].
const SERIES_COLUMNS: [&str; 6] = ["time", "tenant", "subject", "instance", "metric", "statistic"];

/// Whose a series is, as columns.
#[derive(Debug, Serialize)]
struct Series {
    tenant: String,
    /// `instance` or `group`.
    subject: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    metric: String,
    /// What of the instances' values at one time; none where it is one instance's, or was given for the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    statistic: Option<String>,
}

impl Series {
    fn new(tenant: &TenantName, subject: &Subject, metric: &impl ToString) -> Self {
        let (name, instance, statistic) = match subject {
            Subject::Instance(id) => ("instance", Some(id.to_string()), None),
            Subject::Group => ("group", None, None),
            Subject::Over(spread) => ("group", None, Some(spread.to_string())),
        };
        let (tenant, metric) = (tenant.to_string(), metric.to_string());
        Self { tenant, subject: name, instance, metric, statistic }
    }

    fn cells(&self) -> [Cell<'_>; 5] {
        let text =
            |text: &'_ Option<String>| text.as_ref().map_or(Cell::Empty, |text| Cell::Words(text.clone()));
        [
            Cell::Text(&self.tenant),
            Cell::Text(self.subject),
            text(&self.instance),
            Cell::Text(&self.metric),
            text(&self.statistic),
        ]
    }
}

/// A minute of a series.
#[derive(Debug, Serialize)]
struct RollupRow {
    time: Timestamp,
    #[serde(flatten)]
    series: Series,
    average: Option<f64>,
    #[serde(flatten)]
    rollup: Rollup,
}

impl Row for RollupRow {
    fn columns() -> Vec<&'static str> {
        [&SERIES_COLUMNS[..], &["count", "average", "min", "max", "sum", "last"]].concat()
    }

    fn cells(&self) -> Vec<Cell<'_>> {
        let Rollup { count, sum, min, max, last } = self.rollup;
        let mut cells = vec![Cell::Time(self.time)];
        cells.extend(self.series.cells());
        cells.push(Cell::Whole(count.into()));
        cells.push(Cell::number(self.average));
        cells.extend([min, max, sum, last].map(Cell::Number));
        cells
    }
}

/// A sample.
#[derive(Debug, Serialize)]
struct SampleRow {
    time: Timestamp,
    #[serde(flatten)]
    series: Series,
    value: f64,
}

impl Row for SampleRow {
    fn columns() -> Vec<&'static str> {
        [&SERIES_COLUMNS[..], &["value"]].concat()
    }

    fn cells(&self) -> Vec<Cell<'_>> {
        let mut cells = vec![Cell::Time(self.time)];
        cells.extend(self.series.cells());
        cells.push(Cell::Number(self.value));
        cells
    }
}

/// Writes one-minute roll-ups, of the group first.
pub(super) fn rollups<W: Write>(
    store: &Store,
    tenants: &[TenantName],
    (from, to): (Timestamp, Timestamp),
    table: &mut Table<W>,
) -> Result<(), ExportError> {
    table.head::<RollupRow>()?;
    for tenant in tenants {
        for of_instances in [false, true] {
            let mut written = Ok(());
            store.minutes(tenant, of_instances, from, to, |minute| {
                for (subject, metric, rollup) in minute.series {
                    let series = Series::new(tenant, &subject, &metric);
                    let row = RollupRow { time: minute.begin, series, average: rollup.average(), rollup };
                    and_then(&mut written, || table.row(&row));
                }
            })?;
            written?;
        }
    }
    Ok(())
}

/// Writes samples as they were taken.
pub(super) fn fine<W: Write>(
    store: &Store,
    tenants: &[TenantName],
    (from, to): (Timestamp, Timestamp),
    table: &mut Table<W>,
) -> Result<(), ExportError> {
    table.head::<SampleRow>()?;
    for tenant in tenants {
        let mut written = Ok(());
        store.samples(tenant, from, to, |sample| {
            let series = Series::new(tenant, &sample.subject, &sample.metric);
            let row = SampleRow { time: sample.at, series, value: sample.value };
            and_then(&mut written, || table.row(&row));
        })?;
        written?;
    }
    Ok(())
}

/// Goes on until something fails.
pub(super) fn and_then(so_far: &mut io::Result<()>, next: impl FnOnce() -> io::Result<()>) {
    if so_far.is_ok() {
        *so_far = next();
    }
}
