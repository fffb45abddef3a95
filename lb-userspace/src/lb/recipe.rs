//! What a service's table is made of: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::address;
use super::maglev::Candidate;
use crate::service::{Backend, BackendState};

/// The places of a service's backends, each with what is asked of it.
pub(super) type Members = BTreeMap<u16, Backend>;

/// What a table is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Who takes new flows, in the order of their places.
    pub(super) candidates: Vec<Candidate>,
    /// The places of those who keep the flows they have.
    pub(super) may_keep: BTreeSet<u16>,
}

impl Recipe {
    /// The active backends take new flows. Where none has a share of them, those that drain do, as long as the service
    /// isn't `closing`: one that still serves is better than none.
    pub(super) fn of(members: &Members, closing: bool) -> Self {
        let mut candidates = in_state(members, BackendState::Active);
        if !closing && candidates.iter().all(|candidate| candidate.weight == 0) {
            candidates = in_state(members, BackendState::Draining);
        }
        let keeps = |(_, backend): &(&u16, &Backend)| backend.state != BackendState::Down;
        let may_keep = members.iter().filter(keeps).map(|(&index, _)| index).collect();
        Self { candidates, may_keep }
    }
}

fn in_state(members: &Members, state: BackendState) -> Vec<Candidate> {
    let candidate = |(&index, backend): (&u16, &Backend)| Candidate {
        address: address::from_ip(backend.address),
        index,
        weight: backend.weight,
    };
    members.iter().filter(|(_, backend)| backend.state == state).map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::maglev;
    use super::super::slots::{self, Moves};
    use super::*;
    use crate::net::MacAddr;
    use crate::service::BackendState::{Active, Down, Draining, Stopping};
    use crate::service::Reach;
    use lb_common::abi::{NO_BACKEND, Table};

    /// Backends by their places, of these weights.
    fn members(backends: &[(u8, BackendState, u16)]) -> Members {
        let reach = Reach::Link { interface: 1, source_mac: MacAddr([2; 6]), mac: MacAddr([4; 6]) };
        let backend = |&(place, state, weight): &(u8, BackendState, u16)| {
            let address = Ipv4Addr::new(19, 0, 0, place).into();
            (u16::from(place), Backend { address, reach, weight, state })
        };
        backends.iter().map(backend).collect()
    }

    /// The places of those who take new flows.
    fn takers(backends: &[(u8, BackendState, u16)], closing: bool) -> Vec<u16> {
        let recipe = Recipe::of(&members(backends), closing);
        let owners = maglev::owners(&recipe.candidates);
        let takers: BTreeSet<u16> = owners.iter().copied().filter(|&owner| owner != NO_BACKEND).collect();
        takers.into_iter().collect()
    }

    #[test]
    fn draining_backends_take_new_flows_only_while_no_other_does() {
        type Given<'a> = &'a [(u8, BackendState, u16)];
        let cases: [(Given<'_>, &[u16]); 10] = [
            (&[(1, Active, 1), (2, Draining, 1)], &[1]),
            (&[(2, Draining, 1)], &[2]),
            (&[(1, Down, 1), (2, Draining, 1), (3, Draining, 1)], &[2, 3]),
            (&[(1, Active, 0), (2, Draining, 1)], &[2]),
            (&[(2, Draining, 0), (3, Draining, 5)], &[3]),
            (&[(2, Draining, 0)], &[]),
            (&[(2, Stopping, 0)], &[]),
            (&[(2, Stopping, 1), (3, Draining, 1)], &[3]),
            (&[(1, Down, 1)], &[]),
            (&[], &[]),
        ];
        for (backends, wanted) in cases {
            assert_eq!(takers(backends, false), wanted, "{backends:?}");
        }
    }

    #[test]
    fn draining_backends_of_a_service_that_is_closing_take_none() {
        assert_eq!(takers(&[(2, Draining, 1)], true), [0; 0]);
        assert_eq!(takers(&[(1, Active, 1), (2, Draining, 1)], true), [1]);
        assert_eq!(Recipe::of(&members(&[(2, Draining, 1)]), true).may_keep, [2].into());
    }

    #[test]
    fn a_backend_that_stops_keeps_its_flows() {
        let mut moves = Moves::all_at(0);
        let all = Recipe::of(&members(&[(1, Active, 1), (2, Active, 1)]), false);
        let first = slots::first(&maglev::owners(&all.candidates));
        let stopping = next(&first, &[(1, Active, 1), (2, Stopping, 0)], &mut moves, 10);
        for (before, after) in first.iter().zip(stopping.iter()) {
            assert_eq!((after.new_flows, after.previous_owner()), (1, before.new_flows));
        }
        let alone = next(&stopping, &[(2, Stopping, 0)], &mut moves, 20);
        assert!(alone.iter().all(|slot| slot.new_flows == NO_BACKEND));
        let kept = |slot: &lb_common::abi::Slot| slot.previous_owner() == 2;
        assert!(first.iter().zip(alone.iter()).all(|(before, slot)| before.new_flows != 2 || kept(slot)));
    }

    #[test]
    fn draining_backends_share_new_flows_by_their_weights() {
        let recipe = Recipe::of(&members(&[(2, Draining, 1), (3, Draining, 3)]), false);
        let owners = maglev::owners(&recipe.candidates);
        let of_three = owners.iter().filter(|&&owner| owner == 3).count();
        assert!((of_three * 4).abs_diff(owners.len() * 3) <= 8, "{of_three} of {}", owners.len());
    }

    fn next(
        before: &Table,
        backends: &[(u8, BackendState, u16)],
        moves: &mut Moves,
        clock: u32,
    ) -> Box<Table> {
        let recipe = Recipe::of(&members(backends), false);
        let owners = maglev::owners(&recipe.candidates);
        slots::moved(before, &owners, |index| recipe.may_keep.contains(&index), moves, clock)
    }

    #[test]
    fn old_flows_stay_where_they_are_when_draining_backends_serve_and_when_they_stop() {
        let mut moves = Moves::all_at(0);
        let all = Recipe::of(&members(&[(1, Active, 1), (2, Active, 1), (3, Active, 1)]), false);
        let first = slots::first(&maglev::owners(&all.candidates));
        let draining = next(&first, &[(1, Active, 1), (2, Draining, 1), (3, Draining, 1)], &mut moves, 10);
        assert!(draining.iter().all(|slot| slot.new_flows == 1));
        let alone = next(&draining, &[(2, Draining, 1), (3, Draining, 1)], &mut moves, 20);
        assert!(alone.iter().all(|slot| [2, 3].contains(&slot.new_flows)));
        let again = next(&alone, &[(2, Draining, 1), (3, Draining, 1), (4, Active, 1)], &mut moves, 30);
        for (number, slot) in again.iter().enumerate() {
            assert_eq!(slot.new_flows, 4, "at once");
            let before = first[number].new_flows;
            if before != 1 {
                assert_eq!(alone[number].previous_owner(), before);
                assert_eq!(slot.previous_owner(), before);
            }
        }
    }
}
