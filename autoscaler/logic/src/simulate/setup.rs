//! What is taken for granted of the instances and the measuring.

use std::time::Duration;

use serde::Serialize;

/// How instances behave, and how they are measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setup {
    /// A decision is taken every so often: a whole part of a minute.
    pub step: Duration,
    /// The load that one instance carries at 100 % utilisation, in the trace's unit. Above 0.
    pub capacity: f64,
    /// The utilisation that must not be exceeded: demand is the fewest instances that keep to it. Above 0, at most 1.
    pub usable: f64,
    /// Demand is never below so many, whatever the load: what every group that is compared has to have.
    pub fewest: u32,
    /// From the launch of an instance until it serves.
    pub start_time: Duration,
    /// It may take so much more or less, evenly spread; at most the start time.
    pub start_spread: Duration,
    /// How long a draining instance goes on. It is paid for, and counts for nothing else.
    pub drain_time: Duration,
    /// Each sample is off by a factor of mean 1 and this standard deviation. Not negative, at most 1.
    pub noise: f64,
    /// A sample of a share stops at 100 %, as CPU does; without it the sample says how much was wanted.
    pub saturates: bool,
    /// What the same noise and starts are made from again.
    pub seed: u64,
}

/// Why a [`Setup`] makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSetup {
    /// The step.
    #[error(
        "a step has to be a whole part of a minute: 1 to 60 seconds that divide it, such as 5 s, 15 s or 60 s"
    )]
    Step,
    /// The capacity.
    #[error("an instance's capacity has to be a finite number above 0")]
    Capacity,
    /// The usable share.
    #[error("the usable utilisation has to be above 0 % and at most 100 %")]
    Usable,
    /// The spread.
    #[error("the spread of the start time has to be at most the start time")]
    Spread,
    /// The noise.
    #[error("the noise has to be from 0 % to 100 %")]
    Noise,
    /// Times.
    #[error("start and drain times have to be at most a day")]
    Times,
}

impl Setup {
    /// The usable utilisation of the published scores.
    pub const USABLE: f64 = 0.8;
    /// Instances that the peak of a trace needs, where nobody says how large one is.
    pub const PEAK_NEEDS: f64 = 20.0;

    /// An instance sized so that `peak` needs `instances` of them, and two at least; minutes, and a start time of two.
    #[must_use]
    pub fn sized(peak: f64, instances: f64) -> Self {
        Self {
            step: Duration::from_mins(1),
            capacity: peak / instances / Self::USABLE,
            usable: Self::USABLE,
            fewest: 2,
            start_time: Duration::from_mins(2),
            start_spread: Duration::ZERO,
            drain_time: Duration::ZERO,
            noise: 0.0,
            saturates: false,
            seed: 0,
        }
    }

    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), BadSetup> {
        let day = Duration::from_hours(24);
        let seconds = self.step.as_secs();
        let within = |value: f64, most: f64| value >= 0.0 && value <= most;
        match self {
            _ if seconds == 0 || self.step.subsec_nanos() != 0 || 60 % seconds != 0 => Err(BadSetup::Step),
            // What is not said of the capacity follows from it.
            _ if !within(self.usable, 1.0) || self.usable == 0.0 => Err(BadSetup::Usable),
            _ if !self.capacity.is_finite() || self.capacity <= 0.0 => Err(BadSetup::Capacity),
            _ if self.start_spread > self.start_time => Err(BadSetup::Spread),
            _ if !within(self.noise, 1.0) => Err(BadSetup::Noise),
            _ if self.start_time > day || self.drain_time > day => Err(BadSetup::Times),
            _ => Ok(()),
        }
    }
}
