//! The life of instances.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::AsyncReadExt;

use super::bed::{Bed, PATIENCE, container, runs};
use sluice_southbound::provider::{Halt, InstanceSpec, Presence, Provider, ProviderError};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_and_leaves_nothing() {
    let bed = Bed::new().await;
    let mut spec = bed.spec(&bed.network().await, 1);
    let other = bed.other_nic(1).await;
    spec.other_nics = vec![other.clone()];
    let provider = &bed.provider;
    for _ in 0..2 {
        provider.create(&spec).await.expect("created");
        let found = bed.observed(&spec.id).await.expect("listed");
        assert_eq!((found.presence, found.spec.as_ref()), (Presence::Created, Some(&spec)));
    }
    for _ in 0..2 {
        provider.start(&spec.id).await.expect("started");
        assert_eq!(bed.presence(&spec.id).await, Some(Presence::Running));
    }
    bed.ready(&spec).await;
    for address in [spec.nic.address, other.address] {
        assert_eq!(bed.ask_at(address, &spec, "hello\n").await, format!("{} hello\n", spec.id));
    }

    let metrics = provider.metrics(&spec).await.expect("metrics");
    assert!(metrics.cpu.as_nanos() > 0 && metrics.memory.is_some_and(|bytes| bytes > 0), "{metrics:?}");
    // Of both networks: the instance has answered on each.
    let traffic = metrics.traffic.expect("its traffic");
    assert!(traffic.received > 500 && traffic.sent > 500, "{traffic:?}");
    // They go on by themselves.
    let later = until(async || provider.metrics(&spec).await.ok().filter(|now| now.at > metrics.at)).await;
    assert!(later.cpu >= metrics.cpu, "{later:?} {metrics:?}");
    made_as_asked(&bed, &spec).await;

    provider.stop(&spec.id, PATIENCE).await.expect("stopped");
    provider.stop(&spec.id, PATIENCE).await.expect("stopped already");
    tokio::time::timeout(PATIENCE, provider.ended(&spec.id)).await.expect("it has ended");
    assert_eq!(bed.presence(&spec.id).await, Some(Presence::Exited));
    let none = until(async || provider.metrics(&spec).await.err()).await;
    assert!(matches!(none, ProviderError::Step { .. }), "{none:?}");
    for _ in 0..2 {
        provider.delete(&spec.id).await.expect("deleted");
        assert_eq!(bed.presence(&spec.id).await, None);
    }
    let none = provider.metrics(&spec).await;
    assert!(matches!(none, Err(ProviderError::Unknown(_))), "{none:?}");
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_hear_of_the_end_of_an_instance() {
    let bed = Bed::new().await;
    let network = bed.network().await;
    let specs = [1, 2].map(|number| bed.spec(&network, number));
    let mut streams = Vec::new();
    for spec in &specs {
        bed.launch(spec).await;
        streams.push(bed.connect(spec).await);
    }
    let [stopped, deleted] = &specs;
    bed.provider.stop(&stopped.id, PATIENCE).await.expect("stopped");
    bed.provider.delete(&deleted.id).await.expect("deleted while it runs");
    for (spec, mut stream) in specs.iter().zip(streams) {
        // The end of the stream, or a reset.
        let heard = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 16])).await;
        assert!(matches!(heard, Ok(Ok(0) | Err(_))), "{}: {heard:?}", spec.id);
    }
    bed.down().await;
}

/// What is found at last.
async fn until<T>(find: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            match find().await {
                Some(found) => break found,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("found in time")
}

/// What dockerd says of the container is what the template says.
async fn made_as_asked(bed: &Bed, spec: &InstanceSpec) {
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let name = bed.scope.container(&spec.id);
    let found = client.inspect_container(&name, None).await.expect("the container");
    let host = found.host_config.expect("a configuration");
    assert_eq!((host.nano_cpus, host.memory), (Some(500_000_000), Some(64 << 20)));
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    let config = found.config.expect("a configuration");
    let environment = config.env.expect("an environment");
    for variable in ["GREETING=hello".to_owned(), format!("SLUICE_INSTANCE={}", spec.id)] {
        assert!(environment.contains(&variable), "{variable} is not in {environment:?}");
    }
    assert_eq!(config.labels.expect("labels").get("team").map(String::as_str), Some("shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_start_side_by_side() {
    let bed = Bed::new().await;
    let network = bed.network().await;
    let begun = Instant::now();
    bed.launch(&bed.spec(&network, 1)).await;
    let one = begun.elapsed();

    let specs: Vec<InstanceSpec> = (2..12).map(|number| bed.spec(&network, number)).collect();
    let begun = Instant::now();
    join_all(specs.iter().map(|spec| bed.launch(spec))).await;
    println!("one container: {} ms, ten: {} ms", one.as_millis(), begun.elapsed().as_millis());

    assert_eq!(bed.provider.list().await.expect("list").len(), 11);
    let removals = specs.iter().map(|spec| bed.provider.delete(&spec.id));
    assert!(join_all(removals).await.iter().all(Result::is_ok));
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_container_is_seen_at_once() {
    let bed = Bed::new().await;
    let spec = bed.spec(&bed.network().await, 1);
    bed.launch(&spec).await;
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let ended = bed.provider.ended(&spec.id);
    let name = bed.scope.container(&spec.id);
    let (_, killed) = tokio::join!(tokio::time::timeout(PATIENCE, ended), client.kill_container(&name, None));
    killed.expect("killed");
    assert_eq!(bed.presence(&spec.id).await, Some(Presence::Exited));
    bed.provider.start(&spec.id).await.expect("started again");
    bed.ready(&spec).await;
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_paused_does_not_run() {
    let bed = Bed::new().await;
    let spec = bed.spec(&bed.network().await, 1);
    bed.launch(&spec).await;
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    client.pause_container(&bed.scope.container(&spec.id)).await.expect("paused");
    assert_eq!(bed.presence(&spec.id).await, Some(Presence::Halted(Halt::Paused)));
    bed.provider.stop(&spec.id, Duration::from_millis(200)).await.expect("stopped");
    assert_eq!(bed.presence(&spec.id).await, Some(Presence::Exited));
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_when_asked_is_killed() {
    let bed = Bed::new().await;
    let mut spec = bed.spec(&bed.network().await, 1);
    spec.template.docker = Some(runs("trap '' TERM; while :; do sleep 1; done"));
    bed.provider.create(&spec).await.expect("created");
    bed.provider.start(&spec.id).await.expect("started");
    let begun = std::time::Instant::now();
    bed.provider.stop(&spec.id, std::time::Duration::from_millis(200)).await.expect("stopped");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "not when it was to: {:?}", begun.elapsed());
    assert_eq!(bed.presence(&spec.id).await, Some(Presence::Exited));
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_network_comes_beside_the_tenants() {
    let bed = Bed::new().await;
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let name = format!("{}-beside", bed.scope.name());
    // Its bridge is made on this host, and goes with it.
    let request = bollard::models::NetworkCreateRequest { name: name.clone(), ..Default::default() };
    client.create_network(request).await.expect("a network");
    let mut spec = bed.spec(&bed.network().await, 1);
    spec.template.docker =
        Some(sluice_logic::spec::DockerTemplate { network: Some(name.clone()), ..container() });
    bed.launch(&spec).await;
    let answer = bed.ask(&spec, "hello\n").await;
    bed.provider.delete(&spec.id).await.expect("deleted");
    client.remove_network(&name).await.expect("removed");
    assert_eq!(answer, format!("{} hello\n", spec.id));
    bed.down().await;
}
