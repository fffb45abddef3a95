//! What several policies want together.

use crate::policy::{Evaluation, Wish};

/// What the policies want together, and the reason of the one that settles it.
pub(super) struct Combined {
    pub(super) wish: Wish,
    pub(super) reason: String,
    /// The policy whose wish it is.
    pub(super) policy: Option<usize>,
}

/// Out if any wants out, the largest wins; in only if all agree, the smallest wins. Who abstains is not asked.
pub(super) fn combine(policies: &[Evaluation]) -> Combined {
    let outs = policies.iter().enumerate().filter_map(|(index, policy)| match policy.wish {
        Wish::Out(more) => Some((more, index, policy)),
        _ => None,
    });
    // The first of equals, so that the reason stays the same from one round to the next.
    if let Some((more, index, policy)) = outs.reduce(|best, next| if next.0 > best.0 { next } else { best }) {
        return Combined { wish: Wish::Out(more), reason: policy.reason.clone(), policy: Some(index) };
    }
    let blocks = |wish: Wish| policies.iter().find(|policy| policy.wish == wish);
    if let Some(policy) = blocks(Wish::Unknown).or_else(|| blocks(Wish::Hold)) {
        let others = policies.iter().any(|policy| matches!(policy.wish, Wish::In(_)));
        let veto = if others { ", and it goes in only if all policies agree" } else { "" };
        return Combined { wish: policy.wish, reason: format!("{}{veto}", policy.reason), policy: None };
    }
    let ins = policies.iter().enumerate().filter_map(|(index, policy)| match policy.wish {
        Wish::In(fewer) => Some((fewer, index, policy)),
        _ => None,
    });
    match ins.reduce(|best, next| if next.0 < best.0 { next } else { best }) {
        Some((fewer, index, policy)) => {
            Combined { wish: Wish::In(fewer), reason: policy.reason.clone(), policy: Some(index) }
        }
        None => Combined { wish: Wish::Abstain, reason: idle(policies), policy: None },
    }
}

/// Why nothing is wanted where nobody even holds.
fn idle(policies: &[Evaluation]) -> String {
    match policies.first() {
        Some(policy) => policy.reason.clone(),
        None => "there is no policy, so it changes by hand only".to_owned(),
    }
}
