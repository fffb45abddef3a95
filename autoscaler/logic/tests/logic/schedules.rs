//! Schedules through changes of the clocks.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sluice_logic::policy::{NeverFires, first_start};
use sluice_logic::spec::{PolicySpec, Schedule, Start, Static, StaticEntry, Zone};

use crate::fixture::Case;

fn zone(name: &str) -> Zone {
    name.parse().expect("a zone")
}

fn daily(cron: &str, duration: Duration, time_zone: &str) -> Schedule {
    Schedule { start: Start::Cron(cron.parse().expect("a pattern")), duration, time_zone: zone(time_zone) }
}

fn once(date: &str, duration: Duration, time_zone: &str) -> Schedule {
    Schedule { start: Start::At(date.parse().expect("a date")), duration, time_zone: zone(time_zone) }
}

/// Whether a static policy with that schedule protects anything at that time.
fn holds(schedule: &Schedule, now: Timestamp) -> bool {
    let policy =
        PolicySpec::Static(Static { entries: vec![StaticEntry { schedule: schedule.clone(), count: 5 }] });
    let case = Case { policies: vec![policy], ..Case::of(5, 0.0) };
    sluice_logic::decision::decide(&case.group(), &case.samples, now).policies[0].floor.is_some()
}

fn utc(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Berlin set its clocks forward on 2026-03-29 at 01:00 UTC (02:00 became 03:00) and back on 2026-10-25 at 01:00 UTC.
#[test]
fn a_start_that_the_clocks_leave_out_or_repeat() {
    let hour = Duration::from_hours(1);
    let cases = [
        (
            daily("30 2 * * *", hour, "Europe/Berlin"),
            "2026-03-29T01:00:00Z",
            "the first moment after the gap",
        ),
        (daily("30 2 * * *", hour, "Europe/Berlin"), "2026-10-25T00:30:00Z", "the first of the two"),
        (daily("0 8 * * *", hour, "Europe/Berlin"), "2026-03-29T06:00:00Z", "summer time"),
        (daily("0 8 * * *", hour, "Europe/Berlin"), "2026-10-25T07:00:00Z", "winter time"),
        (
            once("2026-03-29 02:30", hour, "Europe/Berlin"),
            "2026-03-29T01:00:00Z",
            "the first moment after the gap",
        ),
        (once("2026-10-25 02:30", hour, "Europe/Berlin"), "2026-10-25T00:30:00Z", "the first of the two"),
        (
            daily("0 2,14 * * *", hour, "America/New_York"),
            "2026-03-08T07:00:00Z",
            "of a list the one that is left out",
        ),
        (daily("30 2,5 * * *", hour, "America/New_York"), "2026-03-08T07:00:00Z", "of another list"),
        (daily("0,30 2 * * *", hour, "Europe/Berlin"), "2026-03-29T01:00:00Z", "both are left out"),
        (daily("0 2-2 * * *", hour, "Europe/Berlin"), "2026-03-29T01:00:00Z", "a range"),
        (daily("0 2-20/9 * * *", hour, "Europe/Berlin"), "2026-03-29T01:00:00Z", "a step"),
        (
            daily("0 1,13 * * *", hour, "America/New_York"),
            "2026-11-01T05:00:00Z",
            "of a list the first of the two",
        ),
        // Samoa went over the date line and left out all of 2011-12-30.
        (
            daily("0 8 30 12 *", hour, "Pacific/Apia"),
            "2011-12-30T10:00:00Z",
            "the first moment after the day",
        ),
        // Lord Howe Island moves its clocks by half an hour only: back on 2026-04-05 at 15:00 UTC of the day before.
        (
            once("2026-04-05 01:45", hour, "Australia/Lord_Howe"),
            "2026-04-04T14:45:00Z",
            "the first of the two",
        ),
    ];
    for (schedule, start, why) in cases {
        let start = utc(start);
        let moment = SignedDuration::from_secs(1);
        let around = [
            start - moment,
            start,
            start + SignedDuration::from_mins(59),
            start + SignedDuration::from_mins(60),
        ];
        assert_eq!(around.map(|now| holds(&schedule, now)), [false, true, true, false], "{why}");
    }
}

#[test]
fn the_next_start_and_patterns_without_one() {
    let never = daily("0 0 30 2 *", Duration::from_hours(1), "UTC");
    assert_eq!(first_start(&never, utc("2026-01-01T00:00:00Z")), Err(NeverFires));
    let leap = daily("0 0 29 2 *", Duration::from_hours(1), "UTC");
    assert_eq!(first_start(&leap, utc("2026-01-01T00:00:00Z")), Ok(Some(utc("2028-02-29T00:00:00Z"))));
    let past = once("2020-01-01 00:00", Duration::from_hours(1), "UTC");
    assert_eq!(first_start(&past, utc("2026-01-01T00:00:00Z")), Ok(None));
}

/// A pattern whose minute or hour is `*` is about what the clock shows: nothing in a gap, and both times what comes twice.
#[test]
fn a_pattern_with_an_asterisk_follows_the_clock() {
    let minute = Duration::from_mins(1);
    let held =
        |cron, times: [&str; 3]| times.map(|now| holds(&daily(cron, minute, "Europe/Berlin"), utc(now)));
    let twice = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
    assert_eq!(held("30 * * * *", twice), [true, true, true]);
    assert_eq!(held("* 2 * * *", twice), [true, true, false]);
    let gap = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
    assert_eq!(held("30 * * * *", gap), [true, false, true]);
    assert_eq!(held("* 2 * * *", gap), [false, false, false]);
}

/// What a field says, and the numbers that it names.
fn any_field(most: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let list = prop::collection::btree_set(0..most, 1..4).prop_map(|numbers| {
        let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
        (words.join(","), numbers.into_iter().collect())
    });
    let range = (0..most / 2, 0..most / 2)
        .prop_map(|(from, more)| (format!("{from}-{}", from + more), (from..=from + more).collect()));
    let step = (2..most).prop_map(move |step| {
        (format!("*/{step}"), (0..most).step_by(usize::try_from(step).expect("a small number")).collect())
    });
    prop_oneof![list, range, step]
}

/// Zones, and the hour in which each changes its clocks.
const CHANGES: [(&str, &str); 6] = [
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("UTC", "2026-06-01T00:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A daily entry holds for its duration, once for each day, on the days about every change of the clocks.
    #[test]
    fn a_daily_entry_holds_once_a_day_for_its_duration(
        hour in 0_u32..24, quarter in 0_u32..4, duration in 1_i64..=20, which in 0_usize..6
    ) {
        let (time_zone, change) = CHANGES[which];
        let minutes = duration * 15;
        let schedule = daily(
            &format!("{} {hour} * * *", quarter * 15),
            Duration::from_secs(u64::try_from(minutes * 60).expect("positive")),
            time_zone,
        );
        let change = utc(change);
        let step = SignedDuration::from_mins(15);
        let mut now = change - SignedDuration::from_hours(36);
        let mut held = Vec::new();
        while now < change + SignedDuration::from_hours(36) {
            held.push(holds(&schedule, now));
            now += step;
        }
        // The first and the last stretch may be cut off by the ends of what was looked at.
        let stretches: Vec<usize> = held.chunk_by(|a, b| a == b).filter(|chunk| chunk[0]).map(<[bool]>::len).collect();
        let quarters = usize::try_from(duration).expect("positive");
        prop_assert!((2..=4).contains(&stretches.len()), "{stretches:?}");
        let inner = &stretches[1..stretches.len() - 1];
        prop_assert!(inner.iter().all(|&length| length == quarters), "{stretches:?} of {quarters}");
        prop_assert!(stretches.iter().all(|&length| length <= quarters), "{stretches:?} of {quarters}");
    }

    /// Lists, ranges and steps: each time of a day once, where it is left out at the first moment after.
    #[test]
    fn a_pattern_fires_once_at_each_time_that_it_names(
        (minute, minutes) in any_field(60), (hour, hours) in any_field(24), which in 0_usize..6
    ) {
        let (time_zone, change) = CHANGES[which];
        let rules = jiff::tz::TimeZoneDatabase::bundled().get(time_zone).expect("a zone");
        let change = utc(change);
        let begin = change - SignedDuration::from_hours(12);
        let day = rules.to_datetime(begin).date();
        let mut expected = std::collections::BTreeSet::new();
        for day in [day, day.tomorrow().expect("a day"), day.yesterday().expect("a day")] {
            for (hour, minute) in hours.iter().flat_map(|hour| minutes.iter().map(move |minute| (hour, minute))) {
                let part = |part: u32| i8::try_from(part).expect("a part of a day");
                let shown = rules.to_ambiguous_timestamp(day.at(part(*hour), part(*minute), 0, 0));
                let gap = matches!(shown.offset(), jiff::tz::AmbiguousOffset::Gap { .. });
                expected.insert(if gap { change } else { shown.earlier().expect("a time of our century") });
            }
        }
        let schedule = daily(&format!("{minute} {hour} * * *"), Duration::from_secs(1), time_zone);
        let end = change + SignedDuration::from_hours(12);
        let expected: Vec<Timestamp> = expected.into_iter().filter(|at| (begin..end).contains(at)).collect();
        let next = |after: &Timestamp| first_start(&schedule, *after).expect("it fires");
        let found = std::iter::successors(next(&(begin - SignedDuration::from_secs(1))), next);
        prop_assert_eq!(&found.take_while(|at| *at < end).collect::<Vec<_>>(), &expected, "forwards");
        // Looked at backwards, by what holds.
        for minute in -90..90 {
            let now = change + SignedDuration::from_mins(minute);
            prop_assert_eq!(holds(&schedule, now), expected.contains(&now), "{}", now);
        }
    }
}
