//! Loads that everybody has to get right, without a file.

use std::time::Duration;

use super::Trace;

/// A made load. All are in minutes and have a level of about 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Three hours at a quarter, then all of it at once, and after three more hours back.
    Step,
    /// Up in four hours, and down in four.
    Ramp,
    /// Ten days, quiet at night, with a weekend.
    Daily,
    /// Days as above; on the last one ten times its load comes within two minutes, and goes within two hours.
    FlashCrowd,
    /// Days as above; on the last one nothing arrives for half an hour, then everybody comes back at once and
    /// tries again.
    OutageRetryStorm,
    /// Days as above; on the last two nobody measures for an hour in the steepest part of the morning and of the evening.
    MetricLoss,
}

const HOUR: usize = 60;
const DAY: usize = 24 * HOUR;

impl Scenario {
    /// Every one, with its name on the command line.
    pub const ALL: [(&'static str, Self); 6] = [
        ("step", Self::Step),
        ("ramp", Self::Ramp),
        ("daily", Self::Daily),
        ("flash-crowd", Self::FlashCrowd),
        ("outage-retry-storm", Self::OutageRetryStorm),
        ("metric-loss", Self::MetricLoss),
    ];

    /// Its load.
    #[must_use]
    pub fn trace(self) -> Trace {
        let days = if self == Self::Daily { 10 } else { 4 };
        let minutes = match self {
            Self::Step | Self::Ramp => 9 * HOUR,
            _ => days * DAY,
        };
        let values = (0..minutes).map(|minute| self.load(minute, (days - 1) * DAY)).collect();
        let silences: Vec<(usize, usize)> = match self {
            Self::MetricLoss => (days - 2..days)
                .flat_map(|day| [day * DAY + 7 * HOUR, day * DAY + 19 * HOUR])
                .map(|from| (from, from + HOUR))
                .collect(),
            _ => Vec::new(),
        };
        Trace::made(Duration::from_mins(1), values, &silences)
    }

    /// The load of a minute; what happens does so on the day that begins with the minute `last_day`.
    fn load(self, minute: usize, last_day: usize) -> f64 {
        let at = |minute: usize| number(minute) / number(HOUR);
        let since = |hour: usize| minute.checked_sub(last_day + hour * HOUR).map(number);
        match self {
            Self::Step if (3 * HOUR..6 * HOUR).contains(&minute) => 1000.0,
            Self::Step => 250.0,
            Self::Ramp => 100.0 + 225.0 * at(minute).min(8.0 - at(minute)).max(0.0),
            Self::Daily | Self::MetricLoss => wave(minute),
            Self::FlashCrowd => wave(minute) / 5.0 * (1.0 + since(15).map_or(0.0, crowd)),
            Self::OutageRetryStorm => wave(minute) / 3.0 * since(11).map_or(1.0, outage),
        }
    }
}

/// Quiet at four in the morning, busiest at four in the afternoon, less on the sixth and seventh day, and a ripple
/// that never repeats within a day.
fn wave(minute: usize) -> f64 {
    let turn = |minutes: f64| std::f64::consts::TAU * number(minute) / minutes;
    let day = 0.55 - 0.45 * (turn(number(DAY)) - std::f64::consts::TAU * 4.0 / 24.0).cos();
    let weekend = if (minute / DAY) % 7 >= 5 { 0.6 } else { 1.0 };
    let ripple = 1.0 + 0.03 * turn(37.3).sin() + 0.02 * turn(11.7).sin();
    1000.0 * day * weekend * ripple
}

/// How many times the usual load comes on top, so many minutes after somebody has posted the link.
fn crowd(minutes: f64) -> f64 {
    9.0 * (minutes / 2.0).min(1.0) * (-(minutes - 2.0).max(0.0) / 30.0).exp()
}

/// The share of the usual load that arrives, so many minutes after the way to the clients has failed: what waited comes
/// back three times over, and thins out.
fn outage(minutes: f64) -> f64 {
    if minutes < 30.0 { 0.02 } else { 1.0 + 2.0 * (-(minutes - 30.0) / 10.0).exp() }
}

#[expect(clippy::cast_precision_loss, reason = "a few days of minutes")]
fn number(minutes: usize) -> f64 {
    minutes as f64
}
