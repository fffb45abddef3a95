//! A page of metrics, as an exporter serves it, read as it comes: pure.
//!
//! Of a page is kept what the one series needs that is asked for. Its value is the sum that Prometheus has of it: every
//! line of the page is read, and one that can't be read refuses the page, as Prometheus refuses a scrape. There is
//! never the sum of a part.

mod line;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use jiff::Timestamp;
use sluice_logic::spec::Exporter;

pub(super) use self::line::Format;
use self::line::{Line, Sample, parse};
use super::shown;

/// Largest page, in bytes: some 10,000 series.
pub(super) const LARGEST: usize = 1 << 20;

/// Longest line, in bytes, of which a reading keeps one.
const LONGEST_LINE: usize = 64 << 10;

/// Most series that are added up, of each of which a reading keeps a few bytes.
const MOST_SERIES: usize = 5_000;

/// What a name goes on with where a metric has several series.
const PARTS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// The value that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    pub(super) value: f64,
    /// The oldest time that one of its series has; `None`: all are of now.
    pub(super) at: Option<Timestamp>,
}

/// A page that is being read.
pub(super) struct Page {
    exporter: Exporter,
    format: Format,
    bytes: usize,
    /// The number of the line that is being read.
    line: usize,
    /// The beginning of a line whose end has not come yet.
    pending: Vec<u8>,
    /// After `# EOF`.
    is_complete: bool,
    /// What was found of each series, by a hash of its labels. Nobody outside knows the hash, so nobody can make two meet.
    found: HashMap<u64, Found>,
    hasher: RandomState,
    /// What the page has in place of a series that it has not.
    parts: [bool; PARTS.len()],
}

#[derive(Debug, Clone, Copy)]
struct Found {
    value: f64,
    at: Option<Timestamp>,
}

impl Page {
    pub(super) fn new(exporter: Exporter, format: Format) -> Self {
        Self {
            exporter,
            format,
            bytes: 0,
            line: 1,
            pending: Vec::new(),
            is_complete: false,
            found: HashMap::new(),
            hasher: RandomState::new(),
            parts: Default::default(),
        }
    }

    /// Takes in what comes next of the page.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes += bytes.len();
        if self.bytes > LARGEST {
            return Err(too_large());
        }
        let mut lines = bytes.split(|byte| *byte == b'\n');
        // The last one has no end yet.
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            if self.pending.is_empty() {
                self.take(line)?;
            } else {
                self.extend(line)?;
                let whole = std::mem::take(&mut self.pending);
                self.take(&whole)?;
            }
            self.line += 1;
        }
        self.extend(last)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.pending.len() + bytes.len() > LONGEST_LINE {
            return Err(self.too_long());
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn too_long(&self) -> String {
        format!("line {} has more than {} KiB", self.line, LONGEST_LINE >> 10)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() > LONGEST_LINE {
            return Err(self.too_long());
        }
        let wrong = |line, text: &str, what: &str| {
            format!("line {line}, which can't be read: {what}: {}", shown(text))
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| wrong(self.line, &String::from_utf8_lossy(bytes), "not UTF-8"))?;
        if self.is_complete {
            return Err(wrong(self.line, text, "text after `# EOF`"));
        }
        match parse(text, self.format).map_err(|what| wrong(self.line, text, what))? {
            Line::Nothing => Ok(()),
            Line::End => {
                self.is_complete = true;
                Ok(())
            }
            Line::Sample(sample) => self.sample(&sample).map_err(|what| wrong(self.line, text, &what)),
        }
    }

    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), String> {
        let Some(rest) = sample.name.strip_prefix(self.exporter.series.as_str()) else { return Ok(()) };
        if let Some(place) = PARTS.iter().position(|part| *part == rest) {
            self.parts[place] = true;
        }
        let wanted = &self.exporter.labels;
        if !rest.is_empty() || wanted.iter().any(|(name, value)| sample.label(name) != value) {
            return Ok(());
        }
        if let Some(label) = self.not_added(sample) {
            return Err(format!("values of different `{label}` can't be added up: {}", self.advice(label)));
        }
        let hash = self.hasher.hash_one(&sample.labels);
        let found = Found { value: sample.value, at: sample.at };
        let Some(before) = self.found.insert(hash, found) else {
            let is_too_many = self.found.len() > MOST_SERIES;
            return if is_too_many { Err(format!("more than {MOST_SERIES} such series")) } else { Ok(()) };
        };
        let is_same = before.value.to_bits() == found.value.to_bits() && before.at == found.at;
        if is_same { Ok(()) } else { Err("the series comes twice, with another value or time".to_owned()) }
    }

    /// The label that was not asked for, though it makes a value a share of its metric and not a part of a sum.
    fn not_added(&self, sample: &Sample<'_>) -> Option<&'static str> {
        let is_bucket = sample.name.ends_with("_bucket");
        let of_metric = |label: &&str| !sample.label(label).is_empty() && (is_bucket || *label != "le");
        ["quantile", "le"]
            .into_iter()
            .filter(of_metric)
            .find(|label| !self.exporter.labels.contains_key(*label))
    }

    fn advice(&self, label: &str) -> String {
        let series = &self.exporter.series;
        let base = series.strip_suffix("_bucket").unwrap_or(series);
        format!("ask for `{base}_sum` or `{base}_count`, or for one `{label}` by its label")
    }

    /// The value, once the whole page is there.
    pub(super) fn finish(mut self) -> Result<Value, String> {
        let last = std::mem::take(&mut self.pending);
        if !last.is_empty() {
            self.take(&last)?;
        }
        if self.format == Format::OpenMetrics && !self.is_complete {
            return Err("a page of OpenMetrics without `# EOF` at its end: a part is missing".to_owned());
        }
        if self.found.is_empty() {
            return Err(self.absent());
        }
        if self.found.len() > 1 && self.exporter.labels.contains_key("quantile") {
            let count = self.found.len();
            return Err(format!(
                "{count} series, whose quantiles can't be added up: ask for one by its labels"
            ));
        }
        let value = self.found.values().map(|found| found.value).sum();
        Ok(Value { value, at: self.found.values().filter_map(|found| found.at).min() })
    }

    fn absent(&self) -> String {
        let labels = &self.exporter.labels;
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let series = &self.exporter.series;
        let there: Vec<String> = PARTS
            .iter()
            .zip(self.parts)
            .filter(|(_, is_there)| *is_there)
            .map(|(part, _)| format!("`{series}{part}`"))
            .collect();
        let hint = if there.is_empty() { String::new() } else { format!("; it has {}", there.join(" and ")) };
        format!("no value of the series {series}{{{}}}{hint}", labels.join(","))
    }
}

/// Why a page is refused that has more than [`LARGEST`] bytes.
pub(super) fn too_large() -> String {
    format!("with more than {} MiB: let it serve fewer metrics at this path", LARGEST >> 20)
}

#[cfg(test)]
mod tests;
