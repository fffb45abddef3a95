//! Tables and budgets that each VIP, or each tenant, has of its own: what floods one leaves the others as they are.

mod bed;
#[path = "bed/family.rs"]
mod family;

use std::net::{IpAddr, Ipv4Addr};

use aya::maps::{HashOfMaps, Map, MapData};
use bed::{Bed, TENANT_MAC, Verdict, another_link};
use family::{BACK, BACKEND_MAC, Family, IN, What, ask, bed, families, frame};
use lb_common::abi::{Address, VERSION};
use lb_userspace::lb::LoadBalancer;
use lb_userspace::net::MacAddr;
use lb_userspace::service::{Backend, BackendState, Protocol, Reach, ServiceKey};

/// More than all such tables had room for together when they were one.
const FLOOD: u32 = 100_000;
/// What another has there: more than an LRU map keeps aside for each CPU, where no flood reaches it at once.
const HELD: u16 = 400;
const OTHER_VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(46, 46, 46, 46));
const OTHER_BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(20, 0, 0, 2));
const FIRST: u16 = 0x2000;
const LATER: u16 = 2;

/// A fragment of a packet of IPv4.
fn part(mut frame: Vec<u8>, identification: u16, fragment: u16) -> Vec<u8> {
    for (place, value) in [(18, identification), (20, fragment)] {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let sum = lb_common::checksum::update_u16(word(24), word(place), value);
        frame[place..place + 2].copy_from_slice(&value.to_be_bytes());
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

fn are_all(outcomes: Vec<(Verdict, Vec<u8>)>, expected: Verdict) -> bool {
    outcomes.into_iter().all(|(verdict, _)| verdict == expected)
}

fn client(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x6440_0000 + number))
}

/// The service of another tenant, with one backend.
fn apply(bed: &mut Bed, interface: u32, protocol: Protocol, port: Option<u16>) {
    let reach = Reach::Link { interface, source_mac: TENANT_MAC, mac: MacAddr(BACKEND_MAC) };
    let backend = Backend { address: OTHER_BACKEND, reach, weight: 1, state: BackendState::Active };
    bed.apply(ServiceKey { vip: OTHER_VIP, protocol, port }, &[backend]);
}

#[test]
fn fragments_to_one_vip_push_out_none_of_anothers() {
    let mut bed = bed();
    let interface = bed.attach_another_tenant();
    apply(&mut bed, interface, Protocol::Udp, Some(53));
    let [Family { vip, client: victim, .. }, _] = families();
    let sent = |from, to, fragment| part(frame(IN, from, to, 64, &What::Udp(40_000, 53)), 7, fragment);
    let held = |fragment| -> Vec<_> {
        (0..HELD).map(|id| part(sent(victim, vip, fragment), id, fragment)).collect()
    };
    assert!(are_all(bed.uplink_all(&held(FIRST)), Verdict::Redirect));
    let flood: Vec<_> = (0..FLOOD).map(|number| sent(client(number), OTHER_VIP, FIRST)).collect();
    let last = flood[flood.len() - 1].clone();
    assert!(are_all(bed.uplink_all(&flood), Verdict::Redirect));
    assert_eq!(bed.uplink(&sent(client(0), OTHER_VIP, LATER)).0, Verdict::Drop, "pushed out by the flood");
    assert_eq!(bed.uplink(&part(last, 7, LATER)).0, Verdict::Redirect, "the flood's last one");
    assert!(are_all(bed.uplink_all(&held(LATER)), Verdict::Redirect), "another VIP's");
}

#[test]
fn fragments_of_one_tenants_answers_push_out_none_of_anothers() {
    let mut bed = bed();
    let interface = bed.attach_another_tenant();
    apply(&mut bed, interface, Protocol::Udp, Some(53));
    let [Family { vip, client: victim, backend, .. }, _] = families();
    ask(&bed, victim, vip);
    let sent = |from, to, id, fragment| part(frame(BACK, from, to, 64, &What::Udp(53, 40_000)), id, fragment);
    let own = frame(BACK, backend, victim, 64, &What::Udp(5353, 40_000));
    let held = |fragment| -> Vec<_> { (0..HELD).map(|id| part(own.clone(), id, fragment)).collect() };
    assert!(are_all(bed.answer_all(&held(FIRST)), Verdict::Redirect));
    let asked = client(1);
    bed.uplink(&frame(IN, asked, OTHER_VIP, 64, &What::Udp(40_000, 53)));
    let flood: Vec<_> = (0..=u16::MAX).map(|id| sent(OTHER_BACKEND, asked, id, FIRST)).collect();
    assert!(are_all(bed.answer_all_from(interface, &flood), Verdict::Redirect));
    let later = [0, u16::MAX].map(|id| sent(OTHER_BACKEND, asked, id, LATER));
    let verdicts: Vec<_> =
        bed.answer_all_from(interface, &later).into_iter().map(|(verdict, _)| verdict).collect();
    assert_eq!(verdicts, [Verdict::Drop, Verdict::Redirect], "what the flood has pushed out, and its last");
    assert!(are_all(bed.answer_all(&held(LATER)), Verdict::Redirect), "another tenant's");
}

