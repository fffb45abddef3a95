//! The provider on the real kernel. Needs root, and `examples/responder.rs` built (`cargo test` does it).

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::Ipv4Net;
use lb_userspace::net::MacAddr;
use lb_userspace::net::{Links, VethEnd};
use sluice_logic::spec::{CloudName, NetnsTemplate, NetworkSpec, TenantName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::networks::{Networks, TenantNetwork};
use crate::probe;
use crate::provider::NicSpec;

mod crash;
mod endings;

const PATIENCE: Duration = Duration::from_secs(10);

/// A scope of this test alone, with a transit namespace. All of it goes with the value, also on a panic.
struct Host {
    scope: Scope,
    transit: Netns,
    provider: NetnsProvider,
    networks: Networks,
}

impl Host {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slt{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scope = Scope::new(&name).expect("a scope");
        let transit = Netns::create(&format!("{name}-transit")).expect("a namespace: this test needs root");
        let provider = NetnsProvider::with_responder(scope.clone(), responder(), vec![responder().into()]);
        let provider = provider.expect("a provider: this test needs root");
        let networks = Networks::open(scope.clone(), &transit, "uplink").expect("networks");
        Self { scope, transit, provider, networks }
    }

    async fn network(&self, tenant: &str, subnet: u8) -> TenantNetwork {
        self.networks.ensure(&tenant_name(tenant), &network_spec(subnet)).await.expect("a network")
    }

    /// A daemon that has just started and knows nothing.
    fn restarted(&self) -> NetnsProvider {
        NetnsProvider::with_responder(self.scope.clone(), responder(), vec![responder().into()])
            .expect("a provider")
    }

    async fn ready(&self, spec: &InstanceSpec) -> Duration {
        self.networks.admit(spec.tenant_nics()).await.expect("admitted");
        let target = SocketAddrV4::new(spec.nic.address, spec.template.port);
        probe::wait_until_ready(&self.transit, target, PATIENCE).await.expect("ready")
    }

    async fn ask(&self, spec: &InstanceSpec, question: &str) -> String {
        let target = SocketAddrV4::new(spec.nic.address, spec.template.port);
        let mut stream = probe::connect(&self.transit, target).await.expect("connected");
        stream.write_all(question.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("all sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    async fn presence(&self, id: &InstanceId) -> Option<Presence> {
        let listed = self.provider.list().await.expect("list");
        listed.into_iter().find(|observed| observed.id == *id).map(|observed| observed.presence)
    }

    /// Everything on the host that carries the scope's name or group.
    async fn remains(&self) -> Vec<String> {
        let name = self.scope.name();
        let mut found = Vec::new();
        let own = format!("{name}-transit");
        // Another test's name may begin with this one's.
        let is_ours = |netns: &str| netns.strip_prefix(name).is_some_and(|rest| rest.starts_with(['-', '.']));
        found.extend(
            Netns::names().expect("names").into_iter().filter(|netns| is_ours(netns) && *netns != own),
        );
        for link in self.provider.0.ports.host().list().await.expect("links") {
            if link.group == self.scope.group() {
                found.push(link.name);
            }
        }
        let hierarchies = &self.provider.0.hierarchies;
        if hierarchies.group(name.into()).exists() {
            found.push(format!("cgroup {name}"));
        }
        if self.scope.run_dir().exists() {
            found.push(self.scope.run_dir().display().to_string());
        }
        found
    }

    /// Removes everything, and sees that it is so.
    async fn down(self) {
        self.provider.remove_all().await.expect("removed");
        self.networks.remove_all().await.expect("removed");
        assert_eq!(self.remains().await, Vec::<String>::new());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let (provider, networks) = (self.provider.clone(), self.networks.clone());
        // The test's own runtime may be gone or stuck; the netlink sockets need one that runs.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                if let Err(error) = provider.remove_all().await {
                    eprintln!("{error}");
                }
                if let Err(error) = networks.remove_all().await {
                    eprintln!("{error}");
                }
            });
        });
        let _ = Netns::delete(&format!("{}-transit", self.scope.name()));
    }
}

fn responder() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let path = own.ancestors().nth(2).expect("target/debug").join("examples/responder");
    assert!(path.exists(), "{} is missing: `cargo build -p sluice-southbound --examples`", path.display());
    path
}

fn tenant_name(name: &str) -> TenantName {
    TenantName::try_from(name.to_owned()).expect("a tenant name")
}

fn instance_spec(network: &TenantNetwork, number: u8) -> InstanceSpec {
    let octets = network.link.ipv4.expect("an IPv4 subnet").net.network().octets();
    let address = Ipv4Addr::new(octets[0], octets[1], octets[2], 10 + number);
    let tenant = tenant_name("demo");
    InstanceSpec {
        id: InstanceId::new(&tenant, number.into()),
        tenant,
        created: Timestamp::now(),
        cloud: CloudName::default(),
        template: TemplateSpec {
            cpus: 0.5,
            memory: None,
            request_cost: Duration::ZERO,
            port: 8080,
            start_timeout: Duration::from_secs(5),
            stop_timeout: TemplateSpec::default_stop_timeout(),
            netns: Some(NetnsTemplate::default()),
            docker: None,
            libvirt: None,
        },
        nic: NicSpec {
            bridge: network.bridge.clone(),
            address,
            prefix: 24,
            gateway: Some(Ipv4Addr::new(octets[0], octets[1], octets[2], 1)),
            mac: MacAddr::of_instance(address),
        },
        other_nics: Vec::new(),
        management: None,
    }
}

