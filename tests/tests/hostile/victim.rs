//! The tenant that is attacked: its connections, its pings, and what the load balancer knows of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::lb::look::{FlowFilter, FlowState, FlowView, Look};
use sluice_demo::host_load::LoadMeter;
use sluice_demo::observer::Observer;
use sluice_logic::group::InstanceState;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::{EventKind, TenantStatus};
use sluice_tests::frames::Ends;
use sluice_tests::{Held, Scene};
use tokio::time::{Instant, sleep};

use crate::newcomers::Newcomers;
use crate::{VICTIM_TCP, WORLD};

const CONNECTIONS: u32 = 500;
const PINGS: u32 = 50;
/// They are held from the beginning to the end.
const LIFETIME: std::ops::RangeInclusive<Duration> = Duration::from_hours(2)..=Duration::from_hours(2);
/// A flow that was claimed to be over is known to be open again after an answer, which comes each second and counts from
/// two seconds after the claim on.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

/// A flow of the victim's, and the instance that has it.
type Flows = BTreeMap<(String, IpAddr, u16), IpAddr>;

pub(crate) struct Victim {
    name: TenantName,
    held: Held,
    flows: Flows,
    count: usize,
}

impl Victim {
    /// Opens everything with two instances, and then has one of them drain: half of the flows hold it.
    pub(crate) async fn hold(scene: &mut Scene, name: TenantName) -> Result<Self> {
        let held = scene.hold(*VICTIM_TCP.ip(), CONNECTIONS, PINGS, &LIFETIME)?;
        held.open(CONNECTIONS.into(), PINGS.into()).await?;
        let drained = scene.in_service(&name).pop().context("no instance")?;
        let done = scene.world.sluice(&["drain", drained.as_str()])?;
        ensure!(done.status.success(), "{done:?}");
        let is_replaced = |seen: &Observer| {
            let group =
                seen.status().and_then(|status| status.tenants.iter().find(|group| group.name == name));
            group.is_some_and(|group| serving(group) == 2 && group.instances.len() == 3)
        };
        scene.observer.until("another instance for one that drains", scene.patience, is_replaced).await?;
        let flows = flows(scene)?;
        let count = usize::try_from(CONNECTIONS + PINGS)?;
        ensure!(flows.len() == count, "{} of {count} flows are known", flows.len());
        let flows = flows.into_iter().filter_map(|(key, flow)| Some((key, flow.backend?))).collect();
        Ok(Self { name, held, flows, count: 2 })
    }

    pub(crate) fn name(&self) -> &TenantName {
        &self.name
    }

    /// The connections, from client to service.
    pub(crate) fn connections(&self) -> Vec<Ends> {
        let tcp = self.flows.keys().filter(|(service, ..)| service.ends_with("/tcp"));
        let ends = tcp.filter_map(|(_, client, port)| match client {
            IpAddr::V4(client) => Some(Ends { from: SocketAddrV4::new(*client, *port), to: VICTIM_TCP }),
            IpAddr::V6(_) => None,
        });
        ends.collect()
    }

    /// Another instance takes a share of the slots, or gives it back.
    pub(crate) fn move_slots(&mut self, scene: &Scene) -> Result<()> {
        self.count = if self.count == 2 { 3 } else { 2 };
        let done = scene.world.sluice(&["scale", self.name.as_str(), &self.count.to_string()])?;
        ensure!(done.status.success(), "{done:?}");
        Ok(())
    }

    /// Waits for the end of that, and fails where a flow is broken, has moved or isn't known, or the group scales.
    pub(crate) async fn check(&self, scene: &mut Scene) -> Result<()> {
        let (meter, began, exchanges) =
            (LoadMeter::start(), Instant::now(), self.held.connections.exchanges());
        loop {
            self.held.unharmed()?;
            scene.observer.look().await?;
            let wrong = self.wrong(scene)?;
            let goes_on = self.held.connections.exchanges() > exchanges + u64::from(CONNECTIONS);
            if wrong.is_empty() && goes_on && scene.in_service(&self.name).len() == self.count {
                break;
            }
            ensure!(
                began.elapsed() < KNOWN_WITHIN,
                "{}; flows that are not as they were: {wrong:#?}, of {} in service: {:#?}",
                meter.read(),
                self.count,
                scene.group(&self.name)
            );
            sleep(Duration::from_millis(100)).await;
        }
        for kind in [EventKind::ScaleOut, EventKind::ScaleIn, EventKind::InstanceFailed] {
            ensure!(scene.observer.count(kind) == 0, "{kind:?}: {:#?}", scene.observer.events());
        }
        let group = scene.group(&self.name).context("no group")?;
        let load = group.loads.first().and_then(|load| load.value).context("no load is measured")?;
        ensure!(load > 0.0, "no flow is counted");
        Ok(())
    }

    /// The flows that the load balancer doesn't know as they were, and TCP flows that it knows beside them.
    fn wrong(&self, scene: &Scene) -> Result<Vec<String>> {
        let mut now = flows(scene)?;
        let mut wrong = Vec::new();
        for (key, owner) in &self.flows {
            match now.remove(key) {
                Some(flow) if flow.backend == Some(*owner) && flow.state == FlowState::Open => {}
                other => wrong.push(format!("{key:?} of {owner}: {other:?}")),
            }
        }
        let strangers = now
            .into_iter()
            .filter(|((service, client, _), _)| service.ends_with("/tcp") && !Newcomers::have(*client));
        wrong.extend(
            strangers.map(|(key, flow)| format!("{key:?} is a connection that wasn't opened: {flow:?}")),
        );
        Ok(wrong)
    }

    pub(crate) async fn close(self, scene: &Scene) -> Result<()> {
        self.held.close(&scene.observer).await
    }
}

fn serving(group: &TenantStatus) -> usize {
    group.instances.iter().filter(|instance| instance.state == InstanceState::InService).count()
}

/// All flows of the victim's services that the load balancer knows.
fn flows(scene: &Scene) -> Result<BTreeMap<(String, IpAddr, u16), FlowView>> {
    let list = look(scene)?.flows(FlowFilter::default(), 1 << 20)?;
    ensure!(list.complete, "more flows than there is room for");
    let of_victim = |flow: &FlowView| {
        let service = flow.service.clone()?;
        service.starts_with(&VICTIM_TCP.ip().to_string()).then_some((service, flow.client, flow.client_port))
    };
    Ok(list.flows.into_iter().filter_map(|flow| Some((of_victim(&flow)?, flow))).collect())
}

/// What is pinned of the load balancer.
pub(crate) fn look(_: &Scene) -> Result<Look> {
    Ok(Look::open(&Path::new("/sys/fs/bpf").join(WORLD))?)
}
