//! How long it takes from the sample that crosses the threshold to the first flow on a new instance.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use sluice_demo::traffic::Arrivals;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::{Event, EventKind};
use sluice_tests::{Scene, TenantFile};

const POLICY: &str = "policy: dynamic\nthreshold: 0.3\nwindow: 2s\nbuffer_time: 2s\ncool_down: 12s\ncpus: 0.2\n\
                      request_cost: 2ms\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_instance_serves_soon_after_the_sample_that_called_for_it() -> Result<()> {
    let web = TenantFile::new("web", 80, 1, 2).with(POLICY);
    let settings = HostSettings { sample_interval: Duration::from_millis(250), ..HostSettings::default() };
    let mut scene = Scene::open("slt_latency", &settings, &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    let first = scene.in_service(&web.name());
    let arrivals = Arrivals::default();
    let load = scene.load(web.vip(), 60.0, &arrivals)?;
    scene.settled(&web.name(), 2).await?;
    let new = scene
        .in_service(&web.name())
        .into_iter()
        .find(|id| !first.contains(id))
        .context("no new instance")?;
    let answered = first_answer(&arrivals, &new).await?;
    load.stop().await;
    let counts = load.counts();
    assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{:#?}", load.failures());

    let at = |kind: EventKind| {
        let about_new = |event: &&Event| event.instance.as_ref().is_none_or(|id| *id == new);
        let found = scene.observer.events().iter().filter(about_new).find(|event| event.kind == kind);
        found.map(|event| event.at).with_context(|| format!("no {kind:?} in {:#?}", scene.observer.events()))
    };
    let (out, launch, serving) =
        (at(EventKind::ScaleOut)?, at(EventKind::Launch)?, at(EventKind::InService)?);
    assert!(out <= launch && launch <= serving, "{out} {launch} {serving}");
    let ms = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64() * 1000.0;
    eprintln!(
        "from the decision: launched {:.0} ms, in service {:.0} ms, first answer {:.0} ms",
        ms(out, launch),
        ms(out, serving),
        ms(out, answered)
    );
    assert!(answered >= launch, "answered before it was launched");
    scene.close().await
}

async fn first_answer(arrivals: &Arrivals, id: &sluice_logic::group::InstanceId) -> Result<Timestamp> {
    let waiting = async {
        loop {
            if let Some(at) = arrivals.first_answer(id) {
                return at;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.context("the new instance was given no flow")
}
