//! Packets through the real programs, by `BPF_PROG_TEST_RUN`: description, packet in, verdict, packet out, byte by byte.

mod bed;
#[path = "bed/packets.rs"]
mod packets;

use std::net::Ipv4Addr;

use bed::{
    Bed, CLIENT, CLIENT_MAC, GATEWAY, ICMP, TCP_80, TCP_ANY, TENANT_MAC, UPLINK_MAC, VIP, Verdict,
    backend_address, backend_mac,
};
use lb_userspace::service::BackendState::{Active, Draining};
use packets::{Ends, Segment, echo, tcp};

const TO_VIP: Ends =
    Ends { source_mac: CLIENT_MAC, destination_mac: UPLINK_MAC, source: CLIENT, destination: VIP, ttl: 64 };
const SYN: Segment<'_> =
    Segment { source: 40_000, destination: 80, flags: "S", sequence: 7, acknowledgement: 0, data: b"" };

/// The way from the load balancer to a backend.
fn to_backend(last: u8, ttl: u8) -> Ends {
    Ends {
        source_mac: TENANT_MAC.0,
        destination_mac: backend_mac(last).0,
        source: CLIENT,
        destination: backend_address(last),
        ttl,
    }
}

/// The way from a backend to the load balancer.
fn from_backend(last: u8) -> Ends {
    Ends {
        source_mac: backend_mac(last).0,
        destination_mac: TENANT_MAC.0,
        source: backend_address(last),
        destination: CLIENT,
        ttl: 64,
    }
}

/// A packet that was answered for the VIP: the MACs are the kernel's to set, by route and neighbour.
fn answered(ends: Ends) -> Ends {
    Ends { source: VIP, ttl: ends.ttl - 1, ..ends }
}

fn one_backend() -> Bed {
    let mut bed = Bed::new();
    let backend = bed.backend(2, Active);
    bed.apply(TCP_80, &[backend]);
    bed.apply(ICMP, &[backend]);
    bed
}

#[test]
fn a_segment_to_the_vip_goes_to_the_backend() {
    let bed = one_backend();
    for segment in [
        SYN,
        Segment { flags: "A", sequence: 8, acknowledgement: 1, ..SYN },
        Segment { flags: "A", sequence: 8, acknowledgement: 1, data: b"GET / HTTP/1.1\r\n", ..SYN },
        Segment { flags: "AF", sequence: 24, acknowledgement: 1, data: b"odd", ..SYN },
        Segment { flags: "R", sequence: 24, ..SYN },
    ] {
        let (verdict, out) = bed.uplink(&tcp(&TO_VIP, &segment));
        assert_eq!(verdict, Verdict::Redirect);
        assert_eq!(out, tcp(&to_backend(2, 63), &segment), "flags {}", segment.flags);
    }
}

#[test]
fn an_echo_request_to_the_vip_goes_to_the_backend() {
    let bed = one_backend();
    let (verdict, out) = bed.uplink(&echo(&TO_VIP, true, 17, 1, b"abcdefgh"));
    assert_eq!(verdict, Verdict::Redirect);
    assert_eq!(out, echo(&to_backend(2, 63), true, 17, 1, b"abcdefgh"));
}

#[test]
fn a_padded_frame_keeps_its_padding() {
    let bed = one_backend();
    let pad = |mut frame: Vec<u8>| {
        frame.resize(60, 0xa5);
        frame
    };
    let (verdict, out) = bed.uplink(&pad(tcp(&TO_VIP, &SYN)));
    assert_eq!(verdict, Verdict::Redirect);
    assert_eq!(out, pad(tcp(&to_backend(2, 63), &SYN)));
}

