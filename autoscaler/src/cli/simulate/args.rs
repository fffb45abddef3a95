//! What may be typed after `sluice simulate` and `sluice tune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use sluice_logic::simulate::{Gaps, Scenario, Setup, Trace, Weights};

use crate::cli::Failure;

const SIMULATE_EXAMPLES: &str = "\
Examples:
  sluice simulate --trace requests.csv                      what `policy: dynamic` would do with this load
  sluice simulate --trace requests.csv --compare            beside the HPA, AWS-like target tracking and the reactive rule
  sluice simulate --tenant shop.yml --scenario flash-crowd  a tenant's own policies on a made load
  sluice simulate --trace requests.csv --compare --svg run.svg --csv run.csv

A trace is a CSV file with a header and the columns `timestamp` and `value`: the load on the whole group from then on, in any
unit, at even intervals, give or take some seconds. A timestamp is RFC 3339, `2026-11-25 08:00:00` (UTC), or seconds or
milliseconds since 1970. Cells may be separated by `,`, `;`, tabs or `|`; an empty one, `null` or `NaN` is a gap.

An instance is sized so that the peak needs 20 of them, unless --capacity or --peak-needs says otherwise. A policy on
`cpu` or `memory` sees the load as a share of that capacity, one on any other metric sees it in the trace's unit: each instance
its even share, and with `of: group` the whole of it.

Demand is the same for all that are compared: at least the least of their minimums, and more than a group's maximum where the
load needs it.

θU and θO are the shares of the demand that were missing and spare, τU and τO the shares of time. Excess is supply ÷ demand
− 1 + θU ÷ 10: a missing instance costs ten spare ones.";

/// `sluice simulate`.
#[derive(Debug, Args)]
#[command(after_help = SIMULATE_EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// Tenants whose policies are simulated, one beside the other. Without: what `policy: dynamic` is.
    #[arg(long = "tenant", value_name = "FILE")]
    pub(super) tenants: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) world: WorldArgs,
    /// Run `policy: dynamic` and the baselines beside them: the HPA's defaults, AWS-like target tracking, the reactive rule.
    #[arg(long)]
    pub(super) compare: bool,
    /// Score only what comes after this share of the trace: a part that was tuned on is no evidence.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share_but_all)]
    pub(super) score_from: f64,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Write every step to a CSV file.
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
    /// Draw demand, supply and decisions.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
    /// The same as a PNG; needs a TrueType font on this machine.
    #[arg(long, value_name = "FILE")]
    pub(super) png: Option<PathBuf>,
}

const TUNE_EXAMPLES: &str = "\
Examples:
  sluice tune --trace requests.csv                  find the parameters on the first half, score them on the second
  sluice tune --trace requests.csv > tuned.yml && sluice check tuned.yml
  sluice tune --tenant shop.yml --trace requests.csv --most-changes 2

What is searched is what a change of the number costs, and a margin: that is what an operator has to decide. How far to
look ahead, how sure to be and how long to hold on, a proactive policy finds out for itself, week by week.";

/// `sluice tune`.
#[derive(Debug, Args)]
#[command(after_help = TUNE_EXAMPLES)]
pub(crate) struct TuneArgs {
    /// A tenant with a proactive policy. Without: what `policy: dynamic` is.
    #[arg(long, value_name = "FILE")]
    pub(super) tenant: Option<PathBuf>,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) world: WorldArgs,
    /// The share of the trace that is searched on; the rest is for the report.
    #[arg(long, value_name = "SHARE", default_value = "50%", value_parser = share)]
    pub(super) train: f64,
    /// Most changes an hour. Without: clearly fewer than the HPA makes on the same part, by twice the square root of
    /// their count but at most by half, as the rest may move more.
    #[arg(long, value_name = "CHANGES")]
    pub(super) most_changes: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Where the load comes from.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// A recorded load.
    #[arg(long, value_name = "CSV", required_unless_present = "scenario", conflicts_with = "scenario")]
    pub(super) trace: Option<PathBuf>,
    /// A made load: step, ramp, daily, flash-crowd, outage-retry-storm or metric-loss.
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    pub(super) scenario: Option<Scenario>,
    /// The column with the time.
    #[arg(long, value_name = "NAME", default_value = "timestamp")]
    pub(super) time_column: String,
    /// The column with the load.
    #[arg(long, value_name = "NAME", default_value = "value")]
    pub(super) column: String,
    /// What is made of missing points.
    #[arg(long, value_name = "HOW", default_value = "refuse")]
    pub(super) gaps: GapsArg,
}

/// What is made of missing points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GapsArg {
    /// It is a fault.
    Refuse,
    /// The load stays what it was.
    Hold,
    /// The load stays what it was, and nobody measures it.
    Silent,
}

impl From<GapsArg> for Gaps {
    fn from(gaps: GapsArg) -> Self {
        match gaps {
            GapsArg::Refuse => Self::Refuse,
            GapsArg::Hold => Self::Hold,
            GapsArg::Silent => Self::Silent,
        }
    }
}

