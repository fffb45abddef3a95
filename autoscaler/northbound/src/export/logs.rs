//! What instances and hosts have logged.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use sluice_store::logs::{LogBook, LogLine, LogOwner};

use super::ExportError;
use super::samples::and_then;
use super::table::{Cell, Row, Table};

#[derive(Debug, Serialize)]
struct LogRow {
    /// None: a host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(flatten)]
    line: LogLine,
}

impl Row for LogRow {
    fn columns() -> Vec<&'static str> {
        vec![
            "received",
            "tenant",
            "instance",
            "from",
            "time",
            "facility",
            "severity",
            "hostname",
            "app",
            "process",
            "message_id",
            "structured_data",
            "text",
            "malformed",
        ]
    }

    fn cells(&self) -> Vec<Cell<'_>> {
        let LogLine { at, from, instance, message } = &self.line;
        let text =
            |text: &'_ Option<String>| text.as_ref().map_or(Cell::Empty, |text| Cell::Words(text.clone()));
        vec![
            Cell::Time(*at),
            text(&self.tenant),
            instance.as_ref().map_or(Cell::Empty, |id| Cell::Text(id.as_str())),
            Cell::Words(from.to_string()),
            Cell::time(message.time),
            text(&message.facility),
            text(&message.severity),
            text(&message.hostname),
            text(&message.app),
            text(&message.process),
            text(&message.message_id),
            text(&message.structured_data),
            Cell::Text(&message.text),
            Cell::Words(message.malformed.to_string()),
        ]
    }
}

/// Writes lines as they came.
pub(super) fn logs<W: Write>(
    book: &LogBook,
    owners: &[LogOwner],
    (from, to): (Timestamp, Timestamp),
    table: &mut Table<W>,
) -> Result<(), ExportError> {
    table.head::<LogRow>()?;
    for owner in owners {
        let tenant = match owner {
            LogOwner::Tenant(name) => Some(name.to_string()),
            LogOwner::Host => None,
        };
        let mut written: io::Result<()> = Ok(());
        let damaged = book.lines(owner, from, to, |line| {
            let row = LogRow { tenant: tenant.clone(), line };
            and_then(&mut written, || table.row(&row));
        });
        let damaged = damaged.map_err(ExportError::Logs)?;
        written?;
        if damaged > 0 {
            tracing::warn!(?owner, damaged, "parts of the logs can't be read");
        }
    }
    Ok(())
}
