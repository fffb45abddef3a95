//! Tenant networks on the real kernel. Needs root.

#[path = "../frames/mod.rs"]
mod frames;
mod neighbours;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use lb_userspace::lb::Ipv4Subnet;
use lb_userspace::net::{Address, LinkError, Links, MacAddr, Mark, Netns, VethEnd};
use nix::sys::socket::{setsockopt, sockopt};
use sluice_logic::spec::{NetworkSpec, TenantName};
use sluice_southbound::networks::{Claim, NetworkError, Networks, TenantNetwork};
use sluice_southbound::provider::NicSpec;
use sluice_southbound::scope::Scope;

const VIP: Ipv4Addr = Ipv4Addr::new(45, 45, 45, 45);

/// A host of namespaces: `host` in the place of the daemon's, and `transit`, whose uplink leads to `client`.
struct World {
    name: String,
    host: Netns,
    transit: Netns,
    client: Netns,
    networks: Networks,
}

impl World {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sln{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let netns =
            |part| Netns::create(&format!("{name}-{part}")).expect("a namespace: this test needs root");
        let (host, transit, client) = (netns("host"), netns("transit"), netns("client"));
        let networks = Networks::between(scope(&name), &host, &transit, "uplink").expect("networks");
        let world = Self { name, host, transit, client, networks };
        let (outside, inside) = (links(&world.client), links(&world.transit));
        join(&inside, "uplink", &outside, "eth0", None).await;
        add_address(&inside, "uplink", "10.1.0.1/24").await;
        add_address(&outside, "eth0", "10.1.0.2/24").await;
        outside
            .set_route("eth0", Ipv4Net::new_assert(VIP, 32), Ipv4Addr::new(10, 1, 0, 1))
            .await
            .expect("route");
        world
    }

    async fn network(&self, tenant: &str, subnet: u8) -> TenantNetwork {
        self.networks.ensure(&tenant_name(tenant), &network_spec(subnet)).await.expect("a network")
    }

    /// Removes the filter that keeps the host from a bridge.
    fn open(&self, network: &TenantNetwork) {
        let open = || Command::new("tc").args(["qdisc", "delete", "dev", &network.bridge, "clsact"]).status();
        assert!(self.host.run(open).expect("run").expect("tc runs").success());
    }

    /// An end point on a tenant's bridge, made without the provider.
    async fn guest(&self, network: &TenantNetwork, part: &str, address: &str) -> Netns {
        let netns = Netns::create(&format!("{}-{part}", self.name)).expect("a namespace");
        let (host, guest) = (links(&self.host), links(&netns));
        let bridge = host.get(&network.bridge).await.expect("a bridge").index;
        join(&host, part, &guest, "eth0", Some(bridge)).await;
        add_address(&guest, "eth0", address).await;
        let IpNet::V4(net) = address.parse().expect("a network") else { panic!("not IPv4") };
        let mac = guest.get("eth0").await.expect("an interface").mac.expect("Ethernet");
        let (bridge, prefix) = (network.bridge.clone(), net.prefix_len());
        let nic = NicSpec { bridge, address: net.addr(), prefix, gateway: None, mac };
        self.networks.admit([&nic]).await.expect("admitted");
        netns
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in Netns::names().unwrap_or_default() {
            if name.starts_with(&format!("{}-", self.name)) {
                let _ = Netns::delete(&name);
            }
        }
    }
}

fn scope(name: &str) -> Scope {
    Scope::new(name).expect("a scope")
}

fn links(netns: &Netns) -> Links {
    Links::open(netns).expect("netlink")
}

fn tenant_name(name: &str) -> TenantName {
    TenantName::try_from(name.to_owned()).expect("a tenant name")
}

fn network_spec(subnet: u8) -> NetworkSpec {
    let ip = |last| Ipv4Addr::new(10, 98, subnet, last);
    NetworkSpec {
        name: "nw".to_owned(),
        subnet: Ipv4Net::new_assert(ip(0), 24),
        gateway: ip(1),
        dhcp_start: ip(2),
        dhcp_end: ip(254),
    }
}

async fn join(here: &Links, name: &str, there: &Links, peer: &str, master: Option<u32>) {
    let mark = Mark { group: 9, alias: "test".to_owned() };
    let end = |links, name| VethEnd { links, name, mac: None, master: None };
    let outer = VethEnd { master, ..end(here, name) };
    here.ensure_veth(&mark, &outer, &end(there, peer)).await.expect("a veth");
    here.set_up(name).await.expect("up");
    there.set_up(peer).await.expect("up");
}

async fn add_address(links: &Links, link: &str, net: &str) {
    let net = net.parse().expect("a network");
    links.add_address(link, &Address { net, protocol: 0 }).await.expect("an address");
}

