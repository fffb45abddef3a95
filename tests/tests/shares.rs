//! New flows over equal backends are equal shares.

use std::net::SocketAddrV4;

use anyhow::Result;
use sluice_demo::world::HostSettings;
use sluice_tests::{Scene, Shares, TenantFile};

const WITHIN: f64 = 0.05;
/// Below the ports from which the kernel takes its own.
const SOURCE_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A share of a perfect hash has a standard deviation of `sqrt((n − 1) / flows)` of itself. With so many flows that is
/// 1 %, so that 5 % are never passed by chance; with 10,000 flows over five it would happen in one run of sixteen.
const fn flows(n: u32) -> u32 {
    10_000 * (n - 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_share_is_within_five_percent_of_its_part() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 5);
    let mut scene = Scene::open("slt_shares", &HostSettings::default(), &[&web]).await?;
    let sources = scene.world.network().sources()?;
    let target = SocketAddrV4::new(web.vip(), 80);
    let mut ports = SOURCE_PORTS;
    for n in [2, 3, 5] {
        if n > 2 {
            scene.scale(&web.name(), n).await?;
        } else {
            scene.settled(&web.name(), 2).await?;
        }
        let shares = Shares::measure(&scene.clients, target, sources.all(), (flows(n), &mut ports)).await?;
        let worst = shares.worst(n);
        eprintln!("{n} backends: {:?}, the worst is {:.2} % off", shares.0, worst * 100.0);
        assert!(worst <= WITHIN, "{n} backends: {shares:?}");
    }
    scene.close().await
}
