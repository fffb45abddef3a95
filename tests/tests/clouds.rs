//! Containers and namespaces behind one address: several clouds at once, a dockerd that comes and goes, a daemon that
//! is killed, and nothing left.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_containers::{Dockerd, Image};
use sluice_demo::observer::Observer;
use sluice_demo::world::{HostSettings, World};
use sluice_northbound::api::EventKind;
use sluice_tests::{Inventory, Scene, TenantFile, inventory, links, namespaces, number, sluice};
use tokio::time::{Instant, sleep};

/// Longer than the test: no flow ends in it.
const LIFETIME: RangeInclusive<Duration> = Duration::from_mins(5)..=Duration::from_mins(5);
const IMAGE: &str = "sluice/responder:test";

/// For the world of that name.
async fn dockerd(world: &str) -> Result<Dockerd> {
    World::end_earlier(world, &sluice()?)?;
    let dockerd = Dockerd::start("tests").await?;
    dockerd.load(&Image::of(IMAGE, &sluice()?, &["responder"])?).await?;
    // Its containers can be removed from now on.
    World::remove_earlier(world, &sluice()?)?;
    Ok(dockerd)
}

/// Containers are preferred, and there is room for `capacity` of them.
fn settings(dockerd: &Dockerd, capacity: u32) -> HostSettings {
    let clouds = format!(
        "[{{name: spare, provider: netns}}, {{name: containers, provider: docker, priority: 9, capacity: {capacity}, \
         socket: {}}}]",
        dockerd.socket().display()
    );
    HostSettings { clouds: Some(clouds), ..HostSettings::default() }
}

/// A tenant whose instances may be either.
fn tenant(min: u32, max: u32) -> TenantFile {
    TenantFile::structured("web", 80, min, max).with(&format!(
        "template: {{cpus: 0.5, request_cost: 0s, netns: {{}}, docker: {{image: '{IMAGE}', pull: never}}}}\n"
    ))
}

