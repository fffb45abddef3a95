//! When something holds: from a date, or again and again by cron, for so long.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use super::span;

/// A stretch of time that begins at a date, or again and again.
///
/// A start that a change of the clocks leaves out is at the first moment after the gap, one that comes twice is
/// at its first; so it is with each of a list, a range or a step. The duration is time that passes, not what the wall clock
/// shows. A cron whose minute or hour is `*` follows the clock instead: it misses a gap, and fires in both halves of a
/// repeated hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// When it begins.
    #[serde(flatten)]
    pub start: Start,
    /// How long it holds.
    #[serde(with = "span")]
    pub duration: Duration,
    /// Whose wall clock `start` is about.
    pub time_zone: Zone,
}

/// When a [`Schedule`] begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Once.
    At(civil::DateTime),
    /// Whenever the pattern says.
    Cron(Cron),
}

/// So many instances while a schedule holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaticEntry {
    /// When.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// How many.
    pub count: u32,
}

/// A cron pattern of five fields, as in crontab(5): minute, hour, day of month, month, day of week.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: Arc<str>,
    compiled: Arc<croner::Cron>,
    follows_clock: bool,
}

/// Why a text is not a [`Cron`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a cron pattern of five fields (minute, hour, day of month, month, day of week): {why}"
)]
pub struct BadCron {
    text: String,
    why: String,
}

impl Cron {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn compiled(&self) -> &croner::Cron {
        &self.compiled
    }

    /// Whether its minute or its hour is `*`: then it is about what the clock shows, and not about times of a day.
    pub(crate) fn follows_clock(&self) -> bool {
        self.follows_clock
    }
}

impl FromStr for Cron {
    type Err = BadCron;

    fn from_str(text: &str) -> Result<Self, BadCron> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        match parser.parse(text) {
            Ok(compiled) => {
                let pattern = &compiled.pattern;
                let follows_clock = (0..60)
                    .all(|minute| pattern.minute_match(minute).is_ok_and(|named| named))
                    || (0..24).all(|hour| pattern.hour_match(hour).is_ok_and(|named| named));
                Ok(Self { text: text.into(), compiled: Arc::new(compiled), follows_clock })
            }
            Err(error) => Err(BadCron { text: text.to_owned(), why: error.to_string() }),
        }
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl TryFrom<String> for Cron {
    type Error = BadCron;

    fn try_from(text: String) -> Result<Self, BadCron> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text.as_ref().to_owned()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The rules that this program was built with: the machine's own would be a file to read, and another machine's others.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone of the IANA database, such as `Europe/Berlin`; its rules are looked up when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// Why a text is not a [`Zone`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone: write a name of the IANA database, such as `UTC` or `Europe/Berlin`")]
pub struct BadZone(String);

impl Zone {
    pub(crate) fn rules(&self) -> &TimeZone {
        &self.rules
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }
}

impl FromStr for Zone {
    type Err = BadZone;

    fn from_str(text: &str) -> Result<Self, BadZone> {
        match DATABASE.get(text) {
            Ok(rules) => Ok(Self { name: text.to_owned(), rules }),
            Err(_) => Err(BadZone(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = BadZone;

    fn try_from(text: String) -> Result<Self, BadZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
