//! What a crash, a kill or a cancelled call leaves is found, and completed or removed.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn creation_that_stopped_at_any_step_is_listed_deleted_and_completed() {
    let host = Host::new();
    let network = host.network("demo", 2).await;
    for steps in 1..=4 {
        for complete in [false, true] {
            let spec = instance_spec(&network, steps);
            let inner = &host.provider.0;
            inner.write_label(&spec).expect("a label");
            if steps >= 2 {
                let netns = inner.make_namespace(&spec).await.expect("a namespace");
                if steps >= 3 {
                    inner.make_cgroup(&spec).expect("a cgroup");
                }
                if steps >= 4 {
                    half_plug(inner, &spec, &netns).await;
                }
            }
            let next = host.restarted();
            let listed = next.list().await.expect("list");
            assert_eq!(listed.len(), 1, "after {steps} steps: {listed:?}");
            assert_eq!((&listed[0].id, listed[0].presence), (&spec.id, Presence::Created));
            if complete {
                next.create(&spec).await.expect("completed");
                next.start(&spec.id).await.expect("started");
                host.ready(&spec).await;
            }
            next.delete(&spec.id).await.expect("deleted");
            assert_eq!(host.presence(&spec.id).await, None);
        }
    }
    host.down().await;
}

/// A veth as it is a moment after it was made: no alias, no address, not up.
async fn half_plug(inner: &Inner, spec: &InstanceSpec, netns: &Netns) {
    let inside = Links::open(netns).expect("netlink");
    let port = inner.scope.instance_port(&spec.id);
    let mark = lb_userspace::net::Mark { group: inner.scope.group(), alias: String::new() };
    let outer = VethEnd { links: inner.ports.host(), name: &port, mac: None, master: None };
    let end = VethEnd { links: &inside, name: "eth0", mac: None, master: None };
    inner.ports.host().ensure_veth(&mark, &outer, &end).await.expect("a veth");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_that_stopped_at_any_step_is_listed_and_completed() {
    let host = Host::new();
    let network = host.network("demo", 3).await;
    for steps in 1..=4 {
        let spec = instance_spec(&network, steps);
        host.provider.create(&spec).await.expect("created");
        host.provider.start(&spec.id).await.expect("started");
        let inner = &host.provider.0;
        let group = inner.group(&spec.id);
        process::kill(&group).await.expect("killed");
        if steps >= 2 {
            inner.remove_cgroup(&spec.id, &group).await.expect("cgroup");
        }
        if steps >= 3 {
            inner.ports.unplug(&spec.id).await.expect("unplugged");
        }
        if steps >= 4 {
            inner.remove_namespace(&spec.id).expect("namespace");
        }
        let next = host.restarted();
        let listed = next.list().await.expect("list");
        assert_eq!(listed.len(), 1, "after {steps} steps: {listed:?}");
        assert_eq!((&listed[0].id, listed[0].presence), (&spec.id, Presence::Exited));
        next.delete(&spec.id).await.expect("deleted");
        assert_eq!(host.presence(&spec.id).await, None);
    }
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remains_without_a_label_are_broken_and_can_be_deleted() {
    let host = Host::new();
    let network = host.network("demo", 4).await;
    let (lost, bad) = (instance_spec(&network, 1), instance_spec(&network, 2));
    for spec in [&lost, &bad] {
        host.provider.create(spec).await.expect("created");
        host.provider.start(&spec.id).await.expect("started");
    }
    let label = |spec: &InstanceSpec| host.scope.instances_dir().join(format!("{}.json", spec.id));
    fs::remove_file(label(&lost)).expect("removed");
    fs::write(label(&bad), "{\"id\":").expect("truncated");
    for spec in [&lost, &bad] {
        assert_eq!(host.presence(&spec.id).await, Some(Presence::Broken));
        host.provider.delete(&spec.id).await.expect("deleted");
        assert_eq!(host.presence(&spec.id).await, None);
    }
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_outlives_its_daemon_and_the_next_one_finds_it() {
    let host = Host::new();
    let network = host.network("demo", 5).await;
    let spec = instance_spec(&network, 1);
    let (scope, created) = (host.scope.clone(), spec.clone());
    // A daemon with a runtime of its own, which ends.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let provider = NetnsProvider::with_responder(scope, responder(), vec![responder().into()])
                .expect("a provider");
            provider.create(&created).await.expect("created");
            provider.start(&created.id).await.expect("started");
        });
    })
    .join()
    .expect("the daemon ended well");
    host.ready(&spec).await;
    let listed = host.provider.list().await.expect("list");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].presence, listed[0].spec.as_ref()), (Presence::Running, Some(&spec)));
    host.provider.stop(&spec.id, PATIENCE).await.expect("stopped");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Exited));
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_end_is_killed_with_its_children() {
    let host = Host::new();
    let network = host.network("demo", 9).await;
    let mut spec = instance_spec(&network, 1);
    let script =
        "trap '' TERM; (trap '' TERM; while :; do sleep 60; done) & echo up; while :; do sleep 60; done";
    spec.template.netns = Some(runs(&["sh", "-c", script]));
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    let log = host.provider.log_of(&spec.id);
    wait_until(|| fs::read_to_string(&log).is_ok_and(|text| text.contains("up"))).await;
    let begin = Instant::now();
    host.provider.stop(&spec.id, Duration::from_millis(200)).await.expect("stopped");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(host.provider.0.group(&spec.id).processes().expect("none"), Vec::<i32>::new());
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_process_is_seen_and_it_starts_again() {
    let host = Host::new();
    let network = host.network("demo", 10).await;
    let spec = instance_spec(&network, 1);
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    host.ready(&spec).await;
    process::kill(&host.provider.0.group(&spec.id)).await.expect("killed");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Exited));
    host.provider.start(&spec.id).await.expect("started again");
    host.ready(&spec).await;
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_leaves_nothing_that_delete_does_not_remove() {
    let host = Host::new();
    let network = host.network("demo", 11).await;
    for micros in [0, 50, 200, 1_000, 3_000, 10_000] {
        let spec = instance_spec(&network, 1);
        let creation = tokio::time::timeout(Duration::from_micros(micros), host.provider.create(&spec));
        let _ = creation.await;
        host.provider.delete(&spec.id).await.expect("deleted");
        assert_eq!(host.presence(&spec.id).await, None, "cancelled after {micros} µs");
    }
    host.down().await;
}
