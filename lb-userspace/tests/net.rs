//! Namespaces and links against the real kernel. Needs root.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use lb_userspace::net::{Address, Link, LinkError, Links, MacAddr, Mark, Netns, VethEnd};

const GROUP: u32 = 0x51_7e57;

/// A namespace of this test alone; deleted with the value, also when the test panics.
struct Scratch {
    name: String,
    netns: Netns,
}

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slnet-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let netns = Netns::create(&name).expect("a namespace can be made: this test needs root");
        Self { name, netns }
    }

    fn links(&self) -> Links {
        Links::open(&self.netns).expect("netlink")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = Netns::delete(&self.name) {
            eprintln!("namespace {} stays: {error}", self.name);
        }
    }
}

fn mark() -> Mark {
    Mark { group: GROUP, alias: "slnet tenant=t".to_owned() }
}

fn end<'a>(links: &'a Links, name: &'a str) -> VethEnd<'a> {
    VethEnd { links, name, mac: None, master: None }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

async fn names(links: &Links) -> Vec<String> {
    let mut names: Vec<_> = links.list().await.expect("list").into_iter().map(|link| link.name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_new_namespace_has_lo_up_and_nothing_else() {
    let scratch = Scratch::new();
    let links = scratch.links().list().await.expect("list");
    assert_eq!(links.len(), 1, "{links:?}");
    assert!(links[0].name == "lo" && links[0].up);
}

/// Enough links that the kernel needs several messages for them, as on a host with tenants.
#[tokio::test]
async fn many_may_look_at_once() {
    let scratch = Scratch::new();
    let links = scratch.links();
    for number in 0..30 {
        let (one, other) = (format!("one{number}"), format!("other{number}"));
        links.ensure_veth(&mark(), &end(&links, &one), &end(&links, &other)).await.expect("a veth");
    }
    let looks = (0..10).map(|_| {
        let links = links.clone();
        tokio::spawn(async move { (links.list().await, links.addresses("lo").await) })
    });
    for look in looks.collect::<Vec<_>>() {
        let (found, addresses) = look.await.expect("no panic");
        assert_eq!(found.expect("links").len(), 61);
        assert!(!addresses.expect("addresses").is_empty());
    }
}

#[test]
fn namespaces_are_made_and_deleted_twice() {
    let scratch = Scratch::new();
    let again = Netns::create(&scratch.name).expect("made again");
    let inode = |netns: &Netns| netns.run(|| std::fs::read_link("/proc/thread-self/ns/net").expect("link"));
    assert_eq!(inode(&again).expect("run"), inode(&scratch.netns).expect("run"));
    assert!(Netns::names().expect("names").contains(&scratch.name));
    Netns::delete(&scratch.name).expect("deleted");
    Netns::delete(&scratch.name).expect("deleted again");
    assert!(!Netns::names().expect("names").contains(&scratch.name));
    let gone = Netns::open(&scratch.name).expect_err("gone");
    assert!(gone.to_string().contains(&scratch.name), "{gone}");
}

#[test]
fn what_a_crash_leaves_of_a_namespace_is_taken_over() {
    let scratch = Scratch::new();
    Netns::delete(&scratch.name).expect("deleted");
    File::create(format!("/run/netns/{}", scratch.name)).expect("an empty name");
    assert!(Netns::open(&scratch.name).is_err(), "a name without a namespace can't be opened");
    Netns::create(&scratch.name).expect("taken over");
    Netns::open(&scratch.name).expect("and whole");
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in ["", "..", "a/b", "/etc/passwd"] {
        assert!(Netns::open(name).is_err() && Netns::create(name).is_err() && Netns::delete(name).is_err());
    }
}

#[test]
fn settings_are_those_of_the_namespace() {
    let (one, other) = (Scratch::new(), Scratch::new());
    one.netns.set_sysctl("ipv4/ip_forward", "1").expect("set");
    assert_eq!(one.netns.sysctl("ipv4/ip_forward").expect("read"), "1");
    let elsewhere = other.netns.sysctl("ipv4/ip_forward").expect("read");
    assert_eq!(elsewhere, "0", "the setting went to the wrong namespace");
    let unknown = one.netns.set_sysctl("ipv4/conf/nope/forwarding", "1").expect_err("no such interface");
    assert!(unknown.to_string().contains("nope") && unknown.to_string().contains(&one.name), "{unknown}");
}

#[tokio::test]
async fn a_veth_is_made_with_both_ends_in_place_and_can_be_made_again() {
    let (a, b) = (Scratch::new(), Scratch::new());
    let (in_a, in_b) = (a.links(), b.links());
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let inner = VethEnd { mac: Some(mac), ..end(&in_b, "eth0") };
    let first = in_a.ensure_veth(&mark(), &end(&in_a, "port"), &inner).await.expect("made");
    let second = in_a.ensure_veth(&mark(), &end(&in_a, "port"), &inner).await.expect("found");
    assert_eq!(first, second);
    let (port, eth0) = first;
    assert_eq!((port.name.as_str(), eth0.name.as_str()), ("port", "eth0"));
    assert_eq!((port.peer, eth0.peer), (Some(eth0.index), Some(port.index)));
    assert_eq!(eth0.mac, Some(mac));
    for link in [&port, &eth0] {
        assert_eq!((link.group, link.alias.as_deref()), (GROUP, Some("slnet tenant=t")), "{link:?}");
        assert_eq!(link.kind.as_deref(), Some("veth"));
    }
    assert_eq!(names(&in_a).await, ["lo", "port"]);
    in_a.delete("port").await.expect("deleted");
    in_a.delete("port").await.expect("deleted again");
    assert_eq!(names(&in_b).await, ["lo"], "the other end went with it");
}

#[tokio::test]
async fn half_of_a_veth_is_repaired() {
    let (a, b, stray) = (Scratch::new(), Scratch::new(), Scratch::new());
    let (in_a, in_b, in_stray) = (a.links(), b.links(), stray.links());
    in_a.ensure_veth(&mark(), &end(&in_a, "port"), &end(&in_stray, "eth0")).await.expect("a wrong one");
    in_a.ensure_veth(&mark(), &end(&in_a, "other"), &end(&in_b, "eth0")).await.expect("another");
    let (port, eth0) =
        in_a.ensure_veth(&mark(), &end(&in_a, "port"), &end(&in_b, "eth0")).await.expect("repaired");
    assert_eq!((port.peer, eth0.peer), (Some(eth0.index), Some(port.index)));
    assert_eq!(names(&in_a).await, ["lo", "port"]);
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let (a, b) = (Scratch::new(), Scratch::new());
    let (in_a, in_b) = (a.links(), b.links());
    let theirs = Mark { group: 1, alias: "somebody".to_owned() };
    in_a.ensure_veth(&theirs, &end(&in_a, "port"), &end(&in_b, "x")).await.expect("theirs");
    let foreign = in_a.ensure_veth(&mark(), &end(&in_a, "port"), &end(&in_b, "eth0")).await;
    let foreign = foreign.expect_err("a foreign link is in the way");
    assert!(matches!(foreign, LinkError::Foreign { .. }));
    assert!(foreign.to_string().contains("port") && foreign.to_string().contains("somebody"), "{foreign}");
    let another = Mark { alias: "slnet tenant=u".to_owned(), ..mark() };
    in_a.ensure_veth(&another, &end(&in_a, "p2"), &end(&in_b, "y")).await.expect("one of ours");
    let collision = in_a.ensure_veth(&mark(), &end(&in_a, "p2"), &end(&in_b, "eth0")).await;
    assert!(matches!(collision, Err(LinkError::Foreign { .. })), "two of ours by one name: {collision:?}");
    let bridge = in_a.ensure_bridge(&mark(), "port", MacAddr([2, 0, 0, 0, 0, 1])).await;
    assert!(matches!(bridge, Err(LinkError::Foreign { .. })), "{bridge:?}");
    assert!(matches!(in_a.delete_ours(GROUP, "port").await, Err(LinkError::Foreign { .. })));
    assert_eq!(in_a.get("port").await.expect("still there").alias.as_deref(), Some("somebody"));
}

#[tokio::test]
async fn a_bridge_has_no_spanning_tree_and_takes_ports() {
    let (a, b) = (Scratch::new(), Scratch::new());
    let (in_a, in_b) = (a.links(), b.links());
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let bridge = in_a.ensure_bridge(&mark(), "br", mac).await.expect("made");
    assert_eq!(in_a.ensure_bridge(&mark(), "br", mac).await.expect("found"), bridge);
    assert_eq!((bridge.kind.as_deref(), bridge.mac), (Some("bridge"), Some(mac)));
    let at_birth = VethEnd { master: Some(bridge.index), ..end(&in_a, "port") };
    let (port, _) = in_a.ensure_veth(&mark(), &at_birth, &end(&in_b, "eth0")).await.expect("a port");
    assert_eq!(port.master, Some(bridge.index));
    in_a.set_master("port", 0).await.expect("freed");
    assert_eq!(in_a.get("port").await.expect("port").master, None);
    in_a.ensure_veth(&mark(), &at_birth, &end(&in_b, "eth0")).await.expect("a port again");
    assert_eq!(in_a.get("port").await.expect("port").master, Some(bridge.index));
    let read = |key: &'static str| a.netns.run(move || read_bridge_setting(key)).expect("in the namespace");
    assert_eq!((read("stp_state"), read("forward_delay")), ("0".to_owned(), "0".to_owned()));
}

/// The /sys of this mount namespace shows another network namespace's links, so it is mounted anew.
fn read_bridge_setting(key: &str) -> String {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private mounts");
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).expect("sysfs");
    let text = std::fs::read_to_string(format!("/sys/class/net/br/bridge/{key}")).expect("the setting");
    text.trim().to_owned()
}

#[tokio::test]
async fn addresses_keep_who_put_them_there() {
    let (a, b) = (Scratch::new(), Scratch::new());
    let (in_a, in_b) = (a.links(), b.links());
    in_a.ensure_veth(&mark(), &end(&in_a, "va"), &end(&in_b, "vb")).await.expect("a veth");
    let operator = Address { net: net("10.9.0.1/24"), protocol: 0 };
    let ours = Address { net: net("45.45.45.45/32"), protocol: 83 };
    for address in [operator, ours, ours] {
        in_a.add_address("va", &address).await.expect("added");
    }
    in_a.add_address("va", &Address { protocol: 83, ..operator }).await.expect("there already");
    assert_eq!(in_a.addresses("va").await.expect("list"), [operator, ours]);
    in_a.remove_address("va", ours.net).await.expect("removed");
    in_a.remove_address("va", ours.net).await.expect("removed again");
    assert_eq!(in_a.addresses("va").await.expect("list"), [operator]);
}

#[tokio::test]
async fn packets_pass_a_veth_with_route_and_neighbour() {
    let (a, b) = (Scratch::new(), Scratch::new());
    let (in_a, in_b) = (a.links(), b.links());
    let (va, vb) = in_a.ensure_veth(&mark(), &end(&in_a, "va"), &end(&in_b, "vb")).await.expect("a veth");
    in_a.add_address("va", &Address { net: net("10.9.0.1/24"), protocol: 0 }).await.expect("address");
    in_b.add_address("vb", &Address { net: net("10.9.0.2/24"), protocol: 0 }).await.expect("address");
    in_b.add_address("vb", &Address { net: net("10.10.0.2/32"), protocol: 0 }).await.expect("address");
    for (links, name) in [(&in_a, "va"), (&in_b, "vb")] {
        links.set_up(name).await.expect("up");
    }
    let gateway = Ipv4Addr::new(10, 9, 0, 2);
    for _ in 0..2 {
        in_a.set_default_route("va", gateway).await.expect("route");
        in_a.set_neighbour("va", IpAddr::V4(gateway), mac_of(&vb)).await.expect("neighbour");
        in_b.set_neighbour("vb", Ipv4Addr::new(10, 9, 0, 1).into(), mac_of(&va)).await.expect("neighbour");
        in_a.set_route("va", "10.11.0.0/16".parse().expect("a network"), gateway).await.expect("route");
    }
    let listener = b.netns.run(|| std::net::TcpListener::bind("10.10.0.2:80")).expect("run").expect("bind");
    a.netns.run(|| std::net::TcpStream::connect("10.10.0.2:80")).expect("run").expect("connected");
    drop(listener);
}

fn mac_of(link: &Link) -> MacAddr {
    link.mac.expect("Ethernet")
}

#[tokio::test]
async fn errors_name_the_link_and_the_namespace() {
    let scratch = Scratch::new();
    let links = scratch.links();
    let missing = links.set_up("nope").await.expect_err("no such link").to_string();
    assert!(missing.contains("nope") && missing.contains(&scratch.name), "{missing}");
    let missing = links.addresses("nope").await.expect_err("no such link").to_string();
    assert!(missing.contains("nope") && missing.contains(&scratch.name), "{missing}");
    assert_eq!(links.find("nope").await.expect("not an error"), None);
}
