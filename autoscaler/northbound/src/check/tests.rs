use std::fs;

use jiff::Timestamp;
use proptest::prelude::*;

use super::FileKind::{self, Host, Tenant, Unknown};
use super::{Seen, check_bytes, check_files};
use crate::diagnostic::has_errors;

const TENANT: &str = include_str!("../../../../examples/tenants/demo.yml");
const HOST: &str = include_str!("../../../../examples/sluice.yml");
/// When nothing of the examples is past.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn the_examples_pass_together() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let report = check_files(&[format!("{examples}/sluice.yml"), format!("{examples}/tenants")], NOW);
    let kinds: Vec<FileKind> = report.files.iter().map(|file| file.kind).collect();
    assert_eq!(kinds, [Host, Tenant, Tenant, Tenant, Tenant], "{report}");
    assert!(report.diagnostics.is_empty(), "{report}");
}

#[test]
fn faults_of_all_files_come_together() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let paths = [
        file("a.yml", TENANT.as_bytes()),
        file("b.yml", TENANT.replace("t_name: demo", "t_name: other").as_bytes()),
        file("c.yml", b"t_name: c\nnw_name: \xff\xfe\n"),
        file("d.yml", b"hello: world\n"),
        file("e.yml", &HOST.as_bytes()[..600]),
        directory.path().join("missing.yml"),
    ];
    let report = check_files(&paths, NOW);
    let found: Vec<(String, usize, usize, bool)> = report
        .diagnostics
        .iter()
        .map(|fault| {
            let name = fault.file.rsplit('/').next().unwrap().to_owned();
            (name, fault.line, fault.column, fault.is_error())
        })
        .collect();
    let expected =
        [("b.yml", 5, 9), ("b.yml", 11, 12), ("c.yml", 2, 10), ("d.yml", 1, 1), ("missing.yml", 1, 1)];
    let expected = expected.map(|(name, line, column)| (name.to_owned(), line, column, true));
    assert_eq!(
        found.iter().filter(|(name, ..)| name != "e.yml").cloned().collect::<Vec<_>>(),
        expected,
        "{report}"
    );
    assert!(found.iter().any(|(name, ..)| name == "e.yml"), "{report}");
    assert!(report.has_errors());
    let kinds: Vec<FileKind> = report.files.iter().map(|file| file.kind).collect();
    assert_eq!(kinds, [Tenant, Tenant, Unknown, Unknown, Host, Unknown]);
    assert!(report.to_string().ends_with("6 files, 6 errors, 0 warnings"), "{report}");
}

#[test]
fn a_window_is_judged_by_the_host_that_has_to_look_back_over_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let tenant = |window: &str| file("a.yml", &format!("{TENANT}window: {window}\n"));
    let host = |interval: &str| {
        file("host.yml", &format!("transit: {{uplink: eth0}}\nsample_interval: {interval}\n"))
    };
    let found = |paths: &[std::path::PathBuf]| check_files(paths, NOW).diagnostics;

    assert_eq!(found(&[tenant("1h"), host("1s")]), []);
    let [refused] = &found(&[tenant("2h"), host("1s")])[..] else { panic!("one fault") };
    assert!(refused.is_error() && refused.line == TENANT.lines().count() + 1, "{refused}");
    assert_eq!(
        refused.message,
        "a window of 2h is longer than samples are kept to look back on: 4096 of them, one in 1s, are 1h 8m 16s"
    );
    assert_eq!(found(&[tenant("2h"), host("2s")]), []);
    let [warned] = &found(&[tenant("2h")])[..] else { panic!("one warning") };
    assert!(!warned.is_error(), "{warned}");
    let pushed = "tenant: a\nnetworks: [{name: n, subnet: 19.0.0.0/24}]\nservices: [{vip: 45.0.0.1, protocol: tcp}]\n\
                  group: {min: 1, max: 2}\npolicies: [{reactive: {metric: custom/queue, threshold: 3, window: 24h}}]\n";
    assert_eq!(found(&[file("a.yml", pushed), host("1s")]), [], "it comes at a pace of its own");
}

