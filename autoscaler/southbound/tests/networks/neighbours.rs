//! Whom the transit namespace takes for a neighbour, whatever instances say.

use std::io::{Read as _, Write as _};
use std::process::Command;

use lb_userspace::net::Neighbour;

use super::*;
use crate::frames::Liar;

const WIDE: Ipv4Addr = Ipv4Addr::new(10, 98, 16, 0);

/// A network of 4,094 addresses.
fn wide_spec() -> NetworkSpec {
    let ip = |last| Ipv4Addr::new(10, 98, 16, last);
    let subnet = Ipv4Net::new_assert(WIDE, 20);
    NetworkSpec { name: "nw".to_owned(), subnet, gateway: ip(1), dhcp_start: ip(2), dhcp_end: ip(254) }
}

async fn nic_of(network: &TenantNetwork, guest: &Netns, address: [u8; 4]) -> NicSpec {
    let mac = links(guest).get("eth0").await.expect("an interface").mac.expect("Ethernet");
    NicSpec { bridge: network.bridge.clone(), address: address.into(), prefix: 24, gateway: None, mac }
}

/// Those on the network, in their addresses' order.
async fn neighbours(world: &World, network: &TenantNetwork) -> Vec<Neighbour> {
    let all = links(&world.transit).all_neighbours().await.expect("listed").into_iter();
    let mut found: Vec<_> =
        all.filter(|(link, _)| *link == network.interface).map(|(_, neighbour)| neighbour).collect();
    found.sort_by_key(|neighbour| neighbour.address);
    found
}

fn fixed(nic: &NicSpec) -> Neighbour {
    Neighbour { address: nic.address, mac: Some(nic.mac), fixed: true }
}

