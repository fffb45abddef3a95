//! What has to go on for others, whatever the attacker does: new clients of the victim find it, and the daemon its instances.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use lb_userspace::net::{Address, Links, Netns};
use sluice_demo::traffic::{Arrivals, HttpLoad, HttpSettings, Sources};
use sluice_demo::world::CLIENT_LINK;
use sluice_logic::spec::TenantName;
use sluice_tests::Scene;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::{UPLINK, VICTIM_TCP, WORLD};

/// New connections a second.
const RATE: f64 = 20.0;
/// Their clients' addresses, on the uplink's link.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
const COUNT: u8 = 16;
/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long each client is new again.
const NEW_FOR: Duration = Duration::from_millis(400);
/// The kernel's table has room for 1,024 of the whole host by default.
const NEIGHBOURS: usize = 128;

/// New clients of the victim, all the time.
pub(crate) struct Newcomers {
    load: HttpLoad,
    transit: Links,
    management: Links,
    /// Where the daemon reaches an instance of the victim's, and one of the attacker's.
    exporters: [SocketAddr; 2],
    answered: u64,
}

impl Newcomers {
    pub(crate) async fn arrive(scene: &Scene, tenants: [&TenantName; 2]) -> Result<Self> {
        let network = scene.world.network();
        let clients = Links::open(network.client())?;
        for address in addresses() {
            let net = IpNet::new(address.into(), 24)?;
            clients.add_address(CLIENT_LINK, &Address { net, protocol: 0 }).await?;
        }
        let settings = HttpSettings {
            target: VICTIM_TCP,
            rate: RATE,
            timeout: PATIENCE,
            sources: Sources::new(addresses())?,
            arrivals: Arrivals::default(),
        };
        let [victim, attacker] = tenants;
        Ok(Self {
            load: HttpLoad::start(&scene.clients, settings)?,
            transit: Links::open(network.transit())?,
            management: Links::open(&Netns::open(&format!("{WORLD}.management"))?)?,
            exporters: [exporter(scene, victim).await?, exporter(scene, attacker).await?],
            answered: 0,
        })
    }

    /// Whether one of them has that address.
    pub(crate) fn have(client: IpAddr) -> bool {
        addresses().any(|address| client == IpAddr::V4(address))
    }

    /// Has the host know none of them, again and again until the handle is aborted: who comes for the first time has to be
    /// asked for.
    pub(crate) fn keep_new(&self) -> JoinHandle<Result<()>> {
        let transit = self.transit.clone();
        tokio::spawn(async move {
            loop {
                let uplink = transit.get(UPLINK).await?;
                for address in addresses() {
                    transit.remove_neighbour(&uplink, address).await?;
                }
                sleep(NEW_FOR).await;
            }
        })
    }

    /// Fails where a new client wasn't served since the last call, which so much time has passed since at least; where the
    /// daemon doesn't reach an instance; or where the host has come to know many neighbours.
    pub(crate) async fn check(&mut self, time: Duration) -> Result<()> {
        let counts = self.load.counts();
        ensure!(counts.failed == 0, "new clients: {counts:#?} {:#?}", self.load.failures());
        let answered = counts.answered - self.answered;
        self.answered = counts.answered;
        #[expect(clippy::cast_precision_loss, reason = "they are few")]
        let enough = answered as f64 >= RATE / 2.0 * time.as_secs_f64();
        ensure!(enough, "{answered} new clients were served in {time:?} and more: {counts:#?}");
        for exporter in self.exporters {
            let connect = || TcpStream::connect_timeout(&exporter, PATIENCE);
            tokio::task::block_in_place(|| self.management.netns().run(connect))?
                .with_context(|| format!("the daemon doesn't reach {exporter}"))?;
        }
        for links in [&self.transit, &self.management] {
            let known = links.all_neighbours().await?.len();
            ensure!(known < NEIGHBOURS, "{} has {known} neighbours", links.netns());
        }
        Ok(())
    }

    pub(crate) async fn leave(self) -> Result<()> {
        self.load.stop().await;
        let counts = self.load.counts();
        ensure!(counts.failed == 0, "new clients: {counts:#?} {:#?}", self.load.failures());
        Ok(())
    }
}

fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    (0..COUNT).map(|number| Ipv4Addr::from(u32::from(FIRST) + u32::from(number)))
}

/// The responder of an instance, at its address on the management network.
async fn exporter(scene: &Scene, tenant: &TenantName) -> Result<SocketAddr> {
    let instance = scene.in_service(tenant).pop().context("no instance")?;
    let inside = Links::open(&Netns::open(&format!("{WORLD}-{instance}"))?)?;
    let mut addresses = inside.addresses("eth1").await?.into_iter().map(|address| address.net.addr());
    let address = addresses.find(IpAddr::is_ipv4).context("no place on the management network")?;
    Ok(SocketAddr::new(address, VICTIM_TCP.port()))
}
