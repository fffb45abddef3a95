//! Both forms, the examples, and how faults look.

mod conflicts;
mod faults;
mod metrics;
mod policies;
mod whatever;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sluice_logic::policy::{DEFAULT_POLICIES_WINDOW, default_policies};
use sluice_logic::spec::{
    GroupSpec, Metric, NetnsTemplate, NetworkSpec, Outbound, Pace, PolicySpec, Protocol, Reactive,
    ServiceSpec, Signal, Spread, TemplateSpec, TenantName, TenantSpec,
};

use super::parse;
use crate::diagnostic::{Diagnostic, Faults, Source};

const FLAT: &str = include_str!("../../../../../examples/tenants/demo.yml");
const STRUCTURED: &str = include_str!("../../../../../examples/tenants/structured.yml");

fn reactive(metric: Metric, threshold: f64) -> PolicySpec {
    PolicySpec::Reactive(Reactive { signal: Signal::mean(metric, Duration::from_mins(5)), threshold })
}

/// Every fault and warning of a text.
fn faults(text: &str) -> Vec<Diagnostic> {
    match parse("t.yml", text) {
        Ok(tenant) => tenant.warnings,
        Err(faults) => faults,
    }
}

fn spec(text: &str) -> TenantSpec {
    parse("t.yml", text).unwrap_or_else(|faults| panic!("{faults:#?}")).spec
}

/// The flat example with one line replaced.
fn flat_with(key: &str, line: &str) -> String {
    let replaced = |old: &str| if old.starts_with(&format!("{key}:")) { line } else { old }.to_owned();
    FLAT.lines().map(replaced).collect::<Vec<_>>().join("\n")
}

/// A structured file of which the rest is sound.
fn structured(networks: &str, services: &str, rest: &str) -> String {
    format!("tenant: t\nnetworks: {networks}\nservices: {services}\n{rest}\n")
}

const NET: &str = "[{name: n, subnet: 10.0.0.0/24}]";
const TCP: &str = "[{vip: 45.0.0.1, protocol: tcp}]";
const GROUP: &str = "group: {min: 1, max: 2}";

#[test]
fn the_flat_file_of_the_original_system_is_valid_as_it_stands() {
    let tenant = parse("demo.yml", FLAT).expect("valid");
    assert_eq!(tenant.warnings, []);
    let vip: IpAddr = "45.45.45.45".parse().unwrap();
    let expected = TenantSpec {
        name: TenantName::try_from("demo".to_owned()).unwrap(),
        networks: vec![NetworkSpec {
            name: "demo_nw".into(),
            subnet: "19.0.0.0/24".parse().unwrap(),
            gateway: "19.0.0.1".parse().unwrap(),
            dhcp_start: "19.0.0.2".parse().unwrap(),
            dhcp_end: "19.0.0.254".parse().unwrap(),
        }],
        outbound: Outbound::None,
        services: vec![
            ServiceSpec::new(vip, Protocol::Icmp, None),
            ServiceSpec::new(vip, Protocol::Tcp, None),
        ],
        template: TemplateSpec {
            cpus: 0.5,
            memory: None,
            request_cost: Duration::from_millis(2),
            port: 80,
            start_timeout: Duration::from_mins(1),
            stop_timeout: TemplateSpec::default_stop_timeout(),
            netns: Some(NetnsTemplate::default()),
            docker: None,
            libvirt: None,
        },
        group: GroupSpec {
            min: 2,
            max: 5,
            buffer_time: Duration::from_mins(2),
            cool_down: Duration::from_mins(5),
            pace: Pace::default(),
        },
        metrics: Vec::new(),
        policies: default_policies(&Signal::mean(Metric::Cpu, DEFAULT_POLICIES_WINDOW), 0.3),
        keep_logs: true,
        encrypt_passwords: true,
    };
    assert_eq!(tenant.spec, expected);
}

#[test]
fn flat_keys_may_have_spaces_and_their_other_names() {
    let text = FLAT
        .replace("nw_name", "nw name")
        .replace("public_ip", "public ip")
        .replace("min_containers", "min instances")
        .replace("max_containers", "max_instances")
        .replace("t_name", "t name");
    assert_eq!(spec(&text), spec(FLAT));
}

#[test]
fn the_optional_flat_keys() {
    let text = format!(
        "{FLAT}buffer_time: 2m30s\ncool_down: 0\nwindow: 500ms\ncpus: 2\nport: 8080\nrequest_cost: 0.25\n\
         command: [/bin/server, --port, 8080]\n"
    )
    .replace("should_log: 1", "should_log: false");
    let spec = spec(&text);
    assert_eq!(spec.group.buffer_time, Duration::from_secs(150));
    assert_eq!(spec.group.cool_down, Duration::ZERO);
    assert_eq!(spec.policies[0].window().as_millis(), 500);
    assert_eq!((spec.template.cpus, spec.template.port), (2.0, 8080));
    assert_eq!(spec.template.request_cost, Duration::from_millis(250));
    assert_eq!(spec.template.netns.unwrap().command.unwrap(), ["/bin/server", "--port", "8080"]);
    assert!(!spec.keep_logs);
}

