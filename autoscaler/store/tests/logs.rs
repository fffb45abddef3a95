//! Logs: kept, bounded, and readable after a crash.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use sluice_logic::spec::TenantName;
use sluice_store::logs::{LogBook, LogCounts, LogLimits, LogLine, LogLoss, LogMessage, LogOwner};

const DAY: Duration = Duration::from_hours(24);

fn owner(name: &str) -> LogOwner {
    LogOwner::Tenant(TenantName::try_from(name.to_owned()).expect("a good name"))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn line(second: i64, text: &str) -> LogLine {
    let message = LogMessage { text: text.to_owned(), malformed: text.is_empty(), ..LogMessage::default() };
    LogLine { at: at(second), from: [19, 0, 0, 2].into(), instance: None, message }
}

fn texts(book: &LogBook, owner: &LogOwner) -> Vec<String> {
    let mut found = Vec::new();
    book.lines(owner, Timestamp::MIN, Timestamp::MAX, |line| found.push(line.message.text))
        .expect("readable");
    found
}

#[test]
fn lines_are_kept_by_tenant_and_found_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let book = LogBook::new(directory.path(), LogLimits { keep: DAY, size: 1 << 20 });
    book.append(vec![
        (owner("a"), line(0, "one")),
        (owner("b"), line(0, "other")),
        (LogOwner::Host, line(0, "host")),
    ]);
    book.append(vec![
        (owner("a"), line(5, "two")),
        (owner("a"), line(86_400, "next day")),
        (owner("a"), line(6, "")),
    ]);
    assert_eq!(texts(&book, &owner("a")), ["one", "two", "", "next day"]);
    assert_eq!(texts(&book, &LogOwner::Host), ["host"]);
    let mut found = Vec::new();
    book.lines(&owner("a"), at(1), at(6), |line| found.push(line)).unwrap();
    assert_eq!(found, [line(5, "two")]);
    assert_eq!(book.counts(), LogCounts { kept: 6, malformed: 1, lost: 0 });
    assert_eq!(
        book.owners().unwrap().into_iter().collect::<Vec<_>>(),
        [owner("a"), owner("b"), LogOwner::Host]
    );
}

#[test]
fn what_a_crash_has_torn_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let limits = LogLimits { keep: DAY, size: 1 << 20 };
    LogBook::new(directory.path(), limits).append(vec![(owner("a"), line(0, "whole"))]);
    let file = fs::read_dir(directory.path().join("a")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    for torn in 1..whole.len() {
        fs::write(&file, &whole).unwrap();
        OpenOptions::new().append(true).open(&file).unwrap().write_all(&whole[..torn]).unwrap();
        let book = LogBook::new(directory.path(), limits);
        assert_eq!(texts(&book, &owner("a")), ["whole"], "torn after {torn}");
        book.append(vec![(owner("a"), line(1, "after"))]);
        assert_eq!(texts(&book, &owner("a")), ["whole", "after"], "torn after {torn}");
    }
}

#[test]
fn a_damaged_byte_costs_only_its_frame() {
    let directory = tempfile::tempdir().unwrap();
    let limits = LogLimits { keep: DAY, size: 1 << 20 };
    let file = || fs::read_dir(directory.path().join("a")).unwrap().next().unwrap().unwrap().path();
    let book = LogBook::new(directory.path(), limits);
    book.append(vec![(owner("a"), line(0, "first"))]);
    let first = fs::metadata(file()).unwrap().len();
    book.append(vec![(owner("a"), line(1, "second"))]);
    let second = fs::metadata(file()).unwrap().len();
    book.append(vec![(owner("a"), line(2, "third"))]);
    let whole = fs::read(file()).unwrap();
    for place in first..second {
        let mut damaged = whole.clone();
        damaged[usize::try_from(place).unwrap()] ^= 0x41;
        fs::write(file(), &damaged).unwrap();
        let book = LogBook::new(directory.path(), limits);
        let all = (Timestamp::MIN, Timestamp::MAX);
        assert_eq!(book.lines(&owner("a"), all.0, all.1, |_| {}).unwrap(), 1, "byte {place}");
        assert_eq!(texts(&book, &owner("a")), ["first", "third"], "byte {place}");
        book.append(vec![(owner("a"), line(3, "fourth"))]);
        assert_eq!(texts(&book, &owner("a")), ["first", "third", "fourth"], "byte {place}");
    }
}

