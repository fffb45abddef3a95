//! One line of a page of metrics: pure.
//!
//! Two formats, read as Prometheus reads them: its text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats>) and `OpenMetrics` 1.0
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec>), both with the quoted names of Prometheus 3. Blanks are
//! taken in `OpenMetrics` too where its grammar has exactly one, and comments are not judged: neither changes a
//! value.

use std::borrow::Cow;

use jiff::Timestamp;

/// The format of a page, as its content type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::metrics) enum Format {
    /// Prometheus's text format.
    Text,
    /// Timestamps are in seconds, exemplars may follow, and `# EOF` ends the page.
    OpenMetrics,
}

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// It is empty, or a comment.
    Nothing,
    /// `# EOF`.
    End,
    Sample(Sample<'a>),
}

/// A value of a series.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: Cow<'a, str>,
    /// By name, each once; those with an empty value are as good as absent, and left out.
    pub(super) labels: Labels<'a>,
    pub(super) value: f64,
    /// When it was measured, where the exporter says so; otherwise now.
    pub(super) at: Option<Timestamp>,
}

type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

impl Sample<'_> {
    /// The value of a label; empty where it has none, which is the same.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Reads a line, without its line break. The error says what was expected.
pub(super) fn parse(line: &str, format: Format) -> Result<Line<'_>, &'static str> {
    if format == Format::OpenMetrics && line == "# EOF" {
        return Ok(Line::End);
    }
    let mut cursor = Cursor { rest: line };
    cursor.skip_blanks();
    if cursor.rest.is_empty() || cursor.rest.starts_with('#') {
        return Ok(Line::Nothing);
    }
    sample(cursor, format).map(Line::Sample)
}

fn sample(mut cursor: Cursor<'_>, format: Format) -> Result<Sample<'_>, &'static str> {
    let mut name = cursor.word(begins_name, continues_name).map(Cow::Borrowed);
    cursor.skip_blanks();
    let labels = if cursor.rest.starts_with('{') { cursor.labels(&mut name)? } else { Vec::new() };
    let name = name.filter(|name| !name.is_empty()).ok_or("a series has a name")?;
    cursor.skip_blanks();
    let value = cursor.token().ok_or("a value is missing")?;
    let value = number(value).ok_or("its value is no number")?;
    cursor.skip_blanks();
    let at = match cursor.rest.chars().next() {
        None | Some('#') => None,
        Some(_) => Some(timestamp(cursor.token().unwrap_or_default(), format)?),
    };
    cursor.skip_blanks();
    if format == Format::OpenMetrics && cursor.take('#') {
        if !name.ends_with("_total") && !name.ends_with("_bucket") {
            return Err("only counters and buckets have exemplars");
        }
        cursor.exemplar()?;
    }
    if !cursor.rest.is_empty() {
        return Err("text after its value and time");
    }
    Ok(Sample { name, labels, value, at })
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.rest.strip_prefix(expected);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn split(&mut self, at: usize) -> &'a str {
        let (before, after) = self.rest.split_at(at);
        self.rest = after;
        before
    }

    fn word(&mut self, begins: fn(char) -> bool, continues: fn(char) -> bool) -> Option<&'a str> {
        self.rest.starts_with(begins).then(|| {
            let end = self.rest.find(|c| !continues(c)).unwrap_or(self.rest.len());
            self.split(end)
        })
    }

    /// What stands until the next blank.
    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        Some(self.split(end)).filter(|token| !token.is_empty())
    }

    /// The labels of a series in their braces, and its name where that stands there in quotes.
    fn labels(&mut self, name: &mut Option<Cow<'a, str>>) -> Result<Labels<'a>, &'static str> {
        let mut labels = Labels::new();
        self.rest = self.rest.strip_prefix('{').ok_or("labels begin with `{`")?;
        let mut is_first = true;
        loop {
            self.skip_blanks();
            if self.take('}') {
                break;
            }
            let is_quoted = self.rest.starts_with('"');
            let key = if is_quoted {
                self.quoted()?
            } else {
                self.word(begins_label, continues_label).map(Cow::Borrowed).ok_or("a label has a name")?
            };
            self.skip_blanks();
            if self.take('=') {
                self.skip_blanks();
                labels.push((key, self.quoted()?));
            } else if is_quoted && is_first && name.is_none() {
                *name = Some(key);
            } else {
                return Err("a `=` follows the name of a label");
            }
            is_first = false;
            self.skip_blanks();
            if !self.take(',') && !self.rest.starts_with('}') {
                return Err("a `,` or `}` follows a label");
            }
        }
        in_order(labels)
    }

    /// A text in quotes, in which `\\`, `\"` and `\n` stand for a backslash, a quote and a line break.
    fn quoted(&mut self) -> Result<Cow<'a, str>, &'static str> {
        self.rest = self.rest.strip_prefix('"').ok_or("the value of a label stands in quotes")?;
        let mut is_escaped = false;
        let end = self.rest.bytes().position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        });
        let text = self.split(end.ok_or("a text in quotes does not end on its line")?);
        self.take('"');
        Ok(unescaped(text))
    }

    /// What stands behind a value for people who look for an example of it.
    fn exemplar(&mut self) -> Result<(), &'static str> {
        self.skip_blanks();
        self.labels(&mut Some(Cow::Borrowed("")))?;
        self.skip_blanks();
        self.token().and_then(number).ok_or("the value of its exemplar is no number")?;
        self.skip_blanks();
        match self.token() {
            None => Ok(()),
            Some(time) => timestamp(time, Format::OpenMetrics).map(drop),
        }
    }
}