/// How instances behave, how they are measured, and what they cost.
#[derive(Debug, Args)]
pub(super) struct WorldArgs {
    /// The load that one instance carries at 100 %, in the trace's unit.
    #[arg(long, value_name = "LOAD", conflicts_with = "peak_needs")]
    capacity: Option<f64>,
    /// Size an instance so that the trace's peak needs so many.
    #[arg(long, value_name = "COUNT", default_value_t = Setup::PEAK_NEEDS)]
    peak_needs: f64,
    /// The utilisation that must not be exceeded: demand is the fewest instances that keep to it.
    #[arg(long, value_name = "SHARE", default_value = "80%", value_parser = share_above_nothing)]
    pub(super) usable: f64,
    /// The utilisation that the baselines aim at.
    #[arg(long, value_name = "SHARE", default_value = "60%", value_parser = share_above_nothing)]
    pub(super) baseline_target: f64,
    /// Fewest instances, where no tenant says it.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = count())]
    pub(super) min: u32,
    /// Most instances, where no tenant says it.
    #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = count())]
    pub(super) max: u32,
    /// A decision is taken every so often.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    step: Duration,
    /// From the launch of an instance until it serves.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    start_time: Duration,
    /// It may take so much more or less.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    start_spread: Duration,
    /// How long a draining instance goes on; it is paid for.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    drain_time: Duration,
    /// The standard deviation of each sample around the truth.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    noise: f64,
    /// Samples of `cpu` and `memory` stop at 100 %, as they do on a real machine.
    #[arg(long)]
    saturate: bool,
    /// The same seed gives the same noise and the same starts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What a missing instance costs, in spare ones.
    #[arg(long, value_name = "INSTANCES", default_value_t = Weights::default().shortage)]
    shortage: f64,
    /// What an hour of an instance costs.
    #[arg(long, value_name = "MONEY", default_value_t = Weights::default().price)]
    price: f64,
}

impl WorldArgs {
    /// What a simulation on this trace takes for granted, where at least `fewest` instances are needed.
    pub(super) fn setup(&self, trace: &Trace, fewest: u32) -> Result<Setup, Failure> {
        if !(self.peak_needs.is_finite() && self.peak_needs > 0.0) {
            return Err(Failure::Wrong("--peak-needs has to be a number above 0".to_owned()));
        }
        if self.min > self.max {
            return Err(Failure::Wrong(format!(
                "--min {} and --max {} contradict each other: the minimum is not above the maximum",
                self.min, self.max
            )));
        }
        let setup = Setup {
            step: self.step,
            capacity: self.capacity.unwrap_or(trace.peak() / self.peak_needs / self.usable),
            usable: self.usable,
            fewest,
            start_time: self.start_time,
            start_spread: self.start_spread,
            drain_time: self.drain_time,
            noise: self.noise,
            saturates: self.saturate,
            seed: self.seed,
        };
        setup.check().map_err(|error| Failure::Wrong(error.to_string()))?;
        let steps = trace.span().as_secs() / setup.step.as_secs().max(1);
        if steps > Trace::MOST_STEPS {
            let most = Trace::MOST_STEPS;
            let message =
                format!("the load spans {steps} decisions, more than {most}: cut it, or make --step longer");
            return Err(Failure::Wrong(message));
        }
        Ok(setup)
    }

    /// What things cost.
    pub(super) fn weights(&self) -> Result<Weights, Failure> {
        let sound = |cost: f64| cost.is_finite() && cost >= 0.0;
        if !sound(self.shortage) || !sound(self.price) {
            return Err(Failure::Wrong(
                "--shortage and --price have to be finite and not negative".to_owned(),
            ));
        }
        Ok(Weights { shortage: self.shortage, price: self.price })
    }
}

/// `80%` or `0.8`, from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().map(|percent: f64| percent / 100.0),
        None => text.trim().parse(),
    };
    let within = number.ok().filter(|share| (0.0..=1.0).contains(share));
    within.ok_or_else(|| "a share is from 0% to 100%, or from 0 to 1".to_owned())
}

/// The same, of something that there has to be.
fn share_above_nothing(text: &str) -> Result<f64, String> {
    share(text)
        .and_then(|share| if share > 0.0 { Ok(share) } else { Err("it has to be above 0%".to_owned()) })
}

/// The same, of a part that leaves a rest.
fn share_but_all(text: &str) -> Result<f64, String> {
    share(text)
        .and_then(|share| if share < 1.0 { Ok(share) } else { Err("it has to be below 100%".to_owned()) })
}

/// As many as a tenant file may say.
fn count() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=10_000)
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<SignedDuration, _> = text.parse();
    let duration = parsed.map_err(|error| format!("{error}; write it as 90s, 2m or 1h 30m"))?;
    Duration::try_from(duration).map_err(|_| "a time can't be negative".to_owned())
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let found = Scenario::ALL.iter().find(|(known, _)| *known == name);
    found.map(|&(_, scenario)| scenario).ok_or_else(|| {
        let names = Scenario::ALL.map(|(name, _)| name);
        format!("there is {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_written_as_people_do() {
        for (text, expected) in [("80%", 0.8), ("0.8", 0.8), ("0%", 0.0), ("1", 1.0)] {
            assert!((share(text).unwrap() - expected).abs() < 1e-12, "{text}");
        }
        for text in ["80", "-1%", "NaN", "", "101%", "x"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("-2m").is_err() && duration("soon").is_err());
    }

    #[test]
    fn every_scenario_has_its_name() {
        for (name, expected) in Scenario::ALL {
            assert_eq!(scenario(name), Ok(expected));
        }
        assert!(scenario("tsunami").unwrap_err().contains("flash-crowd"));
    }
}
