//! So many instances at such times.

use super::timing::holds_until;
use super::{Answer, Situation, Wish};
use crate::spec::StaticEntry;

/// The group's minimum is raised to the entry's count while an entry holds; the wish is that minimum, so that alone it
/// is all that the group has, and beside others it is what they can't go below.
pub(super) fn answer(entries: &[StaticEntry], situation: &Situation<'_>) -> Answer {
    let desired = situation.group.desired;
    let (floor, reason) = floor(entries, situation);
    let wanted = situation.group.spec.clamp(floor.unwrap_or(situation.group.spec.min));
    Answer { floor, ..Answer::new(Wish::between(desired, wanted), reason) }
}

/// The count of the entry that holds, the largest of several, and its words.
pub(super) fn floor(entries: &[StaticEntry], situation: &Situation<'_>) -> (Option<u32>, String) {
    let holding =
        entries.iter().filter_map(|entry| Some((entry.count, holds_until(&entry.schedule, situation.now)?)));
    match holding.max() {
        Some((count, until)) => (Some(count), format!("the schedule asks for {count} until {until:.0}")),
        None => (None, "no schedule holds now".to_owned()),
    }
}
