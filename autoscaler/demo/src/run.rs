//! The demo itself: a world, one tenant, load that rises and falls, and what came of it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use sluice_logic::group::InstanceState;
use sluice_logic::spec::ProviderKind;
use sluice_northbound::api::{EventKind, TenantStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ground::{Ground, Libvirtd};
use crate::host_load::LoadMeter;
use crate::observer::Observer;
use crate::phases::Course;
use crate::report;
use crate::shares::RecentShares;
use crate::summary::Summary;
use crate::traffic::{
    Arrivals, ClientThread, HolderSettings, HttpLoad, HttpSettings, PingSettings, Pings, TcpHolders,
};
use crate::view::{Frame, Output};
use crate::world::World;

/// The demo's world, and the scope of all that its daemon makes.
const WORLD: &str = "sluice_demo";
/// The public address (RFC 5737, TEST-NET-2), which clients find on their link by ARP.
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
/// The view is drawn so often.
const FRAME: Duration = Duration::from_millis(250);

/// The responder's port in the tenant's template, by default.
const PORT: u16 = 80;

/// How long a connection is held.
const CONNECTION_LIFETIME: RangeInclusive<Duration> = Duration::from_secs(4)..=Duration::from_secs(9);
/// How long a stream of pings keeps its identifier.
const PING_LIFETIME: RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(7);

/// How the demo is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `sluice`, which is the daemon.
    pub sluice: PathBuf,
    /// Where instances run.
    pub provider: ProviderKind,
    /// The folder of a virtual machine's image (`sluice_machines::Image`); virtual machines need it.
    pub image: PathBuf,
    /// Lets the load rise and fall once, in less than a minute; without a meaning for virtual machines, which take longer to
    /// boot.
    pub brief: bool,
    /// Prints the summary as JSON, and everything else to standard error.
    pub json: bool,
}

/// Runs the demo and prints it: a live view on a terminal, plain lines elsewhere, then the summary.
///
/// An error is something that kept it from its end, Ctrl-C too. Where it came to its end but traffic was lost or the
/// group did not scale, [`Summary::is_good`] says so. Either way nothing of it is left on the host.
pub async fn run(options: &Options) -> Result<Summary> {
    let output = Output::choose(options.json);
    let mut interrupt = Interrupt::new()?;
    output.note(match options.provider {
        ProviderKind::Docker => "starting a dockerd, making an image and namespaces, and starting the daemon",
        ProviderKind::Libvirt => "starting a libvirtd, making namespaces, and starting the daemon",
        ProviderKind::Netns => "making namespaces, and starting the daemon",
    });
    let killed = Libvirtd::of_killed()?;
    World::end_earlier(WORLD, &options.sluice)?;
    drop(killed);
    // It outlives the world: the daemon's instances are in it.
    let ground = Ground::prepare(options).await?;
    let mut world = World::create(WORLD, &options.sluice, &ground.settings()).await?;
    let outcome = tokio::select! {
        outcome = play(&mut world, &ground, options.brief, output) => outcome,
        () = interrupt.wait() => Ok(None),
    };
    output.note("taking everything down");
    let went_wrong = match &outcome {
        Ok(Some(summary)) => !summary.is_good(),
        Ok(None) => false,
        Err(_) => true,
    };
    if went_wrong {
        keep_log(&world, output);
    }
    let left = world.remove().await;
    let Some(mut summary) = outcome? else { bail!("interrupted") };
    let left = left?.into_iter().chain(ground.remains()?);
    summary.problems.extend(left.map(|thing| format!("left on the host: {thing}")));
    output.summary(&summary)?;
    Ok(summary)
}

/// The clients of the demo.
struct Clients {
    connections: TcpHolders,
    pings: Pings,
    load: HttpLoad,
    arrivals: Arrivals,
    meter: LoadMeter,
    _thread: ClientThread,
}

impl Clients {
    fn start(world: &World, course: &Course) -> Result<Self> {
        let thread = world.network().clients()?;
        let sources = world.network().sources()?;
        let arrivals = Arrivals::default();
        let target = SocketAddrV4::new(VIP, PORT);
        let connections = TcpHolders::start(
            &thread,
            HolderSettings {
                target,
                count: course.connections,
                lifetime: CONNECTION_LIFETIME,
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(5),
                sources: sources.clone(),
                arrivals: arrivals.clone(),
            },
        );
        let pings = Pings::start(
            &thread,
            PingSettings {
                target: VIP,
                count: course.pings,
                lifetime: PING_LIFETIME,
                interval: Duration::from_millis(200),
                timeout: Duration::from_secs(2),
                sources: sources.clone(),
            },
        );
        let load = HttpLoad::start(
            &thread,
            HttpSettings {
                target,
                rate: 0.0,
                timeout: Duration::from_secs(10),
                sources,
                arrivals: arrivals.clone(),
            },
        )?;
        Ok(Self { connections, pings, load, arrivals, meter: LoadMeter::start(), _thread: thread })
    }

    async fn stop(&self) {
        tokio::join!(self.connections.stop(), self.pings.stop(), self.load.stop());
    }
}

