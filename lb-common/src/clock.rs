//! The flows' clock: seconds in which the idle time of flows is counted.
//!
//! The clock moves with time, and by no more than a quarter of the shortest idle timeout at once, however long it stood
//! still: a flow looks older than it is by as much as the clock moves, and one in use, which tells the flow table of itself a few
//! times in its timeout only, must not look idle for that. What is more of a pause is left out.

use crate::abi::Control;
use crate::recent::PARTS_OF_AN_EPOCH;

/// A flow in use tells the flow table so this often within its idle timeout.
const EPOCHS: u32 = 8;

/// The clock when so many seconds have passed since it moved.
#[inline(always)]
#[must_use]
pub const fn after_pause(control: &Control, passed: u64) -> u32 {
    let longest = longest_step(control);
    let step = if passed < longest as u64 { passed as u32 } else { longest };
    control.clock.wrapping_add(step)
}

/// The most seconds by which the clock may move at once: a quarter of the shortest time for which a flow may be idle. How long a
/// closed flow is remembered doesn't matter here: nothing of it is lost.
#[inline(always)]
const fn longest_step(control: &Control) -> u32 {
    let Control { tcp_timeout, icmp_timeout, udp_timeout, nascent_timeout, .. } = *control;
    let shortest = least(least(tcp_timeout, icmp_timeout), least(udp_timeout, nascent_timeout));
    if shortest < 8 { 1 } else { shortest / 4 }
}

#[inline(always)]
const fn least(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}

/// A time of the clock in parts of an epoch. Wraps after 65,536 epochs.
#[inline(always)]
#[must_use]
pub const fn epoch(clock: u32, timeout: u32) -> u32 {
    let length = if timeout < EPOCHS { 1 } else { timeout / EPOCHS };
    (clock as u64 * PARTS_OF_AN_EPOCH as u64 / length as u64) as u32
}

/// For how many seconds a flow was not seen that was last seen at that time of the clock. Another CPU may have a later clock than
/// this one: such a flow is seen now.
#[inline(always)]
#[must_use]
pub const fn idle(clock: u32, last_seen: u32) -> u32 {
    let idle = clock.wrapping_sub(last_seen);
    if idle.cast_signed() < 0 { 0 } else { idle }
}

#[cfg(test)]
mod tests {
    use super::{Control, after_pause, epoch, idle};

    #[test]
    fn an_epoch_is_an_eighth_of_the_timeout() {
        assert_eq!((epoch(0, 400), epoch(50, 400), epoch(100, 400)), (0, 65_536, 131_072));
        assert_eq!(epoch(3, 1), 3 * 65_536, "a second at least");
        assert_eq!(epoch(65_536, 8), 0, "it wraps");
    }

    #[test]
    fn the_clock_moves_by_less_than_a_flow_may_be_idle() {
        let after_an_hour = |tcp_timeout, icmp_timeout, nascent_timeout| {
            let control = Control {
                clock: 1_000,
                tcp_timeout,
                icmp_timeout,
                udp_timeout: 120,
                nascent_timeout,
                ..Control::default()
            };
            after_pause(&control, 3_600) - 1_000
        };
        assert_eq!(after_an_hour(350, 30, 60), 7);
        assert_eq!(after_an_hour(350, 5, 60), 1);
        assert_eq!(after_an_hour(8, 30, 60), 2);
        assert_eq!(after_an_hour(1, 1, 1), 1);
    }

    #[test]
    fn the_clock_moves_with_time() {
        let control = Control {
            clock: u32::MAX,
            tcp_timeout: 350,
            icmp_timeout: 30,
            udp_timeout: 120,
            nascent_timeout: 60,
            ..Control::default()
        };
        assert_eq!(after_pause(&control, 0), u32::MAX);
        assert_eq!(after_pause(&control, 1), 0);
        assert_eq!(after_pause(&control, 7), 6);
    }

    #[test]
    fn a_flow_that_another_cpu_has_seen_later_is_not_idle() {
        assert_eq!((idle(7, 7), idle(9, 7), idle(7, 8)), (0, 2, 0));
        assert_eq!((idle(1, u32::MAX), idle(u32::MAX, 0)), (2, 0));
    }
}
