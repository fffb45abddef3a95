//! From a number that is needed to a wish.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// What a policy wants, counted from the desired number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "count", rename_all = "snake_case")]
pub enum Wish {
    /// So many more.
    Out(NonZeroU32),
    /// So many fewer.
    In(NonZeroU32),
    /// As it is.
    Hold,
    /// Its data are missing: it wants nothing, and nobody else may scale in.
    Unknown,
    /// Nothing, and others may do as they want: it adds only, or only raises the minimum.
    Abstain,
}

impl Wish {
    /// From one number to another.
    pub(crate) fn between(desired: u32, wanted: u32) -> Self {
        match (
            NonZeroU32::new(wanted.saturating_sub(desired)),
            NonZeroU32::new(desired.saturating_sub(wanted)),
        ) {
            (Some(more), _) => Self::Out(more),
            (_, Some(fewer)) => Self::In(fewer),
            (None, None) => Self::Hold,
        }
    }
}

/// How far a quotient may be from a whole number and still be that number.
///
/// A mean of a thousand doubles is off by some 1e-13 of itself, which must not turn 3 instances into 4; a billionth
/// of an instance is far above that, and far below any load that matters.
pub const ROUNDING: f64 = 1e-9;

/// The least whole number at or above `number`, within [`ROUNDING`]; no group is larger than it can say.
pub(crate) fn ceil(number: f64) -> i64 {
    let slack = (ROUNDING * number.abs()).clamp(ROUNDING, 0.5);
    let whole = (number - slack).ceil().clamp(-f64::from(u32::MAX), f64::from(u32::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a whole number of at most 33 bits; not a number is 0"
    )]
    let whole = whole as i64;
    whole
}

/// The same as a number of instances.
pub(crate) fn ceil_count(number: f64) -> u32 {
    u32::try_from(ceil(number).max(0)).unwrap_or(u32::MAX)
}

/// How many instances a group has, beside how many it should have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// How many there should be.
    pub(crate) desired: u32,
    /// How many are pending or in service.
    pub(crate) capacity: u32,
}

/// What a `change` to the instances that carry the load means for the desired number, and its words.
pub(crate) fn towards(standing: Standing, serving: u32, change: i64) -> (Wish, String) {
    let (desired, serving) = (i64::from(standing.desired), i64::from(serving));
    // Such a rule measures instances: with none left it could never add one again.
    let needed = (serving + change).max(1);
    let count = |n: i64| NonZeroU32::new(u32::try_from(n.unsigned_abs()).unwrap_or(u32::MAX));
    let capacity = i64::from(standing.capacity);
    if let Some(more) = count((needed - desired).max(0)).filter(|_| change > 0) {
        return (Wish::Out(more), format!("{more} more"));
    }
    // Instances on their way stay: what is removed is what those in service can do without, less those of them
    // that are about to go.
    if capacity < desired {
        // A plan launches at once whatever it can: those that are missing can't be had, as launches fail. They are wanted no
        // longer than the load needs them.
        let enough = if change > 0 { needed.max(capacity) } else { needed + (capacity - serving).max(0) };
        if let Some(fewer) = count((desired - enough).max(0)) {
            return (
                Wish::In(fewer),
                format!("{enough} are enough, and not all that are desired can be had"),
            );
        }
    }
    let leaving = (serving - desired).max(0);
    match count((serving - needed - leaving).max(0)) {
        _ if change > 0 => (Wish::Hold, format!("{change} more, and they are on their way")),
        Some(fewer) => (Wish::In(fewer), format!("{fewer} fewer")),
        None if change < 0 => (Wish::Hold, "none can go that is not going already".to_owned()),
        None => (Wish::Hold, "no change".to_owned()),
    }
}
