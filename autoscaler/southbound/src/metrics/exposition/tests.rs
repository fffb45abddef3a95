use proptest::prelude::*;

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
queue_depth NaN
"#;

/// A summary and a histogram.
const SHARES: &str = r#"# TYPE rpc_seconds summary
rpc_seconds{quantile="0.5"} 0.05
rpc_seconds{quantile="0.99"} 1
rpc_seconds_sum 12
rpc_seconds_count 100
# TYPE call_seconds histogram
call_seconds_bucket{le="0.1",path="/a"} 3
call_seconds_bucket{le="0.1",path="/b"} 4
call_seconds_bucket{le="+Inf",path="/a"} 5
call_seconds_bucket{le="+Inf",path="/b"} 6
call_seconds_sum{path="/a"} 1
call_seconds_count{path="/a"} 5
"#;

fn exporter(series: &str, labels: &[(&str, &str)]) -> Exporter {
    let owned = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Exporter {
        port: 9100,
        path: "/metrics".to_owned(),
        series: series.to_owned(),
        labels: owned.collect(),
        rate: false,
    }
}

fn asked_in(format: Format, page: &str, series: &str, labels: &[(&str, &str)]) -> Result<Value, String> {
    let mut reading = Page::new(exporter(series, labels), format);
    reading.push(page.as_bytes())?;
    reading.finish()
}

fn asked(page: &str, series: &str, labels: &[(&str, &str)]) -> Result<f64, String> {
    asked_in(Format::Text, page, series, labels).map(|found| found.value)
}

#[test]
fn a_series_is_found_by_its_whole_name_and_its_labels() {
    assert_eq!(asked(NODE, "node_load1", &[]), Ok(0.31));
    assert_eq!(asked(NODE, "node_memory_MemAvailable_bytes", &[]), Ok(3_744_468_992.0));
    assert_eq!(asked(NODE, "node_cpu_seconds_total", &[("mode", "user")]), Ok(11.75));
    assert_eq!(asked(NODE, "node_cpu_seconds_total", &[("mode", "user"), ("cpu", "1")]), Ok(5.25));
    assert_eq!(asked(NODE, "node_load1", &[("cpu", "")]), Ok(0.31), "an empty label is an absent one");
    assert!(asked(NODE, "queue_depth", &[]).unwrap().is_nan(), "who takes samples refuses it");
}

