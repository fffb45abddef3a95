//! The management network on the real kernel, with instances of the `netns` provider on it. Needs root.

mod frames;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use frames::Liar;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use lb_userspace::net::{Address, Links, MacAddr, Neighbour, Netns};
use nix::sys::socket::{setsockopt, sockopt};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{CloudName, NetnsTemplate, NetworkSpec, TemplateSpec, TenantName};
use sluice_southbound::management::{self, Management};
use sluice_southbound::netns::NetnsProvider;
use sluice_southbound::networks::{Networks, TenantNetwork};
use sluice_southbound::provider::{InstanceSpec, NicSpec, Provider};
use sluice_southbound::scope::Scope;

fn scope(name: &str) -> Scope {
    Scope::new(name).expect("a scope")
}

fn tenant() -> TenantName {
    TenantName::try_from("demo".to_owned()).expect("a tenant name")
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn links(netns: &Netns) -> Links {
    Links::open(netns).expect("netlink")
}

fn connect(from: &Netns, to: SocketAddr) -> io::Result<TcpStream> {
    from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).expect("in the namespace")
}

fn listen(netns: &Netns, at: SocketAddr) -> TcpListener {
    netns.run(|| TcpListener::bind(at)).expect("in the namespace").expect("bound")
}

/// Two instances of one tenant.
struct Bed {
    scope: Scope,
    transit: Netns,
    networks: Networks,
    management: Management,
    provider: NetnsProvider,
}

impl Bed {
    async fn new(name: &str) -> Self {
        let scope = scope(name);
        let transit = Netns::create(&format!("{name}_transit")).expect("a namespace: this test needs root");
        let host = Netns::current().expect("a namespace");
        let networks = Networks::between(scope.clone(), &host, &transit, "lo").expect("networks");
        let management = Management::ensure(scope.clone(), net("198.19.7.0/24")).await.expect("a network");
        let provider = NetnsProvider::with_responder(scope.clone(), "/bin/true".into(), vec!["true".into()])
            .expect("a provider");
        Self { scope, transit, networks, management, provider }
    }

    async fn network(&self) -> TenantNetwork {
        let ip = |last| Ipv4Addr::new(10, 94, 0, last);
        let spec = NetworkSpec {
            name: "nw".to_owned(),
            subnet: net("10.94.0.0/24"),
            gateway: ip(1),
            dhcp_start: ip(2),
            dhcp_end: ip(254),
        };
        self.networks.ensure(&tenant(), &spec).await.expect("a network")
    }

    async fn instance(&self, network: &TenantNetwork, number: u8) -> (InstanceSpec, Netns) {
        let (id, address) = (InstanceId::new(&tenant(), number.into()), Ipv4Addr::new(10, 94, 0, number));
        let management = self.management.lease(&id);
        let spec = InstanceSpec {
            tenant: tenant(),
            created: Timestamp::now(),
            cloud: CloudName::default(),
            template: template(),
            nic: NicSpec {
                bridge: network.bridge.clone(),
                address,
                prefix: 24,
                gateway: Some(Ipv4Addr::new(10, 94, 0, 1)),
                mac: MacAddr::of_instance(address),
            },
            other_nics: Vec::new(),
            management,
            id,
        };
        self.management.admit(&spec).await.expect("admitted");
        self.provider.create(&spec).await.expect("an instance");
        let netns = Netns::open(&self.scope.netns(&spec.id)).expect("its namespace");
        netns.set_sysctl("ipv4/neigh/eth1/mcast_solicit", "1").expect("set");
        (spec, netns)
    }

    /// Those that the daemon's end has, in their addresses' order.
    async fn neighbours(&self) -> Vec<Neighbour> {
        let all = links(self.management.netns()).all_neighbours().await.expect("listed");
        let mut found: Vec<_> = all.into_iter().map(|(_, neighbour)| neighbour).collect();
        found.sort_by_key(|neighbour| neighbour.address);
        found
    }

    async fn close(self) {
        self.provider.remove_all().await.expect("removed");
        self.networks.remove_all().await.expect("removed");
        assert_eq!(management::remove(&self.scope).await.expect("removed").len(), 3);
        assert_eq!(management::remove(&self.scope).await.expect("removed again"), Vec::<String>::new());
        Netns::delete(&format!("{}_transit", self.scope.name())).expect("deleted");
        let host = links(&Netns::current().expect("a namespace"));
        let left = host.list().await.expect("list").into_iter().filter(|l| l.group == self.scope.group());
        assert_eq!(left.map(|link| link.name).collect::<Vec<_>>(), Vec::<String>::new());
        let name = self.scope.management_links().netns;
        assert!(!Netns::names().expect("names").contains(&name));
    }
}

