//! When a schedule holds. Changes of the clocks are where it gets difficult; see
//! [`Schedule`] for the rules.

use std::cmp::Ordering;
use std::time::Duration;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::spec::{Cron, Schedule, Start, Zone};

/// A cron pattern that no time matches, such as the 30th of February.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no time ever matches it")]
pub struct NeverFires;

/// When a schedule begins for the first time after a moment; `None` for a date that is past.
pub fn first_start(schedule: &Schedule, after: Timestamp) -> Result<Option<Timestamp>, NeverFires> {
    match &schedule.start {
        Start::At(date) => Ok(Some(moment(*date, &schedule.time_zone)).filter(|at| *at > after)),
        Start::Cron(cron) => {
            let zone = &schedule.time_zone;
            let next = if cron.follows_clock() {
                let from = Local { at: after, zone: zone.rules() };
                cron.compiled().find_next_occurrence(&from, false).ok().map(|start| start.at)
            } else {
                let shown = zone.rules().to_datetime(after);
                starts(cron, zone, shown, croner::Cron::find_next_occurrence).find(|start| *start > after)
            };
            next.map(Some).ok_or(NeverFires)
        }
    }
}

/// Until when a schedule holds that holds now.
pub(super) fn holds_until(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let start = match &schedule.start {
        Start::At(date) => moment(*date, &schedule.time_zone),
        Start::Cron(cron) => last_start(cron, &schedule.time_zone, now)?,
    };
    within(start, schedule.duration, now)
}

/// The end of a stretch of time that `now` is in.
pub(super) fn within(start: Timestamp, duration: Duration, now: Timestamp) -> Option<Timestamp> {
    let end = SignedDuration::try_from(duration).ok().and_then(|duration| start.checked_add(duration).ok());
    let end = end.unwrap_or(Timestamp::MAX);
    (start <= now && now < end).then_some(end)
}

/// When a pattern has fired last, now included.
pub(super) fn last_start(cron: &Cron, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
    if cron.follows_clock() {
        let now = Local { at: now, zone: zone.rules() };
        return cron.compiled().find_previous_occurrence(&now, true).ok().map(|start| start.at);
    }
    let shown = zone.rules().to_datetime(now);
    // Where what is shown comes for the second time, all that is repeated has been.
    let latest = shown.checked_add(now.duration_since(moment(shown, zone))).unwrap_or(shown);
    starts(cron, zone, latest, croner::Cron::find_previous_occurrence).find(|start| *start <= now)
}

/// croner's search for the next time, or the one before.
type Search = fn(&croner::Cron, &Local<'static>, bool) -> Result<Local<'static>, CronError>;

/// When a pattern fires, from what a wall clock shows on, one after another.
///
/// croner looks after changes of the clocks only where minute and hour are single numbers. So it is asked about wall
/// clock times alone, as if they were of UTC, which leaves none out and repeats none.
fn starts(cron: &Cron, zone: &Zone, shown: DateTime, search: Search) -> impl Iterator<Item = Timestamp> {
    static UTC: TimeZone = TimeZone::UTC;
    let from = UTC.to_timestamp(shown).ok();
    let first = from.and_then(|at| search(cron.compiled(), &Local { at, zone: &UTC }, true).ok());
    let all = std::iter::successors(first, move |last| search(cron.compiled(), last, false).ok());
    all.map(|start| moment(start.zone.to_datetime(start.at), zone))
}

/// The moment of a wall clock's time: where it comes twice the first, where it is left out the first after the gap.
pub(super) fn moment(date: DateTime, zone: &Zone) -> Timestamp {
    let zone: &TimeZone = zone.rules();
    let ambiguous = zone.to_ambiguous_timestamp(date);
    let gap = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
    let Ok(earlier) = ambiguous.earlier() else {
        return if date.year() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    };
    let after_gap = zone.following(earlier).next().filter(|_| gap);
    after_gap.map_or(earlier, |transition| transition.timestamp())
}

/// A moment and what a zone's wall clock shows then, as croner walks over them.
#[derive(Clone)]
struct Local<'a> {
    at: Timestamp,
    zone: &'a TimeZone,
}

impl CronDateTime for Local<'_> {
    fn to_civil(&self) -> CivilDateTime {
        let civil = self.zone.to_datetime(self.at);
        let unsigned = |part: i8| u32::from(part.unsigned_abs());
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(
                i32::from(civil.year()),
                unsigned(civil.month()),
                unsigned(civil.day()),
            ),
            CivilTime::from_parts_unchecked(
                unsigned(civil.hour()),
                unsigned(civil.minute()),
                unsigned(civil.second()),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let weekday = self.zone.to_datetime(self.at).weekday();
        Weekday::from_days_from_sunday(u32::from(weekday.to_sunday_zero_offset().unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidDate);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (part(civil.month())?, part(civil.day())?);
        let (hour, minute, second) = (part(civil.hour())?, part(civil.minute())?, part(civil.second())?);
        let date = DateTime::new(year, month, day, hour, minute, second, 0);
        let ambiguous = self.zone.to_ambiguous_timestamp(date.map_err(|_| CronError::InvalidDate)?);
        let local = |at: Result<Timestamp, jiff::Error>| {
            at.map(|at| Self { at, zone: self.zone }).map_err(|_| CronError::InvalidTime)
        };
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(local(ambiguous.compatible())?),
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(local(ambiguous.earlier())?, local(ambiguous.later())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let at = self.at.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(Self { at, zone: self.zone })
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
