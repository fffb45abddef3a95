//! What is left of a tenant whose interface went without a word.

mod bed;
#[path = "bed/family.rs"]
mod family;

use std::process::Command;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, Map, MapData};
use bed::{Bed, Verdict};
use family::{BACK, Family, What, ask, families, frame};
use lb_common::abi::{TenantKey, TenantValue, VERSION, owner};

fn lose_interface(bed: &Bed) {
    let delete = || Command::new("ip").args(["link", "delete", "slt-two"]).status().expect("ip runs");
    assert!(bed.settings.transit.run(delete).expect("the namespace").success());
}

/// How many entries the maps have of tenants and of their subnets.
fn entries(bed: &Bed) -> (usize, usize) {
    let open = |name: &str| {
        MapData::from_pin(bed.settings.pin_root.join(format!("v{VERSION}/{name}"))).expect("the map")
    };
    let tenants: HashMap<_, TenantKey, TenantValue> =
        Map::HashMap(open("tenants")).try_into().expect("its types");
    let subnets: LpmTrie<_, [u8; 16], u32> =
        Map::LpmTrie(open("local_addresses")).try_into().expect("its types");
    let owners = subnets.iter().map(|entry| entry.expect("an entry").1);
    (tenants.keys().count(), owners.filter(|whose| !matches!(*whose, owner::VIP | owner::HOST)).count())
}

/// Whether an answer goes to where the other tenant was.
fn is_nobodys(bed: &Bed) -> bool {
    let [Family { vip, backend, stranger, .. }, _] = families();
    ask(bed, stranger, vip);
    let answer = frame(BACK, backend, stranger, 64, &What::Udp(5353, 40_000));
    bed.answer(&answer).0 == Verdict::Redirect
}

#[test]
fn a_tenant_is_detached_after_its_interface() {
    let mut bed = family::bed();
    assert_eq!(entries(&bed), (2, 2));
    bed.attach_another_tenant();
    assert_eq!(entries(&bed), (4, 4));
    lose_interface(&bed);
    assert!(!is_nobodys(&bed));
    let another = bed::another_link(&bed.peers());
    for _ in 0..2 {
        bed.lb.detach_tenant(&another.interface, &another.peer).expect("detached");
        assert_eq!(entries(&bed), (2, 2));
        assert!(is_nobodys(&bed));
    }
}

#[test]
fn an_interface_that_is_made_again_takes_the_place_of_the_one_before() {
    let mut bed = family::bed();
    for _ in 0..3 {
        bed.attach_another_tenant();
        assert_eq!(entries(&bed), (4, 4));
        assert!(!is_nobodys(&bed));
        lose_interface(&bed);
    }
}
