//! The flows' clock, the end of flows, and slots that come to rest.

use std::time::{Duration, Instant};

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use lb_common::abi::{Control, sweep};
use lb_common::recent::{FLOWS_A_SET, PARTS_OF_AN_EPOCH};

use super::{Error, LoadBalancer, slots};
use crate::service::ServiceKey;

/// The kernel runs an XDP program on no frame that is shorter.
const SHORTEST_FRAME: usize = 14;

/// A flow in use tells the flow table so this often within its idle timeout.
const EPOCHS: u32 = 8;

/// Seconds between two looks at tracked slots: each may change a table, and none is urgent.
const SETTLE_INTERVAL: u32 = 10;

impl LoadBalancer {
    /// Moves the flows' clock on, ends idle flows and counts the live ones. To be called about once a second.
    ///
    /// Where it could not be called for longer, on a host that was too busy or a daemon that was stopped, the clock
    /// counts only a part of that time: a flow looks older than it is by as much as the clock moves at once, and one
    /// in use must not look idle for that.
    pub fn sweep(&mut self) -> Result<(), Error> {
        let passed = self.counted.elapsed().as_secs();
        self.counted += Duration::from_secs(passed);
        let longest = longest_step(&self.maps.control()?);
        self.sweep_by(u32::try_from(passed).unwrap_or(u32::MAX).min(longest))
    }

    /// As [`sweep`](Self::sweep), as if `time` had passed: so that a test need not wait for an idle timeout.
    pub fn sweep_after(&mut self, time: Duration) -> Result<(), Error> {
        self.sweep_by(u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
    }

    /// Moves the flows' clock by so many seconds, and sweeps.
    fn sweep_by(&mut self, step: u32) -> Result<(), Error> {
        let control = self.advance_clock(step)?;
        if control.clock.wrapping_sub(self.settled) < SETTLE_INTERVAL {
            let live = self.run_sweep()?;
            return self.fit_recent_flows(live);
        }
        self.settled = control.clock;
        let tracked: Vec<(ServiceKey, u16)> = (self.registry.services())
            .filter(|(_, known)| known.has_tracked)
            .map(|(key, known)| (*key, known.handle.index))
            .collect();
        for (_, index) in &tracked {
            self.maps.clear_exceptions(*index)?;
        }
        let live = self.run_sweep()?;
        self.fit_recent_flows(live)?;
        tracked.iter().try_for_each(|(key, _)| self.settle(key, &control))
    }

    /// How many slots of a service's table need their flows to be looked up.
    pub fn tracked_slots(&self, key: &ServiceKey) -> Result<usize, Error> {
        let Some(known) = self.registry.service(key) else { return Ok(0) };
        let table = self.maps.table(known.table_in_force())?;
        Ok(table.iter().filter(|slot| slot.is_tracked()).count())
    }

    fn advance_clock(&mut self, step: u32) -> Result<Control, Error> {
        let before = self.maps.control()?;
        let clock = before.clock.wrapping_add(step);
        let control = Control { clock, epoch: epoch(clock, before.tcp_timeout), ..before };
        if control != before {
            self.maps.set_control(&control)?;
        }
        Ok(control)
    }

    /// Gives the cache of recent flows as many sets as so many flows need.
    fn fit_recent_flows(&mut self, live: u32) -> Result<(), Error> {
        let before = self.maps.control()?;
        let sets = recent_sets(before.recent_mask + 1, live, self.maps.recent_sets());
        if sets == before.recent_mask + 1 {
            return Ok(());
        }
        self.maps.set_control(&Control { recent_mask: sets - 1, ..before })
    }

    /// Runs the program on each part and shows what it has counted. Returns the number of live flows.
    fn run_sweep(&mut self) -> Result<u32, Error> {
        let started = Instant::now();
        let mut longest = self.sweep_table(sweep::NASCENT)?;
        for part in 0..self.maps.control()?.flow_parts {
            longest = longest.max(self.sweep_table(part)?);
        }
        tracing::trace!(elapsed = ?started.elapsed(), longest, "swept the flow tables");
        let backends: Vec<u16> = self.registry.backends().map(|(index, _)| index).collect();
        let mut live: u32 = 0;
        for index in backends {
            live = live.saturating_add(self.maps.publish_backend_live_flows(index)?);
        }
        let services: Vec<u16> = self.registry.services().map(|(_, known)| known.handle.index).collect();
        for index in services {
            self.maps.publish_service_live_flows(index)?;
        }
        Ok(live)
    }

    /// Runs the program on a part of a table. Returns how many entries it has visited.
    fn sweep_table(&self, table: u32) -> Result<u32, Error> {
        let failed = Error::program("sweep");
        let program = self.ebpf.program("sweep").ok_or(Error::MissingPart("sweep"))?;
        let program: &Xdp = program.try_into().map_err(|error: ProgramError| failed(error))?;
        let mut frame = [0; SHORTEST_FRAME];
        frame[..size_of::<u32>()].copy_from_slice(&table.to_ne_bytes());
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
        Ok(program.test_run(options).map_err(Error::program("sweep"))?.return_value)
    }

    /// Lets slots of a service come to rest, by what the sweep just now has found.
    fn settle(&mut self, key: &ServiceKey, control: &Control) -> Result<(), Error> {
        let Some(known) = self.registry.service_mut(key) else { return Ok(()) };
        let before = self.maps.table(known.table_in_force())?;
        let exceptions = self.maps.exceptions(known.handle.index)?;
        let settled =
            slots::settled(&before, &exceptions, &mut known.moves, control.clock, control.tcp_timeout);
        match settled {
            Some(table) => self.install(key, &table),
            None => Ok(()),
        }
    }
}

/// The most seconds by which the flows' clock may move at once: a quarter of the shortest time for which a flow may
/// be idle. How long a closed flow is remembered doesn't matter here: nothing of it is lost.
fn longest_step(control: &Control) -> u32 {
    let Control { tcp_timeout, icmp_timeout, udp_timeout, nascent_timeout, .. } = *control;
    let shortest = tcp_timeout.min(icmp_timeout).min(udp_timeout).min(nascent_timeout);
    (shortest / 4).max(1)
}

/// The time in parts of an epoch. Wraps after 65,536 epochs.
fn epoch(clock: u32, tcp_timeout: u32) -> u32 {
    let length = u64::from((tcp_timeout / EPOCHS).max(1));
    let parts = u64::from(clock) * u64::from(PARTS_OF_AN_EPOCH) / length;
    u32::try_from(parts & u64::from(u32::MAX)).unwrap_or_default()
}

/// How many sets the cache of recent flows is to have for so many live flows, where it has had `sets` and has room for
/// `room`; powers of two.
///
/// The fewer there are, the better they stay in the CPU's caches. With each change flows move to other sets, where they
/// are looked up once more: so there are as many as needed at once, and fewer only when there are four times too many.
fn recent_sets(sets: u32, live: u32, room: u32) -> u32 {
    /// 32 KiB.
    const LEAST: u32 = 2_048;
    let wanted = (live / FLOWS_A_SET).max(1).next_power_of_two().max(LEAST).min(room);
    if wanted > sets || wanted <= sets / 4 { wanted } else { sets }
}

#[cfg(test)]
mod tests {
    use super::{Control, epoch, longest_step, recent_sets};

