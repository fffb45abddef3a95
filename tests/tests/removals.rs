//! What it takes to remove a tenant, and what does not remove one; a file that is half written, and a limit that comes down.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_demo::observer::Observer;
use sluice_demo::world::HostSettings;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::{EventKind, Status};
use sluice_tests::{Scene, TenantFile, lb};

const SEEN_WITHIN: Duration = Duration::from_secs(15);
const MINUTE: Duration = Duration::from_mins(1);

/// The world's directory of tenants' files.
fn directory(scene: &Scene) -> Result<PathBuf> {
    let path = scene.world.tenant_path("web.yml");
    Ok(path.parent().context("no directory")?.to_owned())
}

fn instances(scene: &Scene, tenant: &TenantName) -> BTreeSet<InstanceId> {
    let group = scene.group(tenant);
    group.iter().flat_map(|group| &group.instances).map(|instance| instance.id.clone()).collect()
}

async fn until(scene: &mut Scene, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<()> {
    let seen = |seen: &Observer| seen.status().is_some_and(&is_so);
    scene.observer.until(what, SEEN_WITHIN, seen).await
}

fn is_leaving(status: &Status, tenant: &TenantName) -> bool {
    status.tenants.iter().any(|group| group.name == *tenant && group.leaving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_read_or_is_another_one_removes_nothing() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 3);
    let mut scene = Scene::open("slt_unread", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let before = instances(&scene, &web.name());
    let held = scene.hold(web.vip(), 4, 2, &(MINUTE..=MINUTE))?;
    held.open(4, 2).await?;
    let (place, away) = (directory(&scene)?, directory(&scene)?.with_extension("away"));

    scene.world.kill_daemon()?;
    fs::rename(&place, &away)?;
    scene.world.start_daemon().await?;
    let unread =
        |status: &Status| status.problems.iter().any(|problem| problem.what.contains("can't be read"));
    until(&mut scene, "a problem", unread).await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.settled(&web.name(), 2).await?;

    // Not mounted: an empty directory, also when the daemon starts.
    fs::create_dir(&place)?;
    let unfamiliar = |status: &Status| {
        status.held.len() == 1 && status.problems.iter().any(|problem| problem.what.contains("not mounted"))
    };
    until(&mut scene, "a tenant that is held", unfamiliar).await?;
    scene.world.kill_daemon()?;
    scene.world.start_daemon().await?;
    until(&mut scene, "the same after a restart", unfamiliar).await?;
    fs::remove_dir(&place)?;
    fs::rename(&away, &place)?;
    let known = |status: &Status| {
        status.held.is_empty()
            && !status.problems.iter().any(|problem| problem.about.contains("tenants' directory"))
    };
    until(&mut scene, "no problem", known).await?;

    scene.settled(&web.name(), 2).await?;
    assert_eq!(instances(&scene, &web.name()), before);

    // Nor where the state is lost too: whose the instances are is not known then.
    scene.world.kill_daemon()?;
    fs::rename(&place, &away)?;
    let state = place.with_file_name("state");
    fs::remove_dir_all(state.join("groups"))?;
    fs::remove_dir_all(state.join("accepted"))?;
    scene.world.start_daemon().await?;
    until(&mut scene, "a problem", unread).await?;
    // Longer than what is of no tenant stays.
    tokio::time::sleep(Duration::from_secs(5)).await;
    fs::rename(&away, &place)?;
    scene.settled(&web.name(), 2).await?;
    assert_eq!(instances(&scene, &web.name()), before);
    held.close(&scene.observer).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_leaves_drains_and_is_whole_again_when_its_file_is_back() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 3);
    let mut scene = Scene::open("slt_back", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let before = instances(&scene, &web.name());
    let launched = scene.observer.count(EventKind::Launch);
    let held = scene.hold(web.vip(), 4, 0, &(MINUTE..=MINUTE))?;
    held.open(4, 0).await?;

    scene.world.remove_tenant(&web.file())?;
    let name = web.name();
    until(&mut scene, "a tenant that leaves", |status| is_leaving(status, &name)).await?;
    ensure!(scene.in_service(&web.name()).is_empty(), "they drain");
    let backends = lb(&scene.world, &["backends"])?;
    let mut states = backends.as_array().into_iter().flatten().map(|backend| &backend["state"]);
    ensure!(states.all(|state| state == "draining"), "they take new flows: {backends:#}");
    scene.world.kill_daemon()?;
    scene.world.start_daemon().await?;
    until(&mut scene, "one that still leaves", |status| is_leaving(status, &name)).await?;
    scene.world.write_tenant(&web.file(), &web.text().replace("max_instances: 3", "max_instances: 4"))?;
    let edited = |status: &Status| status.tenants.iter().any(|group| group.max == 4 && !group.leaving);
    until(&mut scene, "the edit", edited).await?;
    scene.settled(&web.name(), 2).await?;
    assert_eq!(instances(&scene, &web.name()), before, "the same instances");

    // For good: the connections go on until the cool-down of 12 s is over.
    scene.world.remove_tenant(&web.file())?;
    until(&mut scene, "a tenant that leaves", |status| is_leaving(status, &name)).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    held.connections.stop().await;
    ensure!(held.connections.counts().broken == 0, "{:#?}", held.connections.broken());
    let gone = |seen: &Observer| {
        seen.count(EventKind::TenantRemoved) == 1
            && seen.status().is_some_and(|status| status.tenants.is_empty())
    };
    scene.observer.until("the tenant's end", Duration::from_secs(40), gone).await?;
    assert_eq!(scene.observer.count(EventKind::Launch), launched, "none was made in another's place");
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_half_at_once_wait_for_a_person() -> Result<()> {
    let [web, shop, mail] =
        [("web", 80), ("shop", 81), ("mail", 82)].map(|(name, subnet)| TenantFile::new(name, subnet, 1, 2));
    let mut scene = Scene::open("slt_held", &HostSettings::default(), &[&web, &shop, &mail]).await?;
    for tenant in [&web, &shop, &mail] {
        scene.settled(&tenant.name(), 1).await?;
    }
    let before = [&web, &shop, &mail].map(|tenant| instances(&scene, &tenant.name()));
    scene.world.remove_tenant(&web.file())?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    scene.world.remove_tenant(&shop.file())?;
    let held = |status: &Status| {
        status.held.len() == 2
            && status.problems.iter().any(|problem| problem.what.contains("too many at once"))
    };
    until(&mut scene, "two that are held", held).await?;
    scene.world.kill_daemon()?;
    scene.world.start_daemon().await?;
    until(&mut scene, "two after a restart", |status| status.held.len() == 2).await?;
    let told = scene.world.sluice(&["status"])?;
    ensure!(String::from_utf8_lossy(&told.stdout).contains("sluice confirm-removal web"), "{told:?}");
    for tenant in [&web, &shop, &mail] {
        scene.settled(&tenant.name(), 1).await?;
    }
    assert_eq!([&web, &shop, &mail].map(|tenant| instances(&scene, &tenant.name())), before);

    scene.world.write_tenant(&web.file(), &web.text())?;
    until(&mut scene, "one that is held", |status| status.held.len() == 1).await?;
    let wrong = scene.world.sluice(&["confirm-removal", "web"])?;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let done = scene.world.sluice(&["confirm-removal", "--json"])?;
    ensure!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("shop"), "{done:?}");
    let gone = |seen: &Observer| seen.status().is_some_and(|status| status.tenants.len() == 2);
    scene.observer.until("the tenant's end", Duration::from_secs(40), gone).await?;
    for (tenant, ids) in [(&web, &before[0]), (&mail, &before[2])] {
        assert_eq!(&instances(&scene, &tenant.name()), ids);
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_file_is_never_taken_and_a_limit_comes_down_in_steps() -> Result<()> {
    let text = |max: u32| {
        "tenant: web\nnetworks: [{name: web-net, subnet: 10.232.80.0/24}]\nservices: [{vip: 198.51.100.80, protocol: \
         tcp}]\ntemplate: {cpus: 1, request_cost: 0s}\ngroup:\n  buffer_time: 3s\n  cool_down: 5s\n  min: 1\n  max: "
            .to_owned()
            + &max.to_string()
            + "\n"
    };
    let web = TenantName::try_from("web".to_owned())?;
    let mut scene = Scene::open("slt_half", &HostSettings::default(), &[]).await?;
    scene.world.write_tenant("web.yml", &text(12))?;
    scene.settled(&web, 1).await?;
    scene.scale(&web, 6).await?;

    let (path, new) = (scene.world.tenant_path("web.yml"), text(15));
    let half = new.find("max: 15").context("no maximum")? + "max: 1".len();
    let mut file = File::create(&path)?;
    file.write_all(&new.as_bytes()[..half])?;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        scene.client.rescan().await?;
    }
    file.write_all(&new.as_bytes()[half..])?;
    drop(file);
    let has = |max: u32| move |status: &Status| status.tenants.iter().any(|group| group.max == max);
    until(&mut scene, "the whole file", has(15)).await?;
    assert_eq!(scene.observer.count(EventKind::TenantChanged), 1);
    assert_eq!(scene.observer.count(EventKind::ScaleIn), 0);

    // A maximum that is lower: a quarter goes in a buffer time, and all are back when it was a slip.
    scene.world.write_tenant("web.yml", &text(1))?;
    let desired =
        |count: u32| move |status: &Status| status.tenants.iter().any(|group| group.desired == count);
    until(&mut scene, "the first step", desired(4)).await?;
    ensure!(scene.in_service(&web).len() >= 4, "no more than that");
    scene.world.write_tenant("web.yml", &text(12))?;
    until(&mut scene, "the number of before", desired(6)).await?;
    scene.patience = MINUTE;
    scene.settled(&web, 6).await?;

    // What a person is told is on disk.
    let groups = directory(&scene)?.with_file_name("state").join("groups");
    fs::rename(&groups, groups.with_extension("away"))?;
    let failed = scene.world.sluice(&["scale", "web", "5"])?;
    ensure!(failed.status.code() == Some(1), "{failed:?}");
    ensure!(String::from_utf8_lossy(&failed.stderr).contains("could not be saved"), "{failed:?}");
    fs::rename(groups.with_extension("away"), &groups)?;
    scene.settled(&web, 5).await?;
    scene.close().await
}
