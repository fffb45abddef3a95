//! What is wrong with an uplink, on the real kernel. Needs root.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use lb_userspace::net::{Address, Links, Mark, Netns, NetnsPath, TagOffload, VethEnd};
use sluice_southbound::networks::Networks;
use sluice_southbound::scope::Scope;
use sluice_southbound::uplink::{Uplink, UplinkFault};

/// A transit namespace with an uplink whose other end is in another namespace, as Linux makes it.
struct Bed {
    names: [String; 2],
    transit: Links,
    client: Links,
}

impl Bed {
    /// One that shows VLAN tags.
    async fn new() -> Self {
        let bed = Self::as_made().await;
        for (links, interface, offloads) in
            [(&bed.transit, "up0", TagOffload::RECEIVING), (&bed.client, "cl0", TagOffload::SENDING)]
        {
            for offload in offloads {
                links.netns().set_tag_offload(interface, offload, false).expect("off");
            }
        }
        bed
    }

    async fn as_made() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slu{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let names = ["transit", "client"].map(|part| format!("{name}-{part}"));
        let [transit, client] =
            names.each_ref().map(|name| Netns::create(name).expect("this test needs root"));
        let (transit, client) =
            (Links::open(&transit).expect("netlink"), Links::open(&client).expect("netlink"));
        let end = |links, name| VethEnd { links, name, mac: None, master: None };
        let mark = Mark { group: 7, alias: "a test's".to_owned() };
        transit.ensure_veth(&mark, &end(&transit, "up0"), &end(&client, "cl0")).await.expect("a veth");
        let bed = Self { names, transit, client };
        let address = Address { net: "198.51.100.1/24".parse().expect("a net"), protocol: 0 };
        bed.transit.add_address("up0", &address).await.expect("an address");
        bed.transit.set_up("up0").await.expect("up");
        bed.client.set_up("cl0").await.expect("up");
        bed
    }

    async fn faults(&self, uplink: &str) -> Vec<UplinkFault> {
        let netns = NetnsPath::Name(self.names[0].clone());
        Uplink::observe(&self.transit, netns, uplink).await.expect("it can be looked at").faults()
    }

    /// The fault that says so, with its way out.
    async fn way_out(&self, uplink: &str, what: &str) -> String {
        let faults = self.faults(uplink).await;
        let found = faults.iter().find(|fault| fault.what.contains(what));
        found.unwrap_or_else(|| panic!("`{what}` is not among {faults:#?}")).way_out.clone()
    }

    /// `ip …` in the transit namespace.
    fn ip(&self, arguments: &str) {
        let mut command = Command::new("ip");
        let done = command.args(["-n", &self.names[0]]).args(arguments.split(' ')).status().expect("ip runs");
        assert!(done.success(), "ip {arguments}");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Netns::delete(name);
        }
    }
}

