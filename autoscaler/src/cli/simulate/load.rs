//! The load: a CSV file, or a scenario.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sluice_logic::simulate::{Point, Scenario, Trace};

use super::args::LoadArgs;
use crate::cli::Failure;

/// The trace that the arguments name, and what to call it.
pub(super) fn load(args: &LoadArgs) -> Result<(Trace, String), Failure> {
    if let Some(scenario) = args.scenario {
        let name = Scenario::ALL.iter().find(|(_, known)| *known == scenario);
        return Ok((scenario.trace(), name.map_or_else(String::new, |(name, _)| (*name).to_owned())));
    }
    let Some(path) = &args.trace else {
        return Err(Failure::Wrong("there is no load: name one with --trace or --scenario".to_owned()));
    };
    let name = path.display().to_string();
    let wrong = |message: String| Failure::Wrong(format!("{name}: {message}"));
    let points = points(path, args).map_err(wrong)?;
    let trace = Trace::from_points(&points, args.gaps.into()).map_err(|error| wrong(error.to_string()))?;
    Ok((trace, name))
}

fn points(path: &Path, args: &LoadArgs) -> Result<Vec<Point>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let header = reader.headers().map_err(|error| format!("its header cannot be read: {error}"))?.clone();
    let place = |column: &str, option: &str| {
        header.iter().position(|name| name == column).ok_or_else(|| {
            let there = header.iter().collect::<Vec<_>>().join("`, `");
            format!("line 1: there is no column `{column}`, only `{there}`; name it with {option}")
        })
    };
    let (time, value) = (place(&args.time_column, "--time-column")?, place(&args.column, "--column")?);
    let record = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| error.to_string())?;
        point(&record, time, value)
    };
    reader.records().map(record).collect()
}

fn point(record: &csv::StringRecord, time: usize, value: usize) -> Result<Point, String> {
    let line = record.position().map_or(0, csv::Position::line);
    let field = |place: usize| record.get(place).unwrap_or_default();
    let at = timestamp(field(time)).ok_or_else(|| {
        let found = field(time);
        format!("line {line}: `{found}` is no time: write RFC 3339, `2026-11-25 08:00:00` (UTC), or seconds")
    })?;
    let number = field(value).parse().map_err(|_| format!("line {line}: `{}` is no number", field(value)))?;
    Ok(Point { at, value: number, line })
}

fn timestamp(text: &str) -> Option<Timestamp> {
    if let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite()) {
        #[expect(clippy::cast_possible_truncation, reason = "out of range saturates, and is refused")]
        return Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok();
    }
    let civil = || TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
    text.parse().ok().or_else(civil)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::cli::simulate::args::GapsArg;

    fn read(text: &str) -> Result<(Trace, String), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let args = LoadArgs {
            trace: Some(file.path().to_owned()),
            scenario: None,
            time_column: "timestamp".to_owned(),
            column: "value".to_owned(),
            gaps: GapsArg::Refuse,
        };
        load(&args).map_err(|failure| match failure {
            Failure::Wrong(message) => message,
            other => panic!("not wrong input: {other:?}"),
        })
    }

    #[test]
    fn times_are_rfc_3339_civil_or_seconds() {
        let expected = Timestamp::from_second(1_000_000_000).unwrap();
        for text in ["2001-09-09T01:46:40Z", "2001-09-09 01:46:40", "1000000000", "2001-09-09T03:46:40+02:00"]
        {
            assert_eq!(timestamp(text), Some(expected), "{text}");
        }
        assert!(["", "yesterday", "NaN", "1e300"].iter().all(|text| timestamp(text).is_none()));
    }

    #[test]
    fn a_file_is_read_with_its_other_columns() {
        let (trace, _) = read("host, timestamp ,value\na,0,1.5\nb,60,2\n").unwrap();
        assert!((trace.peak() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        for (text, expected) in [
            (
                "time,value\n0,1\n60,2\n",
                "line 1: there is no column `timestamp`, only `time`, `value`; name it with --time-column",
            ),
            ("timestamp,load\n0,1\n", "line 1: there is no column `value`"),
            ("timestamp,value\n0,1\nsoon,2\n", "line 3: `soon` is no time"),
            ("timestamp,value\n0,1\n60,much\n", "line 3: `much` is no number"),
            ("timestamp,value\n0,1\n60,NaN\n", "line 3: the value NaN is no load"),
            ("timestamp,value\n0,1\n60\n", "line: 3"),
            ("timestamp,value\n60,1\n0,1\n", "line 3: 1970-01-01T00:00:00Z is not after"),
            ("timestamp,value\n0,1\n60,1\n60,1\n", "line 4"),
            ("timestamp,value\n0,1\n60,1\n120,1\n600,1\n", "line 5: a gap"),
            ("", "there is no column"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(expected), "{text:?}: {said}");
        }
    }
}
