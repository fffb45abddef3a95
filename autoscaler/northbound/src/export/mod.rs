//! What was kept, as a file for people and spreadsheets: CSV by RFC 4180, or JSON, one object a line.
//!
//! The CSV is UTF-8 with CRLF, and without a byte order mark, which programs that read CSV take for a part of the first
//! column's name. A spreadsheet that does not guess the encoding has to be told it when it opens the file.
//!
//! The daemon answers with it over its socket; where no daemon runs, `sluice export` reads the store itself.

mod activities;
mod logs;
mod samples;
mod table;

use std::io::Write;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sluice_logic::spec::TenantName;
use sluice_store::logs::{LogBook, LogOwner};
use sluice_store::{Store, StoreError};

use self::table::Table;

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Of what.
    pub kind: Kind,
    /// Of which day, from midnight to midnight in `zone`.
    pub day: Date,
    /// The time zone of the day and of every time, by its name in the IANA database.
    pub zone: String,
    /// Whose; `None` is everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// As what.
    pub format: Format,
}

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every decision that changed the desired number, and what became of it.
    Activities,
    /// Every decision, also to do nothing.
    Decisions,
    /// Every metric of every instance and of the group, as one-minute roll-ups.
    Samples,
    /// The same as the samples were taken; they are kept for a shorter time.
    FineSamples,
    /// What instances and hosts have logged.
    Logs,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated values by RFC 4180, with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Why nothing, or not all, was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The time zone is not known.
    #[error("`{0}` is not a time zone: give a name such as Europe/Berlin or UTC")]
    Zone(String),
    /// The day does not exist there.
    #[error("{0} is not a day that can be exported")]
    Day(Date),
    /// Nothing is kept of such a tenant.
    #[error("nothing is kept of a tenant {tenant}; there is something of: {known}")]
    Unknown {
        /// Who was asked for.
        tenant: TenantName,
        /// Of whom something is kept.
        known: String,
    },
    /// The logs can't be read.
    #[error("the logs can't be read: {0}")]
    Logs(#[source] std::io::Error),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The result can't be written.
    #[error("the export can't be written: {0}")]
    Write(#[from] std::io::Error),
}

impl Query {
    /// Begin and end of the day. A day on which clocks are changed has 23 or 25 hours.
    ///
    /// # Errors
    /// The time zone, or the day.
    pub fn span(&self) -> Result<(Timestamp, Timestamp), ExportError> {
        let zone = self.time_zone()?;
        let midnight = |day: Date| day.to_zoned_datetime(zone.clone()).map(|zoned| zoned.timestamp());
        let next = self.day.tomorrow().map_err(|_| ExportError::Day(self.day))?;
        let span = midnight(self.day).and_then(|from| Ok((from, midnight(next)?)));
        span.map_err(|_| ExportError::Day(self.day))
    }

    fn time_zone(&self) -> Result<TimeZone, ExportError> {
        TimeZone::get(&self.zone).map_err(|_| ExportError::Zone(self.zone.clone()))
    }
}

/// What can be exported from.
#[derive(Debug, Clone, Copy)]
pub struct Archive<'a> {
    /// Samples and decisions.
    pub store: &'a Store,
    /// Logs.
    pub logs: &'a LogBook,
}

impl Archive<'_> {
    /// Finds what is wrong with a query before anything is written. Blocks.
    ///
    /// # Errors
    /// The query's zone, day or tenant, and what is read.
    pub fn check(&self, query: &Query) -> Result<(), ExportError> {
        query.span()?;
        let Some(tenant) = &query.tenant else { return Ok(()) };
        let known = self.owners(query)?;
        if known.contains(&LogOwner::Tenant(tenant.clone())) {
            return Ok(());
        }
        let names: Vec<&str> = known
            .iter()
            .filter_map(|owner| match owner {
                LogOwner::Tenant(name) => Some(name.as_str()),
                LogOwner::Host => None,
            })
            .collect();
        let known = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        Err(ExportError::Unknown { tenant: tenant.clone(), known })
    }

    fn owners(&self, query: &Query) -> Result<Vec<LogOwner>, ExportError> {
        if query.kind == Kind::Logs {
            return Ok(self.logs.owners().map_err(ExportError::Logs)?.into_iter().collect());
        }
        Ok(self.store.tenants()?.into_iter().map(LogOwner::Tenant).collect())
    }

    /// Writes what was asked for. Blocks while it is read.
    ///
    /// # Errors
    /// The query's zone or day, what is read, or the writer.
    pub fn export(&self, query: &Query, out: impl Write) -> Result<(), ExportError> {
        let (span, zone) = (query.span()?, query.time_zone()?);
        let mut owners = self.owners(query)?;
        if let Some(tenant) = &query.tenant {
            owners.retain(|owner| *owner == LogOwner::Tenant(tenant.clone()));
        }
        let mut table = Table::new(query.format, zone, out);
        if query.kind == Kind::Logs {
            logs::logs(self.logs, &owners, span, &mut table)?;
            return Ok(table.finish()?);
        }
        let tenants: Vec<TenantName> = owners
            .into_iter()
            .filter_map(|owner| match owner {
                LogOwner::Tenant(name) => Some(name),
                LogOwner::Host => None,
            })
            .collect();
        match query.kind {
            Kind::Activities => activities::activities(self.store, &tenants, span, &mut table)?,
            Kind::Decisions => activities::decisions(self.store, &tenants, span, &mut table)?,
            Kind::Samples => samples::rollups(self.store, &tenants, span, &mut table)?,
            Kind::FineSamples | Kind::Logs => samples::fine(self.store, &tenants, span, &mut table)?,
        }
        Ok(table.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn of(day: &str, zone: &str) -> Query {
        let day = day.parse().unwrap();
        Query { kind: Kind::Samples, day, zone: zone.to_owned(), tenant: None, format: Format::Csv }
    }

    #[test]
    fn a_day_is_as_long_as_its_zone_makes_it() {
        let hours = |day, zone| {
            let (from, to) = of(day, zone).span().unwrap();
            to.duration_since(from).as_hours()
        };
        assert_eq!(hours("2026-03-29", "Europe/Berlin"), 23);
        assert_eq!(hours("2026-10-25", "Europe/Berlin"), 25);
        assert_eq!(hours("2026-03-29", "UTC"), 24);
        let (from, _) = of("2026-11-25", "Asia/Kolkata").span().unwrap();
        let (midnight, _) = of("2026-11-25", "UTC").span().unwrap();
        assert_eq!(midnight.checked_sub(330.minutes()).unwrap(), from);
    }

    #[test]
    fn an_unknown_zone_and_an_impossible_day_are_named() {
        let error = of("2026-03-29", "Mars/Olympus").span().unwrap_err().to_string();
        assert!(error.contains("Mars/Olympus") && error.contains("Europe/Berlin"), "{error}");
        assert!(matches!(of("9999-12-31", "UTC").span(), Err(ExportError::Day(_))));
    }
}
