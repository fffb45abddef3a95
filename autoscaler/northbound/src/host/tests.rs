//! The example, the defaults and each fault with its place.

use std::path::Path;

use proptest::prelude::*;

use sluice_logic::spec::{AccelChoice, CloudName, CloudSpec, DockerAddress, DockerTls, ProviderSpec};

use super::{HostConfig, LoadBalancerConfig, OpenPort, parse};
use crate::diagnostic::{Diagnostic, Faults, Source, has_errors};

const EXAMPLE: &str = include_str!("../../../../examples/sluice.yml");

fn config(text: &str) -> HostConfig {
    parse("sluice.yml", text).unwrap_or_else(|faults| panic!("{faults:#?}")).config
}

fn faults(text: &str) -> Vec<Diagnostic> {
    match parse("sluice.yml", text) {
        Ok(host) => host.warnings,
        Err(faults) => faults,
    }
}

#[test]
fn the_example_has_every_key_and_shows_the_defaults() {
    let mut all = Faults::new(Source { label: "sluice.yml", text: EXAMPLE });
    let node = crate::yaml::parse(EXAMPLE).expect("YAML");
    super::read::host(&mut all, &node).expect("a host");
    // These have no default value that could be written down; they stand in comments.
    assert_eq!(all.absent, ["transit: namespace", "cloud: capacity", "cloud: zone", "syslog: listen"]);
    for key in ["# namespace: transit", "# capacity: 100", "# zone: rack-1", "# listen: 0.0.0.0:514"] {
        assert!(EXAMPLE.contains(key));
        config(&EXAMPLE.replace(key, key.trim_start_matches("# ")));
    }
    assert_eq!(config(EXAMPLE), config("transit: {uplink: eth0}"));
    assert_eq!(faults(EXAMPLE), []);
}

#[test]
fn the_name_scopes_the_paths() {
    let config = config("name: two\ntransit: {namespace: edge, uplink: veth0}");
    assert_eq!(config.transit.namespace.as_deref(), Some("edge"));
    assert_eq!(config.state, Path::new("/var/lib/two"));
    assert_eq!(config.run, Path::new("/run/two"));
    assert_eq!(config.api.socket, Path::new("/run/two/sluice.sock"));
    assert_eq!(config.pins, Path::new("/sys/fs/bpf/two"));
    assert_eq!(config.clouds, [CloudSpec::default()]);
    assert_eq!(config.load_balancer, LoadBalancerConfig::default());
}

#[test]
fn removals_are_confirmed_unless_the_host_says_otherwise() {
    assert!(config("transit: {uplink: e}").confirm_removal);
    assert!(!config("confirm_removal: false\ntransit: {uplink: e}").confirm_removal);
}

#[test]
fn a_host_opens_ports_of_its_own() {
    let config = config(
        "transit: {uplink: e, open_to_clients: [22/tcp, '53/udp', 53/tcp], open_to_instances: [65535/udp]}",
    );
    let ports = [OpenPort::Tcp(22), OpenPort::Tcp(53), OpenPort::Udp(53)];
    assert_eq!(config.transit.open_to_clients, ports.into());
    assert_eq!(config.transit.open_to_instances, [OpenPort::Udp(65535)].into());
}

#[test]
fn a_list_of_ports_has_a_limit() {
    let with = |count: u16| {
        let ports: Vec<String> = (1..=count).map(|port| format!("{port}/tcp")).collect();
        faults(&format!("transit:\n  uplink: e\n  open_to_instances:\n  - {}\n", ports.join("\n  - ")))
    };
    assert_eq!(with(100), []);
    let found = with(102);
    let [fault] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!((fault.line, fault.column), (3 + 101, 5), "{fault}");
    assert!(fault.message.contains("102 ports are too many: at most 100"), "{fault}");
}

#[test]
fn the_socket_follows_the_run_directory() {
    let config = config("run: /tmp/s\ntransit: {uplink: veth0}");
    assert_eq!(config.api.socket, Path::new("/tmp/s/sluice.sock"));
}

/// The clouds of the other kinds stand in comments.
#[test]
fn the_examples_other_clouds_are_good() {
    let text = EXAMPLE.replace("\n  #- ", "\n  - ").replace("\n  #  ", "\n    ");
    let clouds = config(&text).clouds;
    let providers: Vec<String> = clouds.iter().map(|cloud| cloud.provider.to_string()).collect();
    let expected = [
        "this host's kernel",
        "unix:///var/run/docker.sock",
        "tcp://docker.example.net:2376",
        "qemu:///system",
    ];
    assert_eq!(providers, expected);
}

