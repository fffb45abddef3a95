//! DHCP on a bridge, with Debian's dnsmasq and busybox's client. Needs root, `dnsmasq-base` and `busybox-static`, which
//! `cargo xtask setup` installs.

mod frames;

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use frames::Liar;
use lb_userspace::net::{Links, MacAddr, Netns, VethEnd};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_southbound::dhcp::{DhcpNetwork, DhcpServers, Lease};
use sluice_southbound::scope::Scope;

/// A bridge with a client in a namespace of its own. All of it goes with the value, also on a panic.
struct Bed {
    scope: Scope,
    servers: DhcpServers,
    links: Links,
    client: Netns,
    bridge: String,
}

impl Bed {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = format!("{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scope = Scope::new(&format!("sld{number}")).expect("a scope");
        let links = Links::open(&Netns::current().expect("a namespace")).expect("netlink");
        let bridge = scope.network_links(&tenant(), "nw").bridge;
        let mark = scope.network_mark(&tenant(), "nw");
        links
            .ensure_bridge(&mark, &bridge, MacAddr([2, 0, 0, 0, 0, 1]))
            .await
            .expect("a bridge: this needs root");
        links.set_up(&bridge).await.expect("up");
        let client = Netns::create(&format!("sld{number}-client")).expect("a namespace");
        let inside = Links::open(&client).expect("netlink");
        let master = Some(links.get(&bridge).await.expect("the bridge").index);
        let outer = VethEnd { links: &links, name: &format!("sldc{number}"), mac: None, master };
        let inner = VethEnd { links: &inside, name: "eth0", mac: Some(lease(1).mac), master: None };
        links.ensure_veth(&mark, &outer, &inner).await.expect("a veth");
        links.set_up(outer.name).await.expect("up");
        inside.set_up("eth0").await.expect("up");
        links.wait_until_forwarding(outer.name).await.expect("forwarding");
        let servers = DhcpServers::open(scope.clone(), "test").expect("servers");
        Self { scope, servers, links, client, bridge }
    }

    fn network(&self, router: Option<Ipv4Addr>) -> DhcpNetwork {
        DhcpNetwork {
            bridge: self.bridge.clone(),
            subnet: "10.96.0.0/24".parse().expect("a network"),
            router,
            log_server: Some(Ipv4Addr::new(10, 96, 0, 253)),
        }
    }

    /// That of the only server.
    fn process(&self) -> u32 {
        let directory = self.scope.run_dir().join("dhcp");
        let server =
            fs::read_dir(&directory).expect("a directory").next().expect("a server").expect("an entry");
        let pid = fs::read_to_string(server.path().join("pid")).expect("a pid");
        pid.trim().parse().expect("a number")
    }

    /// What busybox's client gets: the lines of its environment, none where nobody answers.
    fn ask(&self) -> BTreeSet<String> {
        let script = tempfile::Builder::new().suffix(".sh").tempfile().expect("a file");
        fs::write(script.path(), "#!/bin/sh\n[ \"$1\" != bound ] || env\n").expect("written");
        let (_, script) = script.into_parts();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&script, mode).expect("executable");
        let output = self.client.run(|| {
            let mut udhcpc = Command::new("busybox");
            udhcpc.args(["udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "4", "-T", "1", "-s"]);
            udhcpc.arg(&script).stdin(Stdio::null()).output()
        });
        let output = output.expect("the namespace").expect("busybox");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for id in self.servers.instances().unwrap_or_default() {
                    let _ = self.servers.release(&id).await;
                }
                let _ = self.servers.sweep().await;
                let _ = self.links.delete(&self.bridge).await;
            });
        });
        let _ = Netns::delete(&format!("{}-client", self.scope.name()));
        let _ = fs::remove_dir(self.scope.run_dir());
    }
}

/// While one call is at work, another one maintains nothing.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn tenant() -> TenantName {
    TenantName::try_from("demo".to_owned()).expect("a tenant name")
}

