//! Spending CPU time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What costs less is spent on the connections' own thread: handing it over costs about 20 µs.
const CHEAP: Duration = Duration::from_micros(50);

/// Spends `cost` of CPU time.
pub(super) async fn burn(cost: Duration) {
    if cost.is_zero() {
    } else if cost < CHEAP {
        burn_here(cost);
    } else {
        // An error means that the responder is ending.
        let _ = tokio::task::spawn_blocking(move || burn_here(cost)).await;
    }
}

/// Spends CPU time of this thread. Measured by the thread's CPU clock, it lasts longer where the CPU is shared or
/// limited.
fn burn_here(cost: Duration) {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let Ok(begin) = now() else { return };
    while now().is_ok_and(|now| now.saturating_sub(begin) < cost) {
        for _ in 0..64 {
            std::hint::spin_loop();
        }
    }
}
