//! Clients' flows, and which backend has them.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::Ipv4Addr;

use lb_userspace::service::{Backend, BackendState, ServiceKey};

use crate::bed::{
    Bed, CLIENT, CLIENT_MAC, TENANT_MAC, UPLINK_MAC, VIP, Verdict, backend_address, backend_mac,
};
use crate::packets::{Ends, Segment, echo, tcp};

/// A client's flow, told by its port or echo identifier.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) client: Ipv4Addr,
    pub(crate) port: u16,
}

impl Flow {
    pub(crate) fn numbered(number: u16) -> Self {
        let [a, b, c, _] = CLIENT.octets();
        Self { client: Ipv4Addr::new(a, b, c, (number % 200) as u8 + 1), port: 10_000 + number }
    }

    pub(crate) fn ends(self) -> Ends {
        Ends {
            source_mac: CLIENT_MAC,
            destination_mac: UPLINK_MAC,
            source: self.client,
            destination: VIP,
            ttl: 64,
        }
    }

    pub(crate) fn segment(self, flags: &str) -> Vec<u8> {
        tcp(
            &self.ends(),
            &Segment { source: self.port, destination: 80, flags, sequence: 1, ..Segment::default() },
        )
    }

    pub(crate) fn answer(self, last: u8, flags: &str) -> Vec<u8> {
        let ends = Ends {
            source_mac: backend_mac(last).0,
            destination_mac: TENANT_MAC.0,
            source: backend_address(last),
            destination: self.client,
            ttl: 64,
        };
        tcp(&ends, &Segment { source: 80, destination: self.port, flags, sequence: 1, ..Segment::default() })
    }

    pub(crate) fn ping(self, sequence: u16) -> Vec<u8> {
        echo(&self.ends(), true, self.port, sequence, b"ping")
    }
}

/// The last byte of the address of the backend to which a frame was sent.
pub(crate) fn owner((verdict, frame): &(Verdict, Vec<u8>)) -> u8 {
    assert_eq!(*verdict, Verdict::Redirect);
    assert_eq!(frame[30..33], [19, 0, 0]);
    frame[33]
}

impl Bed {
    /// The last byte of the address of the backend that a frame goes to.
    pub(crate) fn backend_of(&self, frame: &[u8]) -> u8 {
        owner(&self.uplink(frame))
    }

    /// Begins a TCP flow as a client does, and tells who has it.
    pub(crate) fn connect(&self, flow: Flow) -> u8 {
        let backend = self.backend_of(&flow.segment("S"));
        assert_eq!(self.backend_of(&flow.segment("A")), backend);
        backend
    }

    pub(crate) fn with(&mut self, key: ServiceKey, backends: &[(u8, BackendState)]) {
        let backends: Vec<Backend> =
            backends.iter().map(|&(last, state)| self.backend(last, state)).collect();
        self.apply(key, &backends);
    }
}
