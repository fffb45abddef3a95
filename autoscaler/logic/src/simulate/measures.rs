//! How good a supply of instances was.

use std::time::Duration;

use serde::Serialize;

use super::run::{Record, Run};

/// What a spare instance, a missing one and an hour of one cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Weights {
    /// A missing instance, counted in spare ones: excess = supply ÷ demand − 1 + shortage × θU ÷ 100.
    pub shortage: f64,
    /// An hour of an instance, in anybody's money.
    pub price: f64,
}

impl Default for Weights {
    /// A missing instance costs ten spare ones, and an hour of an instance costs one.
    fn default() -> Self {
        Self { shortage: 10.0, price: 1.0 }
    }
}

/// What came of a simulation.
///
/// θ and τ are the elasticity metrics of Herbst, Kounev and others ("Ready for Rain? A View from SPEC Research on the Future
/// of Cloud Metrics", 2016), each relative to the demand of its moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Measures {
    /// θU: the mean share of the demand that was missing, in percent.
    pub under_provisioned_percent: f64,
    /// θO: the mean of the spare instances as a share of the demand, in percent.
    pub over_provisioned_percent: f64,
    /// τU: the share of the time in which instances were missing, in percent.
    pub under_provisioned_time_percent: f64,
    /// τO: the share of the time in which instances were spare, in percent.
    pub over_provisioned_time_percent: f64,
    /// Changes of the desired number.
    pub changes: usize,
    /// The same, an hour.
    pub changes_per_hour: f64,
    /// All instances in service ÷ all that were needed.
    pub supply_per_demand: f64,
    /// supply ÷ demand − 1 + shortage × θU ÷ 100: the lower the better.
    pub excess: f64,
    /// Hours of instances, from their launch to their end: starting and draining ones are paid for as well.
    pub instance_hours: f64,
    /// What those cost.
    pub cost: f64,
}

impl Measures {
    /// Of the steps `from..to` of a run, by their number.
    #[must_use]
    pub fn of(run: &Run, from: usize, to: usize, weights: Weights) -> Self {
        let records = run.records.get(from..to.min(run.records.len())).unwrap_or_default();
        let within = |change: &&super::Change| (from..to).contains(&change.step);
        let changes = run.changes.iter().filter(within).count();
        Self::sum(records, changes, run.step, weights)
    }

    fn sum(records: &[Record], changes: usize, step: Duration, weights: Weights) -> Self {
        let mut sums = Sums::default();
        for record in records {
            sums.add(record);
        }
        let steps = count(records.len()).max(1.0);
        let hours_of_step = step.as_secs_f64() / 3600.0;
        let under = 100.0 * sums.under / steps;
        let supply_per_demand = if sums.demand > 0.0 { sums.supply / sums.demand } else { 1.0 };
        let instance_hours = sums.paid * hours_of_step;
        Self {
            under_provisioned_percent: under,
            over_provisioned_percent: 100.0 * sums.over / steps,
            under_provisioned_time_percent: 100.0 * sums.time_under / steps,
            over_provisioned_time_percent: 100.0 * sums.time_over / steps,
            changes,
            changes_per_hour: count(changes) / (steps * hours_of_step),
            supply_per_demand,
            excess: supply_per_demand - 1.0 + weights.shortage * under / 100.0,
            instance_hours,
            cost: instance_hours * weights.price,
        }
    }
}

#[derive(Default)]
struct Sums {
    supply: f64,
    demand: f64,
    paid: f64,
    under: f64,
    over: f64,
    time_under: f64,
    time_over: f64,
}

impl Sums {
    fn add(&mut self, record: &Record) {
        let (supply, demand) = (f64::from(record.in_service), f64::from(record.demand));
        self.supply += supply;
        self.demand += demand;
        self.paid += f64::from(record.starting + record.in_service + record.draining);
        let relative = (demand - supply) / demand.max(1.0);
        if relative > 0.0 {
            self.under += relative;
            self.time_under += 1.0;
        } else if relative < 0.0 {
            self.over -= relative;
            self.time_over += 1.0;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
fn count(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn record(demand: u32, in_service: u32) -> Record {
        Record {
            at: Timestamp::UNIX_EPOCH,
            load: 0.0,
            demand,
            in_service,
            starting: 1,
            draining: 0,
            desired: in_service + 1,
        }
    }

    #[test]
    fn by_hand() {
        // Half is missing, then half is spare, then it is right.
        let records = [record(4, 2), record(4, 6), record(4, 4), record(4, 4)];
        let measures =
            Measures::sum(&records, 2, Duration::from_mins(15), Weights { shortage: 10.0, price: 2.0 });
        let expected = Measures {
            under_provisioned_percent: 12.5,
            over_provisioned_percent: 12.5,
            under_provisioned_time_percent: 25.0,
            over_provisioned_time_percent: 25.0,
            changes: 2,
            changes_per_hour: 2.0,
            supply_per_demand: 1.0,
            excess: 1.25,
            instance_hours: 5.0,
            cost: 10.0,
        };
        assert_eq!(measures, expected);
    }
}
