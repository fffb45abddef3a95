//! A process that writes is killed at any moment: what it was told is on disk is there.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use sluice_logic::spec::TenantName;
use sluice_store::{Limits, Settings, Store, Subject};

/// Rounds of killing.
const KILLS: usize = 12;

/// `cargo test` builds examples beside the tests.
fn writer() -> PathBuf {
    let test = std::env::current_exe().expect("the test runs");
    // target/<profile>/deps/<test>
    test.ancestors().nth(2).expect("a target directory").join("examples/store_writer")
}

/// Runs the writer until it has said so many numbers, kills it with SIGKILL, and gives the last one that it said.
fn write_and_kill(file: &Path, numbers: usize) -> io::Result<u32> {
    let mut child = Command::new(writer()).arg(file).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let said: Vec<String> = lines.by_ref().take(numbers).collect::<io::Result<_>>()?;
    child.kill()?;
    child.wait()?;
    // What it said before it was killed counts too; a line may be torn.
    let late = lines.map_while(Result::ok).filter(|line| line.ends_with('9'));
    let last = said.into_iter().chain(late).last().unwrap_or_default();
    Ok(last.parse().expect("a number"))
}

#[test]
fn what_was_written_survives_kill_9() {
    let tenant = TenantName::try_from("demo".to_owned()).unwrap();
    for round in 0..KILLS {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store.redb");
        let said = write_and_kill(&file, 1 + round * 3).unwrap();

        let store = Store::open(Settings::new(&file, Limits::default())).unwrap();
        let mut series: BTreeMap<Subject, Vec<f64>> = BTreeMap::new();
        store
            .samples(&tenant, Timestamp::MIN, Timestamp::MAX, |sample| {
                series.entry(sample.subject).or_default().push(sample.value);
            })
            .unwrap();
        let health = store.health();
        assert_eq!((health.set_aside, health.unreadable, health.problem), (None, 0, None), "round {round}");
        assert_eq!(series.len(), 5, "round {round}");
        for (subject, values) in series {
            let written = u32::try_from(values.len()).unwrap();
            let all: Vec<f64> = (0..written).map(f64::from).collect();
            assert_eq!(values, all, "{subject:?}: all from the first on, none twice");
            assert!(written > said, "{subject:?}: {written} samples, but {said} was said to be on disk");
        }
    }
}