fn lease(number: u8) -> Lease {
    let address = Ipv4Addr::new(10, 96, 0, number);
    Lease { id: InstanceId::new(&tenant(), number.into()), mac: MacAddr::of_instance(address), address }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_gets_its_lease_and_nobody_else_one() {
    let _alone = ALONE.lock().await;
    let bed = Bed::new().await;
    let network = bed.network(Some(Ipv4Addr::new(10, 96, 0, 254)));
    bed.servers.lease(&network, &lease(2)).await.expect("a server");
    assert_eq!(bed.ask(), BTreeSet::new(), "an unknown client gets nothing");

    bed.servers.lease(&network, &lease(1)).await.expect("a lease");
    bed.servers.lease(&network, &lease(1)).await.expect("a lease again");
    let got = bed.ask();
    for expected in
        ["ip=10.96.0.1", "mask=24", "router=10.96.0.254", "lease=4294967295", "hostname=demo-00000001"]
    {
        assert!(got.contains(expected), "{expected} is not in {got:#?}");
    }

    // A daemon that has just started knows nothing, and finds what is there.
    let fresh = DhcpServers::open(bed.scope.clone(), "test").expect("servers");
    let other = DhcpServers::open(bed.scope.clone(), "other").expect("servers");
    assert_eq!(other.instances().expect("instances"), BTreeSet::new());
    other.release(&lease(1).id).await.expect("it has none of its own");
    assert_eq!(fresh.instances().expect("instances"), [1, 2].map(|number| lease(number).id).into());
    fresh.release(&lease(1).id).await.expect("released");
    assert_eq!(bed.ask(), BTreeSet::new(), "the lease has ended");
    fresh.lease(&bed.network(None), &lease(1)).await.expect("another configuration");
    let got = bed.ask();
    assert!(got.contains("ip=10.96.0.1") && !got.iter().any(|line| line.starts_with("router=")), "{got:#?}");

    for number in [1, 2, 2] {
        fresh.release(&lease(number).id).await.expect("released");
    }
    assert_eq!(bed.ask(), BTreeSet::new());
    let names = Netns::names().expect("names");
    assert!(!names.iter().any(|name| name.starts_with(&format!("{}.", bed.scope.name()))), "{names:?}");
    let links = bed.links.list().await.expect("links");
    assert!(!links.iter().any(|link| link.name.starts_with("sld-") && link.group == bed.scope.group()));
    assert!(!bed.scope.run_dir().join("dhcp").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_ended_is_started_again_and_an_idle_one_removed() {
    let _alone = ALONE.lock().await;
    let bed = Bed::new().await;
    bed.servers.maintain().await.expect("nothing to do");
    bed.servers.lease(&bed.network(None), &lease(1)).await.expect("a lease");
    let first = bed.process();
    bed.servers.maintain().await.expect("it runs");
    assert_eq!(bed.process(), first, "it goes on");
    kill(first);
    bed.servers.maintain().await.expect("another");
    assert_ne!(bed.process(), first);
    assert!(bed.ask().contains("ip=10.96.0.1"), "the lease is as it was");

    // As a crash leaves it in the middle of its first lease.
    let id = lease(1).id;
    let leases = fs::read_dir(bed.scope.run_dir().join("dhcp")).expect("a directory");
    for server in leases.map(|server| server.expect("an entry").path().join("leases")) {
        for lease in fs::read_dir(server).expect("leases") {
            fs::remove_file(lease.expect("an entry").path()).expect("removed");
        }
    }
    bed.servers.maintain().await.expect("removed");
    assert!(!bed.servers.instances().expect("instances").contains(&id));
    let names = Netns::names().expect("names");
    assert!(!names.iter().any(|name| name.starts_with(&format!("{}.", bed.scope.name()))), "{names:?}");
    assert!(!bed.scope.run_dir().join("dhcp").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_a_server_has_no_neighbours() {
    let _alone = ALONE.lock().await;
    let bed = Bed::new().await;
    bed.servers.lease(&bed.network(None), &lease(1)).await.expect("a lease");
    let (_, digits) = bed.bridge.split_once('-').expect("a name of ours");
    let server = Netns::open(&bed.scope.dhcp_netns(digits)).expect("the server's namespace");
    let inside = Links::open(&server).expect("netlink");
    let mac = inside.get("lan").await.expect("its interface").mac.expect("Ethernet");
    // As a daemon of an earlier build has left it.
    server.set_sysctl("ipv4/conf/lan/arp_ignore", "0").expect("set");
    bed.servers.maintain().await.expect("maintained");
    let lies = Liar::on(&bed.client, "eth0").await;
    for last in 2..=200 {
        for second in [96, 200] {
            lies.speak_as(Ipv4Addr::new(10, second, 0, last), (Ipv4Addr::new(169, 254, 53, 1), mac));
        }
    }
    assert_eq!(inside.all_neighbours().await.expect("listed"), []);
    assert!(bed.ask().contains("ip=10.96.0.1"), "it serves");
}

/// Returns when it has ended.
fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
    while fs::exists(format!("/proc/{pid}/cmdline")).unwrap_or(false)
        && !fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
    {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
