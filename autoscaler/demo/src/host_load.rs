//! How busy the host was while something was waited for, so that what has timed out for want of CPU time says so.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Pressure stall information of the CPUs (Linux's `Documentation/accounting/psi.rst`); not every kernel has it.
const PRESSURE: &str = "/proc/pressure/cpu";
const AVERAGES: &str = "/proc/loadavg";

/// A host on which tasks waited for a CPU for more than this share of the time is busy.
const BUSY_SHARE: f64 = 0.3;

/// Measures a span of time that begins with it.
#[derive(Debug)]
pub struct LoadMeter {
    started: Instant,
    stalled: Option<Duration>,
}

/// How busy the host was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostLoad {
    /// The load average of the last minute; `None` where it can't be read.
    pub average: Option<f64>,
    /// The CPUs this process may use.
    pub cpus: usize,
    /// The share of the span, 0 to 1, in which at least one task waited for a CPU; `None` where the kernel doesn't say.
    pub stalled: Option<f64>,
}

impl LoadMeter {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), stalled: stalled() }
    }

    /// What was measured so far.
    #[must_use]
    pub fn read(&self) -> HostLoad {
        let span = self.started.elapsed().as_secs_f64();
        let waited = |before: Duration| Some(stalled()?.saturating_sub(before).as_secs_f64());
        HostLoad {
            average: fs::read_to_string(AVERAGES).ok().and_then(|text| first_average(&text)),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            stalled: self
                .stalled
                .and_then(waited)
                .filter(|_| span > 0.0)
                .map(|waited| (waited / span).min(1.0)),
        }
    }
}

impl HostLoad {
    /// Whether that may be why something was late: tasks waited for a CPU for a good part of the time or, where the kernel
    /// doesn't say, there were more of them than CPUs.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "CPUs are few")]
        let cpus = self.cpus as f64;
        self.stalled.map_or_else(|| self.average.is_some_and(|load| load > cpus), |share| share > BUSY_SHARE)
    }
}

impl fmt::Display for HostLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_busy() { "the machine was busy" } else { "the machine was not busy" })?;
        match self.average {
            Some(average) => write!(f, ": load {average:.1} on {} CPUs", self.cpus)?,
            None => write!(f, ": {} CPUs, their load can't be read", self.cpus)?,
        }
        if let Some(share) = self.stalled {
            write!(f, ", tasks waited for a CPU {:.0} % of the time", share * 100.0)?;
        }
        Ok(())
    }
}

fn stalled() -> Option<Duration> {
    total(&fs::read_to_string(PRESSURE).ok()?)
}

/// `total=` of the line `some`, microseconds since the boot.
fn total(text: &str) -> Option<Duration> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let total = line.split(' ').find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// The first of the three averages: that of a minute.
fn first_average(text: &str) -> Option<f64> {
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(average: f64, stalled: Option<f64>) -> HostLoad {
        HostLoad { average: Some(average), cpus: 2, stalled }
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let pressure = "some avg10=21.48 avg60=7.72 avg300=7.50 total=66259524\nfull avg10=0.00 total=0\n";
        assert_eq!(total(pressure), Some(Duration::from_micros(66_259_524)));
        assert_eq!(total(""), None);
        assert_eq!(first_average("1.18 1.44 0.91 6/107 2228\n"), Some(1.18));
        assert_eq!(first_average("?"), None);
    }

    #[test]
    fn a_host_is_busy_when_tasks_wait_for_its_cpus() {
        assert!(load(0.5, Some(0.8)).is_busy(), "the average lags behind");
        assert!(!load(9.0, Some(0.1)).is_busy());
        assert!(load(2.5, None).is_busy() && !load(1.5, None).is_busy());
    }

    #[test]
    fn it_says_so_with_the_load() {
        let text = load(18.25, Some(0.83)).to_string();
        assert_eq!(
            text,
            "the machine was busy: load 18.2 on 2 CPUs, tasks waited for a CPU 83 % of the time"
        );
        assert_eq!(load(0.5, None).to_string(), "the machine was not busy: load 0.5 on 2 CPUs");
    }

    #[test]
    fn a_span_of_this_host_can_be_measured() {
        let read = LoadMeter::start().read();
        assert!(read.cpus > 0 && read.average.is_some(), "{read:?}");
        assert!(read.stalled.is_none_or(|share| (0.0..=1.0).contains(&share)), "{read:?}");
    }
}
