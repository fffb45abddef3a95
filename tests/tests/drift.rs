//! What somebody takes away of what the daemon has made is there again within seconds, and said.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_userspace::net::{Link, Links, Netns};
use sluice_demo::observer::Observer;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const WORLD: &str = "slt_drift";
const TRANSIT: &str = "slt_drift-transit";
const CLIENT: &str = "slt_drift-client";
/// Traffic flows again within this time.
const WITHIN: Duration = Duration::from_secs(5);
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// A way to take something away, with the names of the links that there are.
type Act = fn(&Names) -> Result<()>;

/// Links of the tenant.
struct Names {
    bridge: String,
    transit: String,
    ports: Vec<String>,
    vip: String,
}

const ACTS: [(&str, Act); 7] = [
    ("the VIP", |names| ip(&["-n", TRANSIT, "addr", "del", &names.vip, "dev", "up0"])),
    ("the tenant's veth", |names| ip(&["-n", TRANSIT, "link", "del", &names.transit])),
    ("the tenant's veth is down", |names| ip(&["-n", TRANSIT, "link", "set", &names.transit, "down"])),
    ("the gateway's addresses", |names| ip(&["-n", TRANSIT, "addr", "flush", "dev", &names.transit])),
    ("the tenant's bridge", |names| ip(&["link", "del", &names.bridge])),
    ("the instances' ports are on no bridge", |names| {
        names.ports.iter().try_for_each(|port| ip(&["link", "set", port, "nomaster"]))
    }),
    ("the pins", |_| Ok(std::fs::remove_dir_all(Path::new("/sys/fs/bpf").join(WORLD))?)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_away_is_there_again_within_seconds() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 2);
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let vip = SocketAddrV4::new(web.vip(), 80);
    serves(&scene, vip, "at the beginning").await?;
    for (what, act) in ACTS {
        let before = drifts(&mut scene).await?;
        act(&names(&web).await?).with_context(|| format!("taking away: {what}"))?;
        // Whatever clients know by ARP they ask for again.
        ip(&["-n", CLIENT, "neigh", "flush", "all"])?;
        serves(&scene, vip, what).await?;
        let told = move |seen: &Observer| seen.count(EventKind::Drift) > before;
        scene.observer.until(&format!("an event of drift: {what}"), SEEN_WITHIN, told).await?;
        // The round that the event began makes all that is missing, also what is taken away meanwhile.
        sleep(Duration::from_secs(1)).await;
    }

    let before = drifts(&mut scene).await?;
    scene.world.network().cut().await?;
    let gone = |seen: &Observer| seen.status().is_some_and(|status| !status.problems.is_empty());
    scene.observer.until("a problem while there is no uplink", SEEN_WITHIN, gone).await?;
    scene.world.network().rejoin().await?;
    serves(&scene, vip, "the uplink").await?;
    let told = move |seen: &Observer| seen.count(EventKind::Drift) > before;
    scene.observer.until("an event of drift: the uplink", SEEN_WITHIN, told).await?;
    let solved = |seen: &Observer| seen.status().is_some_and(|status| status.problems.is_empty());
    scene.observer.until("the end of the problem", SEEN_WITHIN, solved).await?;
    assert_eq!(scene.in_service(&web.name()).len(), 2, "no instance was replaced for any of it");

    // An instance without an interface can't be reached, whatever the host does.
    let lost = names(&web).await?.ports.remove(0);
    ip(&["link", "del", &lost])?;
    let failed = |seen: &Observer| seen.count(EventKind::InstanceFailed) == 1;
    scene.observer.until("its replacement", SEEN_WITHIN, failed).await?;
    scene.settled(&web.name(), 2).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_waits_for_its_uplink() -> Result<()> {
    let web = TenantFile::new("web", 80, 1, 1);
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    scene.world.stop_daemon().await?;
    scene.world.network().cut().await?;
    let rejoin = scene.world.network().rejoin();
    let later = tokio::spawn(async {
        sleep(Duration::from_secs(2)).await;
        rejoin.await
    });
    scene.world.start_daemon().await?;
    assert!(later.is_finished(), "it serves without an uplink");
    later.await??;
    scene.settled(&web.name(), 1).await?;
    serves(&scene, SocketAddrV4::new(web.vip(), 80), "an uplink that comes late").await?;
    scene.close().await
}

async fn drifts(scene: &mut Scene) -> Result<usize> {
    scene.observer.look().await?;
    Ok(scene.observer.count(EventKind::Drift))
}

/// Waits until the VIP takes connections one after the other, by new flows.
async fn serves(scene: &Scene, vip: SocketAddrV4, after: &str) -> Result<()> {
    const IN_A_ROW: u32 = 20;
    let began = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < IN_A_ROW {
        let connect = timeout(Duration::from_millis(300), TcpStream::connect(vip));
        let is_taken = matches!(scene.clients.handle().spawn(connect).await?, Ok(Ok(_)));
        in_a_row = if is_taken { in_a_row + 1 } else { 0 };
        ensure!(began.elapsed() < WITHIN, "{vip} is not served {WITHIN:?} after: {after}");
    }
    eprintln!("{after}: served again after {} ms", began.elapsed().as_millis());
    Ok(())
}

async fn names(tenant: &TenantFile) -> Result<Names> {
    let host = Links::open(&Netns::current()?)?.list().await?;
    let transit = Links::open(&Netns::open(TRANSIT)?)?.list().await?;
    let ours = |links: &[Link], prefix: &str| -> Vec<String> {
        let is_ours = |link: &&Link| {
            link.name.starts_with(prefix) && link.alias.as_deref().is_some_and(|alias| alias.contains(WORLD))
        };
        links.iter().filter(is_ours).map(|link| link.name.clone()).collect()
    };
    let first = |names: Vec<String>| names.into_iter().next().context("no such link");
    Ok(Names {
        bridge: first(ours(&host, "slb-"))?,
        transit: first(ours(&transit, "slt-"))?,
        ports: ours(&host, "sli-"),
        vip: format!("{}/32", tenant.vip()),
    })
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    ensure!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