    #[test]
    fn an_epoch_is_an_eighth_of_the_timeout() {
        assert_eq!((epoch(0, 400), epoch(50, 400), epoch(100, 400)), (0, 65_536, 131_072));
        assert_eq!(epoch(3, 1), 3 * 65_536, "a second at least");
        assert_eq!(epoch(65_536, 8), 0, "it wraps");
    }

    #[test]
    fn there_are_sets_for_the_flows_that_live() {
        const ROOM: u32 = 1 << 18;
        assert_eq!(recent_sets(ROOM, 0, ROOM), 2_048);
        assert_eq!(recent_sets(2_048, 1_000_000, ROOM), ROOM);
        assert_eq!(recent_sets(2_048, 65_536, ROOM), 16_384);
        assert_eq!(recent_sets(32_768, 65_536, ROOM), 32_768, "they aren't changed for a factor of two");
        assert_eq!(recent_sets(1_024, 0, 1_024), 1_024, "there may be room for less than the least");
        assert_eq!(recent_sets(ROOM, u32::MAX, ROOM), ROOM);
    }

    #[test]
    fn the_clock_moves_by_less_than_a_flow_may_be_idle() {
        let control = |tcp_timeout, icmp_timeout, nascent_timeout| Control {
            tcp_timeout,
            icmp_timeout,
            udp_timeout: 120,
            nascent_timeout,
            ..Control::default()
        };
        assert_eq!(longest_step(&control(350, 30, 60)), 7);
        assert_eq!(longest_step(&control(350, 5, 60)), 1);
        assert_eq!(longest_step(&control(8, 30, 60)), 2);
        assert_eq!(longest_step(&control(1, 1, 1)), 1);
    }
}
