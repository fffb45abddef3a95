//! `sluice lb watch`, and what is left of one that was killed.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_common::abi::VERSION;
use serde_json::Value;
use sluice_demo::traffic::Arrivals;
use sluice_demo::world::HostSettings;
use sluice_tests::{Scene, TenantFile, sluice};
use tokio::time::{Instant, sleep};

/// For a decision while there is traffic, and for the kernel to free a program.
const PATIENCE: Duration = Duration::from_secs(20);

/// A watcher, as JSON.
fn command(scene: &Scene) -> Result<Command> {
    let mut command = Command::new(sluice()?);
    command.args(["lb", "--json", "--config"]).arg(scene.world.host_file()).arg("watch");
    Ok(command)
}

/// Starts one and waits for the first decision that it shows.
fn shown(scene: &Scene) -> Result<(Child, Value)> {
    let mut watcher = command(scene)?.stdout(Stdio::piped()).spawn()?;
    let output = watcher.stdout.take().context("no output")?;
    let (lines, first) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    let first = first.recv_timeout(PATIENCE);
    if first.is_err() {
        watcher.kill()?;
    }
    let line = first.with_context(|| format!("no decision is shown: {:?}", watcher.try_wait()))?;
    Ok((watcher, serde_json::from_str(&line)?))
}

/// The ids of the watchers' programs that the kernel has, of those on this world's maps.
fn programs(scene: &Scene) -> Result<BTreeSet<u64>> {
    let control = format!("/sys/fs/bpf/{}/v{VERSION}/control", scene.world.name());
    let control = bpftool(&["map", "show", "pinned", &control])?;
    let is_ours = |program: &&Value| {
        let maps = program["map_ids"].as_array();
        program["name"] == "watch" && maps.is_some_and(|maps| maps.contains(&control["id"]))
    };
    let all = bpftool(&["prog", "show"])?;
    let watchers = all.as_array().into_iter().flatten().filter(is_ours);
    Ok(watchers.filter_map(|program| program["id"].as_u64()).collect())
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let done = Command::new("bpftool").arg("--json").args(arguments).output().context("bpftool")?;
    ensure!(done.status.success(), "bpftool: {}", String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::from_slice(&done.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_is_killed_leaves_its_place_and_nothing_else() -> Result<()> {
    let web = TenantFile::new("web", 80, 1, 2);
    let mut scene = Scene::open("slt_watch", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    let load = scene.load(web.vip(), 50.0, &Arrivals::default())?;
    let mut ours = BTreeSet::new();
    for _ in 0..3 {
        let (mut watcher, decision) = shown(&scene)?;
        assert!(decision["outcome"].is_object(), "{decision:#}");
        ours.extend(programs(&scene)?);
        watcher.kill()?;
        watcher.wait()?;
    }
    assert!(ours.len() >= 3, "each has a program of its own: {ours:?}");
    let next = command(&scene)?.args(["--count", "3"]).output()?;
    assert!(next.status.success(), "{next:?}");
    assert_eq!(String::from_utf8(next.stdout)?.lines().count(), 3);

    let began = Instant::now();
    while !ours.is_disjoint(&programs(&scene)?) {
        ensure!(began.elapsed() < PATIENCE, "of {ours:?} are left: {:?}", programs(&scene)?);
        sleep(Duration::from_millis(50)).await;
    }
    load.stop().await;
    let counts = load.counts();
    assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{:#?}", load.failures());
    scene.close().await
}
