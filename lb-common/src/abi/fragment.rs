//! What is kept for a short time: where fragments go, and how many answers may be sent.

use super::{Address, Handle};

/// A packet that comes in fragments: key of `fragments` and `answer_fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// Its source.
    pub source: Address,
    /// Its destination.
    pub destination: Address,
    /// What its fragments share.
    pub identification: u32,
    /// The IP protocol number; 0 for IPv6, whose fragments needn't share it (RFC 8200, 4.5).
    pub protocol: u32,
}

impl FragmentKey {
    /// The key of a packet; of words, since the programs' stacks have to be accessed at their alignment.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: &Address, destination: &Address, identification: u32, protocol: u32) -> Self {
        let ([a, b], [c, d]) = (source.words(), destination.words());
        // SAFETY: both are 40 bytes without padding, and any bytes are a key.
        unsafe { core::mem::transmute::<[u64; 5], Self>([a, b, c, d, word(identification, protocol)]) }
    }
}

/// Two halves, as they follow one another in memory.
#[inline(always)]
const fn word(first: u32, second: u32) -> u64 {
    let (first, second) = (first as u64, second as u64);
    if cfg!(target_endian = "little") { second << 32 | first } else { first << 32 | second }
}

/// Where its first fragment went: value of both.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentValue {
    /// What was written into it: the backend's address, or on the way back the VIP.
    pub address: Address,
    /// The service.
    pub service: Handle,
    /// The backend.
    pub backend: Handle,
}

impl FragmentValue {
    /// The value for a packet; of words, as [`FragmentKey::new`].
    #[inline(always)]
    #[must_use]
    pub const fn new(address: &Address, service: Handle, backend: Handle) -> Self {
        let [a, b] = address.words();
        // SAFETY: both are 24 bytes without padding, and any bytes are a value.
        unsafe { core::mem::transmute::<[u64; 3], Self>([a, b, word(service.word(), backend.word())]) }
    }
}

/// How many ICMP errors may be sent: a token bucket. Value of `answer_budgets`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AnswerBudget {
    /// Up to when, in nanoseconds of the monotonic clock, the answers sent so far have used the budget up.
    pub used_until: u64,
}

impl AnswerBudget {
    /// Answers a second, for each CPU. Linux: `icmp_msgs_per_sec`.
    pub const RATE: u64 = 1_000;
    /// As many may come at once. Linux: `icmp_msgs_burst`.
    pub const BURST: u64 = 50;

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
    use super::{Address, AnswerBudget, FragmentKey, FragmentValue, Handle};

    #[test]
    fn words_are_the_fields() {
        let (source, destination) = (Address::v4([19, 0, 0, 2]), Address::v4([198, 51, 100, 7]));
        let key = FragmentKey { source, destination, identification: 0x1234_5678, protocol: 17 };
        assert_eq!(FragmentKey::new(&source, &destination, 0x1234_5678, 17), key);
        let handle = |index, incarnation| Handle { index, incarnation };
        let value = FragmentValue { address: source, service: handle(1, 2), backend: handle(3, 4) };
        assert_eq!(FragmentValue::new(&source, handle(1, 2), handle(3, 4)), value);
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
