//! A predictive policy on a daemon that finds days of history in its store.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use sluice_demo::world::{HostSettings, World};
use sluice_logic::policy::Evaluation;
use sluice_logic::spec::{Metric, TenantName};
use sluice_northbound::api::Explanation;
use sluice_northbound::host;
use sluice_store::{Limits, Sample, Settings, Spread, Store, Subject};
use sluice_tests::{Scene, TenantFile};

const HOURS: i64 = 5 * 24;
/// The CPU time, in cores, of a calm hour, and of a busy one: at a target of 60 % it takes 4 instances.
const CALM: f64 = 0.2;
const BUSY: f64 = 2.3;
/// What a daemon reads at its begin is fitted within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks an hour and a start time ahead, so that the next hour is always in sight.
fn tenant(name: &'static str, subnet: u8, mode: &str) -> TenantFile {
    TenantFile::structured(name, subnet, 1, 5).with(&format!(
        "policies:\n  - predictive: {{metric: cpu, target: 60%, mode: {mode}, scheduling_buffer: 3599s}}\n"
    ))
}

/// Every day the eight hours after this one are busy, and all others are calm.
fn season(hours_ago: i64) -> f64 {
    if (1..=8).contains(&(-hours_ago).rem_euclid(24)) { BUSY } else { CALM }
}

/// An hour in ten is busy, and none can say which (Knuth's multiplicative hash).
fn chance(hours_ago: i64) -> f64 {
    let number = u32::try_from(hours_ago).unwrap_or_default().wrapping_mul(2_654_435_769);
    if number < u32::MAX / 10 { 10.0 * BUSY } else { CALM }
}

/// Writes a load for two minutes of each hour to the store, as a daemon would have for all: what is forecast is the
/// peak of an hour.
fn remember(store: &Store, tenant: &TenantName, now: Timestamp, load: fn(i64) -> f64) {
    let this_hour = now.as_second().div_euclid(3600);
    let this_minute = now.as_second().div_euclid(60);
    for minute in ((this_hour - HOURS) * 60..this_minute).step_by(30) {
        let at = Timestamp::from_second(minute * 60 + 30).expect("a time");
        let value = load(this_hour - minute.div_euclid(60));
        let subject = Subject::Over(Spread::Sum);
        store.keep_samples(tenant, vec![Sample { at, subject, metric: Metric::Cpu, value }]);
    }
}

/// The store of a world whose daemon does not run. Its limits are wide, so that samples of days ago are taken.
fn store(world: &World) -> Result<Store> {
    let text = fs::read_to_string(world.host_file())?;
    let parsed = host::parse("sluice.yml", &text).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let path = parsed.config.state.join(Path::new("history/store.redb"));
    let fine = Duration::from_hours(24 * 24);
    Ok(Store::open(Settings::new(path, Limits { fine, ..Limits::default() }))?)
}

/// What the tenant's one policy says now.
fn policy(world: &World, tenant: &TenantFile) -> Result<Evaluation> {
    let done = world.sluice(&["explain", tenant.name().as_str(), "--json"])?;
    ensure!(done.status.success(), "{done:?}");
    let explanation: Explanation = serde_json::from_slice(&done.stdout)?;
    explanation.decision.policies.into_iter().next().context("a policy")
}

async fn says(world: &World, tenant: &TenantFile, words: &str) -> Result<Evaluation> {
    let begin = Instant::now();
    loop {
        let policy = policy(world, tenant)?;
        if policy.reason.contains(words) {
            return Ok(policy);
        }
        ensure!(begin.elapsed() < PATIENCE, "`{words}` is not in `{}`", policy.reason);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_season_that_is_known_has_its_instances_before_its_load() -> Result<()> {
    let ahead = tenant("ahead", 93, "forecast_and_scale");
    let watching = tenant("watching", 94, "forecast_only");
    let erratic = tenant("erratic", 95, "forecast_and_scale");
    let mut scene = Scene::open("slt_ahead", &HostSettings::default(), &[]).await?;
    scene.world.stop_daemon().await?;
    let now = Timestamp::now();
    let past = store(&scene.world)?;
    remember(&past, &ahead.name(), now, season);
    remember(&past, &watching.name(), now, season);
    remember(&past, &erratic.name(), now, chance);
    past.flush()?;
    assert_eq!(past.health().lost, 0);
    drop(past);
    for tenant in [&ahead, &watching, &erratic] {
        scene.world.write_tenant(&tenant.file(), &tenant.text())?;
    }
    scene.world.start_daemon().await?;

    // There is no load at all, and the next hour's instances are there.
    scene.settled(&ahead.name(), 4).await?;
    let policy = says(&scene.world, &ahead, "is expected by").await?;
    assert_eq!(policy.floor, Some(4), "{}", policy.reason);
    assert!(policy.reason.contains("its last forecasts were off by"), "{}", policy.reason);
    let status = scene.group(&ahead.name()).context("the group")?;
    let cpu: f64 = status.instances.iter().filter_map(|instance| instance.cpu).sum();
    assert!(cpu < CALM, "{cpu} of a core in use");

    // The same forecast, and nobody acts on it.
    let policy = says(&scene.world, &watching, "it only forecasts").await?;
    assert!(policy.reason.contains("which needs 4"), "{}", policy.reason);
    assert_eq!(policy.floor, None);
    scene.settled(&watching.name(), 1).await?;

    // A forecast that has been wrong is none.
    let policy = says(&scene.world, &erratic, "its last forecasts were off by").await?;
    assert!(policy.reason.contains("silent") && policy.floor.is_none(), "{policy:#?}");
    scene.settled(&erratic.name(), 1).await?;
    for calm in [&watching, &erratic] {
        let decided = scene.group(&calm.name()).and_then(|group| group.last_decision.as_ref());
        assert_eq!(decided.map(|decision| decision.to), Some(1));
    }
    scene.close().await
}
