//! A program of the host's that hangs holds up nobody who does not need it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use anyhow::Result;
use sluice_demo::observer::Observer;
use sluice_demo::world::HostSettings;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile, processes_about};

const WORLD: &str = "slt_hang";
const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nft_that_hangs_holds_up_no_other_tenant() -> Result<()> {
    let nat = TenantFile::structured("web", 80, 1, 2).with("outbound: nat\n");
    let shop = TenantFile::structured("shop", 81, 1, 3);
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&nat, &shop]).await?;
    scene.settled(&nat.name(), 1).await?;
    scene.settled(&shop.name(), 1).await?;

    // Beside the world: nothing may be run from `/run` on some hosts.
    let hanging = std::env::temp_dir().join(format!("{WORLD}-{}-nft", std::process::id()));
    fs::write(&hanging, "#!/bin/sh\nkill -STOP $$\n")?;
    fs::set_permissions(&hanging, Permissions::from_mode(0o700))?;
    let program = scene.world.programs().join("nft");
    symlink(&hanging, &program)?;
    let found = |seen: &Observer| seen.count(EventKind::ProblemFound) > 0;
    scene.observer.until("the problem", WITHIN, found).await?;

    scene.patience = WITHIN;
    for count in [2, 3, 1] {
        scene.scale(&shop.name(), count).await?;
    }
    let back = shop.clone().beside("back", 233);
    scene.world.write_tenant(&back.file(), &back.text())?;
    let changed = |seen: &Observer| seen.count(EventKind::TenantChanged) == 1;
    scene.observer.until("an edit of the other tenant", WITHIN, changed).await?;

    fs::remove_file(&program)?;
    let solved = |seen: &Observer| seen.status().is_some_and(|status| status.problems.is_empty());
    scene.observer.until("the end of the problem", 2 * WITHIN, solved).await?;
    let left = processes_about(hanging.to_string_lossy().as_ref())?;
    assert!(left.is_empty(), "{left:?}");
    fs::remove_file(&hanging)?;
    scene.close().await
}
