//! Clients' flows, and which backend has them.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::Ipv4Addr;

use lb_userspace::service::{Backend, BackendState, ServiceKey};

use crate::bed::{
    Bed, CLIENT, CLIENT_MAC, TENANT_MAC, UPLINK_MAC, VIP, Verdict, backend_address, backend_mac,
};
use crate::packets::{Ends, Segment, echo, tcp, udp};

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

    /// A segment without data, as it comes after a handshake in which both ends began with 1.
    pub(crate) fn segment(self, flags: &str) -> Vec<u8> {
        let sequence = if flags.contains('S') { 1 } else { 2 };
        let acknowledgement = if flags.contains('A') { 2 } else { 0 };
        self.numbered_segment(flags, sequence, acknowledgement)
    }

    /// A segment without data, with any numbers.
    pub(crate) fn numbered_segment(self, flags: &str, sequence: u32, acknowledgement: u32) -> Vec<u8> {
        let (source, destination, data) = (self.port, 80, &[][..]);
        tcp(&self.ends(), &Segment { source, destination, flags, sequence, acknowledgement, data })
    }

    /// A segment of a backend without data, as it comes after that handshake; one with a FIN acknowledges the client's.
    pub(crate) fn answer(self, last: u8, flags: &str) -> Vec<u8> {
        let sequence = if flags.contains('S') { 1 } else { 2 };
        self.answer_of(last, flags, sequence, if flags.contains('F') { 3 } else { 2 }, b"")
    }

    /// A segment of a backend with data.
    pub(crate) fn data(self, last: u8) -> Vec<u8> {
        self.answer_of(last, "A", 2, 2, b"data")
    }

    /// A segment of a backend.
    pub(crate) fn answer_of(
        self,
        last: u8,
        flags: &str,
        sequence: u32,
        acknowledgement: u32,
        data: &[u8],
    ) -> Vec<u8> {
        let (source, destination) = (80, self.port);
        tcp(&self.back(last), &Segment { source, destination, flags, sequence, acknowledgement, data })
    }

    /// The answer to a ping.
    pub(crate) fn pong(self, last: u8, sequence: u16) -> Vec<u8> {
        echo(&self.back(last), false, self.port, sequence, b"ping")
    }

    /// A datagram of the client's.
    pub(crate) fn datagram(self) -> Vec<u8> {
        udp(&self.ends(), self.port, 80)
    }

    /// One of a backend's.
    pub(crate) fn datagram_from(self, last: u8) -> Vec<u8> {
        udp(&self.back(last), 80, self.port)
    }

    fn back(self, last: u8) -> Ends {
        Ends {
            source_mac: backend_mac(last).0,
            destination_mac: TENANT_MAC.0,
            source: backend_address(last),
            destination: self.client,
            ttl: 64,
        }
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

    /// Opens a TCP flow as its ends do, and tells who has it.
    pub(crate) fn connect(&self, flow: Flow) -> u8 {
        let backend = self.half_open(flow);
        assert_eq!(self.backend_of(&flow.segment("A")), backend);
        backend
    }

    /// A handshake but for its last packet.
    pub(crate) fn half_open(&self, flow: Flow) -> u8 {
        let backend = self.backend_of(&flow.segment("S"));
        assert_eq!(self.answer(&flow.answer(backend, "SA")).0, Verdict::Redirect);
        backend
    }

    /// Runs a TCP handshake of each flow; who has it.
    pub(crate) fn connect_all(&self, flows: &[Flow]) -> Vec<u8> {
        /// A part of the attempts that a service may have.
        const CHUNK: usize = 100;
        flows.chunks(CHUNK).flat_map(|flows| self.connect_few(flows)).collect()
    }

    fn connect_few(&self, flows: &[Flow]) -> Vec<u8> {
        let each = |flags| -> Vec<_> { flows.iter().map(|flow: &Flow| flow.segment(flags)).collect() };
        let owners: Vec<u8> = self.uplink_all(&each("S")).iter().map(owner).collect();
        let answers: Vec<_> =
            flows.iter().zip(&owners).map(|(flow, owner)| flow.answer(*owner, "SA")).collect();
        self.answer_all(&answers);
        let again: Vec<u8> = self.uplink_all(&each("A")).iter().map(owner).collect();
        assert_eq!(again, owners);
        owners
    }

    pub(crate) fn with(&mut self, key: ServiceKey, backends: &[(u8, BackendState)]) {
        let backends: Vec<Backend> =
            backends.iter().map(|&(last, state)| self.backend(last, state)).collect();
        self.apply(key, &backends);
    }
}
