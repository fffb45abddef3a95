//! A load balancer in a namespace of its own, and packets for it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::{Program, TestRun, TestRunOptions};
use lb_userspace::lb::{
    Error, FlowTimeouts, Ipv4Subnet, Ipv6Subnet, Limits, LoadBalancer, OpenPorts, Settings, TenantLink,
    provide_bpffs,
};
use lb_userspace::net::{Links, MacAddr, Mark, Netns, VethEnd};
use lb_userspace::service::{Backend, BackendState, Protocol, Reach, Service, ServiceKey};

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(45, 45, 45, 45);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(19, 0, 0, 1);
pub(crate) const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x19, 0, 0, 0, 0, 1);
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
pub(crate) const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
pub(crate) const TENANT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x33]);

/// Counts the beds of this process, for their names.
static NEXT: AtomicU32 = AtomicU32::new(0);

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// What the kernel is told to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Pass,
    Transmit,
    Redirect,
}

pub(crate) struct Bed {
    pub(crate) lb: LoadBalancer,
    pub(crate) settings: Settings,
    pub(crate) interface: u32,
    transit: String,
    peers: String,
    pin_root: PathBuf,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with_room_for(8)
    }

    /// With places for so many services.
    pub(crate) fn with_room_for(services: u32) -> Self {
        let limits = Limits { flows: 4096, nascent_flows: services * 4096, services, backends: 64 };
        Self::of(limits, FlowTimeouts::default())
    }

    /// With maps of these sizes, and flows that end after these times.
    pub(crate) fn of(limits: Limits, timeouts: FlowTimeouts) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root: it makes namespaces and loads BPF programs"
        );
        let name = format!("slbed{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (transit, peers) = (format!("{name}-transit"), format!("{name}-peers"));
        let netns = Netns::create(&transit).expect("a namespace");
        let peers_netns = Netns::create(&peers).expect("a namespace");
        add_veth(&netns, &peers_netns, ["up0", "cl0"], Some(MacAddr(UPLINK_MAC)));
        add_default_routes(&netns);
        add_veth(&netns, &peers_netns, ["slt-bed", "slp-bed"], Some(TENANT_MAC));
        // As for any client on this host; once the other end runs XDP, the kernel lets it no longer be switched.
        peers_netns.disable_offloads("cl0").expect("offloads off");
        let pin_root = PathBuf::from("/sys/fs/bpf").join(&name);
        provide_bpffs(&pin_root).expect("a bpffs");
        let settings = Settings {
            pin_root: pin_root.clone(),
            transit: netns.clone(),
            uplink: "up0".to_owned(),
            limits,
            timeouts,
            open_ports: OpenPorts::default(),
        };
        let mut lb = LoadBalancer::open(&settings).expect("the load balancer opens");
        lb.attach_tenant(&tenant_link(&peers_netns)).expect("the tenant attaches");
        let interface = interface_index(&netns, "slt-bed");
        Self { lb, settings, interface, transit, peers, pin_root }
    }

    /// Lets the tenant's instances open connections to the outside, or no longer.
    pub(crate) fn set_outbound(&mut self, outbound: bool) {
        let mut link = tenant_link(&self.peers());
        if let Some(ipv4) = &mut link.ipv4 {
            ipv4.outbound = outbound;
        }
        self.lb.attach_tenant(&link).expect("the tenant attaches");
    }

    /// Another tenant beside the one whose backends there are. Returns its interface.
    pub(crate) fn attach_another_tenant(&mut self) -> u32 {
        let peers = self.peers();
        add_veth(&self.settings.transit, &peers, ["slt-two", "slp-two"], None);
        self.lb.attach_tenant(&another_link(&peers)).expect("the tenant attaches");
        interface_index(&self.settings.transit, "slt-two")
    }

    /// The namespace of the client and of the backends.
    pub(crate) fn peers(&self) -> Netns {
        Netns::open(&self.peers).expect("the namespace")
    }

    /// As a new daemon does after the old one has died.
    pub(crate) fn reopen(&mut self) {
        self.upgrade(lb_userspace::object::object().expect("the object"));
    }

    /// As a new daemon of another build does after the old one has died.
    pub(crate) fn upgrade(&mut self, object: &[u8]) {
        self.lb = LoadBalancer::open_with(&self.settings, object).expect("the load balancer opens again");
        let peers = Netns::open(&self.peers).expect("the namespace");
        self.lb.attach_tenant(&tenant_link(&peers)).expect("the tenant attaches again");
    }

    pub(crate) fn backend(&self, last: u8, state: BackendState) -> Backend {
        Backend {
            address: IpAddr::V4(backend_address(last)),
            reach: Reach::Link { interface: self.interface, source_mac: TENANT_MAC, mac: backend_mac(last) },
            weight: 1,
            state,
        }
    }

    pub(crate) fn apply(&mut self, key: ServiceKey, backends: &[Backend]) {
        self.translate(key, None, backends);
    }

    /// A service whose backends listen at another port.
    pub(crate) fn translate(&mut self, key: ServiceKey, target_port: Option<u16>, backends: &[Backend]) {
        let service = Service { key, target_port, closing: false, backends: backends.to_vec() };
        self.lb.apply(&service).expect("the service is applied");
    }

    /// A service that ends: its draining backends take no new flow, also where none is active.
    pub(crate) fn close(&mut self, key: ServiceKey, backends: &[Backend]) {
        let service = Service { key, target_port: None, closing: true, backends: backends.to_vec() };
        self.lb.apply(&service).expect("the service is applied");
    }

    /// Why a service can't be applied.
    pub(crate) fn refused(
        &mut self,
        key: ServiceKey,
        target_port: Option<u16>,
        backends: Vec<Backend>,
    ) -> Error {
        self.lb.apply(&Service { key, target_port, closing: false, backends }).expect_err("refused")
    }

    /// Runs `uplink` on a frame.
    pub(crate) fn uplink(&self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.uplink_all(&[frame.to_vec()]).remove(0)
    }

    /// Runs `uplink` on one frame after the other.
    pub(crate) fn uplink_all(&self, frames: &[Vec<u8>]) -> Vec<(Verdict, Vec<u8>)> {
        let verdict = |verdict| match verdict {
            XDP_DROP => Verdict::Drop,
            XDP_PASS => Verdict::Pass,
            XDP_TX => Verdict::Transmit,
            XDP_REDIRECT => Verdict::Redirect,
            other => panic!("uplink returned {other}"),
        };
        let results = self.run("uplink", frames, None).into_iter();
        results.map(|(value, frame)| (verdict(value), frame)).collect()
    }

    /// Runs `answer` on a frame that comes from the tenant.
    pub(crate) fn answer(&self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.answer_all(&[frame.to_vec()]).remove(0)
    }

    /// Runs `answer` on one frame after the other.
    pub(crate) fn answer_all(&self, frames: &[Vec<u8>]) -> Vec<(Verdict, Vec<u8>)> {
        self.answer_all_from(self.interface, frames)
    }

    /// The same of a tenant behind another interface.
    pub(crate) fn answer_all_from(&self, interface: u32, frames: &[Vec<u8>]) -> Vec<(Verdict, Vec<u8>)> {
        // `struct __sk_buff` of linux/bpf.h, as far as the kernel takes it for a test: `ingress_ifindex` is its tenth word.
        let mut context = [0u8; 192];
        context[36..40].copy_from_slice(&interface.to_ne_bytes());
        let verdict = |verdict: u32| match verdict.cast_signed() {
            -1 => Verdict::Pass,
            2 => Verdict::Drop,
            7 => Verdict::Redirect,
            other => panic!("answer returned {other}"),
        };
        let results = self.run("answer", frames, Some(&context)).into_iter();
        results.map(|(value, frame)| (verdict(value), frame)).collect()
    }

    /// Runs a program on each frame, within the transit namespace: entering it takes longer than the program.
    fn run(&self, program: &str, frames: &[Vec<u8>], context: Option<&[u8]>) -> Vec<(u32, Vec<u8>)> {
        let program = self.lb.program(program).expect("the program");
        let run = |frame: &Vec<u8>| {
            let mut out = vec![0; frame.len() + 256];
            let options = TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: context,
                ..TestRunOptions::new()
            };
            let result = match program {
                Program::Xdp(program) => program.test_run(options),
                Program::SchedClassifier(program) => program.test_run(options),
                _ => panic!("not a packet program"),
            };
            let result = result.expect("the program runs");
            out.truncate(result.data_size_out as usize);
            (result.return_value, out)
        };
        self.settings.transit.run(|| frames.iter().map(run).collect()).expect("the namespace")
    }

    pub(crate) fn drops(&self, reason: &str) -> u64 {
        self.lb.counters().expect("counters").drops[reason]
    }

    pub(crate) fn new_flows(&self, last: u8) -> u64 {
        self.lb.counters().expect("counters").backends[&IpAddr::V4(backend_address(last))].new_flows
    }

    pub(crate) fn live_flows(&self, last: u8) -> u64 {
        self.lb.counters().expect("counters").backends[&IpAddr::V4(backend_address(last))].live_flows
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = LoadBalancer::remove_pins(&self.pin_root);
        let _ = Netns::delete(&self.transit);
        let _ = Netns::delete(&self.peers);
    }
}

