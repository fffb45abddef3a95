//! The flows' clock, and the end of flows.

use std::time::{Duration, Instant};

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};

use super::{Error, LoadBalancer};

/// The kernel wants a packet to run an XDP program on; the sweep doesn't look at it.
const NO_PACKET: [u8; 64] = [0; 64];

impl LoadBalancer {
    /// Moves the flows' clock on, ends idle flows and counts the live ones. To be called about once a second.
    pub fn sweep(&mut self) -> Result<(), Error> {
        let (base, opened) = self.clock;
        let elapsed = u32::try_from(opened.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.set_clock(base.wrapping_add(elapsed))?;
        self.run_sweep()
    }

    /// As [`sweep`](Self::sweep), as if `time` more had passed: so that a test need not wait for an idle timeout.
    pub fn sweep_after(&mut self, time: Duration) -> Result<(), Error> {
        let (base, opened) = self.clock;
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        self.clock = (base.wrapping_add(seconds), opened);
        self.sweep()
    }

    fn set_clock(&mut self, clock: u32) -> Result<(), Error> {
        let before = self.maps.control()?;
        if before.clock == clock {
            return Ok(());
        }
        self.maps.set_control(&lb_common::abi::Control { clock, ..before })
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
}
