//! Backend → client.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC,
    bpf_check_mtu_flags,
};
use aya_ebpf::helpers::{bpf_check_mtu, bpf_redirect_neigh, bpf_skb_vlan_pop};
use aya_ebpf::programs::TcContext;
use lb_common::abi::{
    Address, AnswerFragmentKey, AnswerFragmentValue, AnswerValue, DropReason, EndpointKey, FlowKey,
    OutboundKey, TenantKey, TenantValue, family, flow_end, is_open,
};
use lb_common::checksum::Difference;
use lb_common::packet::{
    self, End, Frame, FrameMut, Header, Packet, Parsed, Part, Segment, Transport, tcp_flag,
};

use crate::flow::Signal;
use crate::frame::{Careful, Window, opaque};
use crate::maps;
use crate::noted::{self, Answer, Asked};
use crate::refusal::{Refusal, slow_path};
use crate::{error, fragment, own_tables, route};

/// Every link takes packets of this length (RFC 791, 3.2), the Ethernet header included: for longer ones the kernel is
/// asked.
const NEVER_TOO_LONG: u32 = packet::ETHERNET as u32 + 576;

/// The headers of a packet with extension headers or of an ICMP error and the packet that it quotes are within these
/// bytes, or aren't read.
const LONGEST_RARE: usize = 1_500;

/// Where a DHCP server listens (RFC 2131).
const DHCP: u16 = 67;

/// What becomes of a tenant's packet, a verdict: lets what its gateway answers through to it, sends answers to their clients,
/// leaves what goes to the outside to the kernel where the tenant may go there, and drops the rest. A tenant reaches neither
/// another tenant nor, as the kernel's packet filter has it, the host.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> i32 {
    if !is_untagged(ctx.skb.skb) {
        maps::count_drop(DropReason::VlanTag);
        return TC_ACT_SHOT;
    }
    let mut verdict = ipv4(ctx.skb.skb);
    if verdict == slow_path::IPV6 as i32 {
        verdict = ipv6(ctx.skb.skb);
    }
    if verdict == slow_path::FRAGMENT as i32 {
        verdict = fragment(ctx.skb.skb);
    } else if verdict == slow_path::ERROR as i32 {
        verdict = error(ctx.skb.skb);
    } else if verdict == slow_path::GATEWAY as i32 {
        verdict = gateway(ctx.skb.skb);
    }
    if verdict == slow_path::DOUBTFUL as i32 {
        verdict = route::verdict(ctx.skb.skb);
    }
    verdict
}

/// Whether a packet has no VLAN tag, which would leave by the uplink with it: the kernel keeps tags beside the frame. One that
/// names no VLAN is taken off.
#[inline(always)]
fn is_untagged(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context is a valid `__sk_buff` for the whole program.
    if unsafe { (*skb).vlan_present } == 0 {
        return true;
    }
    // SAFETY: as above.
    let tag = unsafe { (*skb).vlan_tci };
    // SAFETY: as above; no pointer into the packet has been read yet.
    packet::is_priority_tag((tag as u16).to_be_bytes()) && unsafe { bpf_skb_vlan_pop(skb) } == 0
}

/// Sends an IPv4 answer to its client. A function of its own, since the program's part of the stack stays in use while
/// the other functions run, and Linux 6.1 gives all of them 512 bytes together.
#[inline(never)]
fn ipv4(skb: *mut __sk_buff) -> i32 {
    let ctx = context(skb);
    let translated = || {
        let frame = linear(&ctx, packet::LONGEST_HEADERS);
        match packet::ethertype(&frame)? {
            packet::ETHERTYPE_IPV4 => {
                let packet = packet::parse_ipv4(&frame)?;
                check(&ctx, &packet)?;
                direct(&ctx, frame, &packet).or_else(|refusal| leave(&ctx, &packet, refusal))
            }
            packet::ETHERTYPE_IPV6 => Err(Refusal::Continue(slow_path::IPV6)),
            packet::ETHERTYPE_ARP => Err(Refusal::Pass),
            packet::ETHERTYPE_VLAN | packet::ETHERTYPE_PROVIDER_VLAN => Err(DropReason::VlanTag.into()),
            _ => Err(DropReason::NotAllowed.into()),
        }
    };
    translated().unwrap_or_else(Refusal::in_tc)
}

/// The context of a function of its own, which the compiler may not replace by what is read from it.
#[inline(always)]
pub(crate) fn context(skb: *mut __sk_buff) -> TcContext {
    TcContext::new(opaque(skb as usize) as *mut __sk_buff)
}

