//! What was kept, read back.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use redb::ReadTransaction;
use sluice_logic::spec::{Metric, TenantName};

use crate::Store;
use crate::disk::StoreError;
use crate::minute::{self, MinuteNumber};
use crate::record::DecisionRecord;
use crate::row::BadRow;
use crate::sample::{Rollup, Sample, Spread, Subject};
use crate::table::Table;
use crate::writer::note;

/// A tenant's minute.
#[derive(Debug, Clone, PartialEq)]
pub struct MinuteRollups {
    /// Its beginning.
    pub begin: Timestamp,
    /// Each series that has samples in it, in order.
    pub series: Vec<(Subject, Metric, Rollup)>,
}

impl Store {
    /// The tenants of which anything is kept.
    pub fn tenants(&self) -> Result<Vec<TenantName>, StoreError> {
        let mut names = BTreeSet::new();
        self.disk.read(|transaction| {
            for table in Table::ALL {
                let rows = transaction.open_table(table.rows())?;
                let mut last = String::new();
                // From each tenant's last row to the next tenant's first.
                while let Some(next) = rows.range((last.as_str(), i64::MAX)..)?.next() {
                    let (key, _) = next?;
                    let (tenant, minute) = key.value();
                    if tenant == last && minute == i64::MAX {
                        break;
                    }
                    last = tenant.to_owned();
                    names.extend(TenantName::try_from(last.clone()));
                }
            }
            Ok(())
        })?;
        Ok(names.into_iter().collect())
    }

    /// The samples of [`from`, `to`) as they were taken, by minute and series. Blocks.
    pub fn samples(
        &self,
        tenant: &TenantName,
        from: Timestamp,
        to: Timestamp,
        mut take: impl FnMut(Sample),
    ) -> Result<(), StoreError> {
        let mut within = |sample: Sample| {
            if sample.at >= from && sample.at < to {
                take(sample);
            }
        };
        self.rows(Table::Fine, tenant, from, to, |minute, row| minute::samples(minute, row, &mut within))
    }

    /// The one-minute roll-ups of instances, or of the group, that begin in [`from`, `to`), oldest first. Blocks.
    pub fn minutes(
        &self,
        tenant: &TenantName,
        of_instances: bool,
        from: Timestamp,
        to: Timestamp,
        mut take: impl FnMut(MinuteRollups),
    ) -> Result<(), StoreError> {
        let table = if of_instances { Table::Instances } else { Table::Groups };
        self.rows(table, tenant, from, to, |minute, row| {
            let series = minute::rollups(row)?;
            let series =
                series.into_iter().map(|((subject, metric), rollup)| (subject, metric, rollup)).collect();
            if let Some(begin) = minute.begin().filter(|begin| *begin >= from && *begin < to) {
                take(MinuteRollups { begin, series });
            }
            Ok(())
        })
    }

    /// The history of a group's metric, for forecasts: a roll-up for each `step` from `from` on, up to the one that
    /// ends at or before `to`. A step without samples has a count of 0: that is missing, not zero.
    ///
    /// `step` is rounded up to whole minutes. `spread` says what of the instances' values is meant; with
    /// [`Spread::Average`] the average of a step's roll-up is what the reactive rule calls the load. Blocks: reading
    /// five weeks takes a good part of a second.
    pub fn history(
        &self,
        tenant: &TenantName,
        metric: &Metric,
        spread: Spread,
        (from, to): (Timestamp, Timestamp),
        step: Duration,
    ) -> Result<Vec<Rollup>, StoreError> {
        let step = i64::try_from(step.as_secs().div_ceil(60)).unwrap_or(i64::MAX).max(1);
        let first = MinuteNumber::of(from).0;
        let steps = usize::try_from((MinuteNumber::of(to).0 - first) / step).unwrap_or_default();
        let mut history = vec![Rollup::default(); steps];
        let wanted = Subject::Over(spread);
        self.minutes(tenant, false, from, to, |minute| {
            let place = (MinuteNumber::of(minute.begin).0 - first) / step;
            let step = usize::try_from(place).ok().and_then(|place| history.get_mut(place));
            let found = minute.series.iter().find(|(subject, of, _)| *subject == wanted && of == metric);
            if let (Some(step), Some((.., rollup))) = (step, found) {
                step.merge(rollup);
            }
        })?;
        Ok(history)
    }

    /// The decisions of [`from`, `to`), oldest first. Those that another version has written in a form that can't be
    /// read are left out, and counted. Blocks.
    pub fn decisions(
        &self,
        tenant: &TenantName,
        from: Timestamp,
        to: Timestamp,
        mut take: impl FnMut(DecisionRecord),
    ) -> Result<(), StoreError> {
        self.rows(Table::Decisions, tenant, from, to, |_, row| {
            for line in minute::lines(row)? {
                match serde_json::from_str::<DecisionRecord>(&line) {
                    Ok(record) if record.decision.at >= from && record.decision.at < to => take(record),
                    Ok(_) => {}
                    Err(_) => note(&self.health, |health| health.unreadable += 1),
                }
            }
            Ok(())
        })
    }

    /// Each row that may have something of [`from`, `to`). One that can't be read costs only itself.
    fn rows(
        &self,
        table: Table,
        tenant: &TenantName,
        from: Timestamp,
        to: Timestamp,
        mut take: impl FnMut(MinuteNumber, &[u8]) -> Result<(), BadRow>,
    ) -> Result<(), StoreError> {
        // What can't be written now is missing; what was written can be read all the same.
        let _ = self.flush();
        let (first, last) = (MinuteNumber::of(from).0, MinuteNumber::of(to).0);
        self.disk.read(|transaction: &ReadTransaction| {
            let rows = transaction.open_table(table.rows())?;
            for row in rows.range((tenant.as_str(), first)..=(tenant.as_str(), last))? {
                let (key, row) = row?;
                if let Err(error) = take(MinuteNumber(key.value().1), row.value()) {
                    tracing::warn!(%tenant, table = table.name(), %error, "a row of the store can't be read");
                    note(&self.health, |health| health.unreadable += 1);
                }
            }
            Ok(())
        })
    }
}
