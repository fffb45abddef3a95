//! The load: a CSV file, or a scenario.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sluice_logic::simulate::{BadTrace, Point, Scenario, Trace};
use sluice_northbound::terminal::escape;

use super::args::{GapsArg, LoadArgs};
use super::cells;
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
    let trace = Trace::from_points(&points, args.gaps.into()).map_err(|error| match error {
        BadTrace::NotSorted { .. } => wrong(format!(
            "{error}. Times without a zone are UTC: export local ones with their zone, or in seconds"
        )),
        error => wrong(error.to_string()),
    })?;
    Ok((trace, name))
}

/// What separates the cells of a row: the first of these with which the header has both columns.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// So many columns stand in a message.
const MOST_NAMED: usize = 12;

/// A row of the two columns that are of interest, as they were written.
struct Row {
    line: u64,
    time: String,
    value: String,
}

fn points(path: &Path, args: &LoadArgs) -> Result<Vec<Point>, String> {
    let rows = rows(path, args)?;
    let values = || rows.iter().map(|row| row.value.as_str()).filter(|value| !cells::is_nothing(value));
    let comma = cells::comma(values()).map_err(|value| {
        let line = rows.iter().find(|row| row.value == value).map_or(0, |row| row.line);
        let whole = value.replace(',', "");
        let decimal = value.replace(',', ".");
        format!(
            "line {line}, column {}: {} may be {decimal} or {whole}: write a decimal point, and no other separator",
            shown(&args.column),
            shown(value)
        )
    })?;
    let mut points = Vec::with_capacity(rows.len());
    for Row { line, time, value } in &rows {
        let (line, place) = (*line, |column: &str| format!("line {line}, column {}", shown(column)));
        let at = cells::time(time).ok_or_else(|| {
            format!(
                "{}: {} is no time: write RFC 3339, `2026-11-25 08:00:00` (UTC), or seconds",
                place(&args.time_column),
                shown(time)
            )
        })?;
        if cells::is_nothing(value) {
            if args.gaps == GapsArg::Refuse {
                let place = place(&args.column);
                return Err(format!(
                    "{place}: there is no value. Fill it, or say how to take it with `--gaps hold` or `--gaps silent`"
                ));
            }
            continue;
        }
        let value = cells::number(value, comma)
            .ok_or_else(|| format!("{}: {} is no number", place(&args.column), shown(value)))?;
        points.push(Point { at, value, line });
    }
    Ok(points)
}

fn rows(path: &Path, args: &LoadArgs) -> Result<Vec<Row>, String> {
    let unread = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
    let mut beginning = [0; 2];
    let mut file = File::open(path).map_err(|error| unread(&error))?;
    let length = file.read(&mut beginning).map_err(|error| unread(&error))?;
    if matches!(beginning[..length], [0xff, 0xfe] | [0xfe, 0xff]) {
        return Err("it is in UTF-16: save it as UTF-8".to_owned());
    }
    let mut first = None;
    for delimiter in DELIMITERS {
        // Names in other columns may be in any encoding.
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .flexible(true)
            .from_path(path)
            .map_err(|error| unread(&error))?;
        let header = reader.byte_headers().map_err(|error| unread(&error))?;
        let names: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let places = column(&names, &args.time_column, "--time-column")
            .and_then(|time| Ok((time, column(&names, &args.column, "--column")?)));
        match places {
            Ok(places) => return read_rows(reader, places),
            // What is told is about the file as most are.
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_default())
}

/// The place of a column by its name, or by its name in other letters where only one has it.
fn column(names: &[String], wanted: &str, option: &str) -> Result<usize, String> {
    let places = |is: &dyn Fn(&str) -> bool| {
        names.iter().enumerate().filter(|(_, name)| is(name)).map(|(place, _)| place).collect::<Vec<_>>()
    };
    let mut found = places(&|name| name == wanted);
    if found.is_empty() {
        found = places(&|name| name.eq_ignore_ascii_case(wanted));
    }
    match found[..] {
        [place] => Ok(place),
        [] => {
            let mut there: Vec<String> = names.iter().take(MOST_NAMED).map(|name| shown(name)).collect();
            if names.len() > there.len() {
                there.push(format!("and {} more", names.len() - there.len()));
            }
            let there = there.join(", ");
            Err(format!("line 1: there is no column {}, only {there}; name it with {option}", shown(wanted)))
        }
        [first, second, ..] => Err(format!(
            "line 1: the column {} comes twice, as number {} and {}: give each a name of its own",
            shown(wanted),
            first + 1,
            second + 1
        )),
    }
}

fn read_rows<R: Read>(mut reader: csv::Reader<R>, (time, value): (usize, usize)) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |place: usize| {
            let cell = record.get(place).ok_or_else(|| {
                format!("line {line}: it has {} columns, and column {} is wanted", record.len(), place + 1)
            })?;
            Ok::<_, String>(String::from_utf8_lossy(cell).into_owned())
        };
        rows.push(Row { line, time: cell(time)?, value: cell(value)? });
        if rows.len() as u64 > Trace::MOST_STEPS {
            return Err(format!("line {line}: it has more than {} rows: cut it", Trace::MOST_STEPS));
        }
    }
    Ok(rows)
}

