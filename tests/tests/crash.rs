//! The daemon is killed under traffic.

use std::time::Duration;

use anyhow::Result;
use sluice_demo::host_load::LoadMeter;
use sluice_demo::traffic::Arrivals;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile};
use tokio::time::{Instant, sleep};

/// Longer than the test: no flow ends in it.
const LIFETIME: std::ops::RangeInclusive<Duration> = Duration::from_mins(5)..=Duration::from_mins(5);
/// What was promised for the time from the start of a new daemon to its having taken over.
const ADOPTED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_flow_without_a_daemon_and_the_next_one_takes_over() -> Result<()> {
    let web = TenantFile::new("web", 80, 3, 5);
    let mut scene = Scene::open("slt_crash", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 3).await?;
    let before = scene.in_service(&web.name());
    let held = scene.hold(web.vip(), 200, 20, &LIFETIME)?;
    let load = scene.load(web.vip(), 100.0, &Arrivals::default())?;
    held.open(200, 20).await?;

    scene.world.kill_daemon()?;
    sleep(Duration::from_secs(5)).await;
    held.unharmed()?;

    let (started, meter) = (Instant::now(), LoadMeter::start());
    scene.world.start_daemon().await?;
    scene.settled(&web.name(), 3).await?;
    let (adopted, host_load) = (started.elapsed(), meter.read());
    eprintln!("adopted within {adopted:?}; {host_load}");
    assert!(adopted < ADOPTED_WITHIN || host_load.is_busy(), "{adopted:?}; {host_load}");
    assert_eq!(scene.in_service(&web.name()), before, "the same instances");
    assert_eq!(scene.observer.count(EventKind::Launch), 0, "none was made anew");
    assert_eq!(scene.observer.count(EventKind::Adopted), 3);

    // A flow that the new daemon has moved is answered by another instance: `unharmed` and `close` see that.
    sleep(Duration::from_secs(2)).await;
    held.unharmed()?;
    scene.scale(&web.name(), 5).await?;
    sleep(Duration::from_secs(3)).await;
    held.close(&scene.observer).await?;
    load.stop().await;
    let counts = load.counts();
    assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{counts:#?} {:#?}", load.failures());
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_the_middle_of_scaling_is_repaired() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 5);
    let mut scene = Scene::open("slt_crash2", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let held = scene.hold(web.vip(), 50, 10, &LIFETIME)?;
    held.open(50, 10).await?;
    for pause in [0, 5, 20, 50, 120] {
        let asked = scene.world.sluice(&["scale", "web", "5"])?;
        assert!(asked.status.success(), "{asked:?}");
        sleep(Duration::from_millis(pause)).await;
        scene.world.kill_daemon()?;
        scene.world.start_daemon().await?;
        scene.settled(&web.name(), 5).await?;
        let newest_first = scene.in_service(&web.name());
        for extra in newest_first.iter().skip(2) {
            // Held flows are all on the first two, or on none of these.
            assert_eq!(held.arrivals.flows().get(extra), None);
        }
        scene.scale(&web.name(), 2).await?;
    }
    held.close(&scene.observer).await?;
    scene.close().await
}