fn interface_index(netns: &Netns, name: &str) -> u32 {
    netns.run(|| nix::net::if_::if_nametoindex(name)).expect("the namespace").expect("the interface")
}

/// Default routes by the uplink: answers have a way to every client.
fn add_default_routes(transit: &Netns) {
    for family in ["-4", "-6"] {
        let add = || {
            let arguments = [family, "route", "add", "default", "dev", "up0"];
            std::process::Command::new("ip").args(arguments).status().expect("ip runs")
        };
        assert!(transit.run(add).expect("the namespace").success(), "a default route");
    }
}

/// Makes a veth: its end in the transit namespace, and its peer.
fn add_veth(transit: &Netns, peers: &Netns, [end, peer]: [&str; 2], mac: Option<MacAddr>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let inside = Links::open(transit).expect("netlink");
        let outside = Links::open(peers).expect("netlink");
        let mark = Mark { group: 0x51, alias: "a test's".to_owned() };
        let end = VethEnd { links: &inside, name: end, mac, master: None };
        let peer = VethEnd { links: &outside, name: peer, mac: None, master: None };
        inside.ensure_veth(&mark, &end, &peer).await.expect("a veth");
        inside.set_up(end.name).await.expect("up");
        outside.set_up(peer.name).await.expect("up");
    });
}

