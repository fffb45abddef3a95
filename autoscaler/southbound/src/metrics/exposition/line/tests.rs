use proptest::prelude::*;

use super::*;

fn read(line: &str) -> Sample<'_> {
    match parse(line, Format::Text) {
        Ok(Line::Sample(sample)) => sample,
        other => panic!("{line}: {other:?}"),
    }
}

fn labels(line: &str) -> Vec<(String, String)> {
    let labels = read(line).labels;
    labels.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

#[test]
fn a_label_s_value_may_have_any_characters() {
    for (line, expected) in [
        (r#"x{a="/users/{id}"} 1"#, "/users/{id}"),
        (r#"x{a="a, b"} 1"#, "a, b"),
        (r#"x{a="a=b"} 1"#, "a=b"),
        (r#"x{a="say \"hi\""} 1"#, "say \"hi\""),
        (r#"x{a="C:\\dir\\"} 1"#, r"C:\dir\"),
        (r#"x{a="two\nlines"} 1"#, "two\nlines"),
        (r#"x{a="\d"} 1"#, r"\d"),
        ("x{a=\"# TYPE\"} 1", "# TYPE"),
        (r#"x{a="\u{1F600} ä"} 1"#, r"\u{1F600} ä"),
        ("x{a=\"\t\u{a0}\"} 1", "\t\u{a0}"),
    ] {
        assert_eq!(labels(line), [("a".to_owned(), expected.to_owned())], "{line}");
    }
}

#[test]
fn blanks_and_commas_stand_where_they_may() {
    let both = [("a", "1"), ("b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    for line in [
        r#"x{a="1",b="2"} 1"#,
        r#"x{b="2",a="1"} 1"#,
        r#" x { a = "1" , b = "2" , }  1  "#,
        "\tx{a=\"1\",b=\"2\",c=\"\"}\t1",
        r#"{"x","a"="1",b="2"} 1"#,
    ] {
        assert_eq!(labels(line), both, "{line}");
    }
    assert_eq!(labels("x{} 1"), []);
    assert_eq!(read("job:busy:ratio 1").name, "job:busy:ratio");
    assert_eq!(read(r#"{"http.requests \"x\"",a="1"} 1"#).name, "http.requests \"x\"");
}

#[test]
fn numbers_are_those_of_prometheus() {
    for (text, expected) in
        [("1", 1.0_f64), ("+1.5e-3", 0.0015), (".5", 0.5), ("5.", 5.0), ("-0", -0.0), ("1E3", 1000.0)]
    {
        assert_eq!(number(text).map(f64::to_bits), Some(expected.to_bits()), "{text}");
    }
    for (text, expected) in
        [("+Inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY), ("Infinity", f64::INFINITY)]
    {
        assert_eq!(number(text), Some(expected), "{text}");
    }
    assert!(number("NaN").unwrap().is_nan() && number("nan").unwrap().is_nan());
    for text in ["", "1,5", "0x10", "1_000", "1e400", "-nan", "+NaN", "1\r", "one", "1e", "--1", "٣"] {
        assert_eq!(number(text), None, "{text}");
    }
}

#[test]
fn a_time_is_in_milliseconds_or_in_seconds() {
    let at = |line, format| match parse(line, format) {
        Ok(Line::Sample(sample)) => sample.at.map(Timestamp::as_millisecond),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(at("x 1 1577836800000", Format::Text), Some(1_577_836_800_000));
    assert_eq!(at("x 1 1577836800.5", Format::OpenMetrics), Some(1_577_836_800_500));
    assert_eq!(at("x 1", Format::Text), None);
    let exemplar = r#"x_total{a="b"} 17 1577836800 # {trace_id="} 5 #"} 0.67 1577836799.5"#;
    assert_eq!(at(exemplar, Format::OpenMetrics), Some(1_577_836_800_000));
    assert_eq!(at(r#"x_bucket{le="1"} 17 # {} 0.67"#, Format::OpenMetrics), None);
}

#[test]
fn what_is_no_sample_says_why() {
    for (line, format, expected) in [
        ("broken{line", Format::Text, "a `=` follows"),
        (r#"x{a="b} 1"#, Format::Text, "does not end"),
        (r#"x{a="b"c="d"} 1"#, Format::Text, "a `,` or `}`"),
        (r#"x{a="1",a="2"} 1"#, Format::Text, "twice"),
        (r#"x{__name__="y"} 1"#, Format::Text, "can't have that name"),
        (r#"x{"y"} 1"#, Format::Text, "a `=` follows"),
        (r#"{a="1"} 1"#, Format::Text, "a series has a name"),
        ("x{a=b} 1", Format::Text, "in quotes"),
        ("x", Format::Text, "a value is missing"),
        ("x{} ", Format::Text, "a value is missing"),
        ("x one", Format::Text, "no number"),
        ("x 1\r", Format::Text, "no number"),
        ("x 1 2 3", Format::Text, "text after"),
        ("x 1 1.5", Format::Text, "milliseconds"),
        ("x 1 99999999999999999", Format::Text, "out of range"),
        ("x 1 # {a=\"b\"} 1", Format::Text, "text after"),
        ("x 1 soon", Format::OpenMetrics, "seconds"),
        ("x_total 1 # {a=\"b\"} y", Format::OpenMetrics, "exemplar"),
        ("x 1 # {a=\"b\"} 1", Format::OpenMetrics, "only counters"),
        ("\u{feff}x 1", Format::Text, "a series has a name"),
        ("<html>", Format::Text, "a series has a name"),
    ] {
        let error = parse(line, format).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn comments_say_nothing_here() {
    for line in ["", "  ", "#", "# HELP x \\n", "# TYPE x nonsense", "#comment", "\t# UNIT x s"] {
        assert_eq!(parse(line, Format::Text), Ok(Line::Nothing), "{line}");
    }
    assert_eq!(parse("# EOF", Format::Text), Ok(Line::Nothing));
    assert_eq!(parse("# EOF", Format::OpenMetrics), Ok(Line::End));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_line_is_read_or_refused(line in any::<String>(), near in "[a{}\"\\\\=, 1#\\.e\\-]{0,40}") {
        for format in [Format::Text, Format::OpenMetrics] {
            let _ = parse(&line, format);
            let _ = parse(&near, format);
        }
    }

    #[test]
    fn what_was_written_is_read_back(
        written in prop::collection::btree_map("[a-z_]{1,5}", "\\PC{1,8}", 0..4), value in any::<f64>(),
    ) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let pairs: Vec<String> =
            written.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let line = format!("x{{{}}} {value}", pairs.join(","));
        let read = parse(&line, Format::Text);
        let Ok(Line::Sample(sample)) = read else { panic!("{line}: {read:?}") };
        let labels: Vec<_> = sample.labels.iter().map(|(name, text)| (&**name, &**text)).collect();
        prop_assert_eq!(labels, written.iter().map(|(name, text)| (&**name, &**text)).collect::<Vec<_>>());
        prop_assert!(sample.value.to_bits() == value.to_bits() || value.is_nan());
    }
}
