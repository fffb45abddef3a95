//! What somebody takes away of pins, links and the uplink is put back, and no flow is lost by it.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bed::{Bed, TCP_80, UPLINK_MAC};
use flow::Flow;
use lb_userspace::lb::Repaired;
use lb_userspace::net::{Links, MacAddr, Mark, VethEnd};
use lb_userspace::service::BackendState::{Active, Draining};

fn moved(flows: &[Flow]) -> (Bed, Vec<u8>) {
    let mut bed = Bed::new();
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    let owners = bed.connect_all(flows);
    bed.with(TCP_80, &[(2, Draining), (3, Active), (4, Active)]);
    (bed, owners)
}

fn repaired(bed: &mut Bed) -> Vec<Repaired> {
    bed.lb.repair().expect("repaired")
}

#[test]
fn pins_that_are_gone_come_back_with_all_that_they_held() {
    let flows: Vec<Flow> = (0..50).map(Flow::numbered).collect();
    let (mut bed, owners) = moved(&flows);
    assert_eq!(repaired(&mut bed), [], "nothing is missing");
    let pins =
        fs::read_dir(&bed.settings.pin_root).expect("pins").next().expect("a version").expect("one").path();

    fs::remove_file(pins.join("backends")).expect("removed");
    assert_eq!(repaired(&mut bed), [Repaired::Pins]);
    remove_links(&pins);
    let programs = [Repaired::Uplink, Repaired::Tenant("slt-bed".to_owned())];
    assert_eq!(repaired(&mut bed), programs);
    remove_links(&pins);
    fs::remove_dir_all(&bed.settings.pin_root).expect("removed");
    let [uplink, tenant] = programs;
    assert_eq!(repaired(&mut bed), [Repaired::Pins, uplink, tenant]);
    assert_eq!(repaired(&mut bed), []);

    bed.reopen();
    assert!(bed.lb.adopted(), "the next process finds all of it");
    for (flow, owner) in flows.iter().zip(owners) {
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
    }
}

fn remove_links(pins: &Path) {
    fs::remove_dir_all(pins.join("links")).expect("removed");
    // The kernel lets go of a link a moment after its pin.
    thread::sleep(Duration::from_millis(100));
}

/// An interface that is made anew has another index, and none of what was on it.
#[test]
fn an_uplink_that_is_made_anew_gets_the_programs() {
    let flows: Vec<Flow> = (0..50).map(Flow::numbered).collect();
    let (mut bed, owners) = moved(&flows);
    let has_program =
        |bed: &Bed| on_links(bed, async |transit, _| transit.get("up0").await.expect("there").xdp.is_some());
    on_links(&bed, async |transit, _| transit.delete("up0").await.expect("deleted"));
    assert_eq!(repaired(&mut bed), [], "there is none");

    on_links(&bed, async |transit, peers| {
        let mark = Mark { group: 7, alias: "anew".to_owned() };
        let end = |links, name, mac| VethEnd { links, name, mac, master: None };
        let (up, client) = (end(transit, "up0", Some(MacAddr(UPLINK_MAC))), end(peers, "cl0", None));
        transit.ensure_veth(&mark, &up, &client).await.expect("made");
    });
    bed.peers().disable_offloads("cl0").expect("offloads off");
    assert!(!has_program(&bed));
    assert_eq!(repaired(&mut bed), [Repaired::Uplink]);
    assert!(has_program(&bed));
    assert_eq!(repaired(&mut bed), []);
    for (flow, owner) in flows.iter().zip(owners) {
        assert_eq!(bed.backend_of(&flow.segment("A")), owner);
    }
}

/// Does something with the links of the transit namespace and those of the client's.
fn on_links<T>(bed: &Bed, work: impl AsyncFnOnce(&Links, &Links) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (transit, peers) = (Links::open(&bed.settings.transit), Links::open(&bed.peers()));
        work(&transit.expect("a socket"), &peers.expect("a socket")).await
    })
}