/// The other tenant of [`Bed::attach_another_tenant`].
pub(crate) fn another_link(peers: &Netns) -> TenantLink {
    let (gateway, gateway_6) = (Ipv4Addr::new(20, 0, 0, 1), "2001:db8:20::1".parse().expect("an address"));
    TenantLink {
        interface: "slt-two".to_owned(),
        peer: "slp-two".to_owned(),
        peer_netns: peers.clone(),
        ipv4: Some(Ipv4Subnet { net: "20.0.0.0/24".parse().expect("a subnet"), gateway, outbound: false }),
        ipv6: Some(Ipv6Subnet { net: "2001:db8:20::/64".parse().expect("a subnet"), gateway: gateway_6 }),
    }
}

fn tenant_link(peers: &Netns) -> TenantLink {
    TenantLink {
        interface: "slt-bed".to_owned(),
        peer: "slp-bed".to_owned(),
        peer_netns: peers.clone(),
        ipv4: Some(Ipv4Subnet {
            net: "19.0.0.0/24".parse().expect("a subnet"),
            gateway: GATEWAY,
            outbound: false,
        }),
        ipv6: Some(Ipv6Subnet { net: "2001:db8:19::/64".parse().expect("a subnet"), gateway: GATEWAY_6 }),
    }
}

pub(crate) const TCP_80: ServiceKey =
    ServiceKey { vip: IpAddr::V4(VIP), protocol: Protocol::Tcp, port: Some(80) };
pub(crate) const TCP_ANY: ServiceKey =
    ServiceKey { vip: IpAddr::V4(VIP), protocol: Protocol::Tcp, port: None };
pub(crate) const ICMP: ServiceKey = ServiceKey { vip: IpAddr::V4(VIP), protocol: Protocol::Icmp, port: None };

pub(crate) fn backend_address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(19, 0, 0, last)
}

pub(crate) fn backend_mac(last: u8) -> MacAddr {
    MacAddr::of_instance(backend_address(last))
}