fn connect(from: &Netns, to: SocketAddrV4) -> io::Result<TcpStream> {
    from.run(|| TcpStream::connect_timeout(&to.into(), Duration::from_secs(5))).expect("in the namespace")
}

async fn link_names(netns: &Netns) -> Vec<String> {
    let mut names: Vec<_> = links(netns).list().await.expect("list").into_iter().map(|l| l.name).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_works_can_be_made_again_and_leaves_nothing() {
    let world = World::new().await;
    let before = (link_names(&world.host).await, link_names(&world.transit).await);
    let network = world.network("demo", 1).await;
    let again = world.network("demo", 1).await;
    assert_eq!((network.interface, network.mac), (again.interface, again.mac));
    let net: Ipv4Net = "10.98.1.0/24".parse().expect("a network");
    let gateway = Ipv4Addr::new(10, 98, 1, 1);
    assert_eq!(network.link.ipv4, Some(Ipv4Subnet { net, gateway, outbound: false }));

    let transit_end = links(&world.transit).get(&network.link.interface).await.expect("there");
    assert!(transit_end.up && transit_end.mac == Some(network.mac) && transit_end.index == network.interface);
    let alias = format!("{} tenant=demo network=nw", world.name);
    assert_eq!(transit_end.alias.as_deref(), Some(alias.as_str()));
    let forwarding = format!("ipv4/conf/{}/forwarding", network.link.interface);
    assert_eq!(world.transit.sysctl(&forwarding).expect("read"), "1");
    assert_eq!(world.transit.sysctl("ipv4/conf/uplink/forwarding").expect("read"), "0", "not ours to change");

    let guest = world.guest(&network, "guest", "10.98.1.9/24").await;
    let listener = world.transit.run(|| TcpListener::bind("10.98.1.1:80")).expect("run").expect("bound");
    connect(&guest, "10.98.1.1:80".parse().expect("an address")).expect("the gateway answers");
    drop((listener, guest));

    let listed = world.networks.list().await.expect("list");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].owner, Some((tenant_name("demo"), "nw".to_owned())));
    links(&world.host).delete("guest").await.expect("deleted");
    world.networks.remove_tenant(&tenant_name("other")).await.expect("nothing to remove");
    assert_eq!(world.networks.list().await.expect("list").len(), 1);
    for _ in 0..2 {
        world.networks.remove_tenant(&tenant_name("demo")).await.expect("removed");
    }
    assert_eq!(world.networks.list().await.expect("list"), []);
    assert_eq!((link_names(&world.host).await, link_names(&world.transit).await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_missing_is_repaired() {
    let world = World::new().await;
    let (host, transit) = (links(&world.host), links(&world.transit));
    let network = world.network("demo", 1).await;
    let check = async || {
        let network = world.network("demo", 1).await;
        let port = host.get(&network.link.peer).await.expect("a port");
        let bridge = host.get(&network.bridge).await.expect("a bridge");
        let end = transit.get(&network.link.interface).await.expect("a transit end");
        assert!(port.up && bridge.up && end.up && port.master == Some(bridge.index));
        let addresses = transit.addresses(&network.link.interface).await.expect("addresses");
        assert_eq!(addresses.iter().map(|a| a.net.to_string()).collect::<Vec<_>>(), ["10.98.1.1/24"]);
    };
    check().await;
    host.delete(&network.bridge).await.expect("deleted");
    check().await;
    transit.delete(&network.link.interface).await.expect("deleted");
    check().await;
    host.set_master(&network.link.peer, 0).await.expect("freed");
    check().await;
    transit
        .remove_address(&network.link.interface, "10.98.1.1/24".parse().expect("net"))
        .await
        .expect("removed");
    add_address(&transit, &network.link.interface, "10.98.7.1/24").await;
    check().await;
    // The alias is set after the link is made: a crash between the two.
    for name in [&network.bridge, &network.link.peer] {
        host.set_alias(name, "").await.expect("no alias");
    }
    transit.set_alias(&network.link.interface, "").await.expect("no alias");
    let listed = world.networks.list().await.expect("list");
    assert!(listed.len() == 1 && listed[0].owner.is_none(), "{listed:?}");
    check().await;
    assert!(world.networks.list().await.expect("list")[0].owner.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_daemon_finds_and_removes_all_of_the_last_one_and_nothing_else() {
    let world = World::new().await;
    let before = (link_names(&world.host).await, link_names(&world.transit).await);
    world.network("demo", 1).await;
    let half = world.network("gone", 2).await;
    links(&world.host).delete(&half.link.peer).await.expect("deleted");
    world.networks.claim_vip(VIP).await.expect("a VIP");
    let other = Networks::between(scope("other"), &world.host, &world.transit, "uplink").expect("networks");
    let theirs = other.ensure(&tenant_name("demo"), &network_spec(3)).await.expect("a network");

    let next =
        Networks::between(scope(&world.name), &world.host, &world.transit, "uplink").expect("networks");
    let owners: Vec<_> = next.list().await.expect("list").into_iter().filter_map(|n| n.owner).collect();
    let owned = |name| owners.contains(&(tenant_name(name), "nw".to_owned()));
    assert!(owners.len() == 2 && owned("demo") && owned("gone"), "{owners:?}");
    assert_eq!(next.remove_all().await.expect("removed").len(), 3);
    assert_eq!(next.remove_all().await.expect("removed again"), Vec::<String>::new());
    assert_eq!(next.vips().await.expect("list"), Vec::<Ipv4Addr>::new());
    links(&world.host).get(&theirs.bridge).await.expect("another daemon's network stays");
    other.remove_all().await.expect("removed");
    assert_eq!((link_names(&world.host).await, link_names(&world.transit).await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_link_in_the_way_is_named_and_kept() {
    let world = World::new().await;
    let host = links(&world.host);
    let name = scope(&world.name).network_links(&tenant_name("demo"), "nw").bridge;
    let theirs = Mark { group: 3, alias: "operator".to_owned() };
    host.ensure_bridge(&theirs, &name, MacAddr([2, 0, 0, 0, 0, 1])).await.expect("theirs");
    let error = world.networks.ensure(&tenant_name("demo"), &network_spec(1)).await.expect_err("in the way");
    assert!(matches!(error, NetworkError::Link(LinkError::Foreign { .. })), "{error}");
    assert!(error.to_string().contains(&name) && error.to_string().contains("operator"), "{error}");
    assert_eq!(world.networks.list().await.expect("list"), []);
    world.networks.remove_all().await.expect("nothing of ours");
    assert_eq!(host.get(&name).await.expect("kept").alias.as_deref(), Some("operator"));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_in_use_are_not_taken() {
    let world = World::new().await;
    let demo = world.network("demo", 1).await;
    let theirs = tenant_name("other");
    for _ in 0..2 {
        let error = world.networks.ensure(&theirs, &network_spec(1)).await.expect_err("taken");
        assert!(matches!(error, NetworkError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&demo.link.interface), "{error}");
        assert_eq!(world.networks.list().await.expect("list").len(), 1, "nothing was made");
    }
    world.network("demo", 1).await;
    let uplink = |subnet: &str| NetworkSpec {
        name: "nw".to_owned(),
        subnet: subnet.parse().expect("a network"),
        gateway: Ipv4Addr::new(10, 1, 0, 9),
        dhcp_start: Ipv4Addr::new(10, 1, 0, 10),
        dhcp_end: Ipv4Addr::new(10, 1, 0, 20),
    };
    // Whether it is the uplink's network, or a part of it with this host's own address.
    for subnet in ["10.1.0.0/24", "10.1.0.0/27"] {
        let error = world.networks.ensure(&theirs, &uplink(subnet)).await.expect_err("the uplink's");
        assert!(error.to_string().contains("`uplink`"), "{error}");
    }
    world.networks.remove_tenant(&tenant_name("demo")).await.expect("removed");
    world.network("other", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_is_found_by_clients_and_the_operators_addresses_stay() {
    let world = World::new().await;
    let operators = Ipv4Addr::new(10, 1, 0, 1);
    for _ in 0..2 {
        assert_eq!(world.networks.claim_vip(VIP).await.expect("a VIP"), Claim::Ours);
        let refused = world.networks.claim_vip(operators).await.expect_err("it is the host's");
        assert!(
            matches!(refused, NetworkError::Vip(_)) && refused.to_string().contains("`uplink`"),
            "{refused}"
        );
    }
    assert_eq!(world.networks.vips().await.expect("list"), [VIP]);
    // On the same link: the client asks for the VIP itself.
    let client = links(&world.client);
    add_address(&client, "eth0", "45.45.45.1/24").await;
    let listener = world.transit.run(|| TcpListener::bind((VIP, 80))).expect("run").expect("bound");
    client.set_route("eth0", "45.45.45.0/24".parse().expect("a net"), VIP).await.expect("route");
    add_address(&links(&world.transit), "uplink", "45.45.45.2/24").await;
    connect(&world.client, SocketAddrV4::new(VIP, 80)).expect("the VIP answers");
    drop(listener);

    for address in [VIP, VIP, operators] {
        world.networks.remove_vip(address).await.expect("removed");
    }
    let left = links(&world.transit).addresses("uplink").await.expect("list");
    assert!(!left.iter().any(|a| a.net.addr() == VIP) && left.iter().any(|a| a.net.addr() == operators));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_share_no_link() {
    let world = World::new().await;
    let (one, other) = (world.network("one", 1).await, world.network("other", 2).await);
    // Both use the addresses of the first network, as a tenant may that does not keep to its own.
    let asking = world.guest(&one, "a", "10.98.1.7/24").await;
    let neighbour = world.guest(&one, "b", "10.98.1.8/24").await;
    let stranger = world.guest(&other, "c", "10.98.1.9/24").await;
    asking.set_sysctl("ipv4/neigh/eth0/mcast_solicit", "1").expect("set");
    let listen = |netns: &Netns, at: &'static str| {
        netns.run(move || TcpListener::bind(at)).expect("run").expect("bound")
    };
    let listeners = (listen(&neighbour, "10.98.1.8:80"), listen(&stranger, "10.98.1.9:80"));
    connect(&asking, "10.98.1.8:80".parse().expect("an address")).expect("its own tenant's answers");
    let error = connect(&asking, "10.98.1.9:80".parse().expect("an address")).expect_err("a stranger");
    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable, "{error}");
    let heard =
        stranger.run(|| std::fs::read_to_string("/proc/thread-self/net/arp")).expect("run").expect("arp");
    assert!(!heard.contains("10.98.1.7"), "the stranger was asked: {heard}");
    drop(listeners);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_takes_nothing_from_a_tenant() {
    let world = World::new().await;
    let network = world.network("demo", 1).await;
    let guest = world.guest(&network, "guest", "10.98.1.9/24").await;
    let host = links(&world.host);
    add_address(&host, "lo", "192.0.2.1/32").await;
    let bridge = host.get(&network.bridge).await.expect("a bridge");
    assert!(host.addresses(&network.bridge).await.expect("list").is_empty(), "not even an IPv6 one");

    // The guest does all it can: it knows the bridge's address and sends to it.
    let inside = links(&guest);
    let target = Ipv4Addr::new(192, 0, 2, 1);
    inside.set_neighbour("eth0", target.into(), bridge.mac.expect("Ethernet")).await.expect("neighbour");
    inside.set_default_route("eth0", network_spec(1).gateway).await.expect("route");
    inside
        .set_neighbour("eth0", network_spec(1).gateway.into(), bridge.mac.expect("Ethernet"))
        .await
        .expect("set");
    let receiver = world.host.run(|| UdpSocket::bind("192.0.2.1:9")).expect("run").expect("bound");
    let sender = guest.run(|| UdpSocket::bind("0.0.0.0:0")).expect("run").expect("bound");
    let arrives = || {
        sender.send_to(b"x", "192.0.2.1:9").expect("sent");
        receiver.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        receiver.recv(&mut [0; 8]).is_ok()
    };
    assert!(!arrives());
    world.open(&network);
    assert!(!arrives(), "also where the filter is gone");
    // That it is the setting which keeps it out, and not the test's own fault.
    world.host.set_sysctl(&format!("ipv4/conf/{}/rp_filter", network.bridge), "0").expect("set");
    assert!(arrives());
}

/// What has no sender's address is refused by no reverse-path filter.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_hears_no_broadcast_of_a_tenant() {
    let world = World::new().await;
    let network = world.network("demo", 1).await;
    let guest = world.guest(&network, "guest", "10.98.1.9/24").await;
    links(&guest).remove_address("eth0", "10.98.1.9/24".parse().expect("a net")).await.expect("removed");
    let neighbour = world.guest(&network, "neighbour", "10.98.1.8/24").await;
    for port in ["guest", "neighbour"] {
        links(&world.host).wait_until_forwarding(port).await.expect("it carries frames");
    }
    let listen = |netns: &Netns| {
        let socket = netns.run(|| UdpSocket::bind("0.0.0.0:67")).expect("run").expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        socket
    };
    let (host, beside) = (listen(&world.host), listen(&neighbour));
    let sender = guest.run(|| UdpSocket::bind("0.0.0.0:68")).expect("run").expect("bound");
    sender.set_broadcast(true).expect("set");
    setsockopt(&sender, sockopt::BindToDevice, &"eth0".into()).expect("set");
    let arrives =
        |at: &UdpSocket| at.recv_from(&mut [0; 8]).is_ok_and(|(_, from)| from.ip().is_unspecified());
    let heard = || {
        ["255.255.255.255:67", "224.0.0.1:67"].map(|to| {
            sender.send_to(b"x", to).expect("sent");
            assert!(arrives(&beside), "its neighbours hear what goes to {to}");
            arrives(&host)
        })
    };
    assert_eq!(heard(), [false, false]);
    world.open(&network);
    assert_eq!(heard(), [true, true], "it is the filter which keeps them out");
    world.network("demo", 1).await;
    assert_eq!(heard(), [false, false]);
}
