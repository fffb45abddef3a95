//! The flows' clock, the end of flows, and slots that come to rest.

use std::time::{Duration, Instant};

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use lb_common::abi::{Control, SweepOrder, sweep_order};
use lb_common::recent::FLOWS_A_SET;

use super::{Error, LoadBalancer, slots};
use crate::service::ServiceKey;

/// Seconds between two looks at tracked slots: each may change a table, and none is urgent.
const SETTLE_INTERVAL: u32 = 10;

impl LoadBalancer {
    /// Moves the flows' clock on, ends idle flows and counts the live ones, and tells the programs what the uplink is by now.
    /// To be called about once a second.
    ///
    /// Where it could not be called for longer, on a host that was too busy or a daemon that was stopped, the clock
    /// counts only a part of that time: see [`lb_common::clock`].
    pub fn sweep(&mut self) -> Result<(), Error> {
        self.follow_uplink()?;
        self.sweep_by(sweep_order::TIME_PASSED)
    }

    /// As [`sweep`](Self::sweep), as if `time` had passed: so that a test need not wait for an idle timeout.
    pub fn sweep_after(&mut self, time: Duration) -> Result<(), Error> {
        self.sweep_by(u32::try_from(time.as_secs()).unwrap_or(sweep_order::TIME_PASSED - 1))
    }

    /// Moves the flows' clock by so many seconds, or by the time that has passed, and sweeps.
    fn sweep_by(&mut self, seconds: u32) -> Result<(), Error> {
        self.order(SweepOrder { with: seconds, ..SweepOrder::of(sweep_order::CLOCK) })?;
        let control = self.maps.control()?;
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

    /// Gives the cache of recent flows as many sets as so many flows need.
    fn fit_recent_flows(&mut self, live: u32) -> Result<(), Error> {
        let before = self.maps.control()?;
        let sets = recent_sets(before.recent_mask + 1, live, self.maps.recent_sets());
        if sets == before.recent_mask + 1 {
            return Ok(());
        }
        self.maps.set_control(&Control { recent_mask: sets - 1, ..before })
    }

    /// Sweeps part after part and shows what was counted. Returns the number of live flows.
    fn run_sweep(&mut self) -> Result<u32, Error> {
        let (before, tolerance) = (self.maps.flow_uses()?, self.tolerance()?);
        let (started, mut longest) = (Instant::now(), Duration::ZERO);
        let parts = 0..self.maps.control()?.flow_parts;
        for part in parts {
            let begun = Instant::now();
            self.order(SweepOrder::of(part))?;
            longest = longest.max(begun.elapsed());
        }
        tracing::trace!(elapsed = ?started.elapsed(), ?longest, "swept the flow tables");
        self.probe_suspects()?;
        let backends: Vec<u16> = self.registry.backends().map(|(index, _)| index).collect();
        let mut live: u32 = 0;
        for index in backends {
            live = live.saturating_add(self.maps.publish_backend_live_flows(index)?);
        }
        let services: Vec<u16> = self.registry.services().map(|(_, known)| known.handle.index).collect();
        for index in services {
            let entries = self.maps.publish_service_live_flows(index)?.entries;
            let before = before.get(usize::from(index)).copied().unwrap_or_default();
            self.put_use_right(index, before, entries, tolerance)?;
        }
        self.put_common_right(tolerance)?;
        Ok(live)
    }

    /// Has the program `sweep` do something. Returns how many entries it has visited.
    pub(super) fn order(&self, order: SweepOrder) -> Result<u32, Error> {
        let failed = Error::program("sweep");
        let program = self.ebpf.program("sweep").ok_or(Error::MissingPart("sweep"))?;
        let program: &Xdp = program.try_into().map_err(|error: ProgramError| failed(error))?;
        let frame = order.to_bytes();
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
        Ok(program.test_run(options).map_err(Error::program("sweep"))?.return_value)
    }

    /// Lets slots of a service come to rest, by what the sweep just now has found.
    fn settle(&mut self, key: &ServiceKey, control: &Control) -> Result<(), Error> {
        let Some(known) = self.registry.service_mut(key) else { return Ok(()) };
        let before = self.maps.table(known.table_in_force())?;
        let exceptions = self.maps.exceptions(known.handle.index)?;
        let timeouts = slots::Timeouts { idle: control.tcp_timeout, attempt: control.nascent_timeout };
        let settled = slots::settled(&before, &exceptions, &mut known.moves, control.clock, timeouts);
        match settled {
            Some(table) => self.install(key, &table),
            None => Ok(()),
        }
    }
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
    use super::recent_sets;

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
}
