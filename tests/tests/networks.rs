//! Tenants with several networks: instances are on all of them, and other tenants on none.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_userspace::net::{Links, Netns};
use sluice_demo::observer::Observer;
use sluice_demo::traffic::ClientThread;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::{EventKind, InstanceStatus};
use sluice_tests::{Scene, TenantFile};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WORLD: &str = "slt_nets";
const LONG: std::ops::RangeInclusive<Duration> = Duration::from_mins(5)..=Duration::from_mins(5);
const SEEN_WITHIN: Duration = Duration::from_secs(10);

fn instances(scene: &Scene, tenant: &TenantFile) -> Vec<InstanceStatus> {
    scene.group(&tenant.name()).map_or_else(Vec::new, |group| group.instances.clone())
}

/// An instance's namespace, seen from inside.
struct Inside(ClientThread, Netns);

impl Inside {
    fn of(instance: &InstanceStatus) -> Result<Self> {
        let netns = Netns::open(&format!("{WORLD}-{}", instance.id))?;
        Ok(Self(ClientThread::enter(&netns)?, netns))
    }

    async fn reaches(&self, address: Ipv4Addr) -> Result<bool> {
        let connect = timeout(Duration::from_secs(2), TcpStream::connect(SocketAddr::from((address, 80))));
        Ok(matches!(self.0.handle().spawn(connect).await?, Ok(Ok(_))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_on_all_networks_of_their_tenant() -> Result<()> {
    let web = TenantFile::structured("web", 80, 2, 3).beside("back", 233);
    let shop = TenantFile::structured("shop", 81, 1, 1).beside("back", 233);
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&web, &shop]).await?;
    scene.settled(&web.name(), 2).await?;
    scene.settled(&shop.name(), 1).await?;
    let held = scene.hold(web.vip(), 20, 5, &LONG)?;
    held.open(20, 5).await?;

    let (ours, theirs) = (instances(&scene, &web), instances(&scene, &shop));
    let [one, two, other] = [&ours[0], &ours[1], &theirs[0]].map(|instance| instance.other_addresses.clone());
    assert_eq!(
        [one, two.clone(), other.clone()],
        [[10, 233, 80, 2], [10, 233, 80, 3], [10, 233, 81, 2]].map(|address| vec![Ipv4Addr::from(address)])
    );
    let inside = Inside::of(&ours[0])?;
    assert!(inside.reaches(two[0]).await?, "its neighbour on the other network");
    assert!(!inside.reaches(other[0]).await?, "another tenant's instance by the default route");
    // A tenant may do in its instances what it likes: also try the other network's gateway.
    let links = Links::open(&inside.1)?;
    for third in [232, 233] {
        let theirs = format!("10.{third}.81.0/24").parse()?;
        links.set_route("eth1", theirs, Ipv4Addr::new(10, 233, 80, 1)).await?;
    }
    for instance in &theirs {
        for address in instance.addresses() {
            assert!(!inside.reaches(address).await?, "{address} of another tenant by the other network");
        }
    }

    scene.world.kill_daemon()?;
    scene.world.start_daemon().await?;
    scene.settled(&web.name(), 2).await?;
    assert_eq!(
        instances(&scene, &web).iter().map(|instance| &instance.id).collect::<Vec<_>>(),
        ours.iter().map(|instance| &instance.id).collect::<Vec<_>>(),
        "they are taken over"
    );
    assert!(inside.reaches(two[0]).await?, "after a crash of the daemon");
    drop(inside);
    held.close(&scene.observer).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_come_and_go_with_the_instances_made_from_then_on() -> Result<()> {
    let web = TenantFile::structured("web", 80, 2, 4);
    let back = web.clone().beside("back", 233);
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    assert!(!has_network(&scene, "web-back").await?);

    scene.world.write_tenant(&back.file(), &back.text())?;
    let changed = |times| move |seen: &Observer| seen.count(EventKind::TenantChanged) == times;
    scene.observer.until("the change", SEEN_WITHIN, changed(1)).await?;
    scene.scale(&web.name(), 3).await?;
    let all: Vec<usize> = instances(&scene, &web).iter().map(|i| i.other_addresses.len()).collect();
    assert_eq!(all, [0, 0, 1], "the newest is on both");
    assert!(has_network(&scene, "web-back").await?);

    // Addresses that an instance has are not given to another network.
    let moved = back.text().replace("10.233.80.0", "10.234.80.0");
    scene.world.write_tenant(&back.file(), &moved)?;
    let refused = |seen: &Observer| seen.status().is_some_and(|status| !status.refused.is_empty());
    scene.observer.until("a refusal", SEEN_WITHIN, refused).await?;
    let status = scene.observer.status().context("no status")?;
    assert!(status.refused[0].faults[0].contains("a network that exists can't change"), "{status:#?}");

    scene.world.write_tenant(&web.file(), &web.text())?;
    scene.observer.until("the change back", SEEN_WITHIN, changed(2)).await?;
    assert!(has_network(&scene, "web-back").await?, "an instance is on it");
    let renamed = web.clone().beside("rear", 233);
    scene.world.write_tenant(&renamed.file(), &renamed.text())?;
    scene.observer.until("a refusal", SEEN_WITHIN, refused).await?;
    let status = scene.observer.status().context("no status")?;
    assert!(status.refused[0].faults[0].contains("10.233.80.2"), "{status:#?}");
    scene.world.write_tenant(&web.file(), &web.text())?;

    // It outlives a restart of the daemon, and goes with the last instance on it.
    scene.world.stop_daemon().await?;
    scene.world.start_daemon().await?;
    scene.settled(&web.name(), 3).await?;
    assert!(has_network(&scene, "web-back").await?, "an instance is on it");
    let newest = instances(&scene, &web)[2].id.to_string();
    let drained = scene.world.sluice(&["drain", &newest])?;
    assert!(drained.status.success(), "{drained:?}");
    let gone = |seen: &Observer| {
        let tenants = seen.status().map_or(&[][..], |status| &status.tenants);
        !tenants.iter().flat_map(|tenant| &tenant.instances).any(|instance| instance.id.as_str() == newest)
    };
    scene.observer.until("the end of the one on both", scene.patience, gone).await?;
    scene.settled(&web.name(), 3).await?;
    let removed = async {
        while has_network(&scene, "web-back").await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    timeout(SEEN_WITHIN, removed).await.context("the network is still there")??;
    assert!(instances(&scene, &web).iter().all(|instance| instance.other_addresses.is_empty()));
    scene.close().await
}

/// Whether there is any interface of a network of that name.
async fn has_network(scene: &Scene, name: &str) -> Result<bool> {
    let alias = format!("network={name})");
    Ok(scene.world.remains().await?.iter().any(|thing| thing.starts_with("link") && thing.contains(&alias)))
}
