//! What is kept of the past: over a kill -9, as files, and with metrics of a tenant's own.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sluice_demo::world::{HostSettings, World};
use sluice_northbound::api::Explanation;
use sluice_tests::{Scene, TenantFile, midday};

/// What a daemon reads at its begin is there within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group that a metric of its own moves: one instance for each 10 in the queue.
const QUEUE: &str = "\
tenant: queue
networks: [{name: queue_nw, subnet: 10.232.90.0/24}]
services: [{vip: 198.51.100.90, protocol: tcp, port: 80}]
template: {cpus: 1, memory: 64MiB, request_cost: 0s}
group: {min: 2, max: 4, buffer_time: 1s, cool_down: 2s}
policies:
  - reactive: {metric: custom/load, threshold: 10, window: 10m}
";

fn sluice(world: &World, args: &[&str]) -> Result<Output> {
    world.sluice(args)
}

fn printed(world: &World, args: &[&str]) -> Result<String> {
    let done = sluice(world, args)?;
    ensure!(done.status.success(), "{args:?}: {done:?}");
    Ok(String::from_utf8(done.stdout)?)
}

fn refused(world: &World, args: &[&str]) -> Result<String> {
    let done = sluice(world, args)?;
    ensure!(done.status.code() == Some(2), "{args:?}: {done:?}");
    Ok(String::from_utf8(done.stderr)?)
}

fn explained(world: &World) -> Result<Explanation> {
    Ok(serde_json::from_str(&printed(world, &["explain", "queue", "--json"])?)?)
}

/// Pushes a value for each instance in service.
fn push_all(scene: &Scene, tenant: &TenantFile, value: &str) -> Result<()> {
    for instance in scene.in_service(&tenant.name()) {
        printed(&scene.world, &["push", "queue", "load", value, "--instance", instance.as_str()])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_survives_a_kill_and_is_exported() -> Result<()> {
    let queue = TenantFile::new("queue", 90, 2, 4);
    let mut scene = Scene::open("slt_past", &HostSettings::default(), &[]).await?;
    scene.world.write_tenant("queue.yml", QUEUE)?;
    scene.settled(&queue.name(), 2).await?;

    // What is no sample is refused with its reason, and counted.
    for (value, reason) in
        [("nan", "not a finite number"), ("inf", "not a finite number"), ("-3", "negative")]
    {
        let error = refused(&scene.world, &["push", "queue", "load", value])?;
        assert!(error.contains(reason), "{value}: {error}");
    }
    let future = ["push", "queue", "load", "1", "--at", "2999-01-01T00:00:00Z"];
    assert!(refused(&scene.world, &future)?.contains("future"));
    assert!(
        refused(&scene.world, &["push", "queue", "load", "1", "--instance", "queue-0"])?
            .contains("no instance")
    );
    assert!(refused(&scene.world, &["push", "nobody", "load", "1"])?.contains("no tenant"));
    assert_eq!(explained(&scene.world)?.refused.values().sum::<u64>(), 4);

    // A metric of its own scales the group out, and it says why.
    push_all(&scene, &queue, "20")?;
    scene.settled(&queue.name(), 4).await?;
    let explanation = explained(&scene.world)?;
    assert_eq!((explanation.desired, explanation.instances.in_service), (4, 4));
    assert!(!explanation.why_not_more.is_empty(), "{explanation:#?}");
    assert!(explanation.newest.iter().any(|sample| sample.metric.to_string() == "custom/load"));
    assert!(
        explanation.newest.iter().any(|sample| sample.metric.to_string() == "memory"),
        "{explanation:#?}"
    );

    // What was written survives a kill -9; the windows are there again.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let pushed = |explanation: &Explanation| {
        let of_load = explanation.newest.iter().filter(|sample| sample.metric.to_string() == "custom/load");
        of_load.map(|sample| (sample.instance.clone(), sample.at)).collect::<Vec<_>>()
    };
    let before = pushed(&explained(&scene.world)?);
    assert_eq!(before.len(), 2);
    scene.world.kill_daemon()?;
    let offline = printed(
        &scene.world,
        &["export", "--kind", "activities", "--tz", &midday(), "--config", &config(&scene)],
    )?;
    assert!(offline.starts_with("time,tenant,action,from,to,reason,"), "{offline}");
    assert!(offline.contains(",queue,out,2,4,"), "{offline}");
    scene.world.start_daemon().await?;
    scene.settled(&queue.name(), 4).await?;
    let begin = Instant::now();
    while pushed(&explained(&scene.world)?) != before {
        ensure!(begin.elapsed() < PATIENCE, "{:#?} is not {before:#?}", explained(&scene.world)?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    exports(&scene)?;
    scene.close().await
}

/// The daemon exports what the store holds.
fn exports(scene: &Scene) -> Result<()> {
    let zone = midday();
    let export = |args: &[&str]| printed(&scene.world, &[&["export", "--tz", &zone], args].concat());
    let activities = export(&["--kind", "activities", "--tenant", "queue", "--json"])?;
    let activity: Value = serde_json::from_str(activities.lines().next().context("an activity")?)?;
    assert_eq!((&activity["decision"]["from"], &activity["decision"]["to"]), (&2.into(), &4.into()));
    assert_eq!(activity["outcome"]["kind"], "reached", "{activity}");
    assert!(activity["decision"]["policies"][0]["reason"].is_string(), "{activity}");
    let decisions = export(&["--kind", "decisions"])?;
    assert!(decisions.lines().count() > 10 && decisions.contains(",queue,nothing,4,4,"), "{decisions}");
    let samples = export(&["--kind", "samples"])?;
    for series in [",queue,group,,cpu,average,", ",custom/load,,1,20,20,20,20,20\r", ",memory,,"] {
        assert!(samples.contains(series), "no `{series}` in\n{samples}");
    }
    let fine = export(&["--kind", "samples", "--fine"])?;
    assert!(fine.lines().count() > samples.lines().count(), "{fine}");
    let yesterday = export(&["--kind", "samples", "--day", "2020-01-01"])?;
    assert_eq!(yesterday.lines().count(), 1, "a header");
    let error = refused(&scene.world, &["export", "--tz", "Mars/Olympus"])?;
    assert!(error.contains("Mars/Olympus"), "{error}");
    assert!(refused(&scene.world, &["export", "--tenant", "nobody"])?.contains("nobody"));
    Ok(())
}

fn config(scene: &Scene) -> String {
    scene.world.host_file().display().to_string()
}