/// A template's section with that command.
fn runs(command: &[&str]) -> NetnsTemplate {
    NetnsTemplate { command: Some(command.iter().copied().map(str::to_owned).collect()) }
}

fn network_spec(subnet: u8) -> NetworkSpec {
    let ip = |last| Ipv4Addr::new(10, 99, subnet, last);
    NetworkSpec {
        name: "nw".to_owned(),
        subnet: Ipv4Net::new(ip(0), 24).expect("a network"),
        gateway: ip(1),
        dhcp_start: ip(2),
        dhcp_end: ip(254),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_and_leaves_nothing() {
    let host = Host::new();
    let network = host.network("demo", 1).await;
    let spec = instance_spec(&network, 1);
    let provider = &host.provider;
    assert_eq!(host.presence(&spec.id).await, None);

    provider.create(&spec).await.expect("created");
    provider.create(&spec).await.expect("created again");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Created));
    provider.start(&spec.id).await.expect("started");
    provider.start(&spec.id).await.expect("started again");
    host.ready(&spec).await;
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Running));
    assert_eq!(host.ask(&spec, "hello\nworld\n").await, "demo-00000001 hello\ndemo-00000001 world\n");
    let answer = host.ask(&spec, "GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("demo-00000001\n"), "{answer}");

    let metrics = provider.metrics(&spec).await.expect("metrics");
    assert!(metrics.cpu > Duration::ZERO && metrics.memory.is_none_or(|bytes| bytes > 0), "{metrics:?}");
    let before = metrics.traffic.expect("its traffic");
    // It answers with its name and what it was sent.
    let line = format!("{}\n", "x".repeat(999));
    host.ask(&spec, &line.repeat(50)).await;
    let now = provider.metrics(&spec).await.expect("metrics").traffic.expect("its traffic");
    let (received, sent) = (now.received - before.received, now.sent - before.sent);
    assert!((50_000..80_000).contains(&received) && (50_000..80_000).contains(&sent), "{received} {sent}");

    provider.stop(&spec.id, PATIENCE).await.expect("stopped");
    provider.stop(&spec.id, PATIENCE).await.expect("stopped again");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Exited));
    provider.delete(&spec.id).await.expect("deleted");
    provider.delete(&spec.id).await.expect("deleted again");
    assert_eq!(host.presence(&spec.id).await, None);
    for unknown in [provider.start(&spec.id).await, provider.stop(&spec.id, PATIENCE).await] {
        assert!(matches!(unknown, Err(ProviderError::Unknown(_))), "{unknown:?}");
    }
    assert!(matches!(provider.metrics(&spec).await, Err(ProviderError::Unknown(_))));
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_side_by_side() {
    let host = Host::new();
    let network = host.network("demo", 6).await;
    let begin = Instant::now();
    let specs: Vec<_> = (0..10).map(|number| instance_spec(&network, number)).collect();
    let all = specs.iter().map(|spec| async {
        host.provider.create(spec).await.expect("created");
        host.provider.start(&spec.id).await.expect("started");
        host.ready(spec).await;
        begin.elapsed()
    });
    let times = futures_util::future::join_all(all).await;
    eprintln!("10 at once, each ready after {times:?}");
    for spec in &specs {
        assert_eq!(host.ask(spec, "x\n").await, format!("{} x\n", spec.id));
    }
    let listed = host.provider.list().await.expect("list");
    assert!(listed.len() == 10 && listed.iter().all(|o| o.presence == Presence::Running), "{listed:?}");
    let removed = specs.iter().map(|spec| host.provider.delete(&spec.id));
    for done in futures_util::future::join_all(removed).await {
        done.expect("deleted");
    }
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_is_ready_soon() {
    let host = Host::new();
    let network = host.network("demo", 7).await;
    let mut times = Vec::new();
    for number in 0..10 {
        let spec = instance_spec(&network, number);
        let begin = Instant::now();
        host.provider.create(&spec).await.expect("created");
        let created = begin.elapsed();
        host.provider.start(&spec.id).await.expect("started");
        let started = begin.elapsed();
        host.ready(&spec).await;
        times.push((begin.elapsed(), created, started));
    }
    times.sort();
    eprintln!(
        "(ready, created, started): fastest {:?}, median {:?}, slowest {:?}",
        times[0], times[5], times[9]
    );
    // The target is 150 ms; this is no benchmark, so a loaded machine gets more, but not the second that a lost
    // first ARP request takes.
    assert!(times[9].0 < Duration::from_millis(900), "{times:?}");
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_has_its_own_surroundings_and_nothing_of_the_daemon() {
    let host = Host::new();
    let network = host.network("demo", 8).await;
    let mut spec = instance_spec(&network, 1);
    let script = "env; ls -l /proc/self/fd; cat /proc/self/cgroup; ip -o -4 addr; ip route; exit 3";
    spec.template.netns = Some(runs(&["sh", "-c", script]));
    // Descriptors that nobody should inherit: one of ours, and one as a careless parent passes it to the daemon.
    let secret = tempfile::tempfile().expect("a file");
    let careless = nix::unistd::dup(&secret).expect("another, not close-on-exec");
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    wait_until_exited(&host, &spec.id).await;
    drop((secret, careless));

    let log = fs::read_to_string(host.provider.log_of(&spec.id)).expect("a log");
    let environment: BTreeMap<_, _> = log.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(environment.get("SLUICE_INSTANCE"), Some(&"demo-00000001"));
    assert_eq!(environment.get("SLUICE_TENANT"), Some(&"demo"));
    assert_eq!(environment.get("SLUICE_PORT"), Some(&"8080"));
    assert_eq!(environment.get("SLUICE_REQUEST_COST"), Some(&"0"));
    assert!(!environment.contains_key("HOME") && !environment.contains_key("CARGO_MANIFEST_DIR"), "{log}");
    // 0, 1, 2 and the one with which `ls` reads the directory.
    assert_eq!(log.lines().filter(|line| line.contains(" -> ")).count(), 4, "{log}");
    assert!(log.contains(&format!("/{}/{}", host.scope.name(), spec.id)), "{log}");
    assert!(log.contains("10.99.8.11/24") && log.contains("default via 10.99.8.1"), "{log}");
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_is_named() {
    let host = Host::new();
    let network = host.network("demo", 12).await;
    let mut spec = instance_spec(&network, 1);
    spec.template.netns = Some(runs(&["/no/such/program"]));
    host.provider.create(&spec).await.expect("created");
    let error = host.provider.start(&spec.id).await.expect_err("can't be started").to_string();
    assert!(error.contains("demo-00000001") && error.contains("/no/such/program"), "{error}");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Created));
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_port_has_the_same_name_does_not_take_it_away() {
    let host = Host::new();
    let network = host.network("demo", 14).await;
    let (first, second) = (instance_spec(&network, 1), instance_spec(&network, 2));
    host.provider.create(&first).await.expect("created");
    // As if both ids had one hash: the first one's port in the place of the second one's.
    let inner = &host.provider.0;
    let inside =
        Links::open(&Netns::open(&host.scope.netns(&first.id)).expect("a namespace")).expect("netlink");
    let port = host.scope.instance_port(&second.id);
    let end = |links, name| VethEnd { links, name, mac: None, master: None };
    let mark = host.scope.instance_mark(KIND, &first.tenant, &first.id);
    let outside = inner.ports.host();
    outside.ensure_veth(&mark, &end(outside, &port), &end(&inside, "x")).await.expect("a veth");

    let error = host.provider.create(&second).await.expect_err("in the way").to_string();
    assert!(error.contains(&port) && error.contains(first.id.as_str()), "{error}");
    host.provider.delete(&second.id).await.expect("deleted");
    outside.get(&port).await.expect("the first one's is still there");
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_no_ids() {
    let host = Host::new();
    let spec = instance_spec(&host.network("demo", 15).await, 1);
    for bad in ["../x-00000001", "x", "", "demo-0000000g", "demo/x-00000001"] {
        let id = InstanceId::from_label(bad);
        let stopped = host.provider.stop(&id, PATIENCE).await;
        let spec = InstanceSpec { id: id.clone(), ..spec.clone() };
        let measured = host.provider.metrics(&spec).await.map(|_| ());
        for result in [host.provider.start(&id).await, stopped, host.provider.delete(&id).await, measured] {
            assert!(matches!(result, Err(ProviderError::Unknown(_))), "{bad}: {result:?}");
        }
    }
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_real_load_and_a_small_share_makes_them_slow() {
    let host = Host::new();
    let network = host.network("demo", 13).await;
    let mut spec = instance_spec(&network, 1);
    spec.template.request_cost = Duration::from_millis(20);
    spec.template.cpus = 0.1;
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    host.ready(&spec).await;
    let before = host.provider.metrics(&spec).await.expect("metrics");
    let begin = Instant::now();
    host.ask(&spec, "1\n2\n3\n").await;
    let took = begin.elapsed();
    let used = host.provider.metrics(&spec).await.expect("metrics").cpu.saturating_sub(before.cpu);
    assert!(used >= Duration::from_millis(60) && used < Duration::from_millis(120), "{used:?}");
    // 60 ms of CPU time at a tenth of a core; a part of it may have been saved up.
    assert!(took > Duration::from_millis(300), "{took:?}");
    host.down().await;
}

async fn wait_until_exited(host: &Host, id: &InstanceId) {
    let begin = Instant::now();
    while host.presence(id).await != Some(Presence::Exited) {
        assert!(begin.elapsed() < PATIENCE, "{id} does not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "the condition never came true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
