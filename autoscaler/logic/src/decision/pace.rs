//! How fast a number may change: stabilization and rate limits as in the HPA's `behavior` ("Horizontal Pod
//! Autoscaling", configurable scaling behavior), scale-in control as in Google's managed instance groups
//! ("Understanding autoscaler decisions").

use jiff::Timestamp;

use super::{Clip, Group};
use crate::history::History;
use crate::spec::{Amount, Direction, RateLimit, ScaleInControl, Select};

/// The number that may be taken now on the way from the desired to the wanted one.
pub(super) fn tame(group: &Group<'_>, wanted: u32, now: Timestamp, clips: &mut Vec<Clip>) -> u32 {
    let pace = &group.spec.pace;
    let mut tamed = wanted;
    let mut apply = |allowed: u32, clip: fn(u32) -> Clip| {
        // Nothing here goes further than was wanted, or back beyond where the group is.
        let allowed = allowed.clamp(group.desired.min(tamed), group.desired.max(tamed));
        if allowed != tamed {
            tamed = allowed;
            clips.push(clip(allowed));
        }
    };
    let direction = if wanted > group.desired { &pace.out } else { &pace.r#in };
    if wanted == group.desired {
        return wanted;
    }
    let allowed = stabilized(group, direction, wanted, now);
    apply(allowed, |to| Clip::Stabilization { to });
    apply(limited(group, direction, wanted > group.desired, now), |to| Clip::RateLimit { to });
    if wanted < group.desired
        && let Some(control) = pace.scale_in_control
    {
        let (lowest, peak) = controlled(group.history, control, wanted, now);
        if lowest > tamed {
            tamed = lowest.min(group.desired);
            clips.push(Clip::ScaleInControl { to: tamed, peak });
        }
    }
    tamed
}

/// Out: the least of the window's recommendations and the wanted number; in: the largest.
fn stabilized(group: &Group<'_>, direction: &Direction, wanted: u32, now: Timestamp) -> u32 {
    let recommended = group.history.recommended(direction.stabilization, now);
    if wanted > group.desired {
        recommended.fold(wanted, u32::min)
    } else {
        recommended.fold(wanted, u32::max)
    }
}

/// How far the rate limits let the number go.
fn limited(group: &Group<'_>, direction: &Direction, out: bool, now: Timestamp) -> u32 {
    if direction.select == Select::Disabled {
        return group.desired;
    }
    let allowed = direction.limits.iter().map(|limit| allowed(group, limit, out, now));
    let furthest = (direction.select == Select::Max) == out;
    let chosen = if furthest { allowed.max() } else { allowed.min() };
    chosen.unwrap_or(if out { u32::MAX } else { 0 })
}

/// How far one limit lets the number go, from where it was at the beginning of its period.
fn allowed(group: &Group<'_>, limit: &RateLimit, out: bool, now: Timestamp) -> u32 {
    let changes = group.history.changes(limit.period, now);
    let by = changes.map(|change| i64::from(change.to) - i64::from(change.from)).sum::<i64>();
    let start = (i64::from(group.desired) - by).max(0);
    let end = match (limit.most, out) {
        (Amount::Count(count), true) => start + i64::from(count),
        (Amount::Count(count), false) => start - i64::from(count),
        // As the HPA rounds: up on the way out, towards zero on the way in.
        (Amount::Percent(percent), true) => (start * (100 + i64::from(percent)) + 99) / 100,
        (Amount::Percent(percent), false) => start * (100 - i64::from(percent.min(100))) / 100,
    };
    u32::try_from(end.max(0)).unwrap_or(u32::MAX)
}

/// The lowest number that the scale-in control allows, and the peak that it is counted from.
fn controlled(history: &History, control: ScaleInControl, wanted: u32, now: Timestamp) -> (u32, u32) {
    let peak = history.recommended(control.window, now).fold(wanted, u32::max);
    let lowest = match control.most {
        Amount::Count(count) => peak.saturating_sub(count),
        Amount::Percent(percent) => {
            let left = u64::from(peak) * u64::from(100 - percent.min(100));
            u32::try_from(left.div_ceil(100)).unwrap_or(u32::MAX)
        }
    };
    (lowest, peak)
}