#[inline(never)]
fn ipv6(skb: *mut __sk_buff) -> i32 {
    let ctx = context(skb);
    let translated = || {
        let mut frame = Careful(linear(&ctx, packet::LONGEST_HEADERS));
        let next = frame.read::<1>(packet::ETHERNET + 6).ok_or(DropReason::Ipv6Truncated)?;
        if !matches!(next[0], lb_common::abi::PROTOCOL_TCP | lb_common::abi::PROTOCOL_UDP) {
            frame = Careful(linear(&ctx, LONGEST_RARE));
        }
        let packet = packet::parse_ipv6(&frame)?;
        if packet.transport == Transport::Discovery {
            return discover(&ctx, &packet);
        }
        check(&ctx, &packet)?;
        direct(&ctx, frame, &packet)
    };
    translated().unwrap_or_else(Refusal::in_tc)
}

/// Sends a fragment where its packet goes: the first by its ports, the others after it.
#[inline(never)]
fn fragment(skb: *mut __sk_buff) -> i32 {
    let ctx = context(skb);
    let translated = || {
        let (frame, packet) = parsed(&ctx)?;
        let answered = match packet.part {
            Part::Later { identification } => follow(&ctx, frame, &packet, identification),
            _ => direct(&ctx, frame, &packet),
        };
        answered.or_else(|refusal| leave(&ctx, &packet, refusal))
    };
    translated().unwrap_or_else(Refusal::in_tc)
}

/// Sends an ICMP error about what a client has sent to that client.
#[inline(never)]
fn error(skb: *mut __sk_buff) -> i32 {
    let ctx = context(skb);
    let translated = || {
        let (frame, packet) = parsed(&ctx)?;
        pass_on(&ctx, frame, &packet).or_else(|refusal| leave(&ctx, &packet, refusal))
    };
    translated().unwrap_or_else(Refusal::in_tc)
}

/// Lets what a gateway answers through to it.
#[inline(never)]
fn gateway(skb: *mut __sk_buff) -> i32 {
    let ctx = context(skb);
    let refused = || -> Result<i32, Refusal> {
        let (_, packet) = parsed(&ctx)?;
        Err(to_gateway(&packet))
    };
    refused().unwrap_or_else(Refusal::in_tc)
}

#[inline(always)]
fn parsed(ctx: &TcContext) -> Result<(Careful, Packet), Refusal> {
    let frame = Careful(linear(ctx, LONGEST_RARE));
    match packet::parse(&frame)? {
        Parsed::Ip(packet) => Ok((frame, packet)),
        _ => Err(Refusal::Pass),
    }
}

/// The frame, its first bytes in the linear part: a socket buffer may keep even the headers in pages.
#[inline(always)]
pub(crate) fn linear(ctx: &TcContext, bytes: usize) -> Window {
    let frame = Window::of_tc(ctx);
    let wanted = if frame.length() < bytes { frame.length() } else { bytes };
    if frame.accessible() >= wanted {
        return frame;
    }
    let _ = ctx.pull_data(wanted as u32);
    Window::of_tc(ctx)
}

/// Neighbour discovery is the kernel's, from where hosts send it: their own address, their link's, or none yet; and to
/// where it is for this host alone. The kernel would forward any other.
#[inline(always)]
fn discover(ctx: &TcContext, packet: &Packet) -> Result<i32, Refusal> {
    let tenant = tenant(ctx, packet)?;
    let header = &packet.header;
    if !header.is_from_link() && !is_within(&header.source, tenant) {
        return Err(DropReason::SourceSpoofed.into());
    }
    if header.is_to_link() || header.destination == tenant.gateway {
        return Err(Refusal::Pass);
    }
    Err(DropReason::NotAllowed.into())
}

/// Sees to it that a packet comes from the tenant and goes to no address of this host's, but for its gateway, and refuses
/// what takes the slow path.
#[inline(always)]
fn check(ctx: &TcContext, packet: &Packet) -> Result<(), Refusal> {
    let (tenant, header) = (tenant(ctx, packet)?, &packet.header);
    if !is_within(&header.source, tenant) {
        return Err(from_elsewhere(header));
    }
    if header.is_to_link() {
        return Err(Refusal::Quiet);
    }
    if header.destination == tenant.gateway {
        return Err(Refusal::Continue(slow_path::GATEWAY));
    }
    if maps::owner_of(&header.destination).is_some() {
        let is_broadcast = !header.is_v6() && is_last_of(&header.destination, tenant);
        return Err(if is_broadcast { Refusal::Quiet } else { DropReason::NotAllowed.into() });
    }
    if packet.part != Part::Whole {
        return Err(Refusal::Continue(slow_path::FRAGMENT));
    }
    if tenant.outbound != 0 && is_own(interface(ctx), packet)? {
        return Err(Refusal::Pass);
    }
    if packet.transport == Transport::Error {
        return Err(Refusal::Continue(slow_path::ERROR));
    }
    Ok(())
}

