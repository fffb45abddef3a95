//! Prometheus's text format, version 0.0.4: pure.

use prometheus_parse::{Scrape, Value};
use sluice_logic::spec::Exporter;

/// The value of the series that an exporter is asked for: the sum where several have its name and labels.
///
/// Of a histogram or a summary there is no one value; name its `_sum` or `_count`.
pub(super) fn value(text: &str, exporter: &Exporter) -> Result<f64, String> {
    // Thousands of lines are about other series.
    let lines =
        text.lines().filter(|line| line.starts_with(&exporter.series)).map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).map_err(|error| error.to_string())?;
    let has = |labels: &prometheus_parse::Labels| {
        exporter.labels.iter().all(|(name, wanted)| labels.get(name) == Some(wanted))
    };
    let wanted =
        scrape.samples.iter().filter(|sample| sample.metric == exporter.series && has(&sample.labels));
    let values = wanted.filter_map(|sample| match sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
        Value::Histogram(_) | Value::Summary(_) => None,
    });
    let all: Vec<f64> = values.collect();
    if all.is_empty() {
        let labels: Vec<String> =
            exporter.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        return Err(format!("no value of the series {}{{{}}}", exporter.series, labels.join(",")));
    }
    Ok(all.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's prometheus-node-exporter writes it, abridged.
    const NODE: &str = r#"# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.31
# HELP node_load15 15m load average.
# TYPE node_load15 gauge
node_load15 0.11
# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} 1066.81
node_cpu_seconds_total{cpu="0",mode="user"} 6.5
node_cpu_seconds_total{cpu="1",mode="idle"} 1064.11
node_cpu_seconds_total{cpu="1",mode="user"} 5.25
# TYPE node_memory_MemAvailable_bytes gauge
node_memory_MemAvailable_bytes 3.744468992e+09
broken{line
queue_depth NaN
"#;

    fn asked(series: &str, labels: &[(&str, &str)]) -> Result<f64, String> {
        let owned = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let exporter = Exporter {
            port: 9100,
            path: "/metrics".to_owned(),
            series: series.to_owned(),
            labels: owned.collect(),
            rate: false,
        };
        value(NODE, &exporter)
    }

    #[test]
    fn a_series_is_found_by_its_whole_name_and_its_labels() {
        assert_eq!(asked("node_load1", &[]), Ok(0.31));
        assert_eq!(asked("node_memory_MemAvailable_bytes", &[]), Ok(3_744_468_992.0));
        assert_eq!(asked("node_cpu_seconds_total", &[("mode", "user")]), Ok(11.75));
        assert_eq!(asked("node_cpu_seconds_total", &[("mode", "user"), ("cpu", "1")]), Ok(5.25));
    }

    #[test]
    fn what_is_not_there_is_an_error_and_not_zero() {
        for (series, labels) in [("node_load", &[][..]), ("node_cpu_seconds_total", &[("mode", "steal")])] {
            let error = asked(series, labels).unwrap_err();
            assert!(error.contains(series), "{error}");
        }
        assert!(asked("queue_depth", &[]).unwrap().is_nan(), "who takes samples refuses it");
    }
}