#[test]
fn several_clouds() {
    let config = config(
        "transit: {uplink: e}\nclouds: [{name: a, provider: netns, priority: 10, capacity: 3, zone: z, \
         price_per_hour: 0.25}, {name: b, provider: docker}, {name: c, provider: libvirt}, \
         {name: d, provider: docker, address: 'tcp://h:1', tls: {ca: /a, certificate: /b, key: /c}}]",
    );
    let a = CloudSpec {
        name: CloudName::new("a"),
        provider: ProviderSpec::Netns,
        priority: 10,
        capacity: Some(3),
        zone: Some("z".into()),
        price_per_hour: 0.25,
    };
    let plain =
        |name: &str, provider| CloudSpec { name: CloudName::new(name), provider, ..CloudSpec::default() };
    let socket = DockerAddress::Socket("/var/run/docker.sock".into());
    let tls = DockerTls { ca: "/a".into(), certificate: "/b".into(), key: "/c".into() };
    let tcp = DockerAddress::Tcp { address: "h:1".into(), tls: Some(tls) };
    let b = plain("b", ProviderSpec::Docker(socket));
    let uri = "qemu:///system".into();
    let c = plain("c", ProviderSpec::Libvirt { uri, pool: None, accel: AccelChoice::Auto });
    assert_eq!(config.clouds, [a, b, c, plain("d", ProviderSpec::Docker(tcp))]);
}

