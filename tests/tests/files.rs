//! Tenant files are edited, added and removed while the daemon runs.

use std::time::Duration;

use anyhow::Result;
use sluice_demo::observer::Observer;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile};

const SEEN_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_edit_is_refused_with_its_place_and_the_last_good_one_stays() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 3);
    let mut scene = Scene::open("slt_edit", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let before = scene.in_service(&web.name());

    let bad = web.text().replace("max_instances: 3", "max_instances: 1") + "polcy: none\n";
    scene.world.write_tenant(&web.file(), &bad)?;
    let refused = |seen: &Observer| seen.status().is_some_and(|status| !status.refused.is_empty());
    scene.observer.until("a refusal", SEEN_WITHIN, refused).await?;
    let refusals = scene.observer.status().map(|status| status.refused.clone()).unwrap_or_default();
    let faults = refusals[0].faults.join("\n");
    assert_eq!(refusals[0].tenant, Some(web.name()));
    // Both faults at once, each with line and column: min is on line 5, the unknown key on the last.
    let last_line = bad.lines().count();
    for place in ["web.yml:5:", &format!("web.yml:{last_line}:1")] {
        assert!(faults.contains(place), "no {place} in:\n{faults}");
    }
    assert!(faults.contains("policy"), "no suggestion in:\n{faults}");
    assert_eq!(scene.in_service(&web.name()), before, "the last good one stays in force");
    assert_eq!(scene.observer.count(EventKind::TenantRefused), 1);
    let checked = scene.world.sluice(&["check", &scene.world.tenant_path(&web.file()).to_string_lossy()])?;
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");

    let good = web.text().replace("min_instances: 2", "min_instances: 3");
    scene.world.write_tenant(&web.file(), &good)?;
    scene.settled(&web.name(), 3).await?;
    assert!(
        before.iter().all(|id| scene.in_service(&web.name()).contains(id)),
        "an edit of min replaces nothing"
    );
    assert!(scene.observer.status().is_some_and(|status| status.refused.is_empty()));
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_runs_and_a_deleted_one_leaves_nothing() -> Result<()> {
    let (web, shop) = (TenantFile::new("web", 80, 1, 3), TenantFile::new("shop", 81, 2, 3));
    let mut scene = Scene::open("slt_files", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;

    scene.world.write_tenant(&shop.file(), &shop.text())?;
    scene.settled(&shop.name(), 2).await?;
    let held = scene.hold(shop.vip(), 10, 2, &(Duration::from_mins(1)..=Duration::from_mins(1)))?;
    held.open(10, 2).await?;
    held.close(&scene.observer).await?;

    scene.world.remove_tenant(&shop.file())?;
    let gone = |seen: &Observer| {
        let listed = seen
            .status()
            .is_some_and(|status| status.tenants.iter().any(|tenant| tenant.name == shop.name()));
        !listed && seen.count(EventKind::TenantRemoved) == 1
    };
    scene.observer.until("the tenant's end", Duration::from_secs(40), gone).await?;
    let left: Vec<_> =
        scene.world.remains().await?.into_iter().filter(|thing| thing.contains("shop")).collect();
    assert!(left.is_empty(), "{left:#?}");
    let vip = format!("{}/", shop.vip());
    assert!(!scene.world.remains().await?.iter().any(|thing| thing.contains(&vip)), "its VIP is still there");
    scene.settled(&web.name(), 1).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vip_has_one_tenant() -> Result<()> {
    let (web, thief) = (TenantFile::new("web", 80, 1, 3), TenantFile::new("thief", 80, 1, 3));
    let mut scene = Scene::open("slt_vip", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    scene.world.write_tenant(&thief.file(), &thief.text())?;
    let refused = |seen: &Observer| seen.status().is_some_and(|status| !status.refused.is_empty());
    scene.observer.until("a refusal", SEEN_WITHIN, refused).await?;
    assert!(scene.group(&thief.name()).is_none());
    scene.settled(&web.name(), 1).await?;
    scene.close().await
}