#[test]
fn a_packet_with_ip_options_is_balanced_by_its_ports() {
    let bed = one_backend();
    let with_options = |ends: &Ends| {
        let mut header = etherparse::Ipv4Header::new(
            20,
            ends.ttl,
            etherparse::IpNumber::TCP,
            ends.source.octets(),
            ends.destination.octets(),
        )
        .expect("a header");
        header.options = [1; 40].into();
        let builder = etherparse::PacketBuilder::ethernet2(ends.source_mac, ends.destination_mac)
            .ip(etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
            .tcp(40_000, 80, 7, 1_000);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"").expect("a segment");
        frame
    };
    let (verdict, out) = bed.uplink(&with_options(&TO_VIP));
    assert_eq!(verdict, Verdict::Redirect);
    assert_eq!(out, with_options(&to_backend(2, 63)));
}

#[test]
fn an_answer_leaves_with_the_vip_as_its_source() {
    let bed = one_backend();
    bed.uplink(&tcp(&TO_VIP, &SYN));
    bed.uplink(&echo(&TO_VIP, true, 17, 1, b"abcdefgh"));
    let segment =
        Segment { source: 80, destination: 40_000, flags: "SA", sequence: 99, acknowledgement: 8, data: b"" };
    let (verdict, out) = bed.answer(&tcp(&from_backend(2), &segment));
    assert_eq!(verdict, Verdict::Redirect);
    assert_eq!(out, tcp(&answered(from_backend(2)), &segment));

    let (verdict, out) = bed.answer(&echo(&from_backend(2), false, 17, 1, b"abcdefgh"));
    assert_eq!(verdict, Verdict::Redirect);
    assert_eq!(out, echo(&answered(from_backend(2)), false, 17, 1, b"abcdefgh"));
}

#[test]
fn what_is_not_ours_goes_to_the_kernel_as_it_is() {
    let bed = one_backend();
    let elsewhere = Ends { destination: Ipv4Addr::new(45, 45, 45, 46), ..TO_VIP };
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut ipv6 = vec![0; 64];
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    // Version 6, no next header.
    ipv6[14] = 0x60;
    ipv6[20] = 59;
    let mut tagged = tcp(&TO_VIP, &SYN);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x2a]);
    for (name, frame) in
        [("another address", tcp(&elsewhere, &SYN)), ("ARP", arp), ("IPv6", ipv6), ("a VLAN tag", tagged)]
    {
        let (verdict, out) = bed.uplink(&frame);
        assert_eq!((verdict, out), (Verdict::Pass, frame), "{name}");
    }
}

#[test]
fn a_service_of_every_port_takes_what_no_other_does() {
    let mut bed = Bed::new();
    let (any, eighty) = (bed.backend(2, Active), bed.backend(3, Active));
    bed.apply(TCP_ANY, &[any]);
    bed.apply(TCP_80, &[eighty]);
    let (_, out) = bed.uplink(&tcp(&TO_VIP, &SYN));
    assert_eq!(out, tcp(&to_backend(3, 63), &SYN));
    let other = Segment { destination: 8080, ..SYN };
    let (_, out) = bed.uplink(&tcp(&TO_VIP, &other));
    assert_eq!(out, tcp(&to_backend(2, 63), &other));
    let answer = Segment { source: 8080, destination: 40_000, flags: "A", ..SYN };
    let (verdict, out) = bed.answer(&tcp(&from_backend(2), &answer));
    assert_eq!(verdict, Verdict::Redirect);
    assert_eq!(out, tcp(&answered(from_backend(2)), &answer));
}

#[test]
fn a_fragment_that_is_not_ours_goes_to_the_kernel() {
    let bed = one_backend();
    let mut frame = tcp(&Ends { destination: Ipv4Addr::new(45, 45, 45, 46), ..TO_VIP }, &SYN);
    frame[20] = 0x20;
    assert_eq!(bed.uplink(&frame).0, Verdict::Pass);
}

