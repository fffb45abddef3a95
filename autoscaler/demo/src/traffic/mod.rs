//! Real clients in the client namespace: held TCP connections, pings and HTTP requests.
//!
//! All of them judge what they see as a user would: an answer that is late, missing, or from another instance than
//! the one that holds the flow is counted with its kind, and never retried in silence.

mod arrivals;
mod failure;
mod flows;
mod held;
mod http;
mod ping;
mod sources;
mod tcp;
mod thread;

pub use arrivals::Arrivals;
pub use failure::{Failure, FailureKind};
pub use flows::{BrokenFlow, FlowCounts, FlowLog, OpenFlow};
pub use held::{Client, Held, Life};
pub use http::{HttpCounts, HttpLoad, HttpSettings};
pub use ping::{PingCounts, PingSettings, Pinging, Pings};
pub use sources::Sources;
pub use tcp::{HolderSettings, Holding, TcpHolders};
pub use thread::ClientThread;

use std::ops::RangeInclusive;
use std::time::Duration;

/// The `n`-th of a sequence that fills `0.0..1.0` evenly: multiples of the golden ratio (Weyl's sequence), so that
/// lifetimes differ without randomness and every run is the same.
#[expect(clippy::cast_precision_loss, reason = "counts of flows are far below 2^52")]
fn spread(n: u64) -> f64 {
    (n as f64 * 0.618_033_988_749_895).fract()
}

/// The `n`-th of a sequence of durations that fills the range evenly.
fn spread_over(range: &RangeInclusive<Duration>, n: u64) -> Duration {
    *range.start() + range.end().saturating_sub(*range.start()).mul_f64(spread(n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lifetimes_stay_in_their_range(from in 0..10_000_u64, more in 0..10_000_u64, n in 0..10_000_000_u64) {
            let range = Duration::from_millis(from)..=Duration::from_millis(from + more);
            prop_assert!(range.contains(&spread_over(&range, n)));
        }
    }
}