/// What a gateway answers: pings, DHCP, and ports that are open there. Segments and messages that begin nothing come to no
/// process that didn't ask for them; later fragments come to nothing without their first.
#[inline(always)]
fn to_gateway(packet: &Packet) -> Refusal {
    let is_open = |port| maps::is_open(packet.protocol, port, is_open::AT_GATEWAYS);
    let is_answered = match packet.transport {
        Transport::Tcp { destination, flags, .. } => {
            flags & (tcp_flag::SYN | tcp_flag::ACK) != tcp_flag::SYN || is_open(destination)
        }
        Transport::Udp { destination, .. } => destination == DHCP || is_open(destination),
        Transport::EchoRequest { .. }
        | Transport::EchoReply { .. }
        | Transport::Error
        | Transport::Discovery => true,
        Transport::Unread | Transport::Other => matches!(packet.part, Part::Later { .. }),
    };
    if is_answered { Refusal::Pass } else { DropReason::NotAllowed.into() }
}

/// What becomes of a packet whose source isn't the tenant's. What a host sends on its own link before it has an address, or
/// from one that is valid there only, is no fraud: address configuration, group memberships, DHCP.
#[inline(always)]
fn from_elsewhere(header: &Header) -> Refusal {
    if header.is_from_link() && header.is_to_link() {
        Refusal::Quiet
    } else {
        DropReason::SourceSpoofed.into()
    }
}

/// Whether a packet is of a TCP connection that the instance has opened itself. A SYN alone is no answer.
#[inline(always)]
fn is_own(interface: u32, packet: &Packet) -> Result<bool, Refusal> {
    let Transport::Tcp { source, destination, flags } = packet.transport else { return Ok(false) };
    let syn = flags & (tcp_flag::SYN | tcp_flag::ACK);
    if syn == tcp_flag::SYN | tcp_flag::ACK {
        return Ok(false);
    }
    let key = OutboundKey::new(&packet.header.source, &packet.header.destination, source, destination);
    if syn == tcp_flag::SYN {
        own_tables::remember_outbound(interface, &key, maps::control()?.clock);
        return Ok(true);
    }
    Ok(own_tables::is_outbound(interface, &key))
}

/// What is no answer is the kernel's to forward, where the tenant may go to the outside.
#[inline(always)]
fn leave(ctx: &TcContext, packet: &Packet, refusal: Refusal) -> Result<i32, Refusal> {
    match refusal {
        Refusal::Drop(DropReason::NotAllowed | DropReason::Fragment | DropReason::IcmpQuote)
            if tenant(ctx, packet)?.outbound != 0 =>
        {
            Err(Refusal::Pass)
        }
        refusal => Err(refusal),
    }
}

/// The tenant behind the interface. One without addresses of the packet's family can send nothing of that family, but for
/// what every host sends on its own link.
#[inline(always)]
fn tenant(ctx: &TcContext, packet: &Packet) -> Result<&'static TenantValue, Refusal> {
    let family = if packet.header.is_v6() { family::IPV6 } else { family::IPV4 };
    maps::tenant(&TenantKey { interface: interface(ctx), family })
        .ok_or_else(|| from_elsewhere(&packet.header))
}

/// The tenant's interface.
#[inline(always)]
fn interface(ctx: &TcContext) -> u32 {
    // SAFETY: the context is a valid `__sk_buff` for the whole program.
    unsafe { (*ctx.skb.skb).ingress_ifindex }
}

/// Whether an address is the last of the tenant's subnet, to which broadcasts go.
#[inline(always)]
fn is_last_of(address: &Address, tenant: &TenantValue) -> bool {
    let (address, mask) = (address.words(), tenant.mask.words());
    is_within(&Address::of_words(address), tenant) && address[1] | mask[1] == u64::MAX
}

#[inline(always)]
fn is_within(address: &Address, tenant: &TenantValue) -> bool {
    let (address, subnet, mask) = (address.words(), tenant.subnet.words(), tenant.mask.words());
    (address[0] ^ subnet[0]) & mask[0] | (address[1] ^ subnet[1]) & mask[1] == 0
}