/// A process in a network namespace without a name; it ends with the value.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_veth_whose_other_end_leaves_checksums_is_named_with_the_command() {
    let bed = Bed::new().await;
    let command = format!("`ip netns exec {} ethtool -K cl0 tx off`", bed.names[1]);
    assert_eq!(bed.way_out("up0", "leaves checksums").await, command);
    bed.client.netns().disable_offloads("cl0").expect("off");
    assert_eq!(bed.faults("up0").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_end_is_found_in_a_container_too() {
    let bed = Bed::new().await;
    let child = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().expect("unshare runs");
    let container = Container(child);
    let pid = container.0.id();
    let own = std::fs::metadata("/proc/self/ns/net").map(|found| std::os::unix::fs::MetadataExt::ino(&found));
    let own = own.expect("this process's namespace");
    let entered = || {
        let there = std::fs::metadata(format!("/proc/{pid}/ns/net"));
        there.is_ok_and(|found| std::os::unix::fs::MetadataExt::ino(&found) != own)
    };
    while !entered() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    bed.ip(&format!("link add up1 type veth peer name eth0 netns {pid}"));
    bed.ip("link set up1 up");
    let way_out = bed.way_out("up1", "leaves checksums").await;
    assert_eq!(way_out, format!("`nsenter -t {pid} -n ethtool -K eth0 tx off`"));
}

/// Also by another daemon than the one that switched them off, and whatever has become of the uplink meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn tags_are_shown_and_hidden_again_as_they_were() {
    let bed = Bed::as_made().await;
    let scope = Scope::new(bed.names[0].trim_end_matches("-transit")).expect("a scope");
    std::fs::create_dir_all(scope.run_dir()).expect("a directory");
    let (transit, client) = (bed.transit.netns(), bed.client.netns());
    // Somebody else has switched this one off.
    transit.set_tag_offload("up0", TagOffload::ReceivedProvider, false).expect("off");
    let seen = || {
        let own = transit.tag_offloads("up0", &TagOffload::RECEIVING).expect("read");
        (own, client.tag_offloads("cl0", &TagOffload::SENDING).expect("read"))
    };
    let before = seen();
    assert_eq!(before, ([TagOffload::Received].into(), TagOffload::SENDING.into()));
    let open = || Networks::open(scope.clone(), transit, "up0").expect("netlink");
    let observed = || async {
        let netns = NetnsPath::Name(bed.names[0].clone());
        open().observe_uplink(netns).await.expect("it can be looked at")
    };
    for _ in 0..2 {
        open().show_tags(&observed().await).await.expect("they can be switched off");
        assert_eq!((observed().await.hidden_tags, seen()), (Vec::new(), <_>::default()));
        // Somebody switches it on: it goes off again, and is restored once.
        transit.set_tag_offload("up0", TagOffload::Received, true).expect("on");
    }
    open().show_tags(&observed().await).await.expect("they can be switched off");
    let removed = open().remove_all().await.expect("they can be switched on");
    assert_eq!(
        removed,
        ["rx-vlan-hw-parse off on up0", "tx-vlan-hw-insert off on cl0", "tx-vlan-stag-hw-insert off on cl0"]
    );
    assert_eq!(seen(), before);
    std::fs::remove_dir(scope.run_dir()).expect("nothing is left in it");

    std::fs::create_dir_all(scope.run_dir()).expect("a directory");
    open().show_tags(&observed().await).await.expect("they can be switched off");
    bed.ip("link delete up0");
    let left = Networks::open(scope.clone(), transit, "up0").expect("netlink").remove_all().await;
    assert_eq!(left.expect("nothing is there to be switched on"), Vec::<String>::new());
    std::fs::remove_dir(scope.run_dir()).expect("nothing is left in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_uplink_that_can_not_work_is_told_why() {
    let bed = Bed::new().await;
    bed.client.netns().disable_offloads("cl0").expect("off");
    bed.ip("tuntap add tun0 mode tun");
    assert!(!bed.transit.netns().is_ethernet("tun0").expect("its kind"));
    assert!(bed.transit.netns().is_ethernet("up0").expect("its kind"));
    bed.way_out("tun0", "no Ethernet").await;
    bed.way_out("nope", "no such interface").await;

    bed.ip("link add mgmt0 type veth peer name mgmt1");
    bed.ip("link set mgmt1 up");
    bed.ip("address add 192.0.2.2/24 dev mgmt0");
    bed.ip("link set mgmt0 up");
    assert_eq!(bed.faults("up0").await, []);
    bed.ip("route add default via 192.0.2.1 dev mgmt0");
    assert!(bed.way_out("up0", "the default route is by `mgmt0`").await.contains("dev up0 metric 4096"));
    bed.ip("route add default via 198.51.100.2 dev up0 metric 4096");
    assert_eq!(bed.faults("up0").await, []);

    bed.ip("link add br0 type bridge");
    bed.ip("link set up0 master br0");
    assert!(bed.way_out("up0", "a port of `br0`").await.contains("link set up0 nomaster"));
    bed.ip("link set up0 nomaster");
    bed.ip("link set up0 down");
    bed.way_out("up0", "it is down").await;
}
