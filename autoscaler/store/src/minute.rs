//! A tenant's minute: what is gathered in memory, and written as one row of each table.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::spec::Metric;

use crate::row::{self, BadRow};
use crate::sample::{Rollup, Sample, Subject};

/// Minutes since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MinuteNumber(pub(crate) i64);

const MICROS: i64 = 60_000_000;

impl MinuteNumber {
    pub(crate) fn of(at: Timestamp) -> Self {
        Self(at.as_microsecond().div_euclid(MICROS))
    }

    /// Its beginning. A number that came from a damaged row may be of no time at all.
    pub(crate) fn begin(self) -> Option<Timestamp> {
        self.at(0)
    }

    fn at(self, offset: u32) -> Option<Timestamp> {
        let micros = self.0.checked_mul(MICROS)?.checked_add(i64::from(offset))?;
        Timestamp::from_microsecond(micros).ok()
    }
}

/// A tenant's minute.
#[derive(Debug, Default)]
pub(crate) struct Minute {
    series: BTreeMap<(Subject, Metric), Series>,
    /// Decisions as JSON, which other versions can read too.
    decisions: Vec<String>,
    /// What is here but not on disk.
    pub(crate) dirty: bool,
    /// Whether what was written of it before has been taken in: it is not to be written without.
    pub(crate) restored: bool,
}

/// Offsets in microseconds from the minute's beginning, rising, each with its value.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Series {
    offsets: Vec<u32>,
    values: Vec<f64>,
}

impl Series {
    /// Whether it was new.
    fn insert(&mut self, offset: u32, value: f64) -> bool {
        match self.offsets.binary_search(&offset) {
            Ok(_) => false,
            Err(place) => {
                self.offsets.insert(place, offset);
                self.values.insert(place, value);
                true
            }
        }
    }

    fn rollup(&self) -> Rollup {
        let mut all = Rollup::default();
        for &value in &self.values {
            all.add(value);
        }
        all
    }
}

impl Minute {
    /// Takes in a sample of this minute. A second one of the same series and time is left out.
    pub(crate) fn add(&mut self, sample: Sample) {
        let offset = sample.at.as_microsecond().rem_euclid(MICROS);
        let offset = u32::try_from(offset).unwrap_or_default();
        let series = self.series.entry((sample.subject, sample.metric)).or_default();
        self.dirty |= series.insert(offset, sample.value);
    }

    /// Takes in a decision, as JSON.
    pub(crate) fn decide(&mut self, decision: String) {
        self.decisions.push(decision);
        self.dirty = true;
    }

    /// Takes in what was written of it before: that comes first. A row that can't be read is an error, and the other
    /// is taken in all the same.
    pub(crate) fn restore(&mut self, fine: Option<&[u8]>, decisions: Option<&[u8]>) -> Result<(), BadRow> {
        self.restored = true;
        let decisions = decisions.map_or_else(|| Ok(Vec::new()), lines).map(|mut written| {
            written.append(&mut self.decisions);
            self.decisions = written;
        });
        if let Some(row) = fine {
            let rows: Vec<((Subject, Metric), Series)> = row::decode(row)?;
            for (key, written) in rows {
                let series = self.series.entry(key).or_default();
                let newer = std::mem::replace(series, written);
                for (offset, value) in newer.offsets.into_iter().zip(newer.values) {
                    series.insert(offset, value);
                }
            }
        }
        decisions
    }

    /// The row of samples as they were taken; `None` where there are none.
    pub(crate) fn fine_row(&self) -> Result<Option<Vec<u8>>, BadRow> {
        let rows: Vec<(&(Subject, Metric), &Series)> = self.series.iter().collect();
        (!rows.is_empty()).then(|| row::encode(&rows)).transpose()
    }

    /// The row of the roll-ups of instances, or of the group.
    pub(crate) fn rollup_row(&self, of_instances: bool) -> Result<Option<Vec<u8>>, BadRow> {
        let wanted = self.series.iter().filter(|((subject, _), _)| subject.is_instance() == of_instances);
        let rows: Vec<(&(Subject, Metric), Rollup)> =
            wanted.map(|(key, series)| (key, series.rollup())).collect();
        (!rows.is_empty()).then(|| row::encode(&rows)).transpose()
    }

    /// The row of decisions.
    pub(crate) fn decision_row(&self) -> Result<Option<Vec<u8>>, BadRow> {
        let text = self.decisions.join("\n");
        Ok((!text.is_empty()).then(|| row::pack(text.as_bytes())).transpose()?)
    }
}

/// The samples of a row.
pub(crate) fn samples(minute: MinuteNumber, row: &[u8], take: &mut impl FnMut(Sample)) -> Result<(), BadRow> {
    let rows: Vec<((Subject, Metric), Series)> = row::decode(row)?;
    for ((subject, metric), series) in rows {
        for (&offset, &value) in series.offsets.iter().zip(&series.values) {
            let Some(at) = minute.at(offset) else { continue };
            take(Sample { at, subject: subject.clone(), metric: metric.clone(), value });
        }
    }
    Ok(())
}

/// A series' roll-up.
pub(crate) type SeriesRollup = ((Subject, Metric), Rollup);

/// The roll-ups of a row.
pub(crate) fn rollups(row: &[u8]) -> Result<Vec<SeriesRollup>, BadRow> {
    row::decode(row)
}

/// The decisions of a row, as JSON.
pub(crate) fn lines(row: &[u8]) -> Result<Vec<String>, BadRow> {
    let text = row::unpack(row)?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}
