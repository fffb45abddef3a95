//! VIPs on a link with other machines, on the real kernel. Needs root.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lb_userspace::net::{Address, Links, MacAddr, Mark, Netns, VethEnd};
use sluice_southbound::networks::{Claim, NetworkError, Networks};
use sluice_southbound::scope::Scope;
use tokio::time::{Instant, sleep, timeout};

/// In the network of the link.
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
const UPLINK_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 2]);
/// Of a machine that had the VIP before.
const FORMER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 3]);

/// A transit namespace, and another machine on its link.
struct Link {
    names: [String; 2],
    networks: Networks,
    transit: Links,
    other: Links,
}

impl Link {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slv{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let names = ["transit", "other"].map(|part| format!("{name}-{part}"));
        let [transit, other] =
            names.each_ref().map(|name| Netns::create(name).expect("this test needs root"));
        let scope = Scope::new(&name).expect("a scope");
        let networks = Networks::between(scope, &other, &transit, "up0").expect("networks");
        let (transit, other) =
            (Links::open(&transit).expect("netlink"), Links::open(&other).expect("netlink"));
        let end = |links, name, mac| VethEnd { links, name, mac: Some(mac), master: None };
        let mark = Mark { group: 7, alias: "a test's".to_owned() };
        let ends = (end(&transit, "up0", UPLINK_MAC), end(&other, "eth0", OTHER_MAC));
        transit.ensure_veth(&mark, &ends.0, &ends.1).await.expect("a veth");
        let link = Self { names, networks, transit, other };
        add(&link.transit, "up0", "198.51.100.1/24").await;
        add(&link.other, "eth0", "198.51.100.2/24").await;
        link.transit.set_up("up0").await.expect("up");
        link.other.set_up("eth0").await.expect("up");
        link
    }

    async fn has_vip(&self) -> bool {
        let addresses = self.transit.addresses("up0").await.expect("addresses");
        addresses.iter().any(|address| address.net.addr() == IpAddr::V4(VIP))
    }

    /// Has the other machine take the VIP for a former machine's.
    async fn mislead(&self) {
        let stale = ["-n", &self.names[1], "neigh", "replace", "198.51.100.80", "lladdr"];
        let mut command = tokio::process::Command::new("ip");
        command.args(stale).args([&FORMER_MAC.to_string(), "dev", "eth0", "nud", "stale"]);
        assert!(command.status().await.expect("ip runs").success());
        assert_eq!(self.known_holder(), FORMER_MAC.to_string());
    }

    /// Waits until the other machine knows where the VIP is.
    async fn learns(&self, round: &str) {
        let learned = async {
            while self.known_holder() != UPLINK_MAC.to_string() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(Duration::from_secs(5), learned).await.is_ok(), "{round}: {}", self.known_holder());
    }

    /// The machine that the other one takes for the VIP's.
    fn known_holder(&self) -> String {
        let read = || std::fs::read_to_string("/proc/thread-self/net/arp").expect("the table");
        let table = self.other.netns().run(read).expect("the namespace");
        let line = table.lines().find(|line| line.starts_with(&format!("{VIP} "))).unwrap_or_default();
        line.split_whitespace().nth(3).unwrap_or_default().to_owned()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Netns::delete(name);
        }
    }
}

async fn add(links: &Links, link: &str, net: &str) {
    let address = Address { net: net.parse().expect("a network"), protocol: 0 };
    links.add_address(link, &address).await.expect("an address");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_that_another_machine_has_is_not_taken_from_it() {
    let link = Link::new().await;
    add(&link.other, "eth0", "198.51.100.80/32").await;
    let refused = link.networks.claim_vip(VIP).await.expect_err("it is taken");
    let taken = matches!(&refused, NetworkError::Taken { mac, .. } if *mac == OTHER_MAC);
    assert!(taken && refused.to_string().contains(&OTHER_MAC.to_string()), "{refused}");
    assert!(!link.has_vip().await);

    link.other.remove_address("eth0", "198.51.100.80/32".parse().expect("a net")).await.expect("it goes");
    assert_eq!(link.networks.claim_vip(VIP).await.expect("it is free"), Claim::Ours);
    assert!(link.has_vip().await);

    // Another daemon finds it, and another machine that has taken it meanwhile.
    add(&link.other, "eth0", "198.51.100.80/32").await;
    assert_eq!(link.networks.claim_vip(VIP).await.expect("it stays"), Claim::Contested(OTHER_MAC));
    assert!(link.has_vip().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_that_knew_a_vip_elsewhere_learn_where_it_is() {
    let link = Link::new().await;
    for round in ["new", "adopted"] {
        link.mislead().await;
        link.networks.claim_vip(VIP).await.expect("a VIP");
        link.learns(round).await;
    }
    // For who has missed the first announcement there is a second one.
    link.mislead().await;
    link.learns("again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_host_or_its_network_is_no_vip() {
    let link = Link::new().await;
    add(&link.transit, "lo", "203.0.113.9/32").await;
    // The same address as a VIP of before does not hide it.
    add(&link.transit, "lo", "198.51.100.80/32").await;
    for vip in ["198.51.100.1", "198.51.100.0", "198.51.100.255", "203.0.113.9", "198.51.100.80"] {
        let vip = vip.parse().expect("an address");
        let refused = link.networks.claim_vip(vip).await.expect_err("it is the host's");
        assert!(matches!(refused, NetworkError::Vip(_)), "{refused}");
        link.networks.remove_vip(vip).await.expect("nothing to remove");
    }
    let left = link.transit.all_addresses().await.expect("addresses");
    assert!(left.iter().any(|(_, address)| address.net.to_string() == "198.51.100.1/24"));
    assert!(left.iter().any(|(_, address)| address.net.to_string() == "198.51.100.80/32"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_on_the_link_is_asked_for_there() {
    let link = Link::new().await;
    let begun = Instant::now();
    link.networks.claim_vip(Ipv4Addr::new(45, 45, 45, 45)).await.expect("a VIP");
    let routed = begun.elapsed();
    link.networks.claim_vip(VIP).await.expect("a VIP");
    let asked = begun.elapsed().saturating_sub(routed);
    assert!(asked >= Duration::from_millis(450) && asked > routed, "{routed:?} {asked:?}");
}
