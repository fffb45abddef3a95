//! What the project's image does beside its program.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::TryStreamExt as _;
use sluice_logic::spec::{DockerTemplate, Exporter, MetricSource};
use sluice_southbound::dhcp::{DhcpNetwork, Lease};
use sluice_southbound::management::Management;
use sluice_southbound::metrics::{Quota, SourceError, Target, read};
use sluice_southbound::probe;
use sluice_southbound::provider::{InstanceSpec, Provider};
use sluice_southbound::syslog::{Intake, IntakeLimits, Listener};

use super::bed::{Bed, IMAGE, PATIENCE, container};

/// The port of syslog, RFC 5426.
const SYSLOG: u16 = 514;
/// The exporter's.
const METRICS: u16 = 9100;

/// Bytes: a busybox, the C library, and the responder without its debug information, which would be 50 MB.
const LARGEST: i64 = 12_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_image_is_small() {
    let bed = Bed::new().await;
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let size = client.inspect_image(IMAGE).await.expect("the image").size.expect("its size");
    println!("{IMAGE}: {size} bytes");
    assert!(size < LARGEST, "{size}");
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_told_and_the_log_is_sent_on_the_management_network() {
    let bed = Bed::new().await;
    let management = bed.management().await;
    let here = SocketAddr::from((management.address(), SYSLOG));
    let intake = Intake::new(IntakeLimits::default());
    let mut listener =
        Listener::open(management.netns(), here, &intake, |_| Some(())).expect("the port is free");
    let mut spec = bed.spec(&bed.network().await, 1);
    spec.management = management.lease(&spec.id);
    management.admit(&spec).await.expect("admitted");
    bed.launch(&spec).await;
    assert_eq!(bed.ask(&spec, "hello\n").await, format!("{} hello\n", spec.id));

    let address = spec.management.as_ref().expect("a place").address;
    probe::wait_until_ready(management.netns(), SocketAddrV4::new(address, METRICS), PATIENCE)
        .await
        .expect("ready");
    for series in
        ["node_memory_MemTotal_bytes", "node_cpu_seconds_total", "container_cpu_usage_seconds_total"]
    {
        let value = scrape(&bed, &management, &spec, "/metrics", series).await.expect(series);
        assert!(value > 0.0, "{series}: {value}");
    }
    let elsewhere =
        scrape(&bed, &management, &spec, "/", "node_load1").await.expect_err("nothing").to_string();
    assert!(elsewhere.contains("404") && elsewhere.contains("/metrics"), "{elsewhere}");
    bed.refuses(SocketAddrV4::new(spec.nic.address, METRICS)).await;

    // The exporter comes after the log.
    inside(&bed, &spec, &["logger", "-t", "shop", "a line of its own"]).await;
    for line in [format!("{} is up", spec.id), "a line of its own".to_owned()] {
        let received = tokio::time::timeout(PATIENCE, listener.messages.recv()).await.expect("in time");
        let received = received.expect("it listens");
        assert_eq!((received.message.text, received.from), (line, address.into()));
    }

    bed.provider.stop(&spec.id, PATIENCE).await.expect("stopped");
    assert_eq!(exit_code(&bed, &spec).await, Some(0), "the responder has heard SIGTERM");
    bed.down().await;
}

/// A series of the instance's exporter as the daemon reads it.
async fn scrape(
    bed: &Bed,
    management: &Management,
    spec: &InstanceSpec,
    path: &str,
    series: &str,
) -> Result<f64, SourceError> {
    let source = MetricSource::Exporter(Exporter {
        port: METRICS,
        path: path.to_owned(),
        series: series.to_owned(),
        labels: BTreeMap::new(),
        rate: false,
    });
    let target =
        Target { id: spec.id.clone(), address: spec.nic.address, management: management.address_of(spec) };
    let mut readings =
        read(&source, &Quota::default(), Some(management.netns()), bed.transit(), &[target], PATIENCE).await;
    readings.remove(0).map(|reading| reading.value)
}

/// Runs a program in the container, to its end.
async fn inside(bed: &Bed, spec: &InstanceSpec, command: &[&str]) {
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let config = ExecConfig { cmd: Some(command), attach_stderr: Some(true), ..ExecConfig::default() };
    let exec = client.create_exec(&bed.scope.container(&spec.id), config).await.expect("made").id;
    let StartExecResults::Attached { output, .. } = client.start_exec(&exec, None).await.expect("started")
    else {
        panic!("it was to be attached")
    };
    let said: Vec<LogOutput> = output.try_collect().await.expect("its end");
    let ended = client.inspect_exec(&exec).await.expect("its state");
    assert_eq!(ended.exit_code, Some(0), "{said:?}");
}

async fn exit_code(bed: &Bed, spec: &InstanceSpec) -> Option<i64> {
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let found = client.inspect_container(&bed.scope.container(&spec.id), None).await.expect("the container");
    found.state.expect("a state").exit_code
}

/// What it may do with the answer is another matter: the provider's containers have no `NET_ADMIN`, and their addresses.
#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_named_asks_by_dhcp() {
    let bed = Bed::new().await;
    let network = bed.network().await;
    let mut spec = bed.spec(&network, 1);
    let environment = BTreeMap::from([("SLUICE_DHCP".to_owned(), "eth0".to_owned())]);
    spec.template.docker = Some(DockerTemplate { environment, ..container() });
    let dhcp = DhcpNetwork {
        bridge: network.bridge.clone(),
        subnet: spec.nic.subnet(),
        router: spec.nic.gateway,
        log_server: None,
    };
    let lease = Lease { id: spec.id.clone(), mac: spec.nic.mac, address: spec.nic.address };
    bed.dhcp().lease(&dhcp, &lease).await.expect("a server");
    bed.launch(&spec).await;

    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let follow = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(true).build();
    let mut said = client.logs(&bed.scope.container(&spec.id), Some(follow));
    let answered = async {
        while let Some(line) = said.try_next().await.expect("its log") {
            if line.to_string().contains(&format!("lease of {} obtained", spec.nic.address)) {
                return;
            }
        }
        panic!("the container has ended");
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("a lease in time");
    bed.down().await;
}
