//! A dockerd with the responder's image, a scope with a transit namespace, and instances in it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use lb_userspace::net::{Links, MacAddr, Netns};
use sluice_containers::{Dockerd, Image};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{
    CloudName, DockerAddress, DockerTemplate, NetworkSpec, PullPolicy, TemplateSpec, TenantName,
};
use sluice_southbound::dhcp::DhcpServers;
use sluice_southbound::docker::DockerProvider;
use sluice_southbound::management::{self, Management};
use sluice_southbound::networks::{Networks, TenantNetwork};
use sluice_southbound::probe;
use sluice_southbound::provider::{InstanceSpec, NicSpec, Observed, Presence, Provider};
use sluice_southbound::scope::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const IMAGE: &str = "sluice/responder:test";

/// All of it goes with the value, also on a panic.
pub(crate) struct Bed {
    pub(crate) dockerd: Arc<Dockerd>,
    pub(crate) scope: Scope,
    pub(crate) provider: DockerProvider,
    transit: Netns,
    networks: Networks,
    number: u8,
}

impl Bed {
    /// On the dockerd that all tests share.
    pub(crate) async fn new() -> Self {
        Self::on(Dockerd::shared("southbound").await.expect("a dockerd")).await
    }

    pub(crate) async fn on(dockerd: Arc<Dockerd>) -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        dockerd.load(&image(&[])).await.expect("loaded");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sld{}_{number}", std::process::id());
        let scope = Scope::new(&name).expect("a scope");
        let transit = Netns::create(&format!("{name}-transit")).expect("a namespace: this test needs root");
        let provider = DockerProvider::open(scope.clone(), DockerAddress::Socket(dockerd.socket()));
        let provider = provider.expect("a provider: this test needs root");
        let networks = Networks::open(scope.clone(), &transit, "uplink").expect("networks");
        Self { dockerd, scope, provider, transit, networks, number }
    }

    /// A daemon that has just started and knows nothing.
    pub(crate) fn restarted(&self) -> DockerProvider {
        let address = DockerAddress::Socket(self.dockerd.socket());
        DockerProvider::open(self.scope.clone(), address).expect("a provider")
    }

    pub(crate) async fn network(&self) -> TenantNetwork {
        self.network_of("nw", |last| self.ip(last)).await
    }

    async fn network_of(&self, name: &str, ip: impl Fn(u8) -> Ipv4Addr) -> TenantNetwork {
        let spec = NetworkSpec {
            name: name.to_owned(),
            subnet: Ipv4Net::new(ip(0), 24).expect("a network"),
            gateway: ip(1),
            dhcp_start: ip(2),
            dhcp_end: ip(254),
        };
        self.networks.ensure(&tenant(), &spec).await.expect("a network")
    }

    /// A place on another network of the tenant.
    pub(crate) async fn other_nic(&self, number: u8) -> NicSpec {
        let ip = |last| Ipv4Addr::new(10, 96, self.number, last);
        let (bridge, address) = (self.network_of("other", ip).await.bridge, ip(10 + number));
        NicSpec { bridge, address, prefix: 24, gateway: None, mac: MacAddr::of_instance(address) }
    }

    /// The management network of the scope.
    pub(crate) async fn management(&self) -> Management {
        let subnet = Ipv4Net::new_assert(Ipv4Addr::new(198, 19, self.number, 0), 24);
        Management::ensure(self.scope.clone(), subnet).await.expect("a management network")
    }

    /// Servers for the scope's networks.
    pub(crate) fn dhcp(&self) -> DhcpServers {
        DhcpServers::open(self.scope.clone(), "test").expect("servers")
    }

    /// The namespace from which instances are reached.
    pub(crate) fn transit(&self) -> &Netns {
        &self.transit
    }

    fn ip(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 97, self.number, last)
    }

    pub(crate) fn spec(&self, network: &TenantNetwork, number: u8) -> InstanceSpec {
        let address = self.ip(10 + number);
        InstanceSpec {
            id: InstanceId::new(&tenant(), number.into()),
            tenant: tenant(),
            created: Timestamp::now(),
            cloud: CloudName::new("containers"),
            template: template(),
            nic: NicSpec {
                bridge: network.bridge.clone(),
                address,
                prefix: 24,
                gateway: Some(self.ip(1)),
                mac: MacAddr::of_instance(address),
            },
            other_nics: Vec::new(),
            management: None,
        }
    }

    /// Makes and starts an instance, and waits until it answers.
    pub(crate) async fn launch(&self, spec: &InstanceSpec) {
        self.provider.create(spec).await.expect("created");
        self.provider.start(&spec.id).await.expect("started");
        self.ready(spec).await;
    }

    pub(crate) async fn ready(&self, spec: &InstanceSpec) {
        self.networks.admit(spec.tenant_nics()).await.expect("admitted");
        let target = SocketAddrV4::new(spec.nic.address, spec.template.port);
        probe::wait_until_ready(&self.transit, target, PATIENCE).await.expect("ready");
    }

    /// Opens a connection to an instance.
    pub(crate) async fn connect(&self, spec: &InstanceSpec) -> TcpStream {
        self.connect_to(spec.nic.address, spec).await
    }

    async fn connect_to(&self, address: Ipv4Addr, spec: &InstanceSpec) -> TcpStream {
        let target = SocketAddrV4::new(address, spec.template.port);
        probe::connect(&self.transit, target).await.expect("connected")
    }

    pub(crate) async fn ask(&self, spec: &InstanceSpec, question: &str) -> String {
        self.ask_at(spec.nic.address, spec, question).await
    }

    /// The same at one of its addresses.
    pub(crate) async fn ask_at(&self, address: Ipv4Addr, spec: &InstanceSpec, question: &str) -> String {
        let mut stream = self.connect_to(address, spec).await;
        stream.write_all(question.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("all sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    /// Sees that nobody listens there.
    pub(crate) async fn refuses(&self, target: SocketAddrV4) {
        let error = probe::connect(&self.transit, target).await.expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    pub(crate) async fn observed(&self, id: &InstanceId) -> Option<Observed> {
        let listed = self.provider.list().await.expect("list");
        listed.into_iter().find(|observed| observed.id == *id)
    }

    pub(crate) async fn presence(&self, id: &InstanceId) -> Option<Presence> {
        self.observed(id).await.map(|observed| observed.presence)
    }

    /// The bridge ports of instances.
    pub(crate) async fn ports(&self) -> BTreeSet<String> {
        let links = Links::open(&Netns::current().expect("this namespace")).expect("netlink");
        let links = links.list().await.expect("links");
        let ours = links.into_iter().filter(|link| link.group == self.scope.group());
        ours.map(|link| link.name).filter(|name| name.starts_with("sli-")).collect()
    }

    /// Removes everything, and sees that it is so.
    pub(crate) async fn down(self) {
        self.provider.remove_all().await.expect("removed");
        assert_eq!(self.provider.list().await.expect("list"), []);
        assert_eq!(self.ports().await, BTreeSet::new());
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let (provider, networks, dhcp) = (self.provider.clone(), self.networks.clone(), self.dhcp());
        // The test's own runtime may be gone or stuck; the netlink sockets need one that runs.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                if let Err(error) = provider.remove_all().await {
                    eprintln!("{error}");
                }
                for id in dhcp.instances().unwrap_or_default() {
                    let _ = dhcp.release(&id).await;
                }
                let _ = management::remove(&self.scope).await;
                if let Err(error) = networks.remove_all().await {
                    eprintln!("{error}");
                }
            });
        });
        let _ = Netns::delete(&format!("{}-transit", self.scope.name()));
        let _ = std::fs::remove_dir(self.scope.run_dir());
    }
}