#[test]
fn connections_of_one_tenant_push_out_none_of_anothers() {
    let mut bed = bed();
    let interface = bed.attach_another_tenant();
    let mut link = another_link(&bed.peers());
    if let Some(ipv4) = &mut link.ipv4 {
        ipv4.outbound = true;
    }
    bed.lb.attach_tenant(&link).expect("the tenant attaches");
    bed.set_outbound(true);
    let [Family { vip, client: outside, .. }, _] = families();
    let backend: IpAddr = "19.0.0.9".parse().expect("an address");
    // Where a service has every port, only what is known of a connection tells it from a client's.
    let reach = Reach::Link { interface: bed.interface, source_mac: TENANT_MAC, mac: MacAddr(BACKEND_MAC) };
    let every = ServiceKey { vip, protocol: Protocol::Tcp, port: None };
    bed.apply(every, &[Backend { address: backend, reach, weight: 1, state: BackendState::Active }]);
    apply(&mut bed, interface, Protocol::Tcp, None);
    let held = |what: fn(u16, u16) -> What| -> Vec<_> {
        (0..HELD).map(|port| frame(BACK, backend, outside, 64, &what(40_000 + port, 443))).collect()
    };
    let known = bed.answer_all(&held(What::Tcp));
    assert!(are_all(known, Verdict::Redirect), "answers, for all that is known");
    assert!(are_all(bed.answer_all(&held(What::Syn)), Verdict::Pass));
    let flood: Vec<_> = (0..FLOOD)
        .map(|number| frame(BACK, OTHER_BACKEND, client(number), 64, &What::Syn(40_000, 443)))
        .collect();
    assert!(are_all(bed.answer_all_from(interface, &flood), Verdict::Pass));
    assert!(are_all(bed.answer_all(&held(What::Tcp)), Verdict::Pass), "another tenant's");
}

#[test]
fn what_one_vip_answers_leaves_others_their_answers() {
    let mut bed = bed();
    let interface = bed.attach_another_tenant();
    apply(&mut bed, interface, Protocol::Udp, Some(53));
    let [Family { vip, client: victim, .. }, _] = families();
    let closed = |from, to| frame(IN, from, to, 64, &What::Udp(40_000, 9));
    // Far more than may be answered meanwhile, and for another VIP no more than may be answered at once.
    let (flood, others) = (20_000, 40);
    let sent: Vec<_> = (0..flood)
        .map(|n| if n % (flood / others) == 499 { closed(victim, vip) } else { closed(client(n), OTHER_VIP) })
        .collect();
    let verdicts = bed.uplink_all(&sent).into_iter().map(|(verdict, _)| verdict);
    let (to_vip, to_other): (Vec<_>, Vec<_>) =
        verdicts.zip(&sent).partition(|(_, sent)| **sent == closed(victim, vip));
    let answered =
        |of: &[(Verdict, &Vec<u8>)]| of.iter().filter(|(verdict, _)| *verdict == Verdict::Transmit).count();
    assert!((1..to_other.len() / 2).contains(&answered(&to_other)), "{}", answered(&to_other));
    assert_eq!((answered(&to_vip), to_vip.len()), (40, 40), "another VIP's");
}

#[test]
fn a_table_that_could_not_be_made_is_made_with_the_next_change() {
    let mut bed = bed();
    let [Family { vip, client, .. }, _] = families();
    let path = bed.settings.pin_root.join(format!("v{VERSION}/fragments"));
    let map = Map::HashOfMaps(MapData::from_pin(path).expect("the map"));
    let mut tables: HashOfMaps<_, Address> = map.try_into().expect("its key");
    let IpAddr::V4(address) = vip else { panic!("the first family is IPv4") };
    tables.remove(&Address::v4(address.octets())).expect("removed");
    let sent = |fragment| part(frame(IN, client, vip, 64, &What::Udp(40_000, 53)), 7, fragment);
    let follows = |bed: &Bed| {
        assert_eq!(bed.uplink(&sent(FIRST)).0, Verdict::Redirect);
        bed.uplink(&sent(LATER)).0 == Verdict::Redirect
    };
    assert!(!follows(&bed));
    let reach = Reach::Link { interface: bed.interface, source_mac: TENANT_MAC, mac: MacAddr(BACKEND_MAC) };
    let backend = Backend { address: families()[0].backend, reach, weight: 2, state: BackendState::Active };
    bed.translate(ServiceKey { vip, protocol: Protocol::Udp, port: Some(53) }, Some(5353), &[backend]);
    assert!(follows(&bed));
}

#[test]
fn tables_come_and_go_with_whose_they_are() {
    let mut bed = bed();
    let taken = |lb: &LoadBalancer| {
        let maps = lb.memory().expect("the memory").maps;
        ["fragments", "answer_fragments", "outbound_flows"].map(|map| maps[map])
    };
    let before = taken(&bed.lb);
    let interface = bed.attach_another_tenant();
    apply(&mut bed, interface, Protocol::Udp, Some(53));
    bed.set_outbound(true);
    let with = taken(&bed.lb);
    for (less, more) in before.iter().zip(&with) {
        assert!(more > less, "{before:?}, then {with:?}");
    }
    bed.reopen();
    assert_eq!(taken(&bed.lb)[..2], with[..2], "after a restart");
    bed.lb.remove(&ServiceKey { vip: OTHER_VIP, protocol: Protocol::Udp, port: Some(53) }).expect("removed");
    bed.lb.detach_tenant("slt-two", "slp-two").expect("detached");
    bed.set_outbound(false);
    assert_eq!(taken(&bed.lb), before);
}
