//! Static and dynamic together.

use super::{Answer, Situation, proactive, reactive, statics, target};
use crate::spec::{Custom, Dynamic};

/// The conflict rule: while an entry holds, the dynamic policy goes on deciding, but above a minimum raised to
/// the entry's count. The larger of the two wins, so that neither a schedule that was too low nor a quiet hour before
/// an event takes away what the other asks for.
pub(super) fn answer(policy: &Custom, situation: &Situation<'_>) -> Answer {
    let (floor, said) = statics::floor(&policy.entries, situation);
    let dynamic = match &policy.dynamic {
        Dynamic::Reactive(policy) => reactive::answer(policy, situation),
        Dynamic::Proactive(policy) => proactive::answer(policy, situation),
        Dynamic::TargetTracking(policy) => target::answer(policy, situation),
    };
    let reason = format!("{}; {said}", dynamic.reason);
    Answer { floor, reason, ..dynamic }
}
