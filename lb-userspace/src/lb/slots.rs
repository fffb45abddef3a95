//! How a table follows from the one before it: which slots move, which are tracked, and when they come to rest.

use lb_common::abi::{Exceptions, NO_BACKEND, Slot, TABLE_SLOTS, Table};

/// When each slot last moved, or came closer to rest, by the flows' clock; of tracked slots only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moves(Box<[u32]>);

impl Moves {
    /// As if all had moved now: what isn't known is taken to be young.
    pub(super) fn all_at(clock: u32) -> Self {
        Self(vec![clock; TABLE_SLOTS].into_boxed_slice())
    }
}

/// The owners of a table's slots, as Maglev gives them.
pub(super) type Owners = Box<[u16]>;

/// No slot has an owner.
pub(super) fn nobody() -> Owners {
    vec![NO_BACKEND; TABLE_SLOTS].into_boxed_slice()
}

/// The first table of a service: no flow is older than it.
pub(super) fn first(owners: &Owners) -> Box<Table> {
    build(|slot| Slot::steady(owners[slot]))
}

/// The table in which each slot is its new owner's, and old flows stay with whom they are: the previous owner they had, else the
/// owner they had, as long as `keeps` says that it keeps its flows.
///
/// A slot that has moved since its flows began is tracked. One whose previous owner is gone has no old flow any more; it stays
/// tracked as long as flows of other backends may be known.
pub(super) fn moved(
    before: &Table,
    owners: &Owners,
    keeps: impl Fn(u16) -> bool,
    moves: &mut Moves,
    clock: u32,
) -> Box<Table> {
    build(|number| {
        let (old, owner) = (before[number], owners[number]);
        let previous_owner = if keeps(old.previous_owner()) { old.previous_owner() } else { owner };
        let is_steady = !old.is_tracked() && (old.new_flows == owner || previous_owner == owner);
        if is_steady {
            return Slot::steady(owner);
        }
        let slot = Slot::tracked(owner, previous_owner);
        if slot != old {
            moves.0[number] = clock;
        }
        slot
    })
}

/// How long TCP flows are known, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// A flow that is idle.
    pub idle: u32,
    /// An attempt that doesn't become one.
    pub attempt: u32,
}

/// The table after time has passed, if a slot has come closer to rest.
///
/// Once a slot has been as it is for longer than a flow may be idle, each live old flow has sent a packet and so is
/// known: then the previous owner has no more to keep. When after that a sweep has found no flow of another backend than the
/// owner (`exceptions`), and no attempt is left that another has from before, the slot is steady again.
pub(super) fn settled(
    before: &Table,
    exceptions: &Exceptions,
    moves: &mut Moves,
    clock: u32,
    timeouts: Timeouts,
) -> Option<Box<Table>> {
    let mut changed = false;
    let table = build(|number| {
        let old = before[number];
        let age = clock.wrapping_sub(moves.0[number]);
        let slot = if !old.is_tracked() {
            old
        } else if old.previous_owner() != old.new_flows && age > timeouts.idle {
            moves.0[number] = clock;
            Slot::tracked(old.new_flows, old.new_flows)
        } else if old.previous_owner() == old.new_flows
            && age > timeouts.attempt
            && !exceptions.contains(number)
        {
            Slot::steady(old.new_flows)
        } else {
            old
        };
        changed |= slot != old;
        slot
    });
    changed.then_some(table)
}

/// Whether any slot is tracked.
pub(super) fn has_tracked(table: &Table) -> bool {
    table.iter().any(|slot| slot.is_tracked())
}

fn build(slot: impl FnMut(usize) -> Slot) -> Box<Table> {
    let slots: Box<[Slot]> = (0..TABLE_SLOTS).map(slot).collect();
    slots.try_into().unwrap_or_else(|_| unreachable!("as many slots as a table has"))
}

#[cfg(test)]
mod tests {
    use lb_common::abi::{EXCEPTION_WORDS, Exceptions, NO_BACKEND, Slot, TABLE_SLOTS, Table};

    use super::{Moves, Owners, Timeouts, first, has_tracked, moved, settled};

