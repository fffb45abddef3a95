//! A load as people read it.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;

use crate::samples::Load;
use crate::spec::{Aggregation, Scope, Signal, Statistic};

/// A signal, what it is now, and what it is compared with.
pub(super) struct Reading<'a> {
    pub(super) signal: &'a Signal,
    pub(super) load: Load,
    /// `threshold` or `target`.
    pub(super) what: &'static str,
    pub(super) bound: f64,
}

impl fmt::Display for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = span(self.signal.window);
        let percent = self.signal.is_share();
        let name = Name(self.signal);
        let (what, bound) = (self.what, amount(percent, self.bound));
        match self.load {
            Load::Known { value, instances, .. } => {
                let value = amount(percent, value);
                write!(f, "{name} is {value} over {window:#} on {instances} in service, {what} {bound}")
            }
            Load::Partial { at_least, instances, unmeasured, gaps, .. } => {
                let value = amount(percent, at_least);
                write!(f, "{name} is at least {value} over {window:#} on {instances} in service, with ")?;
                match (unmeasured, gaps) {
                    (0, _) => f.write_str("gaps in the samples counted at 0")?,
                    (_, gaps) => {
                        let and = if gaps { " and gaps in them" } else { "" };
                        write!(f, "{unmeasured} more without fresh samples{and} counted at 0")?;
                    }
                }
                write!(f, ", {what} {bound}")
            }
            Load::Missing(why) => write!(f, "{name} is not known: {why}"),
        }
    }
}

pub(super) fn span(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// A signal's name: the mean of means is what a reader expects, anything else is said.
pub(super) struct Name<'a>(pub(super) &'a Signal);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.aggregation {
            Aggregation::Average => {}
            Aggregation::Minimum => f.write_str("minimum of ")?,
            Aggregation::Maximum => f.write_str("maximum of ")?,
            Aggregation::Total => f.write_str("total of ")?,
            Aggregation::Last => f.write_str("last ")?,
            Aggregation::Count => f.write_str("count of ")?,
        }
        match self.0.scope {
            Scope::Instances { statistic: Statistic::Average } => {}
            Scope::Instances { statistic } => write!(f, "{statistic} ")?,
            Scope::Group { per_instance: false } => f.write_str("the group's ")?,
            Scope::Group { per_instance: true } => f.write_str("the group's share for an instance of ")?,
        }
        f.write_str(self.0.metric.title())
    }
}

/// A value as people read it: in percent where it is a share.
pub(super) fn amount(percent: bool, value: f64) -> Amount {
    Amount { percent, value }
}

pub(super) struct Amount {
    percent: bool,
    value: f64,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.percent { write!(f, "{:.1} %", self.value * 100.0) } else { write!(f, "{:.1}", self.value) }
    }
}

/// Why a threshold or a target can't be met, where it can't.
pub(super) fn unusable(what: &str, bound: f64) -> Option<String> {
    let usable = bound.is_finite() && bound > 0.0;
    (!usable).then(|| format!("a {what} of {bound} can't be met: it must be above 0"))
}
