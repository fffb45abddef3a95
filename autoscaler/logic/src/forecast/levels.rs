//! What each of some dozens of strategies on a forecast provides for.

use super::Minute;
use super::load::LoadForecast;
use super::proactive::Terms;
use super::window::SlidingMax;

/// Shares of recent errors that are tried until an instance started now would serve.
const CONFIDENCES: [f64; 4] = [0.4, 0.65, 0.85, 0.95];
/// Minutes ahead that are tried.
pub(super) const OUTLOOKS: [Minute; 4] = [10, 40, 120, 480];
/// Shares of recent errors that are tried for them.
const OUTLOOK_CONFIDENCES: [f64; 3] = [0.4, 0.65, 0.9];
/// Minutes that are tried before an instance is let go.
const HOLDS: [Minute; 3] = [1, 15, 60];

/// A strategy for acting on a forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// How sure it is that the instances are enough until one started now would serve: a share of recent errors.
    pub confidence: f64,
    /// How far it looks ahead before it lets an instance go, and when it adds some anyway: in minutes.
    pub outlook: Minute,
    /// How sure it is of that.
    pub outlook_confidence: f64,
    /// For so many minutes nothing may have needed an instance before it lets it go.
    pub hold: Minute,
}

/// A [`Setting`], as places in the lists of what is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Strategy {
    confidence: usize,
    outlook: usize,
    outlook_confidence: usize,
    hold: usize,
}

impl Strategy {
    /// What is done until something else has been cheaper.
    pub(super) const AT_FIRST: Self = Self { confidence: 2, outlook: 1, outlook_confidence: 1, hold: 0 };

    pub(super) fn all() -> impl Iterator<Item = Self> {
        let holds = |confidence, outlook, outlook_confidence| {
            (0..HOLDS.len()).map(move |hold| Self { confidence, outlook, outlook_confidence, hold })
        };
        let of = move |confidence, outlook| {
            (0..OUTLOOK_CONFIDENCES.len()).flat_map(move |sure| holds(confidence, outlook, sure))
        };
        (0..CONFIDENCES.len())
            .flat_map(move |confidence| (0..OUTLOOKS.len()).flat_map(move |outlook| of(confidence, outlook)))
    }

    pub(super) fn setting(self) -> Setting {
        Setting {
            confidence: CONFIDENCES[self.confidence],
            outlook: OUTLOOKS[self.outlook],
            outlook_confidence: OUTLOOK_CONFIDENCES[self.outlook_confidence],
            hold: HOLDS[self.hold],
        }
    }
}

/// A load, and the instances that carry it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Level {
    /// In instances, not rounded and without limits.
    pub(super) load: f64,
    /// The whole number, within the limits.
    pub(super) instances: u32,
}

impl Level {
    pub(super) fn new(terms: &Terms, load: f64) -> Self {
        Self { load, instances: terms.instances(load) }
    }

    fn or(self, other: Self) -> Self {
        if other.load > self.load { other } else { self }
    }
}

/// What a strategy provides for in one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Provision {
    /// Until an instance started now would serve: fewer would be too few.
    pub(super) until_served: Level,
    /// Until the end of the outlook.
    pub(super) ahead: Level,
    /// The largest `ahead` of the hold time: nobody goes below it.
    pub(super) kept: Level,
}

/// The whole numbers of a [`Provision`], which are all that a backtest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    until_served: u32,
    ahead: u32,
    kept: u32,
}

impl Counts {
    /// The number of instances that it wants of a group that should have `desired`.
    pub(super) fn wanted(self, desired: u32) -> u32 {
        if self.until_served > desired { self.ahead } else { self.kept.min(desired) }
    }
}

/// A peak as it is forecast now, and the largest such forecast of each hold time.
#[derive(Debug, Clone, Default)]
struct Held {
    now: Level,
    kept: [Level; HOLDS.len()],
    windows: [SlidingMax; HOLDS.len()],
}

impl Held {
    fn look(&mut self, terms: &Terms, minute: Minute, load: f64) {
        self.now = Level::new(terms, load);
        #[expect(clippy::cast_possible_truncation, reason = "it was made from as many digits")]
        let load = load as f32;
        for ((window, kept), hold) in self.windows.iter_mut().zip(&mut self.kept).zip(HOLDS) {
            window.push(minute, load);
            window.begin_at(minute - hold + 1);
            let most = window.max().map_or(self.now.load, f64::from);
            *kept = match most {
                most if most <= self.now.load => self.now,
                // Most minutes change no maximum, and rounding is dear.
                #[expect(clippy::float_cmp, reason = "it is the same one or another one")]
                most if most == kept.load => *kept,
                most => Level::new(terms, most),
            };
        }
    }
}

/// What every strategy sees. The largest of two peaks is held as the larger of what is held of each, so that the strategies
/// share what they have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels {
    until_served: [Held; CONFIDENCES.len()],
    ahead: [[Held; OUTLOOK_CONFIDENCES.len()]; OUTLOOKS.len()],
    /// Whether there was a forecast. Without one it is the reactive rule: what is provided for is the load of now.
    pub(super) forecasts: bool,
}

impl Levels {
    /// Looks at one minute, at its end. No peak is below the load that was: what is needed now is not left missing
    /// on a guess. The forecast's horizon 0 is the time until an instance started now would serve, the others are
    /// [`OUTLOOKS`].
    pub(super) fn look(&mut self, terms: &Terms, minute: Minute, load: f64, forecast: &LoadForecast) {
        let peak = |horizon, confidence| forecast.peak(horizon, confidence).unwrap_or(load).max(load);
        for (held, confidence) in self.until_served.iter_mut().zip(CONFIDENCES) {
            held.look(terms, minute, peak(0, confidence));
        }
        for (outlook, horizon) in self.ahead.iter_mut().zip(1..) {
            for (held, confidence) in outlook.iter_mut().zip(OUTLOOK_CONFIDENCES) {
                held.look(terms, minute, peak(horizon, confidence));
            }
        }
        self.forecasts = forecast.peak(0, CONFIDENCES[0]).is_some();
    }

    pub(super) fn provision(&self, strategy: Strategy) -> Provision {
        let soon = &self.until_served[strategy.confidence];
        let later = &self.ahead[strategy.outlook][strategy.outlook_confidence];
        Provision {
            until_served: soon.now,
            ahead: soon.now.or(later.now),
            kept: soon.kept[strategy.hold].or(later.kept[strategy.hold]),
        }
    }

    /// The whole numbers of all strategies, in the order of [`Strategy::all`]. More load never needs fewer instances, so the
    /// larger of two numbers is that of the larger load.
    pub(super) fn counts(&self) -> impl Iterator<Item = Counts> {
        self.until_served.iter().flat_map(move |soon| {
            self.ahead.as_flattened().iter().flat_map(move |later| {
                let ahead = soon.now.instances.max(later.now.instances);
                soon.kept.iter().zip(&later.kept).map(move |(soon_kept, later_kept)| Counts {
                    until_served: soon.now.instances,
                    ahead,
                    kept: soon_kept.instances.max(later_kept.instances),
                })
            })
        })
    }
}