fn ip(netns: &Netns, arguments: &str) -> String {
    let run = || Command::new("ip").args(arguments.split_whitespace()).output();
    let output = netns.run(run).expect("run").expect("ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_only_instances_are_neighbours() {
    let world = World::new().await;
    let network = world.networks.ensure(&tenant_name("demo"), &wide_spec()).await.expect("a network");
    let liar = world.guest(&network, "liar", "10.98.16.2/20").await;
    let honest = world.guest(&network, "honest", "10.98.16.3/20").await;
    let nics =
        [nic_of(&network, &liar, [10, 98, 16, 2]).await, nic_of(&network, &honest, [10, 98, 16, 3]).await];
    links(&world.transit).set_default_route("uplink", Ipv4Addr::new(10, 1, 0, 2)).await.expect("a route");

    let lies = Liar::on(&liar, "eth0").await;
    let gateway = (wide_spec().gateway, network.mac);
    // Strictly as we set it, and loosely as Ubuntu sets it for all interfaces.
    for reverse_path in ["0", "2"] {
        world.transit.set_sysctl("ipv4/conf/all/rp_filter", reverse_path).expect("set");
        for number in 0..300 {
            lies.speak_as(Ipv4Addr::from(u32::from(WIDE) + number), gateway);
            lies.speak_as(Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 0, 0, 0)) + number), gateway);
        }
        assert_eq!(neighbours(&world, &network).await, nics.each_ref().map(fixed), "{reverse_path}");
    }

    // Nobody has taken the other one's address, and both find their gateway.
    let here = honest.run(|| TcpListener::bind("10.98.16.3:80")).expect("run").expect("bound");
    connect(&world.transit, "10.98.16.3:80".parse().expect("an address")).expect("the honest one answers");
    drop(here);
    let _gateway = world.transit.run(|| TcpListener::bind("10.98.16.1:80")).expect("run").expect("bound");
    for guest in [&liar, &honest] {
        ip(guest, "neighbour flush dev eth0");
        connect(guest, "10.98.16.1:80".parse().expect("an address")).expect("the gateway answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_instances_is_repaired_and_goes_with_them() {
    let world = World::new().await;
    let transit = &world.transit;
    let before = ip(transit, "route show table all");
    let network = world.network("demo", 1).await;
    let guest = world.guest(&network, "guest", "10.98.1.9/24").await;
    let nic = nic_of(&network, &guest, [10, 98, 1, 9]).await;
    let link = &network.link.interface;
    let routes = ip(transit, &format!("route show dev {link}"));
    let unreachable = ip(transit, "route show type unreachable");
    assert!(
        routes.starts_with("10.98.1.9 ") && unreachable.starts_with("unreachable 10.98.1.0/24"),
        "{routes}"
    );
    assert!(!world.networks.repair_neighbours().await.expect("looked"), "nothing was missing");

    for harm in [
        format!("neighbour del 10.98.1.9 dev {link}"),
        format!("neighbour replace 10.98.1.9 lladdr 02:00:00:00:00:99 dev {link} nud permanent"),
        format!("route del 10.98.1.9 dev {link}"),
        format!("link set {link} down"),
        format!("address del 10.98.1.1/24 dev {link}"),
        "route del unreachable 10.98.1.0/24".to_owned(),
    ] {
        ip(transit, &harm);
        if harm.ends_with("down") {
            ip(transit, &format!("link set {link} up"));
        }
        assert!(world.networks.repair_neighbours().await.expect("repaired"), "{harm}");
        assert_eq!(ip(transit, &format!("route show dev {link}")), routes, "{harm}");
        assert_eq!(ip(transit, "route show type unreachable"), unreachable, "{harm}");
        assert_eq!(neighbours(&world, &network).await, [fixed(&nic)], "{harm}");
        assert!(!world.networks.repair_neighbours().await.expect("looked"), "{harm}");
    }

    // Another one takes its place, then goes.
    let next = NicSpec { mac: MacAddr([2, 0, 0, 0, 0, 9]), ..nic.clone() };
    world.networks.admit([&next]).await.expect("admitted");
    assert_eq!(neighbours(&world, &network).await, [fixed(&next)]);
    world.networks.release([&next]);
    world.networks.repair_neighbours().await.expect("removed");
    assert_eq!(neighbours(&world, &network).await, []);
    assert_eq!(ip(transit, &format!("route show dev {link}")), "");

    // Also what a daemon that came to an end has left.
    world.networks.admit([&nic]).await.expect("admitted");
    let later = Networks::between(scope(&world.name), &world.host, transit, "uplink").expect("networks");
    later.ensure(&tenant_name("demo"), &network_spec(1)).await.expect("the network");
    later.repair_neighbours().await.expect("removed");
    assert_eq!(neighbours(&world, &network).await, []);
    world.networks.remove_tenant(&tenant_name("demo")).await.expect("removed");
    assert_eq!(ip(transit, "route show table all"), before);
    let second = world.network("demo", 2).await;
    links(&world.host).delete(&second.link.peer).await.expect("deleted");
    later.remove_all().await.expect("removed");
    assert_eq!(ip(transit, "route show table all"), before, "of a network that somebody has removed too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_of_an_earlier_build_is_taken_over_in_use() {
    let world = World::new().await;
    let transit = &world.transit;
    let network = world.network("demo", 1).await;
    let guest = world.guest(&network, "guest", "10.98.1.9/24").await;
    let nic = nic_of(&network, &guest, [10, 98, 1, 9]).await;
    let link = &network.link.interface;
    for step in [
        format!("address del 10.98.1.1/24 dev {link}"),
        "route del unreachable 10.98.1.0/24".to_owned(),
        format!("address add 10.98.1.1/24 dev {link}"),
    ] {
        ip(transit, &step);
    }
    let listener = guest.run(|| TcpListener::bind("10.98.1.9:80")).expect("run").expect("bound");
    let mut outer = connect(transit, "10.98.1.9:80".parse().expect("an address")).expect("reached");
    let (mut inner, _) = listener.accept().expect("accepted");

    let next = Networks::between(scope(&world.name), &world.host, transit, "uplink").expect("networks");
    next.hold([&nic]);
    next.ensure(&tenant_name("demo"), &network_spec(1)).await.expect("the network");
    assert_eq!(neighbours(&world, &network).await, [fixed(&nic)]);
    assert!(ip(transit, "route show 10.98.1.0/24").starts_with("unreachable"));
    assert!(!next.repair_neighbours().await.expect("looked"));
    outer.write_all(b"still there?").expect("sent");
    inner.read_exact(&mut [0; 12]).expect("received");
}
