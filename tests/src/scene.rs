//! A world with a daemon and clients.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_demo::host_load::LoadMeter;
use sluice_demo::observer::Observer;
use sluice_demo::report;
use sluice_demo::traffic::{
    Arrivals, ClientThread, HolderSettings, HttpLoad, HttpSettings, PingSettings, Pings, TcpHolders,
};
use sluice_demo::world::{HostSettings, World};
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_logic::spec::TenantName;
use sluice_northbound::api::TenantStatus;
use sluice_northbound::client::Client;

use crate::{TenantFile, sluice};

/// The port of the built-in responder.
const PORT: u16 = 80;
/// For instances that start at once: how long fifty containers take is the disk's affair, and nothing that a test judges.
const PATIENCE: Duration = Duration::from_mins(2);

/// A world with its daemon running, an observer, and a thread for clients.
#[derive(Debug)]
pub struct Scene {
    /// What the daemon says.
    pub observer: Observer,
    /// Talks to the daemon.
    pub client: Client,
    /// A change of a group is done within this time, drains included.
    pub patience: Duration,
    /// Where clients run.
    pub clients: ClientThread,
    /// The world; last, so that it goes last.
    pub world: World,
}

impl Scene {
    /// A world with these tenants, and its daemon just started: see [`settled`](Self::settled).
    pub async fn open(name: &str, settings: &HostSettings, tenants: &[&TenantFile]) -> Result<Self> {
        let mut world = World::create(name, &sluice()?, settings).await?;
        for tenant in tenants {
            world.write_tenant(&tenant.file(), &tenant.text())?;
        }
        let client = world.start_daemon().await?;
        let observer = Observer::new(client.clone()).await?;
        let clients = world.network().clients()?;
        Ok(Self { observer, client, patience: PATIENCE, clients, world })
    }

    /// The tenant's group, by the last look.
    #[must_use]
    pub fn group(&self, tenant: &TenantName) -> Option<&TenantStatus> {
        group(&self.observer, tenant)
    }

    /// The tenant's instances in service, by the last look.
    #[must_use]
    pub fn in_service(&self, tenant: &TenantName) -> Vec<InstanceId> {
        in_service(&self.observer, tenant)
    }

    /// Waits until the tenant has exactly `count` instances, all of them serving.
    pub async fn settled(&mut self, tenant: &TenantName, count: usize) -> Result<()> {
        let settled = |seen: &Observer| {
            let all = group(seen, tenant).map_or(0, |group| group.instances.len());
            all == count && in_service(seen, tenant).len() == count
        };
        self.observer.until(&format!("{count} instances of {tenant}"), self.patience, settled).await
    }

    /// Sets the desired count by `sluice scale` and waits until it is so.
    pub async fn scale(&mut self, tenant: &TenantName, count: u32) -> Result<()> {
        let done = self.world.sluice(&["scale", tenant.as_str(), &count.to_string()])?;
        ensure!(done.status.success(), "`sluice scale`: {}", String::from_utf8_lossy(&done.stderr));
        self.settled(tenant, usize::try_from(count)?).await
    }

    /// Scales the tenant to one count and the other in turn, kills the daemon each time at another moment within `span`, and
    /// starts it again. Fails where the group doesn't get there, or an instance is lost that serves now.
    pub async fn kill_while_scaling(
        &mut self,
        tenant: &TenantName,
        counts: [u32; 2],
        span: Duration,
        kills: u32,
    ) -> Result<()> {
        /// The golden ratio's multiples fall all over a span, however many there are.
        const STEP: f64 = 0.618_034;
        let oldest = self.in_service(tenant);
        for (round, count) in (0..kills).zip(counts.into_iter().cycle()) {
            let asked = self.world.sluice(&["scale", tenant.as_str(), &count.to_string()])?;
            ensure!(asked.status.success(), "{asked:?}");
            tokio::time::sleep(span.mul_f64((f64::from(round) * STEP).fract())).await;
            self.world.kill_daemon()?;
            self.world.start_daemon().await?;
            self.settled(tenant, usize::try_from(count)?).await?;
            let serving = self.in_service(tenant);
            let lost = oldest.iter().find(|id| !serving.contains(id));
            ensure!(lost.is_none(), "a live instance was lost: {lost:?}");
        }
        Ok(())
    }

