//! What is kept, for how long, and what faults do.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use sluice_logic::decision::Decision;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{Metric, TenantName};
use sluice_store::{
    Census, DecisionRecord, Limits, Sample, Settings, Spread, Store, StoreError, Subject, spread,
};

fn tenant(name: &str) -> TenantName {
    TenantName::try_from(name.to_owned()).expect("a good name")
}

/// So many minutes ago, at a minute's beginning.
fn ago(minutes: i64) -> Timestamp {
    /// The same minute for all that a test says, however long it takes.
    static MINUTE: LazyLock<i64> = LazyLock::new(|| Timestamp::now().as_second().div_euclid(60));
    Timestamp::from_second((*MINUTE - minutes) * 60).expect("a time")
}

fn open(path: &Path, limits: Limits) -> Store {
    Store::open(Settings::new(path, limits)).expect("a thread")
}

fn sample(at: Timestamp, instance: u32, value: f64) -> Sample {
    let subject = Subject::Instance(InstanceId::new(&tenant("demo"), instance));
    Sample { at, subject, metric: Metric::Cpu, value }
}

fn over(at: Timestamp, values: &[f64]) -> Vec<Sample> {
    let group = |(spread, value)| Sample { at, subject: Subject::Over(spread), metric: Metric::Cpu, value };
    spread(values).into_iter().map(group).collect()
}

fn all_samples(store: &Store, name: &str) -> Vec<Sample> {
    let mut found = Vec::new();
    store
        .samples(&tenant(name), Timestamp::MIN, Timestamp::MAX, |sample| found.push(sample))
        .expect("it can be read");
    found.sort_by(|a, b| (&a.subject, a.at).cmp(&(&b.subject, b.at)));
    found
}

fn decision(at: Timestamp, from: u32, to: u32) -> DecisionRecord {
    let decision = serde_json::json!({ "at": at, "from": from, "to": to, "reason": "why", "action": "out" });
    let decision: Decision = serde_json::from_value(decision).expect("a decision");
    DecisionRecord { decision, instances: Census::default(), problem: None }
}

#[test]
fn samples_and_decisions_outlive_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("below/store.redb");
    let demo = tenant("demo");
    let first = [sample(ago(2), 1, 0.25), sample(ago(2) + 30.seconds(), 1, 0.5)];
    let store = open(&file, Limits::default());
    store.keep_samples(&demo, first.to_vec());
    store.keep_decision(&demo, decision(ago(2), 2, 3));
    drop(store);

    // The same minute is gone on with.
    let store = open(&file, Limits::default());
    let second = sample(ago(2) + 45.seconds(), 1, 0.75);
    store.keep_samples(&demo, vec![second.clone(), first[0].clone()]);
    store.keep_decision(&demo, decision(ago(2) + 1.second(), 3, 4));
    assert_eq!(all_samples(&store, "demo"), [first[0].clone(), first[1].clone(), second]);
    let (mut minutes, mut decisions) = (Vec::new(), Vec::new());
    store.minutes(&demo, true, ago(3), ago(0), |minute| minutes.push(minute)).unwrap();
    let [minute] = minutes.as_slice() else { panic!("{minutes:#?}") };
    let rollup = minute.series[0].2;
    assert_eq!(
        (minute.begin, rollup.count, rollup.min, rollup.max, rollup.last),
        (ago(2), 3, 0.25, 0.75, 0.75)
    );
    store.decisions(&demo, ago(3), ago(0), |record| decisions.push(record.decision.to)).unwrap();
    assert_eq!(decisions, [3, 4]);
    assert_eq!(store.tenants().unwrap(), [demo]);
}