#[test]
fn without_an_active_backend_a_closing_service_resets_tcp_and_drops_pings() {
    let mut bed = Bed::new();
    let draining = bed.backend(2, Draining);
    bed.close(TCP_80, &[draining]);
    bed.apply(ICMP, &[]);
    let back = Ends {
        source_mac: UPLINK_MAC,
        destination_mac: CLIENT_MAC,
        source: VIP,
        destination: CLIENT,
        ttl: 64,
    };
    // RFC 9293, 3.5.2: a SYN takes one sequence number, a FIN too, and the data theirs.
    for (name, segment, sequence, acknowledgement, flags) in [
        ("a SYN", SYN, 0, 8, "RA"),
        ("data and a FIN without ACK", Segment { flags: "F", data: b"abc", ..SYN }, 0, 11, "RA"),
        ("an ACK", Segment { flags: "A", acknowledgement: 4711, data: b"abc", ..SYN }, 4711, 0, "R"),
    ] {
        let (verdict, out) = bed.uplink(&tcp(&TO_VIP, &segment));
        assert_eq!(verdict, Verdict::Transmit, "{name}");
        let answer = Segment { source: 80, destination: 40_000, flags, sequence, acknowledgement, data: b"" };
        assert_eq!(out, without_window(&tcp(&back, &answer)), "{name}");
    }
    assert_eq!(bed.uplink(&tcp(&TO_VIP, &Segment { flags: "R", ..SYN })).0, Verdict::Drop);
    assert_eq!(bed.uplink(&echo(&TO_VIP, true, 17, 1, b"")).0, Verdict::Drop);
    assert_eq!(bed.drops("no_backend"), 5);
}

/// A RST's window is 0, and "don't fragment" is set as etherparse sets it; the checksum is made anew.
fn without_window(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let window = u16::from_be_bytes([frame[48], frame[49]]);
    frame[48..50].copy_from_slice(&[0, 0]);
    let checksum = u16::from_be_bytes([frame[50], frame[51]]);
    let checksum = lb_common::checksum::update_u16(checksum, window, 0);
    frame[50..52].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[test]
fn a_tenant_reaches_its_gateway_and_nothing_else() {
    let bed = one_backend();
    let to_gateway = Ends { destination: GATEWAY, ..from_backend(2) };
    let (verdict, out) = bed.answer(&echo(&to_gateway, true, 1, 1, b""));
    assert_eq!((verdict, out), (Verdict::Pass, echo(&to_gateway, true, 1, 1, b"")));

    let segment = Segment { source: 80, destination: 40_000, flags: "A", ..SYN };
    for (reason, frame) in [
        ("source_spoofed", tcp(&Ends { source: VIP, ..from_backend(2) }, &segment)),
        ("source_spoofed", tcp(&Ends { source: Ipv4Addr::new(19, 0, 1, 2), ..from_backend(2) }, &segment)),
        ("not_allowed", tcp(&from_backend(2), &Segment { flags: "S", ..segment })),
        ("not_allowed", tcp(&from_backend(2), &Segment { source: 81, ..segment })),
        ("not_allowed", tcp(&from_backend(3), &segment)),
        ("not_allowed", echo(&from_backend(2), true, 1, 1, b"")),
    ] {
        let before = bed.drops(reason);
        assert_eq!(bed.answer(&frame).0, Verdict::Drop, "{reason}");
        assert_eq!(bed.drops(reason), before + 1, "{reason}");
    }
}

#[test]
fn packets_and_bytes_are_counted_for_backend_and_service() {
    let bed = one_backend();
    let frame = tcp(&TO_VIP, &SYN);
    let data = tcp(&TO_VIP, &Segment { flags: "A", data: b"0123456789", ..SYN });
    bed.uplink(&frame);
    bed.uplink(&data);
    let reply = tcp(&from_backend(2), &Segment { source: 80, destination: 40_000, flags: "A", ..SYN });
    bed.answer(&reply);
    bed.uplink(&echo(&TO_VIP, true, 17, 1, b""));
    let counters = bed.lb.counters().expect("counters");
    let service = counters.services[&TCP_80];
    assert_eq!((service.packets, service.new_flows), (2, 1));
    assert_eq!(service.bytes, (frame.len() + data.len()) as u64);
    assert_eq!((service.reply_packets, service.reply_bytes), (1, reply.len() as u64));
    let backend = counters.backends[&std::net::IpAddr::V4(backend_address(2))];
    assert_eq!((backend.packets, backend.new_flows, backend.reply_packets), (3, 2, 1));
}