fn template() -> TemplateSpec {
    TemplateSpec {
        cpus: 1.0,
        memory: None,
        request_cost: Duration::ZERO,
        port: 80,
        start_timeout: Duration::from_secs(5),
        stop_timeout: TemplateSpec::default_stop_timeout(),
        netns: Some(NetnsTemplate::default()),
        docker: None,
        libvirt: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_reach_the_daemon_and_nothing_else() {
    let bed = Bed::new("slm_reach").await;
    let network = bed.network().await;
    let (first, second) = (bed.instance(&network, 2).await, bed.instance(&network, 3).await);
    let at = |spec: &InstanceSpec| bed.management.address_of(spec).expect("an address");
    let (one, other) = (at(&first.0), at(&second.0));
    let manager = SocketAddr::new(bed.management.address().into(), 514);
    let exporter = |address: Ipv4Addr| SocketAddr::new(address.into(), 9100);
    let _listeners = (
        listen(bed.management.netns(), manager),
        listen(&first.1, exporter(one)),
        listen(&second.1, exporter(other)),
    );
    for address in [one, other] {
        connect(bed.management.netns(), exporter(address)).expect("the exporter is reached");
    }
    connect(&first.1, manager).expect("the daemon is reached");

    connect(&first.1, exporter(other)).expect_err("another instance, asked for");
    let inside = links(&first.1);
    inside.set_neighbour("eth1", other.into(), MacAddr::of_instance(other)).await.expect("set");
    connect(&first.1, exporter(other)).expect_err("another instance, its address known");
    connect(&bed.transit, exporter(one)).expect_err("the transit namespace has no way to it");
    let host = links(&Netns::current().expect("a namespace"));
    let bridge = bed.scope.management_links().bridge;
    assert_eq!(host.addresses(&bridge).await.expect("list"), [], "the host is not on it");
    bed.close().await;
}

/// What has no sender's address is refused by no reverse-path filter.
#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_of_an_instance_comes_to_no_process_of_the_host_or_of_another() {
    let bed = Bed::new("slm_broad").await;
    let network = bed.network().await;
    let (first, second) = (bed.instance(&network, 2).await, bed.instance(&network, 3).await);
    let own = bed.management.address_of(&first.0).expect("an address");
    for (interface, address) in [("eth0", first.0.nic.address), ("eth1", own)] {
        let net = Ipv4Net::new_assert(address, 24).into();
        links(&first.1).remove_address(interface, net).await.expect("removed");
    }
    let bind = |netns: &Netns, at: &str| {
        let socket = netns.run(|| UdpSocket::bind(at)).expect("in the namespace").expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        socket
    };
    let host = bind(&Netns::current().expect("a namespace"), "0.0.0.0:0");
    let at = host.local_addr().expect("bound");
    let everywhere = [&host, &bind(&second.1, &at.to_string())];
    let inside = links(bed.management.netns());
    let received = async || inside.get("manage").await.expect("there").received;
    let sender = bind(&first.1, "0.0.0.0:0");
    sender.set_broadcast(true).expect("set");
    setsockopt(&sender, sockopt::BindToDevice, &"eth1".into()).expect("set");
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        let before = received().await;
        sender.send_to(b"x", (to, at.port())).expect("sent");
        assert!(received().await > before, "it leaves the instance");
        assert_eq!(everywhere.map(|socket| socket.recv(&mut [0; 8]).is_ok()), [false, false], "{to}");
    }
    drop((first, second));
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_can_not_speak_for_another() {
    let bed = Bed::new("slm_spoof").await;
    let network = bed.network().await;
    let (first, second) = (bed.instance(&network, 2).await, bed.instance(&network, 3).await);
    let manager = SocketAddr::new(bed.management.address().into(), 514);
    let other = bed.management.address_of(&second.0).expect("an address");
    let exporter = SocketAddr::new(other.into(), 9100);
    let _manager = listen(bed.management.netns(), manager);

    // It takes the other's addresses, both of them, and says so to everybody.
    let inside = links(&first.1);
    inside.set_mac("eth1", MacAddr::of_instance(other)).await.expect("set");
    let own = bed.management.address_of(&first.0).expect("an address");
    inside.remove_address("eth1", Ipv4Net::new_assert(own, 24).into()).await.expect("removed");
    let theirs = Address { net: Ipv4Net::new_assert(other, 24).into(), protocol: 0 };
    inside.add_address("eth1", &theirs).await.expect("added");
    let _impostor = listen(&first.1, exporter);
    connect(&first.1, manager).expect_err("its port lets only its own address pass");
    // Nor from its own port: nothing is answered, but a datagram needs no answer.
    inside.set_mac("eth1", MacAddr::of_instance(own)).await.expect("set");
    let syslog = bed.management.netns().run(|| UdpSocket::bind(manager)).expect("run").expect("bound");
    syslog.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    let heard = |netns: &Netns| {
        let sender = netns.run(|| UdpSocket::bind("0.0.0.0:0")).expect("run").expect("bound");
        sender.send_to(b"<13>it is me", manager).expect("sent");
        syslog.recv_from(&mut [0; 16]).is_ok_and(|(_, from)| from.ip() == other)
    };
    assert_eq!([heard(&first.1), heard(&second.1)], [false, true]);
    inside.set_mac("eth1", MacAddr::of_instance(other)).await.expect("set");
    let refused = connect(bed.management.netns(), exporter).expect_err("the other one listens not");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "the other one has answered: {refused}");
    let _real = listen(&second.1, exporter);
    connect(bed.management.netns(), exporter).expect("the other one is reached");
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_only_instances_are_neighbours() {
    let bed = Bed::new("slm_arp").await;
    let network = bed.network().await;
    let (first, second) = (bed.instance(&network, 2).await, bed.instance(&network, 3).await);
    let at = |spec: &InstanceSpec| bed.management.address_of(spec).expect("an address");
    let (one, other) = (at(&first.0), at(&second.0));
    let fixed = |address| Neighbour { address, mac: Some(MacAddr::of_instance(address)), fixed: true };
    let lies = Liar::on(&first.1, "eth1").await;
    let daemon = (bed.management.address(), bed.scope.management_macs().1);
    for last in 2..=254 {
        lies.speak_as(Ipv4Addr::new(198, 19, 7, last), daemon);
    }
    assert_eq!(bed.neighbours().await, [one, other].map(fixed));
    let (_listener, manager) = (
        listen(bed.management.netns(), SocketAddr::new(daemon.0.into(), 514)),
        SocketAddr::new(daemon.0.into(), 514),
    );
    for (_, instance) in [&first, &second] {
        connect(instance, manager).expect("the daemon is reached, without asking for it");
        let known = links(instance).all_neighbours().await.expect("listed");
        assert!(known.iter().any(|(_, found)| found.address == daemon.0 && found.fixed), "{known:?}");
    }

    assert!(!bed.management.repair().await.expect("looked"));
    bed.management.release(&first.0.id);
    assert!(!bed.management.repair().await.expect("removed"), "nothing was missing");
    assert_eq!(bed.neighbours().await, [fixed(other)]);
    // One that is there when a daemon begins.
    let next = Management::ensure(bed.scope.clone(), net("198.19.7.0/24")).await.expect("the network");
    next.hold(&first.0);
    assert!(next.repair().await.expect("repaired"));
    assert_eq!(bed.neighbours().await, [fixed(one)]);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_repaired_and_addresses_are_given_once() {
    let bed = Bed::new("slm_repair").await;
    let host = links(&Netns::current().expect("a namespace"));
    let names = bed.scope.management_links();
    host.delete(&names.port).await.expect("deleted");
    let again = Management::ensure(bed.scope.clone(), net("198.19.8.0/29")).await.expect("repaired");
    let listener = listen(again.netns(), SocketAddr::new(again.address().into(), 514));
    assert_eq!(again.address(), Ipv4Addr::new(198, 19, 8, 1));
    drop(listener);
    let found = links(again.netns()).addresses("manage").await.expect("addresses");
    assert_eq!(found.iter().map(|found| found.net.to_string()).collect::<Vec<_>>(), ["198.19.8.1/29"]);

    let id = |number| InstanceId::new(&tenant(), number);
    let given: Vec<_> = (0..6).map(|number| again.lease(&id(number)).map(|nic| nic.address)).collect();
    let expected: Vec<_> = (2..=6).map(|last| Some(Ipv4Addr::new(198, 19, 8, last))).chain([None]).collect();
    assert_eq!(given, expected);
    assert_eq!(again.holder(Ipv4Addr::new(198, 19, 8, 3)), Some(id(1)));
    again.release(&id(1));
    assert_eq!(again.holder(Ipv4Addr::new(198, 19, 8, 3)), Some(id(1)), "until another one has it");
    assert_eq!(again.lease(&id(9)).map(|nic| nic.address), Some(Ipv4Addr::new(198, 19, 8, 3)));
    assert_eq!(again.holder(Ipv4Addr::new(198, 19, 8, 3)), Some(id(9)));
    bed.close().await;
}