#[test]
fn a_groups_history_has_gaps_where_nothing_was_measured() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.redb"), Limits::default());
    let demo = tenant("demo");
    for (minute, values) in [(10, [0.1, 0.3]), (9, [0.2, 0.4]), (5, [0.5, 0.7])] {
        store.keep_samples(&demo, over(ago(minute), &values));
    }
    let two_minutes = Duration::from_mins(2);
    let history =
        |spread| store.history(&demo, &Metric::Cpu, spread, (ago(10), ago(4)), two_minutes).unwrap();
    let counts: Vec<u32> = history(Spread::Average).iter().map(|step| step.count).collect();
    assert_eq!(counts, [2, 0, 1]);
    assert!((history(Spread::Sum)[0].sum - 1.0).abs() < 1e-9);
    assert_eq!(history(Spread::Count)[2].average(), Some(2.0));
    let other = store.history(&demo, &Metric::Packets, Spread::Sum, (ago(10), ago(4)), two_minutes).unwrap();
    assert!(other.iter().all(|step| step.count == 0));
}

#[test]
fn what_is_too_old_goes_by_its_own_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.redb");
    let demo = tenant("demo");
    let store = open(&file, Limits::default());
    let old = ago(30);
    store.keep_samples(&demo, [vec![sample(old, 1, 1.0)], over(old, &[1.0])].concat());
    store.keep_decision(&demo, decision(old, 1, 2));
    drop(store);

    let minutes = Duration::from_mins;
    let limits = Limits { fine: minutes(10), instances: minutes(20), ..Limits::default() };
    let store = open(&file, limits);
    store.flush().unwrap();
    assert_eq!(all_samples(&store, "demo"), []);
    let (mut instances, mut groups, mut decisions) = (0, 0, 0);
    store.minutes(&demo, true, Timestamp::MIN, Timestamp::MAX, |_| instances += 1).unwrap();
    store.minutes(&demo, false, Timestamp::MIN, Timestamp::MAX, |_| groups += 1).unwrap();
    store.decisions(&demo, Timestamp::MIN, Timestamp::MAX, |_| decisions += 1).unwrap();
    assert_eq!((instances, groups, decisions), (0, 1, 1));

    // A late sample does not make its minute's roll-up anew from less than it was made of.
    store.keep_samples(&demo, over(old + 5.seconds(), &[9.0]));
    let history = store.history(&demo, &Metric::Cpu, Spread::Max, (old, ago(0)), minutes(1)).unwrap();
    assert_eq!((history[0].count, history[0].max), (1, 1.0));
}

#[test]
fn its_size_is_bounded_and_a_small_tenant_keeps_its_own() {
    const SIZE: u64 = 4 << 20;
    const MINUTES: i64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.redb");
    let store = open(&file, Limits { size: SIZE, ..Limits::default() });
    store.keep_samples(&tenant("small"), vec![sample(ago(MINUTES), 1, 0.5)]);
    // Knuth's multiplicative hash.
    let noise = |n: i64| f64::from(u32::try_from(n).unwrap().wrapping_mul(2_654_435_769)).sqrt();
    let mut largest = 0;
    // About 12 MB of noise, which does not compress.
    for minute in 0..MINUTES {
        let of_minute =
            |n: i64| sample(ago(MINUTES - minute) + (n * 3).milliseconds(), 1, noise(minute * 20_000 + n));
        store.keep_samples(&tenant("large"), (0..20_000).map(of_minute).collect());
        store.flush().unwrap();
        largest = largest.max(fs::metadata(&file).unwrap().len());
    }
    assert!(largest <= SIZE, "{largest}");
    assert_eq!(all_samples(&store, "small").len(), 1);
    let kept = all_samples(&store, "large");
    assert!(kept.len() > 40_000, "{}", kept.len());
    assert!(kept[0].at > ago(MINUTES - 10) && kept.last().unwrap().at >= ago(1), "the oldest went first");
    assert_eq!(store.health().lost, 0);
}

