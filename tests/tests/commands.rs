//! The commands, as a person or a script uses them, under traffic.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sluice_demo::observer::Observer;
use sluice_demo::traffic::Arrivals;
use sluice_demo::world::HostSettings;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::{Event, EventKind, Status, XdpMode};
use sluice_tests::{Scene, TenantFile};
use tokio::time::sleep;

/// With its end below the cool-down of 12 s.
const LIFETIME: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(5);

/// The tenant file of the original system, as it stands.
const ORIGINAL: &str = include_str!("../../examples/tenants/demo.yml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_instance_is_replaced_and_loses_nothing() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 4);
    let mut scene = Scene::open("slt_drain", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let held = scene.hold(web.vip(), 100, 10, &LIFETIME)?;
    held.open(100, 10).await?;
    let before = scene.in_service(&web.name());
    let drained = scene.world.sluice(&["drain", before[0].as_str()])?;
    assert!(drained.status.success(), "{drained:?}");
    let replaced = |seen: &Observer| seen.count(EventKind::Terminated) == 1;
    scene.observer.until("the end of the drained instance", Duration::from_secs(20), replaced).await?;
    scene.settled(&web.name(), 2).await?;
    assert!(!scene.in_service(&web.name()).contains(&before[0]));
    assert!(scene.in_service(&web.name()).contains(&before[1]));
    held.close(&scene.observer).await?;
    assert_eq!(scene.observer.drains().keys().collect::<Vec<_>>(), [&before[0]]);
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_printed_for_people_and_programs() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 4);
    let mut scene = Scene::open("slt_print", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let printed = |args: &[&str]| -> Result<String> {
        let done = scene.world.sluice(args)?;
        assert!(done.status.success(), "{args:?}: {done:?}");
        Ok(String::from_utf8(done.stdout)?)
    };
    let status: Status = serde_json::from_str(&printed(&["status", "--json"])?)?;
    assert_eq!((status.tenants.len(), status.tenants[0].desired), (1, 2));
    let events = printed(&["events", "--json"])?;
    let events = events.lines().map(serde_json::from_str::<Event>).collect::<Result<Vec<_>, _>>()?;
    assert!(events.iter().any(|event| event.kind == EventKind::InService));
    let text = printed(&["status"])?;
    // The world's uplink is a veth, whose driver has XDP.
    assert_eq!(status.daemon.xdp_mode, XdpMode::Native);
    assert!(text.contains("native XDP"), "{text}");
    for instance in scene.in_service(&web.name()) {
        assert!(text.contains(instance.as_str()), "no {instance} in\n{text}");
    }
    for (args, code) in [(["scale", "web", "9"], 2), (["scale", "nobody", "2"], 2)] {
        let done = scene.world.sluice(&args)?;
        assert_eq!(done.status.code(), Some(code), "{args:?}: {done:?}");
        assert!(!done.stderr.is_empty());
    }
    scene.settled(&web.name(), 2).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_tenant_file_runs_as_it_stands() -> Result<()> {
    let mut scene = Scene::open("slt_flat", &HostSettings::default(), &[]).await?;
    scene.world.write_tenant("tenant.yml", ORIGINAL)?;
    let demo = TenantName::try_from("demo".to_owned())?;
    scene.settled(&demo, 2).await?;
    let vip = Ipv4Addr::new(45, 45, 45, 45);
    let held = scene.hold(vip, 20, 5, &LIFETIME)?;
    let load = scene.load(vip, 20.0, &Arrivals::default())?;
    held.open(20, 5).await?;
    sleep(Duration::from_secs(3)).await;
    load.stop().await;
    held.close(&scene.observer).await?;
    let counts = load.counts();
    assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{:#?}", load.failures());
    assert_eq!(counts.by_instance.len(), 2, "{counts:#?}");
    scene.observer.look().await?;
    let group = scene.group(&demo).context("no such tenant")?;
    assert!((group.loads[0].threshold - 0.3).abs() < f64::EPSILON, "0.3 is 30 % of the granted cores");
    assert!(group.counters.keys().eq(group.services.iter().collect::<BTreeSet<_>>()), "{:?}", group.counters);
    for (service, count) in &group.counters {
        let answered = count.packets > 0 && count.reply_packets > 0 && count.new_flows > 0;
        assert!(answered, "{service}: {count:?}");
    }
    scene.close().await
}