    /// HTTP requests to a VIP.
    pub fn load(&self, vip: Ipv4Addr, rate: f64, arrivals: &Arrivals) -> Result<HttpLoad> {
        let settings = HttpSettings {
            target: SocketAddrV4::new(vip, PORT),
            rate,
            timeout: Duration::from_secs(5),
            sources: self.world.network().sources()?,
            arrivals: arrivals.clone(),
        };
        HttpLoad::start(&self.clients, settings)
    }

    /// Held connections and pings to a VIP.
    pub fn hold(
        &self,
        vip: Ipv4Addr,
        connections: u32,
        pings: u32,
        lifetime: &RangeInclusive<Duration>,
    ) -> Result<Held> {
        let sources = self.world.network().sources()?;
        let arrivals = Arrivals::default();
        let holders = HolderSettings {
            target: SocketAddrV4::new(vip, PORT),
            count: connections,
            lifetime: lifetime.clone(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            sources: sources.clone(),
            arrivals: arrivals.clone(),
        };
        let pings = PingSettings {
            target: vip,
            count: pings,
            lifetime: lifetime.clone(),
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(2),
            sources,
        };
        Ok(Held {
            connections: TcpHolders::start(&self.clients, holders),
            pings: Pings::start(&self.clients, pings),
            arrivals,
            meter: LoadMeter::start(),
        })
    }

    /// Takes everything down; an error when something is left.
    pub async fn close(self) -> Result<()> {
        let Self { clients, world, observer, client: _, patience: _ } = self;
        drop((clients, observer));
        let left = world.remove().await.context("the world can't be removed")?;
        ensure!(left.is_empty(), "left on the host: {left:#?}");
        Ok(())
    }
}

/// Held connections and pings.
#[derive(Debug)]
pub struct Held {
    /// The connections.
    pub connections: TcpHolders,
    /// The pings.
    pub pings: Pings,
    /// The new connections each instance was given.
    pub arrivals: Arrivals,
    /// How busy the host has been since.
    meter: LoadMeter,
}

impl Held {
    /// Waits until all connections and pings are open and answered.
    pub async fn open(&self, connections: u64, pings: u64) -> Result<()> {
        let opening = async {
            loop {
                let answered: u64 = self.connections.counts().open_by_instance.values().sum();
                let counts = self.pings.counts();
                if answered >= connections && counts.streams.open >= pings && counts.answered >= pings {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(15), opening).await;
        outcome.with_context(|| {
            let load = self.meter.read();
            format!("not all are open; {load}: {:#?} {:#?}", self.connections.counts(), self.pings.counts())
        })
    }

    /// Closes all, and fails when anything was broken or lost, or went to an instance that was draining.
    pub async fn close(&self, observer: &Observer) -> Result<()> {
        tokio::join!(self.connections.stop(), self.pings.stop());
        self.unharmed()?;
        let strays = report::strays(observer, &self.arrivals);
        ensure!(strays == 0, "{strays} connections were opened to a draining instance");
        let counted = observer.new_flows_while_draining();
        ensure!(counted == 0, "the load balancer counts {counted} new flows to draining instances");
        Ok(())
    }

    /// Fails when anything was broken or lost so far.
    pub fn unharmed(&self) -> Result<()> {
        let (connections, pings) = (self.connections.counts(), self.pings.counts());
        let load = self.meter.read();
        ensure!(connections.broken == 0, "{load}: {connections:#?} {:#?}", self.connections.broken());
        ensure!(
            pings.lost == 0 && pings.streams.broken == 0,
            "{load}: {pings:#?} {:#?}",
            self.pings.broken()
        );
        ensure!(
            pings.answered > 0 && self.connections.exchanges() > 0,
            "no traffic: {connections:#?} {pings:#?}"
        );
        Ok(())
    }
}

fn group<'a>(observer: &'a Observer, tenant: &TenantName) -> Option<&'a TenantStatus> {
    observer.status()?.tenants.iter().find(|group| &group.name == tenant)
}

fn in_service(observer: &Observer, tenant: &TenantName) -> Vec<InstanceId> {
    let instances = group(observer, tenant).map_or(&[][..], |group| &group.instances);
    let serving = instances.iter().filter(|instance| instance.state == InstanceState::InService);
    serving.map(|instance| instance.id.clone()).collect()
}
