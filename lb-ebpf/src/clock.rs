//! Who moves the flows' clock: the daemon once a second, and where there is none whatever flow begins to be known.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::abi::Control;
use lb_common::clock;

use crate::{atomic, maps};

const NANOSECONDS: u64 = 1_000_000_000;

/// Seconds since the host was started, to a tick of its timer; never 0.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    now / NANOSECONDS + 1
}

/// Moves the clock on by the time that has passed.
#[inline(always)]
pub(crate) fn tick(now: u64) {
    let Some(control) = maps::control_mut() else { return };
    // SAFETY: a live map value.
    let counted = unsafe { &raw mut (*control).counted };
    // SAFETY: a word of it; volatile, since another CPU may be doing the same.
    let before = unsafe { counted.read_volatile() };
    // SAFETY: the same word. One CPU moves it on, and that one moves the clock.
    if before == now || !unsafe { atomic::replace(counted, before, now) } {
        return;
    }
    // The first time there is nothing to count from.
    if before != 0 {
        // SAFETY: a live map value.
        let control = unsafe { &mut *control };
        set(control, clock::after_pause(control, now.wrapping_sub(before)));
    }
}

/// Moves the clock on by so many seconds, whatever time has passed.
#[inline(always)]
pub(crate) fn advance(seconds: u32) {
    let Some(control) = maps::control_mut() else { return };
    // SAFETY: a live map value.
    let control = unsafe { &mut *control };
    set(control, control.clock.wrapping_add(seconds));
}

/// Writes the two words that no other program writes but as this one does.
#[inline(always)]
fn set(control: &mut Control, clock: u32) {
    control.epoch = clock::epoch(clock, control.tcp_timeout.min(control.udp_timeout));
    control.clock = clock;
}
