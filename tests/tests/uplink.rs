//! What is wrong with the uplink is said while it is so, with what mends it.

use std::fs;
use std::process::Command as StdCommand;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_demo::observer::Observer;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, sluice};
use tokio::process::Command;
use tokio::time::timeout;

/// The uplink is polled every five seconds.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_problem_is_listed_from_its_beginning_to_its_end() -> Result<()> {
    let mut scene = Scene::open("slt_uplink", &HostSettings::default(), &[]).await?;
    scene.observer.look().await?;
    assert_eq!(problems(&scene.observer), 0, "{:#?}", scene.observer.status());
    ip(&["-n", "slt_uplink-client", "link", "set", "cl0", "down"])?;
    let found = |seen: &Observer| problems(seen) == 1 && seen.count(EventKind::ProblemFound) == 1;
    scene.observer.until("a problem", FOUND_WITHIN, found).await?;
    let text = scene.world.sluice(&["status"])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("problem: the uplink `up0`: it has no carrier"), "{text}");

    ip(&["-n", "slt_uplink-client", "link", "set", "cl0", "up"])?;
    let solved = |seen: &Observer| problems(seen) == 0 && seen.count(EventKind::ProblemSolved) == 1;
    scene.observer.until("the end of the problem", FOUND_WITHIN, solved).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uplink_without_ethernet_or_with_anothers_program_is_refused_by_name() -> Result<()> {
    let mut scene = Scene::open("slt_noether", &HostSettings::default(), &[]).await?;
    scene.world.stop_daemon().await?;
    scene.world.down()?;
    let transit = ["-n", "slt_noether-transit"];
    ip(&[&transit[..], &["tuntap", "add", "wg0", "mode", "tun"]].concat())?;
    let good = fs::read_to_string(scene.world.host_file())?;
    fs::write(scene.world.host_file(), good.replace("uplink: up0", "uplink: wg0"))?;
    let said = refusal(&scene).await?;
    assert!(said.contains("`wg0`") && said.contains("no Ethernet frames"), "{said}");
    fs::write(scene.world.host_file(), &good)?;

    let other = lb_userspace::lb::attach_receiver(scene.world.network().transit(), "up0")?;
    let said = refusal(&scene).await?;
    assert!(said.contains("ip netns exec slt_noether-transit ip link set up0 xdp off"), "{said}");
    drop(other);
    scene.world.start_daemon().await?;
    scene.close().await
}

/// What a daemon says that does not start.
async fn refusal(scene: &Scene) -> Result<String> {
    let mut command = Command::new(sluice()?);
    command.arg("run").arg("--config").arg(scene.world.host_file()).kill_on_drop(true);
    let done = timeout(FOUND_WITHIN, command.output()).await.context("it runs")??;
    ensure!(!done.status.success(), "it has ended without a fault");
    Ok(String::from_utf8_lossy(&done.stderr).into_owned())
}

fn problems(seen: &Observer) -> usize {
    seen.status().map_or(0, |status| status.problems.len())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let done = StdCommand::new("ip").args(arguments).status()?;
    ensure!(done.success(), "ip {arguments:?}");
    Ok(())
}
