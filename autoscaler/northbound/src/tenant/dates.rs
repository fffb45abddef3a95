//! What a tenant file says of times that are past.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_logic::policy::first_start;
use sluice_logic::spec::{Custom, PolicySpec, ProfileTime, Rules, Schedule, Start, Static};

use super::{Conflict, Tenant};
use crate::diagnostic::{Diagnostic, Severity};

/// Warns of dates of entries and profiles that are over at `now`: they never hold again.
#[must_use]
pub fn check_dates(tenants: &[&Tenant], now: Timestamp) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for (offender, tenant) in tenants.iter().enumerate() {
        for (policy, place) in tenant.spec.policies.iter().zip(&tenant.places.policies) {
            for message in over(policy, now) {
                let help = Some("remove it, or give it a date that comes".to_owned());
                let diagnostic = Diagnostic::at(&tenant.file, place, Severity::Warning, message, help);
                conflicts.push(Conflict { offender, diagnostic });
            }
        }
    }
    conflicts
}

/// What of a policy is over.
fn over(policy: &PolicySpec, now: Timestamp) -> Vec<String> {
    match policy {
        PolicySpec::Static(Static { entries }) | PolicySpec::Custom(Custom { entries, .. }) => {
            let past = entries.iter().filter(|entry| has_ended(&entry.schedule, now));
            past.filter_map(|entry| match &entry.schedule.start {
                Start::At(at) => Some(format!("the entry of {at} is past: it changes nothing")),
                Start::Cron(_) => None,
            })
            .collect()
        }
        PolicySpec::Rules(Rules { profiles, .. }) => profiles
            .iter()
            .filter_map(|timed| match &timed.when {
                ProfileTime::Fixed { to, time_zone, .. } => {
                    let start = Start::At(*to);
                    let end = Schedule { start, duration: Duration::ZERO, time_zone: time_zone.clone() };
                    let ended = has_ended(&end, now);
                    ended.then(|| {
                        format!("the profile `{}`, until {to}, is past: it changes nothing", timed.name)
                    })
                }
                ProfileTime::Recurring { .. } => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a schedule held for the last time.
fn has_ended(schedule: &Schedule, now: Timestamp) -> bool {
    let duration = SignedDuration::try_from(schedule.duration).unwrap_or(SignedDuration::MAX);
    let last = now.checked_sub(duration).unwrap_or(Timestamp::MIN);
    matches!(first_start(schedule, last), Ok(None))
}
