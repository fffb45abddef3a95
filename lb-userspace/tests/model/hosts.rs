//! Addresses of random packets: most of them of hosts that there are, some that no packet can have.

use std::net::IpAddr;

use fastrand::Rng;

use super::world::{VIP_4, VIP_6, vip_of};
use crate::bed::{GATEWAY, GATEWAY_6};

/// The uplink's mostly; another host's, everybody's, or many's.
pub(crate) fn destination_mac(rng: &mut Rng) -> [u8; 6] {
    match rng.u8(..40) {
        0 => [2, 0, 0, 0, 0, 0x23],
        1 => [0xff; 6],
        2 => [[0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]][rng.usize(..2)],
        _ => [2, 0, 0, 0, 0, 0x22],
    }
}

/// A VLAN tag: half of them name no VLAN, some are a provider's.
pub(crate) fn tag(rng: &mut Rng) -> [u8; 4] {
    let vlan = if rng.bool() { 0 } else { rng.u16(..4096) };
    let [high, low] = (vlan | rng.u16(..16) << 12).to_be_bytes();
    let kind = if rng.u8(..8) == 0 { [0x88, 0xa8] } else { [0x81, 0x00] };
    [kind[0], kind[1], high, low]
}

/// A backend mostly; another host of the tenant's, of its link, or of no tenant's.
pub(crate) fn backend(rng: &mut Rng, is_v6: bool) -> Vec<u8> {
    let last = [2, 3, 10, 11, 12, 20, 21, 22, 23, 30, 31, 32, 77][rng.usize(..13)];
    match (is_v6, rng.u8(..20)) {
        (true, 0) => [&[0xfe, 0x80][..], &[0; 13], &[last]].concat(),
        (true, 1) => vec![0; 16],
        (true, 2) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x1a][..], &[0; 9], &[last]].concat(),
        (true, _) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x19][..], &[0; 9], &[last]].concat(),
        (false, 0) => vec![19, 0, 1, last],
        (false, 1) => vec![0; 4],
        (false, 2) => vec![169, 254, 0, last],
        (false, _) => vec![19, 0, 0, last],
    }
}

/// A client mostly; the gateway, or a host of a tenant's.
pub(crate) fn to_outside(rng: &mut Rng, is_v6: bool, client: Vec<u8>) -> Vec<u8> {
    let last = rng.u8(..);
    match (is_v6, rng.u8(..40)) {
        (_, 0 | 1) => gateway(is_v6),
        (true, 2) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x20][..], &[0; 9], &[last]].concat(),
        (true, 3) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x19][..], &[0; 9], &[last]].concat(),
        (true, 4) => [&[0xfe, 0x80][..], &[0; 13], &[last]].concat(),
        (true, 5) => [&[0xff, 2][..], &[0; 13], &[last]].concat(),
        (false, 4) => vec![224, 0, 0, last],
        (false, 5) => vec![[19, 255][rng.usize(..2)], [0, 255][rng.usize(..2)], 255, 255],
        (false, 6) => vec![19, 0, 0, 255],
        (false, 2) => vec![20, 0, 0, last],
        (false, 3) => vec![19, 0, 0, last],
        _ => client,
    }
}

fn gateway(is_v6: bool) -> Vec<u8> {
    if is_v6 { GATEWAY_6.octets().to_vec() } else { GATEWAY.octets().to_vec() }
}

/// A client: mostly one of a few, so that their flows go on; or a source that no client has.
pub(crate) fn client(rng: &mut Rng, is_v6: bool) -> Vec<u8> {
    let last = if rng.u8(..4) == 0 { rng.u8(1..9) } else { rng.u8(1..3) };
    match (is_v6, rng.u8(..40)) {
        (true, 0) => [&[0xff, 2][..], &[0; 13], &[last]].concat(),
        (true, 1) => [&[0; 15][..], &[rng.u8(..2)]].concat(),
        (true, 2) => [&[0xfe, 0x80][..], &[0; 13], &[last]].concat(),
        (_, 3) => tenants_host([19, 20][rng.usize(..2)], is_v6, last),
        (true, 4) => VIP_6.octets().to_vec(),
        (true, 5) => (0..16).map(|_| rng.u8(..)).collect(),
        (true, _) => [&CLIENTS_6[..], &[0; 10], &[last]].concat(),
        (false, 0) => vec![[0, 127][rng.usize(..2)], rng.u8(..), 0, last],
        (false, 2) => VIP_4.octets().to_vec(),
        (false, 1) => vec![rng.u8(224..), rng.u8(..), rng.u8(..), last],
        (false, 4) => vec![[255; 4], [19, 0, 0, 255], [0; 4]][rng.usize(..3)].to_vec(),
        (false, 5) => vec![169, 254, rng.u8(..), last],
        (false, 6) => (0..4).map(|_| rng.u8(..)).collect(),
        (false, _) => [&CLIENTS_4[..], &[last]].concat(),
    }
}

/// A host of a tenant's: 19 or 20.
pub(crate) fn tenants_host(tenant: u8, is_v6: bool, last: u8) -> Vec<u8> {
    if is_v6 {
        let tenant = if tenant == 20 { 0x20 } else { 0x19 };
        return [&[0x20, 0x01, 0x0d, 0xb8, 0, tenant][..], &[0; 9], &[last]].concat();
    }
    vec![tenant, 0, 0, last]
}

/// A client whose flows go on.
pub(crate) fn known_client(rng: &mut Rng, is_v6: bool) -> Vec<u8> {
    let last = rng.u8(1..4);
    if is_v6 { [&CLIENTS_6[..], &[0; 10], &[last]].concat() } else { [&CLIENTS_4[..], &[last]].concat() }
}

/// The networks of the clients whose flows go on.
const CLIENTS_4: [u8; 3] = [198, 51, 100];
const CLIENTS_6: [u8; 5] = [0x20, 0x01, 0x0d, 0xb8, 0x51];

/// Whether packets of a client come again and again.
pub(crate) fn is_usual_client(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&CLIENTS_4),
        IpAddr::V6(address) => address.octets().starts_with(&CLIENTS_6),
    }
}

pub(crate) fn vip(rng: &mut Rng, is_v6: bool) -> Vec<u8> {
    if rng.u8(..30) == 0 {
        return backend(rng, is_v6);
    }
    let mut vip = vip_of(is_v6);
    if rng.u8(..12) == 0 {
        *vip.last_mut().expect("an address") ^= 1;
    }
    vip
}
