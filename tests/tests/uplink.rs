//! What is wrong with the uplink is said while it is so, with what mends it.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command as StdCommand;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_userspace::lb::look::Look;
use lb_userspace::net::{Links, TagOffload};
use sluice_demo::observer::Observer;
use sluice_demo::world::{CLIENT_LINK, HostSettings};
use sluice_northbound::api::EventKind;
use sluice_tests::frames::{Macs, ping, tagged, tagged_by_provider};
use sluice_tests::{Scene, TenantFile, Wire, sluice};
use tokio::process::Command;
use tokio::time::timeout;

/// The uplink is polled every five seconds.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
const TAGGED: &str = "slt_tagged";

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

/// On a bridge the kernel takes a frame's tag out of it and keeps it beside; and a veth hands it over like that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_whose_tag_came_beside_it_is_not_balanced() -> Result<()> {
    let tenant = TenantFile::new("tagged", 70, 1, 1);
    let mut scene = Scene::open(TAGGED, &HostSettings::default(), &[&tenant]).await?;
    scene.settled(&tenant.name(), 1).await?;
    let (client, transit) = (scene.world.network().client().clone(), scene.world.network().transit().clone());
    let hidden = || -> Result<_> {
        let own = transit.tag_offloads("up0", &TagOffload::RECEIVING)?;
        Ok((own, client.tag_offloads(CLIENT_LINK, &TagOffload::SENDING)?))
    };
    assert_eq!(hidden()?, (BTreeSet::new(), BTreeSet::new()), "the daemon has switched them off");

    let netns = format!("{TAGGED}-client");
    for arguments in [
        "link add br0 type bridge",
        "link add far0 type veth peer name near0",
        "link set near0 master br0",
        "link set cl0 master br0",
        "link set br0 up",
        "link set near0 up",
        "link set far0 up",
    ] {
        ip(&[&["-n", &netns][..], &arguments.split(' ').collect::<Vec<_>>()].concat())?;
    }
    let wire = Wire::open(&client, "far0").await?;
    let links = Links::open(&transit)?.list().await?;
    let destination = links.iter().find(|link| link.name == "up0").and_then(|link| link.mac);
    let macs = Macs { source: wire.mac(), destination: destination.context("no uplink")? };
    let balanced = || -> Result<u64> {
        let services = Look::open(&Path::new("/sys/fs/bpf").join(TAGGED))?.services()?;
        Ok(services.iter().map(|service| service.counters.packets).sum())
    };
    let plain = |number| ping(macs, Ipv4Addr::new(198, 51, 100, 9), tenant.vip(), number, 1);
    let before = balanced()?;
    for number in 0..100 {
        wire.send(&tagged(plain(number), 5))?;
        wire.send(&tagged_by_provider(plain(number), 5))?;
    }
    // Frames keep their order.
    wire.send(&plain(100))?;
    let deadline = Instant::now() + FOUND_WITHIN;
    while balanced()? == before {
        ensure!(Instant::now() < deadline, "a frame without a tag is not balanced");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(balanced()? - before, 1);

    scene.world.stop_daemon().await?;
    scene.world.down()?;
    let all = (TagOffload::RECEIVING.into(), TagOffload::SENDING.into());
    assert_eq!(hidden()?, all, "`sluice down` has switched them on again");
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
