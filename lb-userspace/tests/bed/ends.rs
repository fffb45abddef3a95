//! Both ends of the way, on real interfaces.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_userspace::net::Netns;

use crate::bed::Bed;
use crate::flow::Flow;
use crate::wire::Wire;

/// The clients of [`Flow::numbered`].
const CLIENTS: [u8; 3] = [198, 51, 100];
/// A packet that has not come for so long is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many flows are sent before the first is waited for: a part of a veth's ring.
const BURST: usize = 50;

/// Both ends of the way: the client's, and that towards the backends.
pub(crate) struct Ends {
    pub(crate) client: Wire,
    pub(crate) backends: Wire,
}

impl Ends {
    pub(crate) fn open(bed: &Bed) -> Self {
        let netns: Netns = bed.peers();
        Self { client: Wire::open(&netns, "cl0", CLIENTS), backends: Wire::open(&netns, "slp-bed", CLIENTS) }
    }

    /// Sends a segment of each flow once, and tells to which backend each went.
    pub(crate) fn pass(&self, flows: &[Flow], flags: &str) -> BTreeMap<u16, u8> {
        let mut owners = BTreeMap::new();
        for burst in flows.chunks(BURST) {
            for flow in burst {
                self.client.send(&flow.segment(flags));
            }
            while burst.iter().any(|flow| !owners.contains_key(&flow.port)) {
                let Some(frame) = self.backends.receive(PATIENCE) else { break };
                owners.insert(u16::from_be_bytes([frame[34], frame[35]]), frame[33]);
            }
        }
        assert_eq!(owners.len(), flows.len(), "the rest was lost");
        owners
    }
}
