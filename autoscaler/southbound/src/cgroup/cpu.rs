//! A share of the CPU.

/// The length of a bandwidth period, µs. Linux' default of 100 ms lets an instance that has used its share stand
/// still for up to that long, which clients see as latency.
const PERIOD: u32 = 20_000;

/// Linux' own period, µs, for shares so small that a part of [`PERIOD`] would be below [`LEAST_QUOTA`].
const LONG_PERIOD: u32 = 100_000;

/// The least quota the kernel takes, µs.
const LEAST_QUOTA: u32 = 1_000;

/// A share of the CPU as the kernel takes it: `quota` µs of each `period` µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuLimit {
    pub(super) quota: u32,
    pub(super) period: u32,
}

impl CpuLimit {
    /// At least 0.01 of a core, as the kernel has it.
    pub(super) fn of_cores(cores: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates, and the least quota is set below"
        )]
        let quota_of = |period: u32| (cores * f64::from(period)).round() as u32;
        let period = if quota_of(PERIOD) < LEAST_QUOTA { LONG_PERIOD } else { PERIOD };
        Self { quota: quota_of(period).max(LEAST_QUOTA), period }
    }
}
