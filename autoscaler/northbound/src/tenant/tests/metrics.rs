//! A tenant's own metrics.

use std::time::Duration;

use sluice_logic::spec::{MetricSource, MetricSpec};

use crate::tenant::parse;

const BEGINNING: &str = "\
tenant: shop
networks: [{name: a, subnet: 19.0.1.0/24}]
services: [{vip: 45.45.45.46, protocol: tcp}]
group: {min: 2, max: 5}
metrics:
";

fn metrics(items: &str) -> Vec<MetricSpec> {
    let text = format!("{BEGINNING}{items}");
    parse("shop.yml", &text).unwrap_or_else(|faults| panic!("{faults:#?}")).spec.metrics
}

#[test]
fn every_source_with_its_defaults() {
    let found = metrics(
        "  - {name: queue, push: true}
  - {name: load, exporter: {port: 9100, series: node_load1}}
  - {name: busy, interval: 2s, stale_after: 10s, \
exporter: {port: 9100, path: /m, series: cpu_total, labels: {mode: user}, rate: true}}
  - {name: rps, timeout: 1s, prometheus: {url: 'http://127.0.0.1:9090/', query: 'sum(rate(x[1m]))', by: instance}}
",
    );
    let times: Vec<_> =
        found.iter().map(|m| (m.interval, m.timeout, m.stale_after).into()).collect::<Vec<[Duration; 3]>>();
    let seconds = |all: [u64; 3]| all.map(Duration::from_secs);
    assert_eq!(times, [[60, 5, 180], [15, 5, 45], [2, 2, 10], [15, 1, 45]].map(seconds));
    assert_eq!(found[0].source, MetricSource::Push);
    let MetricSource::Exporter(load) = &found[1].source else { panic!() };
    assert_eq!((load.path.as_str(), load.labels.len(), load.rate), ("/metrics", 0, false));
    let MetricSource::Exporter(busy) = &found[2].source else { panic!() };
    assert_eq!((busy.labels["mode"].as_str(), busy.rate), ("user", true));
    let MetricSource::Prometheus(rps) = &found[3].source else { panic!() };
    assert_eq!((rps.url.as_str(), rps.by.as_deref()), ("http://127.0.0.1:9090", Some("instance")));
}

#[test]
fn each_fault_has_its_place() {
    let table = [
        ("»{name: a}", "says not where it comes from"),
        ("»{name: a, push: true, exporter: {port: 1, series: x}}", "more than one source"),
        ("{name: »A, push: true}", "not a metric's name"),
        ("»{push: true}", "the key `name` is missing"),
        ("{name: a, push: »false}", "says nothing"),
        ("{name: a, exporter: {port: »0, series: x}}", "0 is out of range"),
        ("{name: a, exporter: {port: 1, series: »a b}}", "not a name as Prometheus has them"),
        ("{name: a, exporter: {port: 1, series: »'a{b=\"c\"}'}}", "labels as `labels: "),
        ("{name: a, exporter: {port: 1, series: »7}}", "not a name as Prometheus has them"),
        ("{name: a, exporter: {port: 1, series: x, path: »metrics}}", "not the path of a URL"),
        ("{name: a, exporter: {port: 1, series: x, labels: »[a]}}", "expected labels"),
        ("{name: a, exporter: {port: 1, »serie: x, series: x}}", "did you mean `series`?"),
        ("{name: a, prometheus: {url: »'https://x', query: y}}", "https is not spoken"),
        ("{name: a, prometheus: »{url: 'http://x'}}", "the key `query` is missing"),
        ("{name: a, push: true, interval: »10ms}", "out of range: 1s to 1h"),
        ("{name: a, interval: 5s, timeout: »6s, exporter: {port: 1, series: x}}", "out of range: 10ms to 5s"),
        ("{name: a, push: true, stale_after: »30s}", "out of range: 1m to 24h"),
        ("{name: a, push: true}\n  - {name: »a, push: true}", "comes twice: see line 6"),
    ];
    for (item, fragment) in table {
        let marked = format!("{BEGINNING}  - {item}\n");
        let (before, after) = marked.split_once('»').unwrap();
        let place =
            (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap().chars().count() + 1);
        let faults = parse("shop.yml", &format!("{before}{after}")).unwrap_err();
        let [fault] = faults.as_slice() else { panic!("{item}: {faults:#?}") };
        let all = format!("{} / {}", fault.message, fault.help.as_deref().unwrap_or_default());
        assert!(all.contains(fragment), "{item}: `{fragment}` is not in `{all}`");
        assert_eq!((fault.line, fault.column), place, "{item}: {fault}");
    }
}

#[test]
fn the_example_has_every_key() {
    const EXAMPLE: &str = include_str!("../../../../../examples/tenants/metrics.yml");
    let tenant = parse("metrics.yml", EXAMPLE).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(tenant.warnings, []);
    assert_eq!(tenant.spec.metrics.len(), 3);
    for key in
        ["push", "exporter", "prometheus", "port", "path", "series", "labels", "rate", "url", "query", "by"]
            .into_iter()
            .chain(["name", "interval", "timeout", "stale_after"])
    {
        assert!(EXAMPLE.contains(&format!("{key}:")), "{key}");
    }
    let text = serde_json::to_string(&tenant.spec).unwrap();
    assert_eq!(serde_json::from_str::<sluice_logic::spec::TenantSpec>(&text).unwrap(), tenant.spec, "{text}");
}
