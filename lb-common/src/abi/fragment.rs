//! What is kept for a short time: where fragments go, and how many answers may be sent.

use super::{Address, Handle};

/// A client's packet that comes in fragments: key of a VIP's table in `fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// Its source.
    pub source: Address,
    /// What its fragments share.
    pub identification: u32,
    /// The IP protocol number; 0 for IPv6, whose fragments needn't share it (RFC 8200, 4.5).
    pub protocol: u32,
}

impl FragmentKey {
    /// The key of a packet; of words, since the programs' stacks have to be accessed at their alignment.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: &Address, identification: u32, protocol: u32) -> Self {
        let [a, b] = source.words();
        // SAFETY: both are 24 bytes without padding, and any bytes are a key.
        unsafe { core::mem::transmute::<[u64; 3], Self>([a, b, word(identification, protocol)]) }
    }
}

/// Where a client's packet went: value of a VIP's table in `fragments`, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentTarget {
    /// The service.
    pub service: Handle,
    /// The backend.
    pub backend: Handle,
}

impl FragmentTarget {
    /// As it stands in the table.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        (self.service.word() as u64) << 32 | self.backend.word() as u64
    }

    /// What stands in the table.
    #[inline(always)]
    #[must_use]
    pub const fn of_word(word: u64) -> Self {
        Self { service: Handle::of_word((word >> 32) as u32), backend: Handle::of_word(word as u32) }
    }
}

/// A backend's packet that comes in fragments: key of a tenant's table in `answer_fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerFragmentKey {
    /// Its source.
    pub source: Address,
    /// Its destination.
    pub destination: Address,
    /// What its fragments share.
    pub identification: u32,
    /// As [`FragmentKey::protocol`].
    pub protocol: u32,
}

impl AnswerFragmentKey {
    /// The key of a packet; of words, as [`FragmentKey::new`].
    #[inline(always)]
    #[must_use]
    pub const fn new(source: &Address, destination: &Address, identification: u32, protocol: u32) -> Self {
        let ([a, b], [c, d]) = (source.words(), destination.words());
        // SAFETY: both are 40 bytes without padding, and any bytes are a key.
        unsafe { core::mem::transmute::<[u64; 5], Self>([a, b, c, d, word(identification, protocol)]) }
    }
}

/// What a backend's packet became: value of a tenant's table in `answer_fragments`, as [`AnswerFragmentWords`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFragmentValue {
    /// Its source by then.
    pub vip: Address,
    /// The service.
    pub service: Handle,
    /// The backend.
    pub backend: Handle,
}

/// The words of an [`AnswerFragmentValue`].
pub type AnswerFragmentWords = [u64; 3];

impl AnswerFragmentValue {
    /// The words for a packet.
    #[inline(always)]
    #[must_use]
    pub const fn words(vip: &Address, service: Handle, backend: Handle) -> AnswerFragmentWords {
        let [a, b] = vip.words();
        [a, b, word(service.word(), backend.word())]
    }

    /// The value in a table.
    #[inline(always)]
    #[must_use]
    pub const fn of_words(words: AnswerFragmentWords) -> Self {
        // SAFETY: both are 24 bytes without padding, and any bytes are a value.
        unsafe { core::mem::transmute::<AnswerFragmentWords, Self>(words) }
    }
}

/// Two halves, as they follow one another in memory.
#[inline(always)]
const fn word(first: u32, second: u32) -> u64 {
    let (first, second) = (first as u64, second as u64);
    if cfg!(target_endian = "little") { second << 32 | first } else { first << 32 | second }
}

/// How many ICMP errors may be sent in a VIP's name: a token bucket. Value of `answer_budgets`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AnswerBudget {
    /// Up to when, in nanoseconds of the monotonic clock, the answers sent so far have used the budget up.
    pub used_until: u64,
}

impl AnswerBudget {
    /// Answers a second, for each CPU. Linux, for all of its addresses: `icmp_msgs_per_sec`.
    pub const RATE: u64 = 1_000;
    /// As many may come at once. Linux: `icmp_msgs_burst`.
    pub const BURST: u64 = 50;
    /// The budgets of each CPU: VIPs share one by chance only.
    pub const BUDGETS: usize = 64;

    /// The number of a VIP's budget. Fibonacci hashing keeps neighbours apart.
    #[inline(always)]
    #[must_use]
    pub const fn number(vip: &Address) -> u32 {
        let [high, low] = vip.words();
        let hash = (high.rotate_left(32) ^ low).wrapping_mul(crate::hash::GOLDEN);
        (hash >> (u64::BITS - Self::BUDGETS.ilog2())) as u32
    }

    const INTERVAL: u64 = 1_000_000_000 / Self::RATE;

    /// Takes one answer out of the budget at time `now`, in nanoseconds, if there is one.
    #[inline(always)]
    pub const fn take(&mut self, now: u64) -> bool {
        let used = if self.used_until < now { now } else { self.used_until };
        if used - now > (Self::BURST - 1) * Self::INTERVAL {
            return false;
        }
        self.used_until = used + Self::INTERVAL;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Address, AnswerBudget, AnswerFragmentKey, AnswerFragmentValue, FragmentKey, FragmentTarget, Handle,
    };

    #[test]
    fn words_are_the_fields() {
        let (source, destination) = (Address::v4([19, 0, 0, 2]), Address::v4([198, 51, 100, 7]));
        let identification = 0x1234_5678;
        let key = FragmentKey { source, identification, protocol: 17 };
        assert_eq!(FragmentKey::new(&source, identification, 17), key);
        let key = AnswerFragmentKey { source, destination, identification, protocol: 17 };
        assert_eq!(AnswerFragmentKey::new(&source, &destination, identification, 17), key);
        let handle = |index, incarnation| Handle { index, incarnation };
        let (service, backend) = (handle(1, 2), handle(3, 4));
        let words = AnswerFragmentValue::words(&source, service, backend);
        let value = AnswerFragmentValue { vip: source, service, backend };
        assert_eq!(AnswerFragmentValue::of_words(words), value);
        let target = FragmentTarget { service, backend };
        assert_eq!(FragmentTarget::of_word(target.word()), target);
    }

    #[test]
    fn neighbouring_vips_have_budgets_of_their_own() {
        let numbers = |vips: [Address; 16]| -> std::collections::BTreeSet<u32> {
            vips.iter().map(AnswerBudget::number).collect()
        };
        let last = |last: usize| u8::try_from(last).expect("a byte");
        let v4 = numbers(core::array::from_fn(|n| Address::v4([203, 0, 113, last(n)])));
        let v6 = numbers(core::array::from_fn(|n| {
            Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last(n)])
        }));
        assert!(v4.len() >= 15 && v6.len() >= 15, "{v4:?}, {v6:?}");
        assert!(v4.iter().all(|number| (*number as usize) < AnswerBudget::BUDGETS));
    }

    #[test]
    fn a_burst_is_answered_and_then_the_rate_holds() {
        let mut budget = AnswerBudget::default();
        let now = 7_000_000_000;
        let at_once = (0..1_000).filter(|_| budget.take(now)).count();
        assert_eq!(at_once, 50);
        let within_a_second = (0..100_000).filter(|step| budget.take(now + step * 10_000)).count();
        assert!((999..=1_001).contains(&within_a_second), "{within_a_second}");
        assert!(budget.take(now + 3_600_000_000_000));
    }
}
