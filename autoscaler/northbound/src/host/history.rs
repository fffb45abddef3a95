//! `history`: how much is kept of the past.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Faults;
use crate::reader::{Fields, Section};
use crate::value;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How much is kept of the past, in the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryConfig {
    /// Samples as they were taken.
    pub fine: Duration,
    /// One-minute roll-ups of each instance.
    pub instances: Duration,
    /// One-minute roll-ups of each group: forecasts learn from them.
    pub groups: Duration,
    /// Every decision with its inputs.
    pub decisions: Duration,
    /// Most of all that, bytes.
    pub max_size: u64,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { fine: 6 * HOUR, instances: 28 * DAY, groups: 35 * DAY, decisions: 30 * DAY, max_size: 1 << 30 }
    }
}

/// Reads the section. `None` has been reported.
pub(super) fn history(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<HistoryConfig> {
    let default = HistoryConfig::default();
    let mut fields = match fields.section(faults, "history") {
        Section::Open(fields) => fields,
        Section::Absent => return Some(default),
        Section::Refused => return None,
    };
    let fine = fields.defaulted(faults, &["fine"], default.fine, |node| value::age(HOUR..=7 * DAY, node));
    let mut kept = |faults: &mut Faults<'_>, key, default| {
        fields.defaulted(faults, &[key], default, |node| value::age(DAY..=400 * DAY, node))
    };
    let instances = kept(faults, "instances", default.instances);
    let groups = kept(faults, "groups", default.groups);
    let decisions = kept(faults, "decisions", default.decisions);
    let max_size = fields
        .defaulted(faults, &["max_size"], default.max_size, |node| value::size((16 << 20)..=(1 << 40), node));
    fields.finish(faults);
    Some(HistoryConfig {
        fine: fine?,
        instances: instances?,
        groups: groups?,
        decisions: decisions?,
        max_size: max_size?,
    })
}