/// How many instances are on the containers' cloud and on the other one.
fn spread(scene: &Scene, web: &TenantFile) -> (usize, usize) {
    let instances = scene.group(&web.name()).map_or(&[][..], |group| &group.instances);
    let containers = instances.iter().filter(|instance| instance.cloud.as_str() == "containers").count();
    (containers, instances.len() - containers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_and_namespaces_serve_one_address() -> Result<()> {
    let dockerd = dockerd("slt_clouds").await?;
    let web = tenant(2, 6);
    let mut scene = Scene::open("slt_clouds", &settings(&dockerd, 2), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    assert_eq!(spread(&scene, &web), (2, 0), "the preferred cloud is filled");
    scene.scale(&web.name(), 4).await?;
    assert_eq!(spread(&scene, &web), (2, 2), "then the next");
    let held = scene.hold(web.vip(), 60, 10, &LIFETIME)?;
    held.open(60, 10).await?;

    dockerd.stop().await?;
    let lost = |times| move |seen: &Observer| seen.count(EventKind::CloudLost) == times;
    scene.observer.until("the cloud is missed", Duration::from_secs(20), lost(1)).await?;
    held.unharmed()?;
    scene.scale(&web.name(), 5).await?;
    assert_eq!(spread(&scene, &web), (2, 3), "containers live on, and the next one goes elsewhere");
    let shown = scene.world.sluice(&["clouds"])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains("containers does not answer"), "{shown}");

    // A daemon that starts while dockerd is away takes the containers over all the same.
    scene.world.kill_daemon()?;
    scene.world.start_daemon().await?;
    scene.settled(&web.name(), 5).await?;
    held.unharmed()?;
    scene.observer.until("the cloud is missed again", Duration::from_secs(20), lost(2)).await?;

    dockerd.start_again().await?;
    let back = |seen: &sluice_demo::observer::Observer| seen.count(EventKind::CloudBack) == 1;
    scene.observer.until("the cloud is back", Duration::from_secs(90), back).await?;
    assert_eq!(scene.observer.count(EventKind::InstanceFailed), 0, "no instance was given up");
    held.close(&scene.observer).await?;

    scene.scale(&web.name(), 2).await?;
    assert_eq!(spread(&scene, &web), (2, 0), "the least preferred cloud is left first");
    scene.close().await?;
    empty(&dockerd).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_that_hangs_takes_nobody_with_it() -> Result<()> {
    const IDLE: &str = "policies: [{reactive: {metric: cpu, threshold: 60%, window: 2s}}]\n";
    let dockerd = dockerd("slt_cloudhang").await?;
    let web = tenant(1, 4);
    let mut scene = Scene::open("slt_cloudhang", &settings(&dockerd, 2), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    scene.scale(&web.name(), 3).await?;
    assert_eq!(spread(&scene, &web), (2, 1));
    let held = scene.hold(web.vip(), 60, 10, &LIFETIME)?;
    held.open(60, 10).await?;

    dockerd.halt().await?;
    let lost = |seen: &Observer| seen.count(EventKind::CloudLost) == 1;
    scene.observer.until("the cloud is missed", Duration::from_secs(30), lost).await?;
    // Nobody works. Were nothing known the same as nothing done, the group would shrink now.
    scene.world.write_tenant(&web.file(), &format!("{}{IDLE}", web.text()))?;
    sleep(Duration::from_secs(number("SLUICE_AWAY_SECONDS", 15).into())).await;
    scene.settled(&web.name(), 3).await?;
    for kind in [EventKind::Draining, EventKind::Terminating, EventKind::InstanceFailed] {
        assert_eq!(scene.observer.count(kind), 0, "{:#?}", scene.observer.events());
    }
    let decision =
        scene.group(&web.name()).and_then(|group| group.last_decision.clone()).context("a decision")?;
    ensure!(decision.reason.contains("2 more without fresh samples"), "{}", decision.reason);
    held.close(&scene.observer).await?;

    dockerd.resume().await?;
    let back = |seen: &Observer| seen.count(EventKind::CloudBack) == 1;
    scene.observer.until("the cloud is back", Duration::from_secs(90), back).await?;
    scene.settled(&web.name(), 1).await?;
    assert_eq!(spread(&scene, &web), (1, 0), "what is known to be idle goes");
    assert_eq!(scene.observer.count(EventKind::InstanceFailed), 0, "no instance was given up");
    scene.close().await?;
    empty(&dockerd).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_while_it_scales_containers_is_repaired() -> Result<()> {
    let dockerd = dockerd("slt_cloudkill").await?;
    let web = tenant(1, 6);
    let mut scene = Scene::open("slt_cloudkill", &settings(&dockerd, 20), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    let held = scene.hold(web.vip(), 20, 5, &LIFETIME)?;
    held.open(20, 5).await?;
    let span = Duration::from_millis(700);
    scene.kill_while_scaling(&web.name(), [4, 1], span, number("SLUICE_KILLS", 4)).await?;
    held.close(&scene.observer).await?;
    scene.close().await?;
    empty(&dockerd).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_containers_leave_nothing() -> Result<()> {
    let dockerd = dockerd("slt_fifty").await?;
    assert_eq!(on_the_host("slt_fifty").await?, (Vec::new(), Vec::new(), false));
    let web = tenant(1, 50);
    let mut scene = Scene::open("slt_fifty", &settings(&dockerd, 100), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    let with_one = counted(&scene, &dockerd).await?;
    let begun = Instant::now();
    scene.scale(&web.name(), 50).await?;
    eprintln!("from 1 to 50 containers in {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(spread(&scene, &web), (50, 0));
    let with_fifty = counted(&scene, &dockerd).await?;
    eprintln!("with one: {with_one:?}\nwith fifty: {with_fifty:?}");
    for kind in ["backends", "containers"] {
        assert_eq!((with_one[kind], with_fifty[kind]), (1, 50), "{kind}");
    }
    // A test that counts nothing sees no leak.
    for kind in ["answers", "links"] {
        assert!(with_fifty[kind] >= with_one[kind] + 49, "{kind}");
    }
    scene.scale(&web.name(), 1).await?;
    assert_eq!(counted(&scene, &dockerd).await?, with_one);
    scene.close().await?;
    empty(&dockerd).await?;
    assert_eq!(on_the_host("slt_fifty").await?, (Vec::new(), Vec::new(), false));
    Ok(())
}

async fn counted(scene: &Scene, dockerd: &Dockerd) -> Result<Inventory> {
    let mut found = inventory(&scene.world).await?;
    found.insert("containers", dockerd.containers().await?.len());
    Ok(found)
}

/// No container is left.
async fn empty(dockerd: &Dockerd) -> Result<()> {
    let left = dockerd.containers().await?;
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

/// What must be as it was, of a world: links of its daemon, named namespaces, pins.
async fn on_the_host(world: &str) -> Result<(Vec<String>, Vec<String>, bool)> {
    let pins = Path::new("/sys/fs/bpf").join(world).exists();
    Ok((links(world).await?, namespaces(world)?, pins))
}
