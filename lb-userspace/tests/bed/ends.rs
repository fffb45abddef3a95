//! Both ends of the way, on real interfaces.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use lb_userspace::net::Netns;

use crate::bed::{Bed, VIP};
use crate::flow::Flow;
use crate::wire::Wire;

/// The clients of [`Flow::numbered`].
const CLIENTS: [u8; 3] = [198, 51, 100];
/// A packet that has not come for so long is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer that has not come for so long was dropped.
const ANSWERED: Duration = Duration::from_secs(2);
/// How many flows are sent before the first is waited for: a part of a veth's ring.
const BURST: usize = 50;

/// Both ends of the way: the client's, and that towards the backends.
pub(crate) struct Ends {
    pub(crate) client: Wire,
    pub(crate) backends: Wire,
    /// What comes back to the clients.
    answers: Wire,
}

impl Ends {
    pub(crate) fn open(bed: &Bed) -> Self {
        let (netns, transit): (Netns, Netns) = (bed.peers(), bed.settings.transit.clone());
        ip(&transit, "address add 192.0.2.1/24 dev up0");
        ip(&transit, "route replace default via 192.0.2.2 dev up0");
        ip(&transit, "neighbour add 192.0.2.2 lladdr 02:00:00:00:00:11 dev up0 nud permanent");
        let [a, b, c, _] = VIP.octets();
        Self {
            client: Wire::open(&netns, "cl0", CLIENTS),
            backends: Wire::open(&netns, "slp-bed", CLIENTS),
            answers: Wire::open(&netns, "cl0", [a, b, c]),
        }
    }

    /// Runs the handshake of each flow; those that were answered, with who has them. A backend that is taken away meanwhile
    /// answers none.
    pub(crate) fn connect(&self, flows: &[Flow]) -> BTreeMap<u16, u8> {
        let owners = self.pass(flows, "S");
        let mut opened = Vec::new();
        for &flow in flows {
            self.backends.send(&flow.answer(owners[&flow.port], "SA"));
            while let Some(frame) = self.answers.receive(ANSWERED) {
                if frame[36..38] == flow.port.to_be_bytes() {
                    opened.push(flow);
                    break;
                }
            }
        }
        self.pass(&opened, "A")
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
                let port = u16::from_be_bytes([frame[34], frame[35]]);
                // Others are probes of flows that were reset before.
                if burst.iter().any(|flow| flow.port == port) {
                    owners.insert(port, frame[33]);
                }
            }
        }
        assert_eq!(owners.len(), flows.len(), "the rest was lost");
        owners
    }
}

fn ip(netns: &Netns, arguments: &str) {
    let run = || Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(netns.run(run).expect("the namespace").success(), "ip {arguments}");
}
