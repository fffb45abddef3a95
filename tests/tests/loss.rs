//! A kernel's short connections lose packets while instances come and go each second: a segment that is repeated after its slot
//! has moved still meets the instance that has the connection.
//!
//! `SLUICE_LOSS_CONNECTIONS` is how many there are, 4,000 by default.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_userspace::net::Netns;
use sluice_demo::traffic::{Arrivals, HttpLoad, HttpSettings};
use sluice_demo::world::HostSettings;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile, number};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Of 100 packets so many are lost, each way.
const LOSSES: [u32; 2] = [1, 5];
/// Connections a second.
const RATE: u32 = 400;
/// Between two changes of the number of instances.
const CHANGE: Duration = Duration::from_secs(1);
/// The numbers of instances, one after the other.
const COUNTS: [&str; 4] = ["5", "2", "4", "3"];
/// A kernel that has lost the first segment, and the next ones, waits 1, 2, 4, 8, 16 and 32 seconds.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_short_connection_breaks_by_a_change_while_packets_are_lost() -> Result<()> {
    // A connection that has lost a packet may take a while, and its instance with it.
    let more = "policy: none\nbuffer_time: 1s\ncool_down: 10m\ncpus: 1\nrequest_cost: 0s\n";
    let web = TenantFile::new("web", 80, 2, 6).with(more);
    let mut scene = Scene::open("slt_loss", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let share = u32::try_from(LOSSES.len())?;
    let time = Duration::from_secs(1) * number("SLUICE_LOSS_CONNECTIONS", 4_000) / RATE / share;
    for loss in LOSSES {
        lose(scene.world.network().client(), loss)?;
        let load = start(&scene, &web)?;
        let changes = change_for(&mut scene, &web, time).await?;
        load.stop().await;
        let counts = load.counts();
        eprintln!("{loss} % lost, {changes} changes: {} sent, {:?} failed", counts.sent, counts.failures);
        assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{:#?}", load.failures());
        // Without any, nothing is lost, or no connection is open for long enough to meet a change.
        assert!(counts.slow > 0, "{counts:#?}");
    }
    assert_eq!(scene.observer.count(EventKind::InstanceFailed), 0);
    scene.close().await
}

fn start(scene: &Scene, web: &TenantFile) -> Result<HttpLoad> {
    let settings = HttpSettings {
        target: SocketAddrV4::new(web.vip(), 80),
        rate: RATE.into(),
        timeout: PATIENCE,
        sources: scene.world.network().sources()?,
        arrivals: Arrivals::default(),
    };
    HttpLoad::start(&scene.clients, settings)
}

/// Changes the number of instances each second, and tells how often.
async fn change_for(scene: &mut Scene, web: &TenantFile, time: Duration) -> Result<usize> {
    let began = Instant::now();
    let mut due = interval(CHANGE);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = 0;
    for count in COUNTS.iter().cycle() {
        due.tick().await;
        if began.elapsed() >= time {
            break;
        }
        let done = scene.world.sluice(&["scale", web.name().as_str(), count])?;
        ensure!(done.status.success(), "`sluice scale`: {}", String::from_utf8_lossy(&done.stderr));
        changes += 1;
        scene.observer.look().await?;
    }
    Ok(changes)
}

/// From now on the namespace loses so many of 100 packets of TCP that come, and so many of those that go.
fn lose(netns: &Netns, percent: u32) -> Result<()> {
    let chain = |hook: &str| {
        format!(
            "chain {hook} {{ type filter hook {hook} priority 0; meta l4proto tcp numgen random mod 100 < {percent} drop; }}; "
        )
    };
    let rules = format!(
        "table ip loss\ndelete table ip loss\ntable ip loss {{ {}{} }}",
        chain("input"),
        chain("output")
    );
    let done = netns.run(|| Command::new("nft").arg(&rules).output())??;
    ensure!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