fn begins_name(c: char) -> bool {
    begins_label(c) || c == ':'
}

fn continues_name(c: char) -> bool {
    begins_name(c) || c.is_ascii_digit()
}

fn begins_label(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_label(c: char) -> bool {
    begins_label(c) || c.is_ascii_digit()
}

/// An escape that has no meaning stays as it is.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(escaped @ ('\\' | '"')) => plain.push(escaped),
                other => plain.extend(Some('\\').into_iter().chain(other)),
            },
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

fn in_order(mut labels: Labels<'_>) -> Result<Labels<'_>, &'static str> {
    labels.sort_unstable();
    if labels.is_sorted_by(|(before, _), (after, _)| before < after) {
        if labels.iter().any(|(name, _)| name == "__name__" || name.is_empty()) {
            return Err("a label can't have that name");
        }
        labels.retain(|(_, value)| !value.is_empty());
        return Ok(labels);
    }
    Err("a label comes twice")
}

/// As Go reads one in decimal: what is too large for one is none.
fn number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_named = unsigned.starts_with(|c: char| c.is_ascii_alphabetic());
    let value: f64 = text.parse().ok()?;
    let is_read = match (value.is_nan(), is_named) {
        (true, _) => unsigned.len() == text.len(),
        (false, is_named) => is_named || value.is_finite(),
    };
    is_read.then_some(value)
}

/// The text format has whole milliseconds, `OpenMetrics` seconds.
fn timestamp(text: &str, format: Format) -> Result<Timestamp, &'static str> {
    let milliseconds = match format {
        Format::Text => text.parse::<i64>().ok(),
        #[expect(clippy::cast_possible_truncation, reason = "what is out of range is refused below")]
        Format::OpenMetrics => number(text).filter(|it| it.is_finite()).map(|it| (it * 1000.0) as i64),
    };
    let milliseconds = milliseconds.ok_or(match format {
        Format::Text => "its time is no whole number of milliseconds",
        Format::OpenMetrics => "its time is no number of seconds",
    })?;
    Timestamp::from_millisecond(milliseconds).map_err(|_| "its time is out of range")
}

#[cfg(test)]
mod tests;