/// The demo's course; `None` when somebody has ended it.
async fn play(world: &mut World, ground: &Ground, brief: bool, output: Output) -> Result<Option<Summary>> {
    let course = ground.course(brief);
    world.write_tenant("demo.yml", ground.tenant())?;
    let client = world.start_daemon().await?;
    let mut observer = Observer::new(client).await?;
    observer
        .until("the first instances in service", course.first_instances_within, |seen| {
            tenant(seen).is_some_and(at_min)
        })
        .await?;
    let clients = Clients::start(world, course)?;
    let began = Instant::now();
    if !run_load(&mut observer, &clients, course, began, output).await? {
        return Ok(None);
    }
    clients.stop().await;
    observer.look().await?;
    Ok(Some(summarise(&observer, &clients, course, began.elapsed())))
}

/// Follows the phases and shows what happens, until the load has fallen and the group with it; `false` when somebody
/// has ended it.
async fn run_load(
    observer: &mut Observer,
    clients: &Clients,
    course: &Course,
    began: Instant,
    output: Output,
) -> Result<bool> {
    let mut view = output.view()?;
    let mut shares = RecentShares::default();
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        frames.tick().await;
        let elapsed = began.elapsed();
        let phase = course.phase_at(elapsed);
        clients.load.set_rate(phase.rate);
        let new_events = observer.look().await?;
        let instances = tenant(observer).map_or(&[][..], |tenant| &tenant.instances);
        let new_flows =
            instances.iter().map(|instance| (instance.id.clone(), instance.new_flows.unwrap_or(0)));
        let frame = Frame {
            shares: shares.add(elapsed, new_flows),
            elapsed,
            remaining: course.planned().saturating_sub(elapsed),
            phase: phase.name,
            rate: phase.rate,
            tenant: tenant(observer),
            events: observer.events(),
            new_events,
            connections: clients.connections.counts(),
            pings: clients.pings.counts(),
            requests: clients.load.counts(),
        };
        view.draw(&frame)?;
        if view.wants_to_end()? {
            return Ok(false);
        }
        let settled = elapsed >= course.planned() && frame.tenant.is_some_and(at_min);
        if settled || elapsed >= course.latest_end {
            return Ok(true);
        }
    }
}

fn summarise(observer: &Observer, clients: &Clients, course: &Course, length: Duration) -> Summary {
    let count = |kind| observer.count(kind) as u64;
    let mut summary = Summary {
        xdp_mode: observer.status().map(|status| status.daemon.xdp_mode),
        seconds: length.as_secs_f64(),
        scale_outs: count(EventKind::ScaleOut),
        scale_ins: count(EventKind::ScaleIn),
        actions: report::actions(observer.events(), &clients.connections, &clients.pings, &clients.arrivals),
        requests: clients.load.counts(),
        pings: clients.pings.counts(),
        connections: report::connections(&clients.connections, &clients.pings, &clients.load),
        new_flows_while_draining: report::strays(observer, &clients.arrivals),
        counted_while_draining: observer.new_flows_while_draining(),
        host_load: clients.meter.read(),
        problems: Vec::new(),
    };
    summary.judge(tenant(observer).is_some_and(at_min), course.actions);
    summary
}

fn tenant(observer: &Observer) -> Option<&TenantStatus> {
    observer.status()?.tenants.first()
}

/// Whether the group is at its minimum, all of it serving and nothing else there.
fn at_min(tenant: &TenantStatus) -> bool {
    let serving =
        tenant.instances.iter().filter(|instance| instance.state == InstanceState::InService).count();
    serving == tenant.instances.len() && serving == usize::try_from(tenant.min).unwrap_or(usize::MAX)
}

/// Keeps the daemon's log, which the world's end removes, for whoever has to find out what went wrong.
fn keep_log(world: &World, output: Output) {
    let kept =
        tempfile::Builder::new().prefix("sluice-demo-").suffix(".log").tempfile().and_then(|mut file| {
            std::io::copy(&mut std::fs::File::open(world.log_file())?, &mut file)?;
            Ok(file.keep()?.1)
        });
    match kept {
        Ok(path) => output.note(&format!("the daemon's log is kept as {}", path.display())),
        Err(error) => output.note(&format!("the daemon's log is not kept: {error}")),
    }
}

/// Ctrl-C, and what else asks a program on a terminal to end.
struct Interrupt([tokio::signal::unix::Signal; 3]);

impl Interrupt {
    fn new() -> Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::HostSettings;

    #[test]
    fn the_tenants_are_good_ones_and_their_drains_can_end() {
        for text in crate::ground::tenants() {
            is_good(&text);
        }
    }

    fn is_good(text: &str) {
        let tenant = sluice_northbound::tenant::parse("demo.yml", text);
        let tenant = tenant.unwrap_or_else(|faults| panic!("{faults:#?}"));
        assert!(tenant.warnings.is_empty(), "{:#?}", tenant.warnings);
        let cool_down = tenant.spec.group.cool_down;
        assert!(
            cool_down > *CONNECTION_LIFETIME.end() + Duration::from_secs(5),
            "connections outlive a drain"
        );
        assert!(
            cool_down > *PING_LIFETIME.end() + HostSettings::default().icmp_timeout,
            "pings outlive a drain"
        );
        assert_eq!(tenant.spec.template.port, PORT);
    }
}