/// Sends an answer to its client.
#[inline(always)]
fn direct<F: FrameMut>(ctx: &TcContext, frame: F, packet: &Packet) -> Result<i32, Refusal> {
    let (answer, flags) = answered(packet)?;
    onwards(ctx, packet)?;
    match asked(&frame, packet, &answer, flags)? {
        Asked::Yes | Asked::Real | Asked::Ending => {}
        // It may be of a flow that isn't known any more.
        Asked::No if tenant(ctx, packet)?.outbound != 0 => {}
        Asked::No | Asked::Another => return Err(DropReason::Unsolicited.into()),
    }
    let (packets, bytes) = on_the_wire(ctx, packet);
    maps::count_reply(answer.backend.index, answer.service, packets, bytes);
    if let Part::First { identification } = packet.part {
        let words = AnswerFragmentValue::words(&answer.vip, answer.service, answer.backend);
        own_tables::remember_answer_fragment(interface(ctx), &fragment_key(packet, identification), &words);
    }
    readdress(ctx, frame, packet, &answer.vip, answer.vip_port)?;
    let action = send()?;
    if action == TC_ACT_REDIRECT && route::is_doubtful(maps::control()?, packet) {
        return Err(Refusal::Continue(slow_path::DOUBTFUL));
    }
    Ok(action)
}

/// Sends a later fragment where the first one went.
#[inline(always)]
fn follow(ctx: &TcContext, mut frame: Careful, packet: &Packet, identification: u32) -> Result<i32, Refusal> {
    let first = own_tables::answer_fragment(interface(ctx), &fragment_key(packet, identification));
    let first = first.ok_or(DropReason::Fragment)?;
    onwards(ctx, packet)?;
    maps::count_reply(first.backend.index, first.service, 1, u64::from(ctx.len()));
    packet.readdress(&mut frame, End::Source, &first.vip).ok_or(DropReason::Inconsistent)?;
    send()
}

#[inline(always)]
fn fragment_key(packet: &Packet, identification: u32) -> AnswerFragmentKey {
    let Header { source, destination, .. } = &packet.header;
    AnswerFragmentKey::new(source, destination, identification, fragment::protocol(packet))
}

/// Sends an error about what a client has sent to that client.
#[inline(always)]
fn pass_on(ctx: &TcContext, mut frame: Careful, packet: &Packet) -> Result<i32, Refusal> {
    let quote = packet::quoted(&frame, packet).ok_or(DropReason::IcmpQuote)?;
    if quote.header.source != packet.header.destination {
        return Err(DropReason::NotAllowed.into());
    }
    let tenant = tenant(ctx, packet)?;
    let backend = quote.header.destination;
    let (port, _) = error::ports(&quote, End::Destination).ok_or(DropReason::IcmpQuote)?;
    let endpoint = EndpointKey::new(backend, port, quote.protocol);
    let answer = maps::answer(&endpoint).ok_or(DropReason::NotAllowed)?;
    if !is_within(&backend, tenant) {
        return Err(DropReason::NotAllowed.into());
    }
    onwards(ctx, packet)?;
    maps::count_reply(answer.backend.index, answer.service, 1, u64::from(ctx.len()));
    packet
        .readdress_error(&mut frame, End::Source, &answer.vip, &quote, answer.vip_port)
        .ok_or(DropReason::Inconsistent)?;
    send()
}

/// What the packet answers, and its TCP flags.
#[inline(always)]
fn answered(packet: &Packet) -> Result<(AnswerValue, u8), Refusal> {
    let (port, flags) = match packet.transport {
        // A SYN alone is no answer: the instance opens a connection of its own.
        Transport::Tcp { flags, .. } if flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN => {
            return Err(DropReason::NotAllowed.into());
        }
        Transport::Tcp { source, flags, .. } => (source, flags),
        Transport::Udp { source, .. } => (source, 0),
        Transport::EchoReply { .. } => (0, 0),
        _ => return Err(DropReason::NotAllowed.into()),
    };
    let endpoint = EndpointKey::new(packet.header.source, port, packet.protocol);
    let answer = maps::answer(&endpoint).ok_or(DropReason::NotAllowed)?;
    Ok((answer, flags))
}

/// Sees to it that a packet can take its next hop. One that can't is the kernel's, which forwards from here and answers
/// the instance with the right ICMP error, at its own rate: its time is over, or it is longer than the uplink takes and
/// may not be fragmented. The kernel would fragment any other, and send it on untranslated: those are dropped.
#[inline(always)]
fn onwards(ctx: &TcContext, packet: &Packet) -> Result<(), Refusal> {
    if packet.hops <= 1 {
        return Err(Refusal::Leave(DropReason::TtlExceeded));
    }
    if ctx.len() <= NEVER_TOO_LONG {
        return Ok(());
    }
    let mut mtu = 0;
    let uplink = maps::control()?.uplink;
    // SAFETY: the context is this program's own, and `mtu` outlives the call.
    let result = unsafe {
        bpf_check_mtu(
            ctx.skb.skb.cast(),
            uplink,
            &raw mut mtu,
            0,
            u64::from(bpf_check_mtu_flags::BPF_MTU_CHK_SEGS),
        )
    };
    if result <= 0 {
        return Ok(());
    }
    if packet.header.may_be_fragmented() {
        return Err(DropReason::TooLong.into());
    }
    Err(Refusal::Leave(DropReason::TooLong))
}

