//! A maximum that was edited below the desired number comes down in steps.
//!
//! An edit may be a slip of the pen, or the first half of a file: `max: 1` of `max: 15`. So the group goes in at its own
//! pace, which leaves the time to see it, and remembers where it was for when the edit is taken back.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::group::elapsed;
use crate::spec::GroupSpec;

/// At most one in so many instances goes in a step, and at least one.
const PART: u32 = 4;

/// A group on its way down to a maximum, or there because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Easing {
    /// The desired number before the maximum came down.
    from: u32,
    /// The maximum that holds now.
    max: u32,
    /// When it came to be that.
    since: Timestamp,
}

/// What holds of a group's limits now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eased {
    /// To be kept, and given to the next round.
    pub easing: Option<Easing>,
    /// The maximum that holds: the file's, or one on the way to it.
    pub max: u32,
    /// The desired number, where it goes back to what it was before the maximum came down.
    pub restored: Option<u32>,
}

impl Easing {
    /// After the clock was set back: what would begin in the future began now.
    pub fn rewind(&mut self, now: Timestamp) {
        self.since = self.since.min(now);
    }
}

/// The maximum that holds now in a group of which so many are desired.
///
/// A maximum below the desired number comes down by a quarter of it (at least one) in each buffer time, the first of which
/// begins with the edit. When the maximum is raised again, the number goes back with it, up to what it was; unless a policy
/// or a person has lowered it meanwhile. What a policy has raised beyond the maximum (`exceeds_by_policy`) comes down by the
/// policies.
#[must_use]
pub fn ease(
    spec: &GroupSpec,
    desired: u32,
    exceeds_by_policy: bool,
    easing: Option<Easing>,
    now: Timestamp,
) -> Eased {
    let max = spec.max;
    let free = Eased { easing: None, max, restored: None };
    if exceeds_by_policy {
        return free;
    }
    let Some(mut easing) = easing.filter(|easing| desired == easing.max) else {
        let begun = (max < desired).then_some(Easing { from: desired, max: desired, since: now });
        return Eased { easing: begun, max: max.max(desired), restored: None };
    };
    if max > easing.max {
        let restored = easing.from.min(max);
        let goes_on = restored < easing.from;
        let easing = goes_on.then_some(Easing { max: restored, since: now, ..easing });
        return Eased { easing, restored: Some(restored), ..free };
    }
    if max < easing.max && elapsed(easing.since, now) >= spec.buffer_time_in().max(LEAST_PAUSE) {
        easing.max = max.max(easing.max - easing.max.div_ceil(PART));
        easing.since = now;
    }
    Eased { easing: Some(easing), max: easing.max, restored: None }
}

/// Between two steps, also of a group without a buffer time.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Pace;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn limits(max: u32) -> GroupSpec {
        let (buffer_time, cool_down) = (Duration::from_secs(10), Duration::from_mins(1));
        GroupSpec { min: 1, max, buffer_time, cool_down, pace: Pace::default() }
    }

    /// A group whose number follows the maximum that holds.
    struct Course {
        desired: u32,
        easing: Option<Easing>,
    }

    impl Course {
        fn at(&mut self, second: i64, max: u32) -> u32 {
            let eased = ease(&limits(max), self.desired, false, self.easing, at(second));
            self.easing = eased.easing;
            self.desired = eased.restored.unwrap_or(self.desired).min(eased.max);
            self.desired
        }
    }

    #[test]
    fn it_comes_down_by_a_quarter_in_each_buffer_time() {
        let mut course = Course { desired: 12, easing: None };
        assert_eq!([0, 9].map(|second| course.at(second, 1)), [12, 12], "one buffer time to take it back");
        let steps: Vec<u32> = (1..=9).map(|step| course.at(step * 10, 1)).collect();
        assert_eq!(steps, [9, 6, 4, 3, 2, 1, 1, 1, 1]);
        assert_eq!(Course { desired: 12, easing: None }.at(0, 12), 12);
    }

    #[test]
    fn it_goes_back_with_the_maximum() {
        let mut course = Course { desired: 12, easing: None };
        assert_eq!([(0, 1), (10, 1), (11, 15)].map(|(second, max)| course.at(second, max)), [12, 9, 12]);
        assert_eq!(course.easing, None);
        let mut course = Course { desired: 12, easing: None };
        let edits = [(0, 8), (10, 8), (20, 8), (30, 10), (90, 10), (91, 20)];
        assert_eq!(edits.map(|(second, max)| course.at(second, max)), [12, 9, 8, 10, 10, 12]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_no_step_up() {
        let mut course = Course { desired: 12, easing: None };
        course.at(3_600, 1);
        if let Some(easing) = &mut course.easing {
            easing.rewind(at(0));
        }
        assert_eq!([9, 10].map(|second| course.at(second, 1)), [12, 9]);
    }

    #[test]
    fn what_a_policy_has_raised_comes_down_by_the_policies() {
        let free = Eased { easing: None, max: 8, restored: None };
        assert_eq!(ease(&limits(8), 12, true, None, at(0)), free);
        let eased = ease(&limits(8), 12, false, None, at(0));
        assert_eq!(eased.max, 12);
        assert_eq!(ease(&limits(8), 12, true, eased.easing, at(10)), free);
    }

    #[test]
    fn what_a_person_or_a_policy_says_meanwhile_counts() {
        let mut course = Course { desired: 12, easing: None };
        assert_eq!([0, 10].map(|second| course.at(second, 1)), [12, 9]);
        course.desired = 5;
        assert_eq!(course.at(11, 15), 5);
        assert_eq!(course.easing, None);
    }
}