#[test]
fn the_structured_example_has_every_key_and_shows_the_defaults() {
    let mut all = Faults::new(Source { label: "structured.yml", text: STRUCTURED });
    let node = crate::yaml::parse(STRUCTURED).expect("YAML");
    super::structured::read(&mut all, &node).expect("a tenant");
    // A service has one port, several, or every one: no item has all the keys, and each key is in one of the three.
    let (of_services, absent): (Vec<_>, Vec<_>) =
        all.absent.iter().partition(|key| key.starts_with("service: "));
    for key in &of_services {
        assert!(of_services.iter().filter(|other| *other == key).count() < 3, "{key}");
    }
    // The kinds of cloud beside `netns` have no defaults that could be written down; they stand in comments.
    let in_comments = [
        "template: memory",
        "template: command",
        "template: docker",
        "template: libvirt",
        "the tenant: metrics",
    ];
    // How a group is tamed and what policies look at is in policies.yml.
    let elsewhere = |key: &str| key.starts_with("group: ") || key.starts_with("reactive: ");
    let absent: Vec<_> = absent.into_iter().filter(|key| !elsewhere(key)).collect();
    assert_eq!(absent, in_comments);

    let tenant = parse("structured.yml", STRUCTURED).expect("valid");
    assert_eq!(tenant.warnings, []);
    let required = "
tenant: shop
networks: [{name: shop_nw, subnet: 19.0.1.0/24}]
services:
  - {vip: 45.45.45.46, protocol: icmp}
  - {vip: 45.45.45.46, protocol: tcp, port: 80, target_port: 80}
  - {vip: 45.45.45.46, protocol: tcp, port: 443, target_port: 8443}
group: {min: 2, max: 5}
policies: [{reactive: {threshold: 0.6}}]
";
    assert_eq!(tenant.spec, spec(required));
}

mod template;

#[test]
fn both_forms_can_say_the_same() {
    let structured = "
tenant: demo
networks: [{name: demo_nw, subnet: 19.0.0.0/24}]
services: [{vip: 45.45.45.45, protocol: icmp}, {vip: 45.45.45.45, protocol: tcp}]
group: {min: 2, max: 5}
policies: [{proactive: {threshold: 30, window: 1m}}, {target_tracking: {target: 30, window: 1m}}]
";
    assert_eq!(spec(structured), spec(FLAT));
}

#[test]
fn thresholds_are_fractions_up_to_one_and_percent_above() {
    for (written, meant) in
        [("0.3", 0.3), ("1", 1.0), ("60", 0.6), ("100", 1.0), ("0.5%", 0.005), ("'60 %'", 0.6), ("100%", 1.0)]
    {
        let spec = spec(&flat_with("threshold", &format!("threshold: {written}")));
        assert!(
            spec.policies[0].bound().is_some_and(|(_, threshold)| (threshold - meant).abs() < 1e-12),
            "{written}: {:?}",
            spec.policies
        );
    }
}

#[test]
fn a_port_beside_every_port_is_allowed() {
    let services = "[{vip: 45.0.0.1, protocol: tcp}, {vip: 45.0.0.1, protocol: tcp, port: 80}]";
    assert_eq!(spec(&structured(NET, services, GROUP)).services.len(), 2);
}

#[test]
fn ports_make_a_service_each_that_shares_the_rest() {
    let services =
        "[{vip: 45.0.0.1, protocol: udp, spread: by_cloud, slow_start: 30s, ports: {53: 5353, 123: 123}}]";
    let read = spec(&structured(NET, services, GROUP)).services;
    let vip = IpAddr::V4(Ipv4Addr::new(45, 0, 0, 1));
    let service = |port, target_port| ServiceSpec {
        target_port,
        spread: Spread::ByCloud,
        slow_start: Duration::from_secs(30),
        ..ServiceSpec::new(vip, Protocol::Udp, Some(port))
    };
    assert_eq!(read, [service(53, Some(5353)), service(123, None)]);
}

#[test]
fn the_flat_form_spreads_and_starts_slowly_too() {
    let read = spec(&format!("{FLAT}spread: by_cloud\nslow_start: 1m\n"));
    assert_eq!(read.services.len(), spec(FLAT).services.len());
    assert!(!read.services.is_empty());
    assert!(read.services.iter().all(|service| service.spread == Spread::ByCloud));
    assert!(read.services.iter().all(|service| service.slow_start == Duration::from_mins(1)));
}

#[test]
fn other_metrics_have_thresholds_in_their_unit() {
    let text = structured(
        NET,
        TCP,
        &format!("{GROUP}\npolicies: [{{reactive: {{metric: packets, threshold: 5000}}}}]"),
    );
    assert_eq!(spec(&text).policies, [reactive(Metric::Packets, 5000.0)]);
}

#[test]
fn rendered_for_people() {
    let text = FLAT
        .replace("threshold", "treshold")
        .replace("subnet: 19.0.0.0/24", "subnet: 19.0.0.7/24 # ä")
        .replace("max_containers: 5", "max_containers:   five");
    let rendered: Vec<String> = faults(&text).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(rendered.join("\n\n"));
    insta::assert_snapshot!(faults("tenant: [a,\n  b\n")[0].to_string());
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&faults(&flat_with("policy", "policy: dinamic"))).unwrap()
    );
}