/// What stands in the file, for a message: its beginning, with no character that a terminal acts on.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(48).collect();
    let more = if beginning.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", escape(&beginning))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(Trace, String), String> {
        read_with(text.as_bytes(), GapsArg::Refuse)
    }

    fn read_with(bytes: &[u8], gaps: GapsArg) -> Result<(Trace, String), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let args = LoadArgs {
            trace: Some(file.path().to_owned()),
            scenario: None,
            time_column: "timestamp".to_owned(),
            column: "value".to_owned(),
            gaps,
        };
        load(&args).map_err(|failure| match failure {
            Failure::Wrong(message) => message,
            other => panic!("not wrong input: {other:?}"),
        })
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
            ("timestamp,value\n0,1\nsoon,2\n", "line 3, column `timestamp`: `soon` is no time"),
            ("timestamp,value\n0,1\n60,much\n", "line 3, column `value`: `much` is no number"),
            ("timestamp,value\n0,1\n60,NaN\n", "line 3, column `value`: there is no value"),
            ("timestamp,value\n0,1\n60,inf\n", "line 3: the value inf is no load"),
            ("timestamp,value\n0,1\n60,\u{1b}[31m\n", "`\\u{1b}[31m` is no number"),
            ("timestamp,value\n0,1\n60\n", "line 3: it has 1 columns"),
            ("timestamp,value\n0,1\n60,\n", "line 3, column `value`: there is no value"),
            ("timestamp,value\n0,1\n60,null\n", "`--gaps hold`"),
            (
                "timestamp;value\n0;1\n60;100,000\n",
                "line 3, column `value`: `100,000` may be 100.000 or 100000",
            ),
            ("value,timestamp,value\n1,0,1\n", "the column `value` comes twice, as number 1 and 3"),
            ("timestamp,value\n60,1\n0,1\n", "line 3: 1970-01-01T00:00:00Z is not after"),
            ("timestamp,value\n0,1\n60,1\n60,1\n", "line 4"),
            ("timestamp,value\n0,1\n60,1\n120,1\n600,1\n", "line 5: a gap"),
            ("", "there is no column"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn files_are_taken_as_people_export_them() {
        for text in [
            "\u{feff}timestamp,value\n0,1\n60,2.5\n",
            "timestamp,value\r\n0,1\r\n60,2.5",
            "# exported\ntimestamp,value\n# more\n0,1\n60,2.5\n",
            "timestamp;value\n0;1\n60;2,5\n",
            "timestamp\tvalue\n0\t1\n60\t2.5\n",
            "\"timestamp\",\"value\"\n\"0\",\"1\"\n\"60\",\"2.5\"\n",
            "Timestamp,Value,more\n1970-01-01 00:00:00,1\n1970-01-01T00:01:00,2.5,x,y\n",
            "timestamp,value\n0,1\n\n60,2.5\n",
        ] {
            let (trace, _) = read(text).expect(text);
            assert_eq!((trace.interval(), trace.span()), (Duration::from_mins(1), Duration::from_mins(2)));
            assert!((trace.peak() - 2.5).abs() < 1e-12, "{text:?}");
        }
        let latin1 = b"timestamp,value,site\n0,1,M\xfcnchen\n60,2.5,M\xfcnchen\n";
        assert!(read_with(latin1, GapsArg::Refuse).is_ok());
        assert!(read_with(b"\xff\xfet\0", GapsArg::Refuse).unwrap_err().contains("UTF-16"));
        let (trace, _) = read("timestamp,value\n0,\"100,000.5\"\n60,\"1,100,000\"\n").unwrap();
        assert!((trace.peak() - 1_100_000.0).abs() < 1e-9);
    }

    #[test]
    fn an_empty_cell_is_a_gap() {
        for cell in ["", "null", "NaN", "-", "\"\""] {
            let text = format!("timestamp,value\n0,1\n60,2\n120,{cell}\n180,{cell}\n240,3\n300,1\n");
            for gaps in [GapsArg::Hold, GapsArg::Silent] {
                let (trace, _) = read_with(text.as_bytes(), gaps).expect(&text);
                assert_eq!(trace.span(), Duration::from_mins(6));
                let load = trace.load(Duration::from_mins(3), Duration::from_mins(1));
                assert!((load - 2.0).abs() < 1e-12, "{load}");
                let is_silent = trace.is_silent(Timestamp::from_second(200).unwrap());
                assert_eq!(is_silent, gaps == GapsArg::Silent);
            }
        }
    }

    #[test]
    fn thousands_of_columns_are_no_matter() {
        let names: Vec<String> = (0..5_000).map(|number| format!("c{number}")).collect();
        let row = "1,".repeat(5_000);
        let mut text = format!("{},timestamp,value\n", names.join(","));
        for minute in 0..3 {
            let _ = writeln!(text, "{row}{},2", minute * 60);
        }
        assert_eq!(read(&text).unwrap().0.span(), Duration::from_mins(3));
        let error = read(&text.replace("timestamp", "when")).unwrap_err();
        assert!(error.len() < 400 && error.contains("and 4990 more"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_file_is_read_or_refused(
            bytes in any::<Vec<u8>>(),
            near in "timestamp[,;]value\n([0-9T:Z.-]{0,12}[,;]?[\"0-9,.a-]{0,6}\r?\n){0,6}",
        ) {
            for bytes in [&bytes[..], near.as_bytes()] {
                for gaps in [GapsArg::Refuse, GapsArg::Hold] {
                    if let Err(said) = read_with(bytes, gaps) {
                        prop_assert!(!said.is_empty() && said.len() < 2_000, "{said}");
                    }
                }
            }
        }
    }
}