#[test]
fn what_is_not_there_is_an_error_and_not_zero() {
    for (series, labels, expected) in [
        ("node_load", &[][..], "no value of the series node_load{}"),
        ("node_cpu_seconds_total", &[("mode", "st\"eal")], r#"node_cpu_seconds_total{mode="st\"eal"}"#),
        ("node_cpu_seconds", &[], "it has `node_cpu_seconds_total`"),
    ] {
        let error = asked(NODE, series, labels).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = asked(SHARES, "call_seconds", &[]).unwrap_err();
    assert!(
        error.contains("`call_seconds_sum` and `call_seconds_count` and `call_seconds_bucket`"),
        "{error}"
    );
}

#[test]
fn a_line_that_can_not_be_read_refuses_the_page() {
    for line in ["broken{line", "node_load1{cpu=\"0\"} much", "other 1\r", "x{a=\"\u{1b}[31m\""] {
        let page = format!("node_load1 0.31\n{line}\nnode_load1{{cpu=\"1\"}} 2\n");
        let error = asked(&page, "node_load1", &[]).unwrap_err();
        assert!(error.contains("line 2, which can't be read"), "{error}");
        assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
    }
    let mut reading = Page::new(exporter("x", &[]), Format::Text);
    let error = reading.push(b"x 1\nx{a=\"\xff\"} 1\n").unwrap_err();
    assert!(error.contains("line 2") && error.contains("UTF-8"), "{error}");
    let long = format!("x{{a=\"{}\" 1\n", "b".repeat(5_000));
    assert!(asked(&long, "x", &[]).unwrap_err().len() < 300);
}

#[test]
fn shares_of_a_metric_are_not_added_up() {
    let error = asked(SHARES, "rpc_seconds", &[]).unwrap_err();
    assert!(error.contains("`quantile`") && error.contains("`rpc_seconds_sum`"), "{error}");
    assert_eq!(asked(SHARES, "rpc_seconds", &[("quantile", "0.99")]), Ok(1.0));
    assert_eq!(asked(SHARES, "rpc_seconds_sum", &[]), Ok(12.0));
    let error = asked(SHARES, "call_seconds_bucket", &[("path", "/a")]).unwrap_err();
    assert!(error.contains("`le`") && error.contains("`call_seconds_count`"), "{error}");
    assert_eq!(asked(SHARES, "call_seconds_bucket", &[("le", "0.1")]), Ok(7.0), "a count is a sum of counts");
    let two = "x{quantile=\"0.5\",path=\"/a\"} 1\nx{quantile=\"0.5\",path=\"/b\"} 2\n";
    assert!(asked(two, "x", &[("quantile", "0.5")]).unwrap_err().contains("2 series"));
}

#[test]
fn a_series_that_comes_twice_is_counted_once_or_refused() {
    assert_eq!(asked("x{a=\"1\",b=\"2\"} 3\nx{b=\"2\",a=\"1\"} 3\nx 4\n", "x", &[]), Ok(7.0));
    let error = asked("x 3\nx{a=\"\"} 4\n", "x", &[]).unwrap_err();
    assert!(error.contains("line 2") && error.contains("twice"), "{error}");
}

#[test]
fn the_time_of_a_sum_is_that_of_its_oldest_part() {
    let page = "x{a=\"1\"} 3 1577836800000\nx{a=\"2\"} 4 1577836700000\nx{a=\"3\"} 5\n";
    let found = asked_in(Format::Text, page, "x", &[]).unwrap();
    assert_eq!(found, Value { value: 12.0, at: Timestamp::from_second(1_577_836_700).ok() });
}

#[test]
fn a_page_of_openmetrics_ends_with_its_mark() {
    let page = "# TYPE x counter\nx_total 3 1577836800.25 # {a=\"b\"} 1\nx_created 1577836700\n";
    let read = |page: &str| asked_in(Format::OpenMetrics, page, "x_total", &[]);
    let expected = Value { value: 3.0, at: Timestamp::from_millisecond(1_577_836_800_250).ok() };
    assert_eq!(read(&format!("{page}# EOF\n")), Ok(expected));
    assert_eq!(read(&format!("{page}# EOF")), Ok(expected));
    assert!(read(page).unwrap_err().contains("# EOF"));
    assert!(read(&format!("{page}# EOF\ny 1\n")).unwrap_err().contains("line 5"));
}

#[test]
fn a_page_is_bounded() {
    let page = "y 1\n".repeat(LARGEST / 4);
    assert_eq!(
        asked(&format!("x 5\n{}", &page[4..]), "x", &[]),
        Ok(5.0),
        "without a line break at its end too"
    );
    assert!(asked(&format!("x 5\n{page}"), "x", &[]).unwrap_err().contains("more than 1 MiB"));
    let line = format!("x 1\nx{{a=\"{}\"}} 1\n", "b".repeat(LONGEST_LINE));
    assert!(asked(&line, "x", &[]).unwrap_err().contains("line 2 has more than 64 KiB"));
    let many: Vec<String> = (0..=MOST_SERIES).map(|number| format!("x{{a=\"{number}\"}} 1\n")).collect();
    assert!(asked(&many.concat(), "x", &[]).unwrap_err().contains("line 5001"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_page_says_the_same_in_any_parts(
        page in "([xy](\\{a=\"[01\\\\\"]{0,2}\"\\})? [0-9]{1,2}( 1577836800000)?\n|#[ -~]{0,5}\n|[ -~]{0,6}\n){0,8}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(page.len() + 1)).collect();
        cuts.extend([0, page.len()]);
        cuts.sort_unstable();
        for format in [Format::Text, Format::OpenMetrics] {
            let whole = asked_in(format, &page, "x", &[]);
            let mut reading = Page::new(exporter("x", &[]), format);
            let pushed = cuts.windows(2).try_for_each(|cut| reading.push(&page.as_bytes()[cut[0]..cut[1]]));
            prop_assert_eq!(pushed.and_then(|()| reading.finish()), whole);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        for format in [Format::Text, Format::OpenMetrics] {
            let mut reading = Page::new(exporter("x", &[]), format);
            let _ = reading.push(&bytes).and_then(|()| reading.finish());
        }
    }
}
