//! 500 connections and 50 pings are held while the group goes from 2 to 5 and back, several times.

use std::time::Duration;

use anyhow::Result;
use sluice_demo::report;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile};
use tokio::time::sleep;

const CONNECTIONS: u32 = 500;
const PINGS: u32 = 50;
/// With the time of its end, and the 5 s after which an idle ping has ended, below the cool-down of 12 s.
const LIFETIME: std::ops::RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(6);
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_breaks_while_the_group_goes_up_and_down() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 5);
    let mut scene = Scene::open("slt_held", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let held = scene.hold(web.vip(), CONNECTIONS, PINGS, &LIFETIME)?;
    held.open(CONNECTIONS.into(), PINGS.into()).await?;
    let load = scene.load(web.vip(), 50.0, &held.arrivals)?;
    for _ in 0..ROUNDS {
        scene.scale(&web.name(), 5).await?;
        // Long enough for all instances to hold flows, so that there is something to drain.
        sleep(*LIFETIME.end()).await;
        scene.scale(&web.name(), 2).await?;
        held.unharmed()?;
    }
    sleep(Duration::from_secs(2)).await;
    scene.observer.look().await?;
    load.stop().await;
    held.close(&scene.observer).await?;
    let requests = load.counts();
    assert_eq!(
        (requests.failed, requests.sent),
        (0, requests.answered),
        "{requests:#?} {:#?}",
        load.failures()
    );

    let drained = scene.observer.drains();
    assert_eq!(drained.len(), 3 * ROUNDS, "each round drains three instances");
    let flows = held.arrivals.flows();
    for instance in drained.keys() {
        assert!(flows.contains_key(instance), "{instance} was drained without ever having had a flow");
    }
    assert_eq!(scene.observer.count(EventKind::InstanceFailed), 0);
    let actions = report::actions(scene.observer.events(), &held.connections, &held.pings, &held.arrivals);
    assert_eq!(actions.len(), 2 * ROUNDS);
    for action in &actions {
        eprintln!("{action}");
        // Some are just between two lives at any moment.
        assert!(action.connections_held >= u64::from(CONNECTIONS) / 2, "{action}");
        assert!(action.pings_held >= u64::from(PINGS) / 2, "{action}");
    }
    scene.close().await
}
