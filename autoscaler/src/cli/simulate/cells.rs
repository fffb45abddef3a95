//! What stands in the cells of people's exports: times and numbers, as monitoring systems and spreadsheets write them. Pure.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What stands for "no value".
const NOTHING: [&str; 10] = ["", "-", "null", "nil", "none", "nan", "na", "n/a", "#n/a", "undefined"];

/// Whether a cell says that there is no value.
pub(super) fn is_nothing(cell: &str) -> bool {
    NOTHING.contains(&cell.to_ascii_lowercase().as_str())
}

/// A time: RFC 3339, a date and time without a zone, which is UTC, or a number since 1970.
pub(super) fn time(cell: &str) -> Option<Timestamp> {
    if let Some(number) = cell.parse::<f64>().ok().filter(|number| number.is_finite()) {
        #[expect(clippy::cast_possible_truncation, reason = "out of range saturates, and is refused")]
        return Timestamp::from_millisecond((number * milliseconds(number.abs())).round() as i64).ok();
    }
    let civil = || TimeZone::UTC.to_timestamp(cell.parse::<DateTime>().ok()?).ok();
    cell.parse().ok().or_else(civil)
}

/// How many milliseconds the unit of a number since 1970 has. In seconds, the first bound is the year 5138; in
/// milliseconds it is 1973.
fn milliseconds(number: f64) -> f64 {
    match number {
        _ if number < 1e11 => 1e3,
        _ if number < 1e14 => 1.0,
        _ if number < 1e17 => 1e-3,
        _ => 1e-6,
    }
}

/// What a comma within a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comma {
    /// As in `0,5`.
    Decimal,
    /// As in `1,000.5`.
    Thousands,
}

/// What the first number that leaves no doubt says of all in its column; `Err` has one that leaves it, where all do.
pub(super) fn comma<'c>(mut cells: impl Iterator<Item = &'c str>) -> Result<Comma, &'c str> {
    let mut doubtful = None;
    let clear = cells.find_map(|written| {
        let unsigned = written.trim_start_matches(['-', '+']);
        let (before, after) = unsigned.rsplit_once(',')?;
        let groups = after.split('.').next().is_some_and(|group| group.len() == 3);
        let leads = matches!(before.len(), 1..=3) && before != "0" || before.contains(',');
        if before.contains('.') || !groups || !leads {
            return Some(Comma::Decimal);
        }
        if after.contains('.') || before.contains(',') {
            return Some(Comma::Thousands);
        }
        doubtful.get_or_insert(written);
        None
    });
    match (clear, doubtful) {
        (Some(clear), _) => Ok(clear),
        (None, None) => Ok(Comma::Thousands),
        (None, Some(cell)) => Err(cell),
    }
}

/// A number, whose groups of three may stand apart.
pub(super) fn number(cell: &str, comma: Comma) -> Option<f64> {
    if let Ok(number) = cell.parse() {
        return Some(number);
    }
    let (point, group) = match comma {
        Comma::Decimal => (',', '.'),
        Comma::Thousands => ('.', ','),
    };
    let is_space = |c: char| matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\'' | '’') || c == group;
    let (whole, part) = cell.split_once(point).map_or((cell, None), |(whole, part)| (whole, Some(part)));
    let groups: Vec<&str> = whole.split(is_space).collect();
    let (first, others) = groups.split_first()?;
    let grouped = others.iter().all(|digits| digits.len() == 3) && (others.is_empty() || !first.is_empty());
    if !grouped {
        return None;
    }
    let plain = groups.concat() + &part.map_or_else(String::new, |part| format!(".{part}"));
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_rfc_3339_civil_or_numbers() {
        let expected = Timestamp::from_second(1_000_000_000).unwrap();
        for text in [
            "2001-09-09T01:46:40Z",
            "2001-09-09 01:46:40",
            "2001-09-09T01:46:40",
            "2001-09-09T03:46:40+02:00",
            "2001-09-09T01:46:40+0000",
            "2001-09-09 01:46:40.000Z",
            "1000000000",
            "1000000000.0",
            "1000000000000",
            "1000000000000000",
            "1000000000000000000",
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        assert!(
            ["", "yesterday", "NaN", "1e300", "09.09.2001 01:46"].iter().all(|text| time(text).is_none())
        );
    }

    #[test]
    fn a_comma_is_what_its_column_says() {
        let of = |cells: &[&'static str]| comma(cells.iter().copied());
        for (cells, expected) in [
            (&["1", "2.5"][..], Ok(Comma::Thousands)),
            (&["100,000.0"], Ok(Comma::Thousands)),
            (&["1,000", "1,000,000"], Ok(Comma::Thousands)),
            (&["1,000", "0,5"], Ok(Comma::Decimal)),
            (&["1.000,5"], Ok(Comma::Decimal)),
            (&["0,125"], Ok(Comma::Decimal)),
            (&["1000,125"], Ok(Comma::Decimal)),
            (&["-0,125"], Ok(Comma::Decimal)),
            (&["999", "100,000", "200,125"], Err("100,000")),
        ] {
            assert_eq!(of(cells), expected, "{cells:?}");
        }
    }

    #[test]
    fn numbers_may_have_groups() {
        for (cell, comma, expected) in [
            ("100.5", Comma::Decimal, Some(100.5)),
            ("100,5", Comma::Decimal, Some(100.5)),
            ("1.234.567,5", Comma::Decimal, Some(1_234_567.5)),
            ("1,234,567.5", Comma::Thousands, Some(1_234_567.5)),
            ("1 234\u{a0}567", Comma::Thousands, Some(1_234_567.0)),
            ("1'234.5", Comma::Thousands, Some(1234.5)),
            ("-1,5", Comma::Decimal, Some(-1.5)),
            ("1,5", Comma::Thousands, None),
            ("much", Comma::Decimal, None),
            ("1,5,5", Comma::Decimal, None),
            (",", Comma::Decimal, None),
        ] {
            assert_eq!(number(cell, comma), expected, "{cell}");
        }
    }

    proptest! {
        #[test]
        fn any_cell_is_read_or_refused(cell in any::<String>(), near in "[-0-9,.' Te:+Z]{0,24}") {
            for cell in [&cell, &near] {
                let _ = (time(cell), is_nothing(cell), comma([cell.as_str()].into_iter()));
                let _ = (number(cell, Comma::Decimal), number(cell, Comma::Thousands));
            }
        }
    }
}