#[test]
fn a_tenant_that_no_cloud_can_run_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let tenant = "tenant: a\nnetworks: [{name: n, subnet: 19.0.0.0/24}]\nservices: [{vip: 45.0.0.1, protocol: tcp}]\n\
                  group: {min: 1, max: 2}\ntemplate: {docker: {image: x}}\n";
    let tenant = file("a.yml", tenant);
    let host = |clouds: &str| file("host.yml", &format!("transit: {{uplink: eth0}}\n{clouds}"));
    for clouds in ["", "clouds: [{name: l, provider: netns}]\n"] {
        let [found] = &check_files(&[host(clouds), tenant.clone()], NOW).diagnostics[..] else { panic!() };
        assert!(!found.is_error() && found.line == 1, "{found}");
        assert!(
            found.message.contains("for `docker` only") && found.message.contains("of `netns`"),
            "{found}"
        );
    }
    let both = "clouds: [{name: l, provider: netns}, {name: d, provider: docker}]\n";
    assert_eq!(check_files(&[host(both), tenant.clone()], NOW).diagnostics, []);
    assert_eq!(check_files(&[tenant], NOW).diagnostics, [], "its host is not known");
}

#[test]
fn a_directory_without_tenants_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let found = || check_files(&[directory.path()], NOW).diagnostics;
    let [empty] = &found()[..] else { panic!("one warning") };
    assert!(!empty.is_error() && empty.help.as_deref() == Some("it is empty"), "{empty}");
    for name in ["README", ".hidden.yml", "demo.yml~"] {
        fs::write(directory.path().join(name), TENANT).unwrap();
    }
    let [others] = &found()[..] else { panic!("one warning") };
    assert!(others.help.as_ref().unwrap().contains("none of the 3 entries"), "{others}");
    fs::write(directory.path().join("demo.yml"), TENANT).unwrap();
    assert_eq!(found(), []);
}

#[test]
fn a_file_that_is_named_twice_is_checked_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("demo.yml");
    fs::write(&path, TENANT).unwrap();
    let report = check_files(&[directory.path(), &path], NOW);
    assert_eq!((report.files.len(), report.diagnostics), (1, vec![]));
}

#[test]
fn no_fault_hides_another() {
    let text = format!(
        "{}policies:\n  - static: {{time_zone: Europe/Berln, entries: [{{cron: \"0 25 * * *\", duration: 1h, count: 9}}]}}\n",
        "tenant: a\nnetworks: [{name: n, subnet: 19.0.0.0/24}]\nservices: [{vip: 45.0.0.1, protocol: tcp}]\n\
         group: {min: 1, max: 5}\n"
    );
    let (kind, found) = check_bytes("a.yml", text.as_bytes(), &mut Seen::default());
    assert_eq!((kind, found.len()), (Tenant, 3), "{found:#?}");
    let anchored = text.replace("name: n", "name: &a n");
    let (kind, found) = check_bytes("a.yml", anchored.as_bytes(), &mut Seen::default());
    assert_eq!((kind, found.len()), (Tenant, 4), "{found:#?}");
}

#[test]
fn dates_that_are_past_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yml");
    let text = "tenant: a\nnetworks: [{name: n, subnet: 19.0.0.0/24}]\nservices: [{vip: 45.0.0.1, protocol: tcp}]\n\
                group: {min: 1, max: 2}\npolicies:\n\
                - static: {time_zone: Europe/Berlin, entries: [{at: 2020-01-01 00:00, duration: 1h, count: 2}]}\n\
                - rules: {default: {min: 1, max: 2, default: 1}, profiles: \
                [{name: x, from: 2020-01-01 00:00, to: 2020-01-01 02:00, min: 1, max: 2, default: 2}]}\n";
    fs::write(&path, text).unwrap();
    let found = |now: &str| -> Vec<(usize, bool, String)> {
        let report = check_files(&[&path], now.parse().unwrap());
        report.diagnostics.into_iter().map(|it| (it.line, it.is_error(), it.message)).collect()
    };
    let entry = (6, false, "the entry of 2020-01-01T00:00:00 is past: it changes nothing".to_owned());
    let profile =
        (7, false, "the profile `x`, until 2020-01-01T02:00:00, is past: it changes nothing".to_owned());
    assert_eq!(found("2019-12-31T23:59:59Z"), [], "in Berlin it holds");
    assert_eq!(found("2020-01-01T00:00:00Z"), std::slice::from_ref(&entry));
    assert_eq!(found("2020-01-01T02:00:00Z"), [entry, profile]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_checked(bytes in any::<Vec<u8>>(), at in 0..TENANT.len(), host in any::<bool>()) {
        let example = if host { HOST } else { TENANT };
        let around = [&example.as_bytes()[..at], &bytes, &example.as_bytes()[at..]].concat();
        for bytes in [bytes, around] {
            let mut seen = Seen::default();
            let (kind, found) = check_bytes("a.yml", &bytes, &mut seen);
            prop_assert!(has_errors(&found) || kind == Host || (kind == Tenant && seen.tenants.len() == 1));
        }
    }
}