#[test]
fn a_damaged_file_is_named_and_set_aside() {
    let demo = tenant("demo");
    let whole = {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store.redb");
        let store = open(&file, Limits::default());
        for minute in 1..60 {
            store.keep_samples(
                &demo,
                (0..50).map(|n| sample(ago(minute) + n.seconds(), 1, f64::from(n))).collect(),
            );
        }
        drop(store);
        fs::read(&file).unwrap()
    };
    let mut torn = whole.clone();
    torn.truncate(whole.len() / 2);
    let garbage = b"this is no database ".repeat(1000);
    let scribbled: Vec<u8> =
        whole.iter().enumerate().map(|(n, b)| if n < 4096 { *b } else { b ^ 0x5a }).collect();
    for (what, bytes) in [("torn", torn), ("garbage", garbage), ("scribbled", scribbled)] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store.redb");
        fs::write(&file, &bytes).unwrap();
        let store = open(&file, Limits::default());
        store.keep_samples(&demo, vec![sample(ago(1), 2, 1.0)]);
        // The first may find the damage, the next goes on without.
        let written = store.flush().or_else(|_| store.flush());
        assert!(written.is_ok(), "{what}: {written:?}");
        let health = store.health();
        assert_eq!(health.set_aside.as_deref(), Some(file.with_extension("damaged").as_path()), "{what}");
        assert_eq!(
            fs::read(file.with_extension("damaged")).unwrap().len(),
            bytes.len(),
            "{what}: it can be looked at"
        );
        assert_eq!(all_samples(&store, "demo").len(), 1, "{what}: what is new is kept");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("blocked");
    fs::write(&blocked, "a file where a directory should be").unwrap();
    let store = open(&blocked.join("store.redb"), Limits::default());
    store.keep_samples(&tenant("demo"), vec![sample(ago(1), 1, 1.0)]);
    assert!(store.flush().is_err());
    assert!(store.health().problem.is_some_and(|problem| problem.contains("store.redb")));
    fs::remove_file(&blocked).unwrap();
    store.flush().unwrap();
    assert_eq!(store.health().problem, None);
    assert_eq!(all_samples(&store, "demo").len(), 1, "nothing was lost meanwhile");
}

#[test]
fn nobody_else_reads_or_writes_it_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.redb");
    assert!(matches!(Store::open_for_reading(&file), Err(StoreError::Closed { .. })), "and none is made");
    let below = directory.path().join("none/store.redb");
    assert!(Store::open_for_reading(&below).is_err() && !directory.path().join("none").exists());
    let store = open(&file, Limits::default());
    store.keep_samples(&tenant("demo"), vec![sample(ago(1), 1, 1.0)]);
    assert!(matches!(Store::open_for_reading(&file), Err(StoreError::InUse(_))));
    drop(store);
    let reader = Store::open_for_reading(&file).unwrap();
    assert_eq!(all_samples(&reader, "demo").len(), 1);
}

#[test]
fn a_minute_that_could_not_be_read_at_first_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let (place, away) = (directory.path().join("place"), directory.path().join("away"));
    let demo = tenant("demo");
    let written = [sample(ago(1), 1, 1.0), sample(ago(1) + 1.second(), 1, 2.0)];
    let store = open(&place.join("store.redb"), Limits::default());
    store.keep_samples(&demo, written.to_vec());
    store.keep_decision(&demo, decision(ago(1), 1, 2));
    drop(store);

    // Its disk comes late.
    fs::rename(&place, &away).unwrap();
    fs::write(&place, "a file where a directory should be").unwrap();
    let store = open(&place.join("store.redb"), Limits::default());
    let late = sample(ago(1) + 2.seconds(), 1, 3.0);
    let again = sample(ago(1), 1, 9.0);
    store.keep_samples(&demo, vec![again, late.clone()]);
    store.keep_decision(&demo, decision(ago(1) + 2.seconds(), 2, 3));
    assert!(store.flush().is_err());
    fs::remove_file(&place).unwrap();
    fs::rename(&away, &place).unwrap();
    store.flush().unwrap();
    assert_eq!(all_samples(&store, "demo"), [written[0].clone(), written[1].clone(), late]);
    let mut decisions = Vec::new();
    store.decisions(&demo, ago(2), ago(0), |record| decisions.push(record.decision.to)).unwrap();
    assert_eq!(decisions, [2, 3]);
}