/// Whether a packet's client has asked for it; notes what it says of its flow.
#[inline(always)]
fn asked<F: Frame>(frame: &F, packet: &Packet, answer: &AnswerValue, flags: u8) -> Result<Asked, DropReason> {
    let (client_port, vip_port) = match packet.transport {
        Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination } => {
            (destination, if answer.vip_port == 0 { source } else { answer.vip_port })
        }
        Transport::EchoReply { identifier } => (identifier, 0),
        _ => return Ok(Asked::No),
    };
    let client = packet.header.destination;
    let key = FlowKey { client, service: answer.service, client_port, vip_port };
    let signal = Signal { protocol: packet.protocol, flags };
    if noted::is_nothing_new(&key, signal)? {
        return Ok(Asked::Yes);
    }
    let segment = match packet.transport {
        Transport::Tcp { .. } => packet::segment(frame, packet).ok_or(DropReason::Inconsistent)?,
        _ => Segment { sequence: 0, acknowledgement: 0, length: 0 },
    };
    let answer = Answer { key, backend: answer.backend, signal, segment };
    match noted::note(&answer) {
        Asked::Real => noted::record(&answer, 0)?,
        Asked::Ending => noted::record(&answer, flow_end::BACKEND_FIN)?,
        asked => return Ok(asked),
    }
    Ok(Asked::Yes)
}

/// The packets and bytes that a buffer will be on the wire: one that the kernel or the card cuts into segments
/// repeats its headers.
#[inline(always)]
fn on_the_wire(ctx: &TcContext, packet: &Packet) -> (u64, u64) {
    // SAFETY: the context is a valid `__sk_buff` for the whole program.
    let segments = u64::from(unsafe { (*ctx.skb.skb).gso_segs });
    let length = u64::from(ctx.len());
    if segments <= 1 {
        return (1, length);
    }
    let transport = if let Transport::Udp { .. } = packet.transport { packet::UDP } else { packet::TCP };
    let headers = (packet.payload + transport) as u64;
    (segments, length + (segments - 1) * headers)
}

/// Gives the packet the VIP, and its port, as its source.
#[inline(always)]
fn readdress<F: FrameMut>(
    ctx: &TcContext,
    mut frame: F,
    packet: &Packet,
    vip: &Address,
    vip_port: u16,
) -> Result<(), Refusal> {
    let change = packet.readdress(&mut frame, End::Source, vip).ok_or(DropReason::Inconsistent)?;
    let port = packet.port(End::Source).filter(|_| vip_port != 0);
    if let Some((at, _)) = port {
        frame.write(at, vip_port.to_be_bytes()).ok_or(DropReason::Inconsistent)?;
    }
    let Some(at) = packet.checksum_offset() else { return Ok(()) };
    // The helper, not `checksum`: what was made on this host has only a partial checksum, which it knows.
    let zero_is_none = match packet.transport {
        Transport::Udp { .. } => u64::from(BPF_F_MARK_MANGLED_0),
        _ => 0,
    };
    if let Some((_, old)) = port {
        let change = Difference::of_2(old.to_be_bytes(), vip_port.to_be_bytes());
        replace(ctx, at, change, zero_is_none)?;
    }
    replace(ctx, at, change, zero_is_none | u64::from(BPF_F_PSEUDO_HDR))
}

#[inline(always)]
fn replace(ctx: &TcContext, at: usize, change: Difference, flags: u64) -> Result<(), Refusal> {
    ctx.l4_csum_replace(at, 0, u64::from(change.sum()), flags)
        .map_err(|_| Refusal::Drop(DropReason::Inconsistent))
}

/// Sends the packet out of the uplink, to whatever hop the kernel's routes name.
#[inline(always)]
fn send() -> Result<i32, Refusal> {
    let uplink = maps::control()?.uplink;
    // SAFETY: without parameters the helper looks up route and neighbour by itself.
    let action = unsafe { bpf_redirect_neigh(uplink, core::ptr::null_mut(), 0, 0) };
    Ok(if action < 0 { TC_ACT_UNSPEC } else { action as i32 })
}