fn tenant() -> TenantName {
    TenantName::try_from("demo".to_owned()).expect("a tenant name")
}

fn template() -> TemplateSpec {
    TemplateSpec {
        cpus: 0.5,
        memory: Some(64 << 20),
        request_cost: Duration::ZERO,
        port: 8080,
        start_timeout: Duration::from_secs(5),
        stop_timeout: TemplateSpec::default_stop_timeout(),
        netns: None,
        docker: Some(container()),
        libvirt: None,
    }
}

pub(crate) fn container() -> DockerTemplate {
    DockerTemplate {
        pull_timeout: DockerTemplate::default_pull_timeout(),
        image: IMAGE.to_owned(),
        command: None,
        environment: [("GREETING".to_owned(), "hello".to_owned())].into(),
        labels: [("team".to_owned(), "shop".to_owned())].into(),
        pull: PullPolicy::Never,
        registry: None,
        network: None,
    }
}

/// A container that runs that line of shell.
pub(crate) fn runs(script: &str) -> DockerTemplate {
    DockerTemplate { command: Some(["/bin/sh", "-c", script].map(str::to_owned).into()), ..container() }
}

/// The responder's, which has no use for arguments: by them one image is not another.
pub(crate) fn image(arguments: &[&str]) -> Image {
    Image::of(IMAGE, &responder(), arguments).expect("an image")
}

fn responder() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let path = own.ancestors().nth(2).expect("target/debug").join("examples/responder");
    assert!(path.exists(), "{} is missing: `cargo build -p sluice-southbound --examples`", path.display());
    path
}
