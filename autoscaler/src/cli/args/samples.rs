//! Arguments of the commands that write and read what was measured.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use sluice_logic::spec::{MetricName, TenantName};

use super::tenant_name;

pub(super) const EXPORT_COLUMNS: &str = "\
Columns of the kinds:
  activities  time tenant action from to reason policies clips pending in_service draining problem
              outcome outcome_time took_seconds
              A decision that changed the desired number from `from` to `to`, the instances as they were then, and what
              became of it: `reached` (so many in service, nothing starting or draining), `overtaken` by the next, or
              still `under_way`.
  decisions   The same without the last three, also of decisions to do nothing.
  samples     time tenant subject instance metric statistic count average min max sum last
              One minute of a series from `time` on. `subject` is `instance`, or `group`: then `statistic` says what of
              the instances' values at one time it is made of (average, min, max, sum, count); none where it was given
              for the group. cpu and memory are fractions; packets, bytes and new_flows are a second.
  samples --fine
              time tenant subject instance metric statistic value
              Each sample as it was taken; kept for hours.
  logs        received tenant instance from time facility severity hostname app process message_id structured_data
              text malformed
              What instances have sent by syslog, and hosts, which are without a tenant. `time` is the sender's.

Examples:
  sluice export --kind activities --day 2026-11-24 --tenant demo > activities.csv
  sluice export --kind samples --day 2026-11-24 --tz UTC --json | jq .average";

pub(super) const PUSH_BY_HTTP: &str = "\
Examples:
  sluice push demo queue_length 42
  sluice push demo sessions 17 --instance demo-1f2e3d4c --at 2026-11-24T10:00:00Z
  curl --unix-socket /run/sluice/sluice.sock --json '{\"metric\": \"queue_length\", \"value\": 42}' \\
    http://sluice/v1/tenants/demo/samples";

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// What to write.
    #[arg(long, value_name = "KIND", default_value = "activities")]
    pub(crate) kind: ExportKind,
    /// The day, as YYYY-MM-DD; default: today.
    #[arg(long, value_name = "DAY")]
    pub(crate) day: Option<Date>,
    /// Only this tenant's.
    #[arg(long, value_parser = tenant_name)]
    pub(crate) tenant: Option<TenantName>,
    /// The time zone of the day, and of every time of CSV, such as Europe/Berlin; default: this machine's. Times of JSON
    /// are in UTC.
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// Samples as they were taken, in place of one-minute roll-ups.
    #[arg(long)]
    pub(crate) fine: bool,
    /// Write CSV, which is the default.
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Write JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write to this file in place of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportKind {
    /// Decisions that changed the desired number, with what became of them.
    Activities,
    /// Every decision, also to do nothing.
    Decisions,
    /// Every metric of every instance and of the group.
    Samples,
    /// What instances and hosts have sent by syslog.
    Logs,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Whose.
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: TenantName,
    /// The metric's name: 1 to 64 of a-z, 0-9, `_`, `-` and `.`, the first a letter.
    pub(crate) metric: MetricName,
    /// Its value, in the metric's own unit.
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: f64,
    /// The instance that it is of; default: the group as a whole.
    #[arg(long, value_name = "ID")]
    pub(crate) instance: Option<String>,
    /// When it was taken, as 2026-11-24T10:00:00Z; default: now.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
