//! What a load will be: for the next minutes from its own recent past, and for the next days from its seasons.
//!
//! Everything here is a fold: a state takes one minute after the other, and the same minutes give the same state. The
//! daemon keeps the state in memory and makes it anew from the kept history when it starts; the simulator feeds it a
//! trace. No forecast looks at anything but the minutes it was given.
//!
//! ```text
//! a minute's load ──► LoadForecast: the peak of the next 3, 10, 40, … minutes, and how wrong that was of late
//!                         │
//!                         ▼
//!                     Backtests: what each strategy on it would have cost this last week
//!                         │
//!                         ▼
//!                     ProactiveForecast: the outlook that the cheapest strategy has of this minute
//! ```
//!
//! - [`LoadForecast`] is a linear model for each horizon, fitted by recursive least squares, of the level, the slope,
//!   the same time of the days before and of the week before; and the quantiles of its own recent errors, scaled by
//!   the square root of the load.
//! - [`ProactiveForecast`] weighs a missing instance against spare ones and against a change, as in the newsvendor
//!   problem, but over a choice of strategies instead of over a formula: a change costs, so the best number of this
//!   minute depends on the minutes after it.
//!
//! - [`SeasonalForecast`] has the seasons of days and weeks, hour by hour, for policies that raise the floor ahead of them.
//!
//! What a load does not announce can't be forecast. A spike that begins within a start time is met late by every
//! policy; the errors it leaves raise the quantiles, and with them the number of spare instances, for a while.

mod accuracy;
mod backtest;
mod errors;
mod forecasts;
mod levels;
mod load;
mod peak;
mod predictive;
mod proactive;
mod regression;
mod seasons;
#[cfg(test)]
mod tests;
mod window;

pub use accuracy::Accuracy;
pub use forecasts::{Forecasts, demand, last_full_minute};
pub use levels::Setting;
pub use load::LoadForecast;
pub use predictive::{NoSeason, Season, SeasonalForecast};
pub use proactive::{Costs, Expectation, ProactiveForecast, Silence, Terms};

/// Minutes since 1970-01-01T00:00Z: the grid on which loads are forecast. Minute `m` is `m × 60 s ≤ t < (m + 1) × 60 s`.
pub type Minute = i64;

/// Minutes of a day.
pub const DAY: Minute = 24 * 60;
/// Minutes of a week.
pub const WEEK: Minute = 7 * DAY;
