//! What a crash leaves is found, and completed or removed; dockerd comes and goes.

use std::sync::Arc;

use lb_userspace::net::{Links, Netns, VethEnd};
use sluice_containers::Dockerd;
use sluice_logic::spec::ProviderKind;
use sluice_southbound::provider::{Presence, Provider, ProviderError};

use super::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_was_cut_off_at_any_step_is_completed_or_removed() {
    let bed = Bed::new().await;
    let network = bed.network().await;
    let client = bed.dockerd.client().expect("a client").negotiate_version().await.expect("a version");
    for (number, complete) in [(1, false), (2, true)] {
        let spec = bed.spec(&network, number);
        bed.provider.create(&spec).await.expect("created");
        assert_eq!(bed.presence(&spec.id).await, Some(Presence::Created));
        // A crash between the start of its process and its first link.
        client.start_container(&bed.scope.container(&spec.id), None).await.expect("started");
        let next = bed.restarted();
        let listed = next.list().await.expect("list");
        assert_eq!((listed.len(), listed[0].presence), (1, Presence::Running));
        if complete {
            next.create(&spec).await.expect("there already");
            next.start(&spec.id).await.expect("plugged in");
            bed.ready(&spec).await;
        }
        next.delete(&spec.id).await.expect("deleted");
    }
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_a_container_is_found_and_removed() {
    let bed = Bed::new().await;
    let spec = bed.spec(&bed.network().await, 1);
    let netns = Netns::create(&format!("{}-remains", bed.scope.name())).expect("a namespace");
    let (outside, inside) = (Netns::current().map(|host| Links::open(&host)), Links::open(&netns));
    let (outside, inside) = (outside.expect("a namespace").expect("netlink"), inside.expect("netlink"));
    let port = bed.scope.instance_port(&spec.id);
    let mark = bed.scope.instance_mark(ProviderKind::Docker, &spec.tenant, &spec.id);
    let end = |links, name| VethEnd { links, name, mac: None, master: None };
    outside.ensure_veth(&mark, &end(&outside, &port), &end(&inside, "eth0")).await.expect("a veth");

    assert_eq!(bed.presence(&spec.id).await, Some(Presence::Broken));
    bed.provider.delete(&spec.id).await.expect("deleted");
    let left = bed.ports().await;
    Netns::delete(&format!("{}-remains", bed.scope.name())).expect("deleted");
    assert!(left.is_empty(), "{left:?}");
    bed.down().await;
}

/// dockerd has `live-restore`: its containers, and the traffic to them, know nothing of its absence.
#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_while_dockerd_is_away() {
    let bed = Bed::on(Arc::new(Dockerd::start("southbound-restarts").await.expect("a dockerd"))).await;
    let spec = bed.spec(&bed.network().await, 1);
    bed.launch(&spec).await;
    let measured = async || bed.provider.metrics(&spec).await;
    let mut before = measured().await.expect("metrics");
    for crash in [false, true] {
        let ended = tokio::spawn({
            let (provider, id) = (bed.provider.clone(), spec.id.clone());
            async move { provider.ended(&id).await }
        });
        if crash { bed.dockerd.kill().await } else { bed.dockerd.stop().await }.expect("ended");
        assert!(bed.ask(&spec, "hello\n").await.contains("hello"));
        let unavailable = bed.provider.list().await;
        assert!(matches!(unavailable, Err(ProviderError::Unavailable { .. })), "{unavailable:?}");
        let unavailable = measured().await;
        assert!(matches!(unavailable, Err(ProviderError::Unavailable { .. })), "{unavailable:?}");
        bed.dockerd.start_again().await.expect("started");
        assert_eq!(bed.presence(&spec.id).await, Some(Presence::Running));
        assert!(bed.ask(&spec, "again\n").await.contains("again"));
        let after = measured().await.expect("metrics");
        assert!(after.at > before.at && after.cpu >= before.cpu, "{after:?} {before:?}");
        before = after;
        assert!(!ended.is_finished(), "it has not ended");
        ended.abort();
    }
    bed.provider.delete(&spec.id).await.expect("deleted");
    bed.down().await;
}
