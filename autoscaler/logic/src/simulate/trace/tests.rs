use super::*;

fn points(seconds: &[(i64, f64)]) -> Vec<Point> {
    (2..)
        .zip(seconds)
        .map(|(line, &(second, value))| Point { at: Timestamp::from_second(second).unwrap(), value, line })
        .collect()
}

fn refused(seconds: &[(i64, f64)]) -> String {
    Trace::from_points(&points(seconds), Gaps::Refuse).expect_err("it is bad").to_string()
}

#[test]
fn a_value_holds_until_the_next() {
    let trace = Trace::from_points(&points(&[(0, 1.0), (300, 2.0), (600, 4.0)]), Gaps::Refuse).unwrap();
    assert_eq!((trace.interval(), trace.span()), (Duration::from_mins(5), Duration::from_mins(15)));
    let load = |offset, step| trace.load(Duration::from_secs(offset), Duration::from_secs(step));
    for (offset, step, expected) in [
        (0, 60, 1.0),
        (240, 60, 1.0),
        (300, 60, 2.0),
        (270, 60, 1.5),
        (0, 600, 1.5),
        (840, 60, 4.0),
        (900, 60, 0.0),
    ] {
        assert!((load(offset, step) - expected).abs() < 1e-12, "{offset}+{step}: {}", load(offset, step));
    }
}

#[test]
fn each_fault_is_named_with_its_line() {
    let cases: [(&[(i64, f64)], &str); 7] = [
        (&[(0, 1.0)], "needs two"),
        (&[(0, 1.0), (60, f64::NAN)], "line 3: the value NaN"),
        (&[(0, -1.0), (60, 1.0)], "line 2: the value -1"),
        (
            &[(0, 1.0), (60, 1.0), (60, 1.0)],
            "line 4: 1970-01-01T00:01:00Z is not after 1970-01-01T00:01:00Z of line 3",
        ),
        (&[(60, 1.0), (0, 1.0)], "line 3: 1970-01-01T00:00:00Z is not after"),
        (
            &[(0, 1.0), (60, 1.0), (120, 1.0), (300, 1.0)],
            "line 5: a gap: 1970-01-01T00:05:00Z comes 3m after",
        ),
        (&[(0, 0.0), (60, 0.0)], "nothing to scale for"),
    ];
    for (points, expected) in cases {
        let said = refused(points);
        assert!(said.contains(expected), "{said}");
    }
    assert!(
        refused(&[(0, 1.0), (60, 1.0), (120, 1.0), (130, 1.0), (180, 1.0), (240, 1.0)]).contains("line 5")
    );
}

#[test]
fn a_gap_is_not_filled_beyond_the_longest_trace() {
    let mut points = points(&[(0, 1.0), (0, 2.0), (0, 1.0), (5_000_000, 2.0)]);
    for (point, millisecond) in points.iter_mut().zip([0, 1, 2]) {
        point.at = Timestamp::from_millisecond(millisecond).unwrap();
    }
    let said = Trace::from_points(&points, Gaps::Hold).expect_err("it is too long").to_string();
    assert_eq!(said, "it spans 5000000000 steps of 1ms, more than 5270400: cut it");
}

#[test]
fn gaps_may_be_held_or_silent() {
    let points = points(&[(0, 1.0), (60, 2.0), (240, 3.0), (300, 3.0)]);
    for gaps in [Gaps::Hold, Gaps::Silent] {
        let trace = Trace::from_points(&points, gaps).unwrap();
        let loads: Vec<f64> =
            (0..6).map(|i| trace.load(Duration::from_mins(i), Duration::from_mins(1))).collect();
        assert_eq!(loads, [1.0, 2.0, 2.0, 2.0, 3.0, 3.0]);
        let silent: Vec<bool> =
            (1..=6).map(|i| trace.is_silent(Timestamp::from_second(i * 60).unwrap())).collect();
        let expected = gaps == Gaps::Silent;
        assert_eq!(silent, [false, false, expected, expected, false, false]);
    }
}

#[test]
fn minutes_that_are_measured_too_early_or_too_late_stay_minutes() {
    let mut points: Vec<Point> = points(&(0..2_880).map(|minute| (minute * 60, 1.0)).collect::<Vec<_>>());
    // Any seconds will do, as long as no two minutes agree too often.
    for (number, point) in (0..).zip(&mut points) {
        let off = i64::from(u16::try_from(number * number * 7_919_u64 % 4_001).unwrap()) - 2_000;
        point.at = point.at.checked_add(jiff::SignedDuration::from_millis(off)).unwrap();
    }
    let trace = Trace::from_points(&points, Gaps::Refuse).unwrap();
    assert_eq!((trace.interval(), trace.values.len()), (Duration::from_mins(1), 2_880));
    assert_eq!(trace.start(), Timestamp::UNIX_EPOCH);
    points.drain(100..103);
    assert!(matches!(Trace::from_points(&points, Gaps::Refuse), Err(BadTrace::Gap { line: 105, .. })));
    assert_eq!(Trace::from_points(&points, Gaps::Hold).unwrap().values.len(), 2_880);
}