#[test]
fn who_has_no_logs_any_more_has_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let book = LogBook::new(directory.path(), LogLimits { keep: DAY, size: 1 << 20 });
    book.append(vec![(owner("gone"), line(0, "old")), (owner("there"), line(7 * 86_400, "new"))]);
    book.prune(at(7 * 86_400)).unwrap();
    assert!(!directory.path().join("gone").exists());
    assert_eq!(texts(&book, &owner("there")), ["new"]);
    book.append(vec![(owner("gone"), line(7 * 86_400, "back"))]);
    assert_eq!(texts(&book, &owner("gone")), ["back"]);
}

#[test]
fn old_days_go_and_the_largest_first_where_there_is_too_much() {
    let directory = tempfile::tempdir().unwrap();
    let book = LogBook::new(directory.path(), LogLimits { keep: 30 * DAY, size: 64 << 10 });
    // What does not compress.
    let noise = |seed: u32| -> String {
        (0..3_000_u32)
            .map(|n| char::from(33 + ((n ^ seed).wrapping_mul(2_654_435_769) >> 25) as u8 % 90))
            .collect()
    };
    let days = |count: i64| (0..count).map(|day| day * 86_400);
    for (seed, second) in (0..).zip(days(40)) {
        book.append(vec![
            (owner("large"), line(second, &noise(seed))),
            (owner("large"), line(second, &noise(!seed))),
        ]);
    }
    book.append(vec![(owner("small"), line(0, "kept"))]);
    let now = at(39 * 86_400);
    book.prune(now).unwrap();
    let size = || -> u64 {
        let files = |name| fs::read_dir(directory.path().join(name)).into_iter().flatten();
        files("large").chain(files("small")).map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    assert!(size() <= 64 << 10, "{}", size());
    assert_eq!(texts(&book, &owner("small")), Vec::<String>::new(), "40 days are too long ago");
    let mut first = None;
    book.lines(&owner("large"), Timestamp::MIN, Timestamp::MAX, |line| first = first.or(Some(line.at)))
        .unwrap();
    assert!(first.unwrap() > now.checked_sub((30 * 24).hours()).unwrap());
    assert!(!texts(&book, &owner("large")).is_empty());
}

#[test]
fn a_flood_fills_no_more_than_its_own_day() {
    let directory = tempfile::tempdir().unwrap();
    let book = LogBook::new(directory.path(), LogLimits { keep: DAY, size: 1_600 });
    let told: Vec<LogLoss> =
        (0..20).flat_map(|second| book.append(vec![(owner("loud"), line(second, "a line"))])).collect();
    let file = fs::read_dir(directory.path().join("loud")).unwrap().next().unwrap().unwrap();
    assert!(file.metadata().unwrap().len() <= 400, "a quarter");
    let counts = book.counts();
    assert!(counts.kept >= 1 && counts.lost >= 10 && counts.kept + counts.lost == 20, "{counts:?}");
    assert_eq!(told.len() as u64, counts.lost, "each loss is told");
    assert_eq!((&told[0].owner, told[0].lines), (&owner("loud"), 1));
    assert!(
        told[0].reason.ends_with("it is full: a tenant's day has at most 400 bytes"),
        "{}",
        told[0].reason
    );
    assert_eq!(book.append(vec![(owner("quiet"), line(0, "heard"))]), []);
    assert_eq!(texts(&book, &owner("quiet")), ["heard"]);
}

#[test]
fn the_newest_lines_are_found_from_the_end_and_what_comes_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let book = LogBook::new(directory.path(), LogLimits { keep: DAY, size: 1 << 20 });
    let all = |_: &LogLine| true;
    let texts = |lines: &[LogLine]| lines.iter().map(|line| line.message.text.clone()).collect::<Vec<_>>();
    let (none, mut cursor) = book.tail(&owner("a"), Timestamp::MIN, 3, all).unwrap();
    assert_eq!(none, []);
    for second in [0, 1, 2, 86_400] {
        book.append(vec![(owner("a"), line(second, &format!("{second}"))), (owner("b"), line(second, "b"))]);
    }
    let mut followed = Vec::new();
    book.after(&owner("a"), &mut cursor, |line| followed.push(line)).unwrap();
    assert_eq!(texts(&followed), ["0", "1", "2", "86400"]);

    let (newest, mut cursor) = book.tail(&owner("a"), Timestamp::MIN, 3, all).unwrap();
    assert_eq!(texts(&newest), ["1", "2", "86400"]);
    let (since, _) = book.tail(&owner("a"), at(2), 9, |line| line.message.text != "86400").unwrap();
    assert_eq!(texts(&since), ["2"]);
    book.append(vec![(owner("a"), line(86_401, "next"))]);
    followed.clear();
    book.after(&owner("a"), &mut cursor, |line| followed.push(line)).unwrap();
    book.after(&owner("a"), &mut cursor, |line| followed.push(line)).unwrap();
    assert_eq!(texts(&followed), ["next"]);
}
