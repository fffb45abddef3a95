//! A whole machine: Debian's kernel, addresses by DHCP, the responder, metrics on the management network.

use std::net::SocketAddrV4;

use lb_userspace::net::{Address, VethEnd};
use sluice_logic::spec::NetworkSpec;
use sluice_machines::Image;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::networks::Networks;
use crate::probe;

/// Emulated, on a busy host.
const BOOT: Duration = Duration::from_mins(3);

/// Networks, which go with the value.
struct Wires {
    transit: Netns,
    name: String,
    networks: Networks,
}

impl Wires {
    fn new(host: &Host) -> Self {
        let name = format!("{}-transit", host.scope.name());
        let transit = Netns::create(&name).expect("a namespace");
        let networks = Networks::open(host.scope.clone(), &transit, "uplink").expect("networks");
        Self { transit, name, networks }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let _ = self.networks.remove_all().await;
            });
        });
        let _ = Netns::delete(&self.name);
    }
}

/// A namespace on the management network, which goes with the value. The host's own may have other routes there, those
/// of a test that was killed too.
struct Monitor {
    netns: Netns,
    name: String,
}

impl Monitor {
    async fn of(host: &Host) -> Self {
        let name = format!("{}-m", host.scope.name());
        let netns = Netns::create(&name).expect("a namespace");
        let inside = Links::open(&netns).expect("netlink");
        let master = Some(host.links.get(&host.bridge).await.expect("the bridge").index);
        let mark = host.scope.network_mark(&tenant(), "nw");
        let outer = VethEnd { links: &host.links, name: &name, mac: None, master };
        let inner = VethEnd { links: &inside, name: "eth0", mac: None, master: None };
        host.links.ensure_veth(&mark, &outer, &inner).await.expect("a veth");
        host.links.set_up(&name).await.expect("up");
        let address = Address { net: "10.97.0.254/24".parse().expect("a network"), protocol: 0 };
        inside.add_address("eth0", &address).await.expect("an address");
        inside.set_up("eth0").await.expect("up");
        Self { netns, name }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = Netns::delete(&self.name);
    }
}

fn image() -> Image {
    let own = std::env::current_exe().expect("a path");
    let debug = own.ancestors().nth(2).expect("target/debug");
    let responder = debug.join("examples/responder");
    assert!(responder.exists(), "`cargo build -p sluice-southbound --examples` makes the responder");
    Image::make(&debug.join("test-images"), &responder)
        .expect("an image: `cargo xtask setup` installs what it needs")
}

/// 10.`second`.0.0/24.
fn network(second: u8) -> NetworkSpec {
    let address = |last| Ipv4Addr::new(10, second, 0, last);
    NetworkSpec {
        name: format!("nw{second}"),
        subnet: format!("10.{second}.0.0/24").parse().expect("a network"),
        gateway: address(254),
        dhcp_start: address(1),
        dhcp_end: address(253),
    }
}

async fn exchange(mut stream: TcpStream, question: &str) -> String {
    stream.write_all(question.as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("all sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_answers_and_shuts_down() {
    let host = Host::new().await;
    let image = image();
    let boot = VmBoot::Kernel {
        kernel: image.kernel,
        initrd: Some(image.initrd),
        command_line: Image::COMMAND_LINE.to_owned(),
        disk: None,
    };
    let mut spec = host.instance_of(7, boot);
    spec.template.memory = Some(Image::MEMORY);
    let wires = Wires::new(&host);
    let network = network(98);
    spec.nic.gateway = Some(network.gateway);
    spec.nic.bridge = wires.networks.ensure(&tenant(), &network).await.expect("a network").bridge;
    let other = wires.networks.ensure(&tenant(), &self::network(96)).await.expect("another network");
    let other = NicSpec { bridge: other.bridge, ..host.nic(Ipv4Addr::new(10, 96, 0, 7)) };
    spec.other_nics = vec![other.clone()];
    let management = spec.management.clone().expect("a management NIC");
    let monitor = Monitor::of(&host).await;

    wires.networks.admit(spec.tenant_nics()).await.expect("admitted");
    let begin = Instant::now();
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    let target = SocketAddrV4::new(spec.nic.address, 80);
    probe::wait_until_ready(&wires.transit, target, BOOT).await.expect("ready");
    eprintln!("the machine serves after {:?}", begin.elapsed());
    let stream = probe::connect(&wires.transit, target).await.expect("connected");
    assert_eq!(exchange(stream, "hello\n").await, format!("{} hello\n", spec.id));
    // Its address on the other network it has by DHCP as well.
    let target = SocketAddrV4::new(other.address, 80);
    probe::wait_until_ready(&wires.transit, target, PATIENCE).await.expect("ready on the other network");
    let stream = probe::connect(&wires.transit, target).await.expect("connected");
    assert_eq!(exchange(stream, "hello\n").await, format!("{} hello\n", spec.id));

    let scrape = SocketAddrV4::new(management.address, 9100);
    probe::wait_until_ready(&monitor.netns, scrape, PATIENCE).await.expect("the exporter answers");
    let stream = probe::connect(&monitor.netns, scrape).await.expect("connected");
    let metrics = exchange(stream, "GET /metrics HTTP/1.0\r\n\r\n").await;
    for name in ["node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"}", "node_memory_MemAvailable_bytes "] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
    let used = host.provider.metrics(&spec).await.expect("metrics");
    assert!(used.cpu > Duration::from_millis(500), "{used:?}");
    let traffic = used.traffic.expect("its traffic");
    let line = format!("{}\n", "x".repeat(999));
    let stream = probe::connect(&wires.transit, target).await.expect("connected");
    exchange(stream, &line.repeat(50)).await;
    let used = host.provider.metrics(&spec).await.expect("metrics").traffic.expect("its traffic");
    let (received, sent) = (used.received - traffic.received, used.sent - traffic.sent);
    assert!((50_000..80_000).contains(&received) && (50_000..80_000).contains(&sent), "{received} {sent}");

    let begin = Instant::now();
    host.provider.stop(&spec.id, PATIENCE).await.expect("stopped");
    assert!(begin.elapsed() < PATIENCE, "it was switched off by force");
    eprintln!("the machine has shut down within {:?}", begin.elapsed());
    host.provider.delete(&spec.id).await.expect("deleted");
    host.links.delete(&monitor.name).await.expect("deleted");
    host.down().await;
    drop((monitor, wires));
}
