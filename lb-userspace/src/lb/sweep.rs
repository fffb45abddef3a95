//! The flows' clock, the end of flows, and slots that come to rest.

use std::time::{Duration, Instant};

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use lb_common::abi::Control;

use super::{Error, LoadBalancer, slots};
use crate::service::ServiceKey;

/// The kernel wants a packet to run an XDP program on; the sweep doesn't look at it.
const NO_PACKET: [u8; 64] = [0; 64];

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
            return self.run_sweep();
        }
        self.settled = control.clock;
        let tracked: Vec<(ServiceKey, u16)> = (self.registry.services())
            .filter(|(_, known)| known.has_tracked)
            .map(|(key, known)| (*key, known.handle.index))
            .collect();
        for (_, index) in &tracked {
            self.maps.clear_exceptions(*index)?;
        }
        self.run_sweep()?;
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
        let epoch = clock / (before.tcp_timeout / EPOCHS).max(1);
        let control = Control { clock, epoch, ..before };
        if control != before {
            self.maps.set_control(&control)?;
        }
        Ok(control)
    }

    fn run_sweep(&mut self) -> Result<(), Error> {
        let failed = Error::program("sweep");
        let program = self.ebpf.program("sweep").ok_or(Error::MissingPart("sweep"))?;
        let program: &Xdp = program.try_into().map_err(|error: ProgramError| failed(error))?;
        let started = Instant::now();
        let options = TestRunOptions { data_in: Some(&NO_PACKET), ..TestRunOptions::new() };
        program.test_run(options).map_err(Error::program("sweep"))?;
        tracing::trace!(elapsed = ?started.elapsed(), "swept the flow tables");
        let backends: Vec<u16> = self.registry.backends().map(|(index, _)| index).collect();
        for index in backends {
            self.maps.publish_backend_live_flows(index)?;
        }
        let services: Vec<u16> = self.registry.services().map(|(_, known)| known.handle.index).collect();
        for index in services {
            self.maps.publish_service_live_flows(index)?;
        }
        Ok(())
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
    let shortest = control.tcp_timeout.min(control.icmp_timeout).min(control.nascent_timeout);
    (shortest / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::{Control, longest_step};

    #[test]
    fn the_clock_moves_by_less_than_a_flow_may_be_idle() {
        let control = |tcp_timeout, icmp_timeout, nascent_timeout| Control {
            tcp_timeout,
            icmp_timeout,
            nascent_timeout,
            ..Control::default()
        };
        assert_eq!(longest_step(&control(350, 30, 60)), 7);
        assert_eq!(longest_step(&control(350, 5, 60)), 1);
        assert_eq!(longest_step(&control(8, 30, 60)), 2);
        assert_eq!(longest_step(&control(1, 1, 1)), 1);
    }
}
