//! A flood, and its pace.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use sluice_tests::Wire;

/// Frames a second.
const RATE: u64 = 2_000;
/// Frames at once, far fewer than a veth's ring holds: what is lost there is lost before any program sees it.
const BURST: u64 = 16;

/// Makes one frame, or several that belong together.
type Frames = dyn FnMut(&mut Rng) -> Vec<Vec<u8>> + Send;

/// Frames of one kind, without end.
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    /// The reason under which its frames are counted, where they are.
    pub(crate) counted: Option<&'static str>,
    next: Box<Frames>,
}

impl Flood {
    pub(crate) fn new(
        name: &'static str,
        next: impl FnMut(&mut Rng) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        Self { name, counted: None, next: Box::new(next) }
    }

    pub(crate) fn counted(self, reason: &'static str) -> Self {
        Self { counted: Some(reason), ..self }
    }

    /// Sends it for that time, and tells how many frames these were.
    pub(crate) fn send(mut self, wire: &Wire, time: Duration) -> Result<u64> {
        let mut rng = Rng::with_seed(0x51_0ce);
        let (began, mut sent) = (Instant::now(), 0);
        while began.elapsed() < time {
            let mut burst = 0;
            while burst < BURST {
                for frame in (self.next)(&mut rng) {
                    sent += u64::from(wire.send(&frame)?);
                    burst += 1;
                }
            }
            // What a busy machine has delayed isn't made up for.
            sleep(Duration::from_secs(1) * u32::try_from(burst)? / u32::try_from(RATE)?);
        }
        Ok(sent)
    }
}