    const NONE: Exceptions = Exceptions { words: [0; EXCEPTION_WORDS] };

    fn all(owner: u16) -> Owners {
        vec![owner; TABLE_SLOTS].into_boxed_slice()
    }

    /// Moves all slots to `owner`, flows staying with those in `keeping`.
    fn to(before: &Table, owner: u16, keeping: &[u16], moves: &mut Moves, clock: u32) -> Box<Table> {
        moved(before, &all(owner), |index| keeping.contains(&index), moves, clock)
    }

    #[test]
    fn a_slot_that_moves_is_tracked_and_its_old_flows_stay_with_the_first_owner() {
        let mut moves = Moves::all_at(0);
        let table = to(&first(&all(1)), 2, &[1, 2], &mut moves, 10);
        assert_eq!(table[5], Slot::tracked(2, 1));
        let table = to(&table, 3, &[1, 2, 3], &mut moves, 20);
        assert_eq!(
            table[5],
            Slot::tracked(3, 1),
            "flows of 2 began while the slot was tracked: they are known"
        );
        let table = to(&table, 1, &[1, 2, 3], &mut moves, 30);
        assert_eq!(table[5], Slot::tracked(1, 1), "flows of 2 and 3 may live");
    }

    #[test]
    fn a_slot_that_does_not_move_stays_steady() {
        let mut moves = Moves::all_at(0);
        let table = to(&first(&all(1)), 1, &[1, 2], &mut moves, 10);
        assert_eq!(table[5], Slot::steady(1));
    }

    #[test]
    fn a_previous_owner_that_is_gone_keeps_nothing() {
        let mut moves = Moves::all_at(0);
        assert_eq!(to(&first(&all(1)), 2, &[2], &mut moves, 10)[5], Slot::steady(2));
        let table = to(&first(&all(1)), 2, &[1, 2], &mut moves, 10);
        let table = to(&table, 2, &[2], &mut moves, 20);
        assert_eq!(table[5], Slot::tracked(2, 2), "flows of a third may be known");
        let table = to(&first(&all(NO_BACKEND)), 2, &[2], &mut moves, 10);
        assert_eq!(table[5], Slot::steady(2), "there are no flows to keep");
    }

    #[test]
    fn a_slot_comes_to_rest_in_two_steps() {
        const TIMEOUTS: Timeouts = Timeouts { idle: 350, attempt: 64 };
        let mut moves = Moves::all_at(0);
        let settled = |table: &Table, exceptions: &Exceptions, moves: &mut Moves, clock| {
            settled(table, exceptions, moves, clock, TIMEOUTS)
        };
        let table = to(&first(&all(1)), 2, &[1, 2], &mut moves, 10);
        assert!(settled(&table, &NONE, &mut moves, 360).is_none(), "a flow may be idle for 350 s");
        let table = settled(&table, &NONE, &mut moves, 361).expect("a step");
        assert_eq!(table[5], Slot::tracked(2, 2));
        assert!(settled(&table, &NONE, &mut moves, 425).is_none(), "an attempt may be as old");

        let mut busy = NONE;
        busy.words[0] = 1 << 5;
        let table = settled(&table, &busy, &mut moves, 426).expect("a step");
        assert_eq!((table[5], table[6]), (Slot::tracked(2, 2), Slot::steady(2)));
        assert!(has_tracked(&table));
        let table = settled(&table, &NONE, &mut moves, 427).expect("a step");
        assert_eq!(table[5], Slot::steady(2));
        assert!(!has_tracked(&table));
        assert!(settled(&table, &NONE, &mut moves, 428).is_none());
    }

    #[test]
    fn without_an_owner_old_flows_stay_where_they_are_and_new_ones_have_no_backend() {
        let mut moves = Moves::all_at(0);
        let table = to(&first(&all(1)), NO_BACKEND, &[1], &mut moves, 10);
        assert_eq!(table[5], Slot::tracked(NO_BACKEND, 1));
        assert_eq!(table[5].previous_owner(), 1);
        let none = Slot::tracked(NO_BACKEND, NO_BACKEND);
        assert_eq!(none.previous_owner(), NO_BACKEND);
    }
}
