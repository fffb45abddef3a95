//! What a forecast is good for, and what it does when its data are bad.

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

const THRESHOLD: f64 = 50.0;

fn terms() -> Terms {
    Terms { per_instance: THRESHOLD, min: 2, max: 40, start: 2, costs: Costs { shortage: 10.0, change: 0.2 } }
}

fn end_of(minute: Minute) -> Timestamp {
    Timestamp::from_second((minute + 1) * 60).expect("a small number")
}

/// Demand in instances: quiet nights, and a jump at nine o'clock.
fn office(minute: Minute) -> f64 {
    match minute.rem_euclid(DAY) / 60 {
        9..17 => 12.0,
        17..20 => 6.0,
        _ => 3.0,
    }
}

fn seen(days: Minute, load: impl Fn(Minute) -> f64) -> ProactiveForecast {
    let mut forecast = ProactiveForecast::new(terms());
    for minute in 0..days * DAY {
        assert!(forecast.observe(minute, load(minute) * THRESHOLD));
    }
    forecast
}

#[test]
fn a_jump_that_comes_every_day_is_met() {
    let mut forecast = seen(6, office);
    let nine = 6 * DAY + 9 * 60;
    for minute in 6 * DAY..nine - 3 {
        forecast.observe(minute, office(minute) * THRESHOLD);
    }
    // Known now: the minute 8:56 is over. Started now, an instance would serve from 8:59 on.
    let early = forecast.expectation(end_of(nine - 4)).expect("it has seen six days");
    assert!(early.until_served < 4.0 * THRESHOLD, "{early:?}");
    for minute in nine - 3..nine - 2 {
        forecast.observe(minute, office(minute) * THRESHOLD);
    }
    let due = forecast.expectation(end_of(nine - 3)).expect("it has seen six days");
    assert!(due.until_served > 11.0 * THRESHOLD, "{due:?}");
    assert_eq!(due.at, end_of(nine - 1));
}

#[test]
fn what_is_needed_soon_again_is_kept_and_what_is_not_goes() {
    let forecast = seen(6, office);
    let midnight = forecast.expectation(end_of(6 * DAY - 1)).expect("it has seen six days");
    assert!(midnight.kept < 4.0 * THRESHOLD, "{midnight:?}");
    assert!(midnight.kept >= midnight.ahead && midnight.ahead >= midnight.until_served);
}

#[test]
fn a_load_that_is_always_the_same_needs_what_it_needs() {
    let forecast = seen(3, |_| 7.3);
    let expected = forecast.expectation(end_of(3 * DAY - 1)).expect("it has seen three days");
    let loads = [expected.until_served, expected.ahead, expected.kept].map(|demand| demand / THRESHOLD);
    assert!(loads.iter().all(|load| (7.29..7.5).contains(load)), "{loads:?}");
    assert!(expected.relative_error.expect("forecasts have come due") < 0.01);
}

#[test]
fn it_is_silent_before_it_knows_its_errors_and_after_its_data_end() {
    let mut forecast = ProactiveForecast::new(terms());
    assert_eq!(forecast.expectation(end_of(0)), Err(Silence::TooYoung));
    for minute in 0..30 {
        forecast.observe(minute, 100.0);
    }
    assert_eq!(forecast.expectation(end_of(29)), Err(Silence::TooYoung));
    for minute in 30..200 {
        forecast.observe(minute, 100.0);
    }
    assert!(forecast.expectation(end_of(199)).is_ok());
    assert_eq!(forecast.expectation(end_of(210)), Err(Silence::Stale), "no data came");
    assert_eq!(forecast.expectation(end_of(100)), Err(Silence::Stale), "the clock was set back");
}

#[test]
fn bad_minutes_are_refused_and_change_nothing() {
    let mut forecast = seen(2, office);
    let now = end_of(2 * DAY - 1);
    let before = forecast.expectation(now);
    for (minute, load) in
        [(2 * DAY, f64::NAN), (2 * DAY, f64::INFINITY), (2 * DAY, -1.0), (2 * DAY - 1, 5.0), (0, 5.0)]
    {
        assert!(!forecast.observe(minute, load), "{minute}: {load}");
    }
    assert_eq!(forecast.expectation(now), before);
}

#[test]
fn nothing_is_learned_from_a_gap() {
    // A gap over the jump of the second day: what was forecast into it never comes due.
    let (begin, end) = (DAY + 8 * 60, DAY + 10 * 60);
    let mut forecast = LoadForecast::new(&[3]);
    for minute in 0..begin {
        forecast.observe(minute, office(minute));
    }
    let before = forecast.accuracy(0).expect("a day was seen").clone();
    for minute in end..end + 3 {
        assert!(forecast.observe(minute, office(minute)));
        assert_eq!(forecast.accuracy(0), Some(&before), "{} minutes after the gap", minute - end);
    }
    forecast.observe(end + 3, office(end + 3));
    assert_ne!(forecast.accuracy(0), Some(&before), "what was forecast after it comes due");
    assert!(forecast.observe(10 * WEEK, 5.0), "it begins anew");
    assert_eq!(forecast.peak(0, 0.9), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_same_minutes_give_the_same_and_a_sane_outlook(
        loads in prop::collection::vec(0.0..1e6_f64, 300..600),
        gap in 1_i64..2000,
    ) {
        let run = || {
            let mut forecast = ProactiveForecast::new(terms());
            for (minute, load) in (0..).zip(&loads) {
                forecast.observe(if minute > 200 { minute + gap } else { minute }, *load);
            }
            let last = i64::try_from(loads.len()).expect("small") - 1 + gap;
            forecast.expectation(end_of(last))
        };
        let outlook = run();
        prop_assert_eq!(outlook, run());
        if let Ok(outlook) = outlook {
            prop_assert!(outlook.until_served.is_finite() && outlook.until_served >= 0.0);
            prop_assert!(outlook.ahead >= outlook.until_served && outlook.kept >= outlook.ahead);
            let newest = loads.last().expect("not empty");
            prop_assert!(outlook.until_served >= newest * (1.0 - 1e-6), "never below the load of now");
        }
    }
}
