//! Slots of the Maglev tables: values of `tables` and `exceptions`.

/// Slots of a Maglev table: prime, and more than 100 × the backends at which the imbalance stays below 1 %
/// (Maglev, NSDI '16, section 3.4).
pub const TABLE_SLOTS: usize = 65_537;

/// The place that is no backend's: 15 bits, all set.
pub const NO_BACKEND: u16 = 0x7fff;

/// A slot of a Maglev table: the part of all flows that hash to it.
///
/// As long as a slot has had one owner since its oldest live flow began, every flow of it is the owner's and no flow
/// needs to be looked up: the slot is steady. When it moves to another backend it becomes *tracked*: flows are looked
/// up, a flow that the flow table doesn't know belongs to `old_flows` unless it begins now, and every flow that
/// begins is put down. A tracked slot becomes steady again when all its live flows are the owner's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Who gets the flows that begin: a place in `backends`, or [`NO_BACKEND`].
    pub new_flows: u16,
    /// Who has the flows that began before and aren't known: a place in 15 bits; the highest says "tracked".
    pub old_flows: u16,
}

impl Slot {
    const TRACKED: u16 = 0x8000;

    /// A slot that one backend owns.
    #[inline(always)]
    #[must_use]
    pub const fn steady(owner: u16) -> Self {
        Self { new_flows: owner, old_flows: owner }
    }

    /// A slot that has moved: old flows that aren't known are still `previous_owner`'s.
    #[inline(always)]
    #[must_use]
    pub const fn tracked(owner: u16, previous_owner: u16) -> Self {
        Self { new_flows: owner, old_flows: previous_owner | Self::TRACKED }
    }

    /// Whether flows have to be looked up.
    #[inline(always)]
    #[must_use]
    pub const fn is_tracked(self) -> bool {
        self.old_flows & Self::TRACKED != 0
    }

    /// The backend of flows that the flow table doesn't know and that don't begin now.
    #[inline(always)]
    #[must_use]
    pub const fn previous_owner(self) -> u16 {
        self.old_flows & !Self::TRACKED
    }
}

/// A Maglev table: value of `tables`.
///
/// Each service has two, `2 × index` and `2 × index + 1`. A change is written to the idle one, then the service's word
/// in `generations` (0 or 1) flips, and packets meet all of the old table or all of the new one.
pub type Table = [Slot; TABLE_SLOTS];

/// Words of [`Exceptions`].
pub const EXCEPTION_WORDS: usize = TABLE_SLOTS.div_ceil(64);

/// The tracked slots that still have a live flow of another backend than their owner: value of `exceptions`, by
/// service. A bit a slot, set by the sweep.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exceptions {
    /// Slot `n` is bit `n % 64` of word `n / 64`.
    pub words: [u64; EXCEPTION_WORDS],
}

impl Exceptions {
    /// Whether a slot is among them.
    #[must_use]
    pub const fn contains(&self, slot: usize) -> bool {
        self.words[slot / 64] & (1 << (slot % 64)) != 0
    }
}
