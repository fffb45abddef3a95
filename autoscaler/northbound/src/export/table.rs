//! Rows as CSV or as lines of JSON.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Format;

/// A kind of row. As JSON it is written as it is; as CSV by its cells.
pub(super) trait Row: Serialize {
    /// The header.
    fn columns() -> Vec<&'static str>;

    /// As many as there are columns.
    fn cells(&self) -> Vec<Cell<'_>>;
}

/// One value of a CSV row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    /// Nothing is known: not zero.
    Empty,
    /// What somebody else may have written.
    Text(&'a str),
    /// What we have written.
    Words(String),
    Time(Timestamp),
    Number(f64),
    Whole(u64),
}

impl Cell<'_> {
    pub(super) fn number(value: Option<f64>) -> Self {
        value.map_or(Self::Empty, Self::Number)
    }

    pub(super) fn time(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Empty, Self::Time)
    }

    fn written(&self, zone: &TimeZone) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => harmless(text),
            Self::Words(text) => harmless(text),
            // RFC 3339 with the zone's offset, so that the hour that comes twice a year can be told apart.
            Self::Time(at) => {
                at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
            }
            Self::Number(value) => value.to_string(),
            Self::Whole(value) => value.to_string(),
        }
    }
}

/// A text that no spreadsheet takes for a formula: those that begin like one get an apostrophe before them, which
/// spreadsheets take as "this is a text" (OWASP, "CSV injection").
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// Where rows go.
pub(super) struct Table<W: Write> {
    sink: Sink<W>,
    zone: TimeZone,
    headed: bool,
}

enum Sink<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Json(io::BufWriter<W>),
}

impl<W: Write> Table<W> {
    pub(super) fn new(format: Format, zone: TimeZone, out: W) -> Self {
        let sink = match format {
            Format::Csv => {
                let mut builder = csv::WriterBuilder::new();
                builder.terminator(csv::Terminator::CRLF);
                Sink::Csv(Box::new(builder.from_writer(out)))
            }
            Format::Json => Sink::Json(io::BufWriter::new(out)),
        };
        Self { sink, zone, headed: false }
    }

    /// Writes the header of a CSV; also where no row follows.
    pub(super) fn head<R: Row>(&mut self) -> io::Result<()> {
        if let Sink::Csv(csv) = &mut self.sink
            && !self.headed
        {
            csv.write_record(R::columns())?;
        }
        self.headed = true;
        Ok(())
    }

    /// Writes a row.
    pub(super) fn row<R: Row>(&mut self, row: &R) -> io::Result<()> {
        match &mut self.sink {
            Sink::Csv(csv) => {
                csv.write_record(row.cells().iter().map(|cell| cell.written(&self.zone)))?;
            }
            Sink::Json(out) => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self.sink {
            Sink::Csv(mut csv) => csv.flush(),
            Sink::Json(mut out) => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Line(&'static str, f64);

    impl Row for Line {
        fn columns() -> Vec<&'static str> {
            vec!["time", "text", "number", "missing"]
        }

        fn cells(&self) -> Vec<Cell<'_>> {
            let at = Timestamp::from_millisecond(1_700_000_000_007).unwrap();
            vec![Cell::Time(at), Cell::Text(self.0), Cell::Number(self.1), Cell::Empty]
        }
    }

    fn written(format: Format, rows: &[Line]) -> String {
        let mut out = Vec::new();
        let mut table = Table::new(format, TimeZone::get("Europe/Berlin").unwrap(), &mut out);
        table.head::<Line>().unwrap();
        rows.iter().try_for_each(|row| table.row(row)).unwrap();
        table.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_is_by_rfc_4180() {
        let text = written(Format::Csv, &[Line("say \"hi\", twice\nand end", 0.25)]);
        let expected = "time,text,number,missing\r\n2023-11-14T23:13:20.007+01:00,\"say \"\"hi\"\", twice\nand \
                        end\",0.25,\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_rows_are_a_header() {
        assert_eq!(written(Format::Csv, &[]), "time,text,number,missing\r\n");
        assert_eq!(written(Format::Json, &[]), "");
    }

    #[test]
    fn a_text_is_no_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1"] {
            assert!(harmless(text).starts_with('\''), "{text}");
        }
        let row = written(Format::Csv, &[Line("=HYPERLINK(\"x\")", -1.0)]);
        assert!(row.contains("\"'=HYPERLINK(\"\"x\"\")\",-1,"), "a negative number stays one: {row}");
        assert_eq!(harmless("plain = text"), "plain = text");
    }

    #[test]
    fn json_is_a_line_a_row() {
        assert_eq!(written(Format::Json, &[Line("a", 1.0), Line("=b", 2.0)]), "[\"a\",1.0]\n[\"=b\",2.0]\n");
    }
}
