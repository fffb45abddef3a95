//! Faults: what is said of them, and what is left alone.

use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use sluice_logic::spec::{DockerAddress, DockerTemplate, PullPolicy};
use sluice_southbound::docker::DockerProvider;
use sluice_southbound::provider::{Provider, ProviderError};

use super::bed::{Bed, IMAGE, PATIENCE, container, runs};

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_container_is_never_touched() {
    let bed = Bed::new().await;
    let spec = bed.spec(&bed.network().await, 1);
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    let name = bed.scope.container(&spec.id);
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let body = ContainerCreateBody { image: Some(IMAGE.to_owned()), ..Default::default() };
    client.create_container(Some(options), body).await.expect("a container that is not ours");

    let error = bed.provider.create(&spec).await.expect_err("its name is taken").to_string();
    assert!(error.contains(&name) && error.contains("in use"), "{error}");
    assert_eq!(bed.provider.list().await.expect("list"), []);
    bed.provider.delete(&spec.id).await.expect("nothing of ours is there");
    let unknown = bed.provider.start(&spec.id).await;
    assert!(matches!(unknown, Err(ProviderError::Unknown(_))), "{unknown:?}");
    bed.provider.remove_all().await.expect("removed");

    client.inspect_container(&name, None).await.expect("it is still there");
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    client.remove_container(&name, Some(force)).await.expect("removed");
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_or_started_says_why() {
    let bed = Bed::new().await;
    let network = bed.network().await;
    let missing = DockerTemplate { image: "sluice/none:1".to_owned(), ..container() };
    // Nobody listens on that port.
    let unreachable =
        DockerTemplate { image: "127.0.0.1:9/none:1".to_owned(), pull: PullPolicy::IfMissing, ..container() };
    let no_program = DockerTemplate { command: Some(vec!["/no/such/program".to_owned()]), ..container() };
    let table = [
        (missing, "there is no image `sluice/none:1`"),
        (unreachable, "127.0.0.1:9"),
        (no_program, "/no/such/program"),
        (runs("echo out of cheese; exit 3"), "exit code 3: out of cheese"),
    ];
    for (number, (template, fragment)) in (1..).zip(table) {
        let mut spec = bed.spec(&network, number);
        spec.template.docker = Some(template);
        let failed = async {
            if let Err(error) = bed.provider.create(&spec).await {
                return error.to_string();
            }
            // It may live until it has its links, and end after that.
            loop {
                if let Err(error) = bed.provider.start(&spec.id).await {
                    return error.to_string();
                }
            }
        };
        let error = tokio::time::timeout(PATIENCE, failed).await.expect("in time");
        assert!(
            error.contains(fragment) && error.contains(spec.id.as_str()),
            "`{fragment}` is not in: {error}"
        );
        bed.provider.delete(&spec.id).await.expect("deleted");
    }
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dockerd_the_way_out_is_named() {
    let bed = Bed::new().await;
    let spec = bed.spec(&bed.network().await, 1);
    let address = DockerAddress::Socket("/run/no-such-docker.sock".into());
    let provider = DockerProvider::open(bed.scope.clone(), address).expect("a provider");
    for result in
        [provider.list().await.map(|_| ()), provider.create(&spec).await, provider.delete(&spec.id).await]
    {
        let error = result.expect_err("there is none");
        assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("/run/no-such-docker.sock"), "{error}");
    }
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_leaves_nothing_that_delete_does_not_remove() {
    let bed = Bed::new().await;
    let network = bed.network().await;
    for (number, millis) in (1..).zip([0, 1, 5, 20, 80, 200]) {
        let spec = bed.spec(&network, number);
        let making = async {
            bed.provider.create(&spec).await?;
            bed.provider.start(&spec.id).await
        };
        let _ = tokio::time::timeout(Duration::from_millis(millis), making).await;
        bed.provider.delete(&spec.id).await.expect("deleted");
        assert_eq!(bed.presence(&spec.id).await, None, "after {millis} ms");
    }
    bed.down().await;
}
