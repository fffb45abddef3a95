//! Reads when something holds.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use sluice_logic::policy::first_start;
use sluice_logic::spec::{BadCron, BadZone, Cron, Schedule, Start, StaticEntry, Zone};

use super::Limits;
use crate::diagnostic::{Faults, quote};
use crate::reader::Fields;
use crate::value::{self, Complaint};
use crate::yaml::{Node, Spanned};

/// From when on a pattern is asked whether it ever fires: no file is older than what it is about.
const ANY_TIME: Timestamp = Timestamp::UNIX_EPOCH;

/// An entry holds for a week at most: what holds longer is a minimum.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// The keys `time_zone` and `entries`. `None` has been reported.
pub(super) fn entries(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    limits: Limits,
) -> Option<Vec<StaticEntry>> {
    let zone = time_zone(faults, fields);
    let items = fields.required_list(faults, "entries")?;
    if items.value.is_empty() {
        faults.error_with_help(
            items.span,
            "`entries` is empty",
            "write `- {cron: \"0 8 * * 1-5\", duration: 10h, count: 5}`",
        );
        return None;
    }
    // A zone that is not known leaves the rest to be judged.
    let judged = zone.clone().unwrap_or_default();
    let read: Vec<_> = items.value.iter().map(|item| entry(faults, item, &judged, limits)).collect();
    zone.and(read.into_iter().collect())
}

/// The key `time_zone`; left out it is UTC.
pub(super) fn time_zone(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Zone> {
    fields.defaulted(faults, &["time_zone"], Zone::default(), |node| {
        value::text(node)?.parse().map_err(|error: BadZone| Complaint::new(error.to_string()))
    })
}

fn entry(faults: &mut Faults<'_>, node: &Node, zone: &Zone, limits: Limits) -> Option<StaticEntry> {
    let mut fields = Fields::open(faults, "entry", node)?;
    let start = start(faults, &mut fields, zone);
    let duration = fields.required(faults, &["duration"], duration);
    let count = fields.required(faults, &["count"], |node| value::whole(1..=10_000, node));
    fields.end(faults);
    let count = count?;
    within_max(faults, "the count", count, limits);
    if let Some(min) = limits.min.filter(|min| count.value <= min.value) {
        let message = format!("the count {} changes nothing: the group's min is {}", count.value, min.value);
        faults.warning(count.span, message, "an entry raises the minimum while it holds");
    }
    let schedule = Schedule { start: start?, duration: duration?.value, time_zone: zone.clone() };
    Some(StaticEntry { schedule, count: count.value })
}

/// Reports a number above the group's maximum.
pub(super) fn within_max<N: Copy + Display + Into<f64>>(
    faults: &mut Faults<'_>,
    what: &str,
    count: Spanned<N>,
    limits: Limits,
) {
    if let Some(message) = above_max(what, count.value, limits) {
        faults.error_with_help(count.span, message, "lower it, or raise the max: nothing goes beyond it");
    }
}

/// What to say of a number above the group's maximum; `None` where it isn't.
pub(super) fn above_max<N: Copy + Display + Into<f64>>(
    what: &str,
    count: N,
    limits: Limits,
) -> Option<String> {
    let max = limits.max.filter(|max| count.into() > f64::from(max.value))?;
    let (max, line) = (max.value, max.span.line);
    Some(format!("{what} {count} is above the group's max, which is {max} on line {line}"))
}

/// One of `at` and `cron`.
fn start(faults: &mut Faults<'_>, fields: &mut Fields<'_>, zone: &Zone) -> Option<Start> {
    let at = fields.optional(faults, &["at"], date);
    let cron = fields.optional(faults, &["cron"], |node| cron(node, zone));
    match (at?, cron?) {
        (Some(at), None) => Some(Start::At(at.value)),
        (None, Some(cron)) => Some(Start::Cron(cron.value)),
        (Some(_), Some(cron)) => {
            faults.error_with_help(cron.span, "`at` and `cron` exclude each other", "make two entries of it");
            None
        }
        (None, None) => {
            let help = "write `at: 2027-01-01 08:00`, or `cron: \"0 8 * * 1-5\"`";
            faults.error_with_help(fields.span, "an entry needs its beginning", help);
            None
        }
    }
}

/// A pattern of five fields that fires at some time.
pub(super) fn cron(node: &Node, zone: &Zone) -> Result<Cron, Complaint> {
    let cron: Cron =
        value::text(node)?.parse().map_err(|error: BadCron| Complaint::new(error.to_string()))?;
    let schedule =
        Schedule { start: Start::Cron(cron.clone()), duration: Duration::ZERO, time_zone: zone.clone() };
    match first_start(&schedule, ANY_TIME) {
        Ok(_) => Ok(cron),
        Err(error) => Err(Complaint::with_help(
            format!("{} never fires: {error}", quote(cron.as_str())),
            "the fields are minute, hour, day of month, month, day of week",
        )),
    }
}

/// A wall clock's date and time.
pub(super) fn date(node: &Node) -> Result<DateTime, Complaint> {
    let text = value::text(node)?;
    text.parse().map_err(|_| {
        let message = format!("expected a date and time, found {}", quote(&text));
        Complaint::with_help(message, "write it as `2027-01-01 08:00`; the zone is `time_zone`")
    })
}

/// How long something holds.
pub(super) fn duration(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::from_secs(1)..=LONGEST, node)
}