#[test]
fn each_fault_has_its_place() {
    let with = |rest: &str| format!("transit: {{uplink: eth0}}\n{rest}");
    let table = [
        ("»name: a".to_owned(), "the key `transit` is missing"),
        ("transit: »{}".to_owned(), "the key `uplink` is missing"),
        ("transit: »eth0".to_owned(), "transit: expected a mapping, found `eth0`"),
        ("transit: {uplink: »averyverylonginterface}".to_owned(), "is not the name of an interface"),
        ("transit: {uplink: »a/b}".to_owned(), "is not the name of an interface"),
        ("transit: {uplink: e, namespace: »/run/netns/x}".to_owned(), "not a path"),
        ("transit: {uplink: e, »namspace: x}".to_owned(), "did you mean `namespace`?"),
        ("transit: {uplink: e, open_to_clients: [»22]}".to_owned(), "write it as `22/tcp`"),
        (
            "transit: {uplink: e, open_to_clients: [22/tcp, »0/tcp]}".to_owned(),
            "0 is out of range: 1 to 65535",
        ),
        ("transit: {uplink: e, open_to_clients: [»65536/udp]}".to_owned(), "65536 is out of range"),
        ("transit: {uplink: e, open_to_clients: [»tcp/22]}".to_owned(), "is not a port with its protocol"),
        ("transit: {uplink: e, open_to_clients: [»22/sctp]}".to_owned(), "expected `tcp` or `udp`"),
        ("transit: {uplink: e, open_to_clients: [»22/TCP]}".to_owned(), "write it as `22/tcp`"),
        ("transit: {uplink: e, open_to_clients: [»-1/tcp]}".to_owned(), "is not a port with its protocol"),
        ("transit: {uplink: e, open_to_clients: [»[22/tcp]]}".to_owned(), "expected a text"),
        ("transit: {uplink: e, open_to_clients: [22/tcp, »22/tcp]}".to_owned(), "22/tcp comes twice"),
        ("transit: {uplink: e, open_to_instances: »22/tcp}".to_owned(), "expected a list"),
        ("transit: {uplink: e, »open_ports: [22/tcp]}".to_owned(), "unknown key `open_ports`"),
        (with("management: {subnet: »10.0.0.0/25}"), "has addresses for 125 instances"),
        (with("management: {subnet: »10.0.0.0}"), "has no prefix length"),
        (with("management: »off"), "expected a mapping, found `off`"),
        (with("name: »a.b"), "is not the name of a daemon"),
        (with("name: »a-b"), "1 to 16 of a-z, 0-9 and `_`, the first a letter"),
        (with("name: »Edge"), "is not the name of a daemon"),
        (with("name: »_a"), "is not the name of a daemon"),
        (with("name: »1a"), "the first a letter"),
        (with("name: »''"), "is not the name of a daemon"),
        (with("name: »aaaaaaaaaaaaaaaaa"), "1 to 16"),
        (with("state: »var/lib"), "expected an absolute path"),
        (with("tenants: »[]"), "expected an absolute path, found a list"),
        (with(&format!("api: {{socket: »/{}}}", "a".repeat(107))), "the path has 108 bytes"),
        (with("sample_interval: »10ms"), "10ms is out of range: 50ms to 1m"),
        (with("»sample_intervall: 1s"), "did you mean `sample_interval`?"),
        (with("»clouds: []"), "`clouds` is empty"),
        (with("clouds: [»{name: a}]"), "the key `provider` is missing"),
        (with("clouds: [{name: a, provider: »kvm}]"), "expected `netns`, `docker` or `libvirt`, found `kvm`"),
        (with("clouds: [{name: a, provider: netns, »socket: /x}]"), "unknown key `socket`"),
        (with("clouds: [{name: a, provider: docker, socket: »x}]"), "expected an absolute path"),
        (with("clouds: [{name: a, provider: docker, address: »host}]"), "is not the address of a dockerd"),
        (with("clouds: [{name: a, provider: docker, socket: »/x, address: 'h:1'}]"), "exclude each other"),
        (with("clouds: [»{name: a, provider: docker, tls: {ca: /a, certificate: /b, key: /c}}]"), "only for"),
        (
            with("clouds: [{name: a, provider: docker, address: 'h:1', tls: »{ca: /a, key: /c}}]"),
            "`certificate`",
        ),
        (with("clouds: [{name: a, provider: libvirt, uri: »qemu}]"), "is not a libvirt URI"),
        (with("clouds: [{name: a, provider: netns, price_per_hour: »-1}]"), "-1 is out of range"),
        (with("clouds: [{name: a, provider: netns}, {name: »a, provider: netns}]"), "comes twice"),
        (with("clouds: [{name: a, provider: netns, capacity: »0}]"), "0 is out of range"),
        (with("clouds: [{name: a, provider: netns, priority: »-1}]"), "-1 is out of range"),
        (with("load_balancer: {max_flows: »10}"), "10 is out of range: 1024 to 67108864"),
        (with("load_balancer: {max_services: »many}"), "expected a number, found `many`"),
        (with("load_balancer: {timeouts: {tcp: »0}}"), "0s is out of range: 1s to 30 days"),
        (with("load_balancer: {timeouts: {»sctp: 5s}}"), "unknown key `sctp`"),
        (with("syslog: {listen: »514}"), "`514` is not an address with a port"),
        (with("syslog: {hosts: »192.0.2.1}"), "write a list"),
        (with("syslog: {hosts: »[host]}"), "`host` is not a network"),
        (with("syslog: {keep: »1h}"), "1h is out of range: 24h to 400 days"),
        (with("history: {fine: »30m}"), "30m is out of range: 1h to 168h"),
        (with("history: {groups: »500d}"), "500d is out of range: 24h to 400 days"),
        (with("history: {groups: »ever}"), "expected a duration, found `ever`"),
        (with("history: {max_size: »1MiB}"), "1.0 MiB is out of range: 16.0 MiB to 1.0 TiB"),
    ];
    for (text, fragment) in table {
        let (before, after) = text.split_once('»').expect("a mark");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        let found = faults(&format!("{before}{after}"));
        let [fault] = found.as_slice() else { panic!("{text}: {found:#?}") };
        let all = format!("{} / {}", fault.message, fault.help.as_deref().unwrap_or_default());
        assert!(all.contains(fragment), "{text}: `{fragment}` is not in `{all}`");
        assert_eq!((fault.line, fault.column), (line, column), "{fault}");
    }
}

#[test]
fn all_faults_come_at_once() {
    let found =
        faults("name: a b\nstate: x\nclouds: [{name: ., provider: x}]\nload_balancer: {max_flow: 5}\n");
    let lines: Vec<usize> = found.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 1, 2, 3, 3, 4], "{found:#?}");
}

#[test]
fn every_beginning_of_the_example_is_read() {
    for end in 0..EXAMPLE.len() {
        if let Err(found) = parse("sluice.yml", &EXAMPLE[..end]) {
            assert!(has_errors(&found));
        }
    }
}

proptest! {
    #[test]
    fn a_broken_example_is_read(at in 0..EXAMPLE.len(), remove in 0..40_usize, insert in any::<String>()) {
        let end = (at + remove).min(EXAMPLE.len());
        let text = format!("{}{insert}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
        if let Err(found) = parse("sluice.yml", &text) {
            prop_assert!(has_errors(&found));
        }
    }
}
