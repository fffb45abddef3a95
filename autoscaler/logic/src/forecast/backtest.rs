//! What each strategy on a forecast would have cost.
//!
//! The best number of instances for this minute depends on the minutes after it, since a change costs and an instance
//! takes its time to start. Instead of solving for it, some dozens of strategies are played through beside the real
//! group, on the same load and the same forecasts, and each is charged for its instances, for its missing ones
//! and for its changes. The cheapest of the last week is what a load like this one needs.

use std::collections::VecDeque;

use super::levels::{Levels, Provision, Setting, Strategy};
use super::load::LoadForecast;
use super::proactive::Terms;
use super::{Minute, WEEK};

/// The choice is looked at again after so many minutes.
const RECONSIDER: Minute = 60;
/// What a cost still weighs a minute later.
const FADE: f64 = 1.0 - 1.0 / (7.0 * 24.0 * 60.0);
const MINUTES_OF_AN_HOUR: f64 = 60.0;

/// The strategies, what each would have cost, and which is the cheapest.
#[derive(Debug, Clone)]
pub(super) struct Backtests {
    plays: Vec<Play>,
    levels: Levels,
    chosen: usize,
    minutes: Minute,
    mean_demand: f64,
}

impl Backtests {
    /// All begin with `min` instances.
    pub(super) fn new(min: u32) -> Self {
        let plays: Vec<Play> = Strategy::all().map(|strategy| Play::new(strategy, min)).collect();
        let chosen = plays.iter().position(|play| play.strategy == Strategy::AT_FIRST).unwrap_or(0);
        Self { plays, levels: Levels::default(), chosen, minutes: 0, mean_demand: 0.0 }
    }

    /// Plays one minute, at its end. `load` is in instances.
    pub(super) fn observe(&mut self, terms: &Terms, now: Minute, load: f64, forecast: &LoadForecast) {
        self.minutes += 1;
        self.levels.look(terms, now, load, forecast);
        let demand = terms.instances(load);
        #[expect(clippy::cast_precision_loss, reason = "at most a week of minutes")]
        let weight = 1.0 / self.minutes.min(WEEK) as f64;
        self.mean_demand += (f64::from(demand) - self.mean_demand) * weight;
        let bill = Bill::new(terms, demand, self.mean_demand);
        for (play, counts) in self.plays.iter_mut().zip(self.levels.counts()) {
            play.begin(now);
            play.cost = play.cost * FADE + bill.minute(play.in_service);
            let wanted = counts.wanted(play.desired);
            if play.change_to(wanted, now + 1 + terms.start) {
                play.cost += bill.change;
            }
        }
        if self.minutes % RECONSIDER == 0 {
            self.choose();
        }
    }

    /// The first of the cheapest, so that equals don't take turns.
    fn choose(&mut self) {
        for (index, play) in self.plays.iter().enumerate() {
            if play.cost < self.plays[self.chosen].cost {
                self.chosen = index;
            }
        }
    }

    pub(super) fn setting(&self) -> Setting {
        self.plays[self.chosen].strategy.setting()
    }

    /// What the chosen strategy provides for since the last minute; `None` before there are forecasts.
    pub(super) fn provision(&self) -> Option<Provision> {
        self.levels.forecasts.then(|| self.levels.provision(self.plays[self.chosen].strategy))
    }
}

/// What things cost in one minute. An instance counts as a share of the mean demand, as instances are paid for in
/// all; a missing one as a share of this minute's demand, as so many requests suffer.
#[derive(Debug, Clone, Copy)]
struct Bill {
    demand: u32,
    instance: f64,
    missing: f64,
    change: f64,
}

impl Bill {
    fn new(terms: &Terms, demand: u32, mean_demand: f64) -> Self {
        let instance = 1.0 / mean_demand.max(1.0);
        Self {
            demand,
            instance,
            missing: terms.costs.shortage / f64::from(demand.max(1)),
            change: terms.costs.change * MINUTES_OF_AN_HOUR * instance,
        }
    }

    fn minute(&self, in_service: u32) -> f64 {
        let missing = self.demand.saturating_sub(in_service);
        f64::from(in_service) * self.instance + f64::from(missing) * self.missing
    }
}

/// One strategy, played through.
#[derive(Debug, Clone)]
struct Play {
    strategy: Strategy,
    in_service: u32,
    /// From which minute on how many more serve.
    starting: VecDeque<(Minute, u32)>,
    /// Those that serve and those that start.
    desired: u32,
    cost: f64,
}

impl Play {
    fn new(strategy: Strategy, min: u32) -> Self {
        Self { strategy, in_service: min, starting: VecDeque::new(), desired: min, cost: 0.0 }
    }

    fn begin(&mut self, now: Minute) {
        while let Some((_, more)) = self.starting.pop_front_if(|(ready, _)| *ready <= now) {
            self.in_service += more;
        }
    }

    /// Whether that is a change.
    fn change_to(&mut self, wanted: u32, ready: Minute) -> bool {
        let desired = std::mem::replace(&mut self.desired, wanted);
        if wanted > desired {
            self.starting.push_back((ready, wanted - desired));
        } else if wanted < desired {
            self.remove(desired - wanted);
        }
        wanted != desired
    }

    /// Those that start go first, the newest of them before the others, as they serve nobody.
    fn remove(&mut self, mut surplus: u32) {
        while surplus > 0
            && let Some((_, count)) = self.starting.back_mut()
        {
            let gone = surplus.min(*count);
            surplus -= gone;
            *count -= gone;
            if *count == 0 {
                self.starting.pop_back();
            }
        }
        self.in_service = self.in_service.saturating_sub(surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_start_go_first() {
        let mut play = Play::new(Strategy::AT_FIRST, 4);
        assert!(play.change_to(6, 10));
        assert!(play.change_to(9, 11));
        assert!(play.change_to(5, 12));
        assert_eq!((play.in_service, play.desired), (4, 5));
        play.begin(10);
        assert_eq!((play.in_service, play.desired), (5, 5));
        assert!(play.change_to(2, 13));
        assert!(!play.change_to(2, 14));
        assert_eq!((play.in_service, play.desired), (2, 2));
    }
}
