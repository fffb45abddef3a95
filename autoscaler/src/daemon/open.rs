//! Opens the host: load balancer, networks, provider, state, and what there is of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use lb_userspace::lb::{FlowTimeouts, Limits, LoadBalancer, OpenPorts, Settings, XdpMode};
use lb_userspace::net::{Netns, NetnsPath};
use lb_userspace::service::Protocol;
use sluice_northbound::host::{HostConfig, OpenPort, TransitConfig};
use sluice_southbound::bridge_filter;
use sluice_southbound::management::{self, Management};
use sluice_southbound::networks::Networks;
use sluice_southbound::scope::Scope;
use sluice_store::logs::{LogBook, LogLimits};
use sluice_store::{self as store, Store};

use super::balancer::Balancer;
use super::clouds::Clouds;
use super::events::EventLog;
use super::found::Found;
use super::host::Host;
use super::logs::Logs;
use super::poll;
use super::problems::Problems;
use super::state::StateDir;

/// The event log, in the state directory.
const EVENTS: &str = "events";
/// The groups' state files, in the state directory.
const GROUPS: &str = "groups";
/// The last good form of each tenant's file, in the state directory.
pub(crate) const ACCEPTED: &str = "accepted";
/// Samples and decisions, in the state directory.
const HISTORY: &str = "history";
/// What instances and hosts log, in the state directory.
const LOGS: &str = "logs";
/// All that is made in the state directory.
pub(crate) const STATE_PARTS: [&str; 5] = [EVENTS, GROUPS, ACCEPTED, HISTORY, LOGS];

/// What can't be made or removed.
const MANAGEMENT: &str = "the management network (`management` in the host file)";

/// The host, and what is there.
pub(crate) struct Opened {
    pub(crate) host: Arc<Host>,
    pub(crate) found: Found,
    /// How the uplink's program runs.
    pub(crate) mode: XdpMode,
}

/// Opens everything, and lists what there is. Changes nothing but the load balancer's programs, which are
/// replaced in place.
pub(crate) async fn open(
    config: &HostConfig,
    scope: Scope,
    transit: Netns,
    clouds: Clouds,
) -> Result<Opened> {
    if let Some(warning) = bridge_filter::warning() {
        tracing::warn!("{warning}");
    }
    let state = config.state.clone();
    STATE_PARTS
        .iter()
        .try_for_each(|part| keep_private(&state.join(part)))
        .with_context(|| unusable(&state))?;
    let events = EventLog::open(&state.join(EVENTS)).with_context(|| unusable(&state))?;
    let state_dir = StateDir::open(&state.join(GROUPS)).with_context(|| unusable(&state))?;
    let saved = state_dir.load_all().with_context(|| unusable(&state))?;
    let store = Store::open(store_settings(config)).context("the store's thread can't be made")?;
    let networks = Networks::open(scope.clone(), &transit, &config.transit.uplink)?;
    let management = management(config, scope).await?;
    let settings = settings(config, &transit);
    let opened = tokio::task::spawn_blocking(move || LoadBalancer::open(&settings)).await?;
    let balancer = match opened {
        Ok(balancer) => balancer,
        Err(error) => return Err(with_occupant(error.into(), &networks, &config.transit).await),
    };
    let mode = balancer.mode();
    tracing::info!("the load balancer's maps take {}", balancer.memory()?);
    let services = balancer.services();
    let snapshot = clouds.poll().await;
    // What a cloud had that does not answer is taken for what is in the state files, until it does.
    poll::report(&events, &snapshot.news);
    let saved: BTreeMap<_, _> = saved.into_iter().map(|saved| (saved.spec.name.clone(), saved)).collect();
    let found = Found { saved, snapshot, services };
    // Before any tenant makes new ones, and before anything is removed that no instance has.
    found.specs().for_each(|spec| networks.hold(spec.tenant_nics()));
    if let Some(management) = &management {
        found.specs().for_each(|spec| management.hold(spec));
        management.repair().await.context(MANAGEMENT)?;
    }
    let hosts = config.logs.hosts.clone();
    let logs = Logs::new(log_book(config), config.logs.listen, hosts, management.clone());
    let host = Host {
        balancer: Balancer::spawn(balancer)?,
        clouds,
        networks,
        management,
        transit,
        events,
        flow_table: Mutex::default(),
        problems: Problems::default(),
        state: state_dir,
        logs: Arc::new(logs),
        store,
        sample_interval: config.sample_interval,
    };
    Ok(Opened { host: Arc::new(host), found, mode })
}

/// Names what may be the cause where the uplink has an XDP program, which is another's then.
async fn with_occupant(error: anyhow::Error, networks: &Networks, transit: &TransitConfig) -> anyhow::Error {
    let TransitConfig { namespace, uplink, .. } = transit;
    let netns = namespace.clone().map_or(NetnsPath::Here, NetnsPath::Name);
    let observed = networks.observe_uplink(netns.clone()).await;
    let occupied = observed.is_ok_and(|uplink| uplink.link.is_some_and(|link| link.xdp.is_some()));
    if !occupied {
        return error;
    }
    error.context(format!(
        "the uplink `{uplink}` has an XDP program of somebody else (`{netns}ip link show {uplink}` names it): end what put it \
         there, or take it off with `{netns}ip link set {uplink} xdp off`"
    ))
}

/// Makes a directory for root alone: what tenants' instances log and are given is nobody else's.
fn keep_private(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// The management network; one that is not asked for any more is removed.
async fn management(config: &HostConfig, scope: Scope) -> Result<Option<Arc<Management>>> {
    let Some(subnet) = config.management.reserved() else {
        management::remove(&scope).await.context(MANAGEMENT)?;
        return Ok(None);
    };
    Ok(Some(Arc::new(Management::ensure(scope, subnet).await.context(MANAGEMENT)?)))
}

/// The logs of instances and hosts.
pub(crate) fn log_book(config: &HostConfig) -> LogBook {
    let limits = LogLimits { keep: config.logs.keep, size: config.logs.max_size };
    LogBook::new(config.state.join(LOGS), limits)
}

/// The store of samples and decisions.
pub(crate) fn store_settings(config: &HostConfig) -> store::Settings {
    let history = &config.history;
    let limits = store::Limits {
        fine: history.fine,
        instances: history.instances,
        groups: history.groups,
        decisions: history.decisions,
        size: history.max_size,
    };
    store::Settings::new(config.state.join(HISTORY).join("store.redb"), limits)
}

fn settings(config: &HostConfig, transit: &Netns) -> Settings {
    let sizes = &config.load_balancer;
    let times = &sizes.timeouts;
    Settings {
        pin_root: config.pins.clone(),
        transit: transit.clone(),
        uplink: config.transit.uplink.clone(),
        limits: Limits {
            flows: sizes.max_flows,
            nascent_flows: sizes.max_nascent_flows,
            services: sizes.max_services,
            backends: sizes.max_backends,
        },
        timeouts: FlowTimeouts {
            tcp: times.tcp,
            icmp: times.icmp,
            udp: times.udp,
            nascent: times.nascent,
            closed: times.closed,
        },
        open_ports: OpenPorts {
            at_vips: open_ports(&config.transit.open_to_clients),
            at_gateways: &open_ports(&config.transit.open_to_instances) | &syslog_ports(config),
        },
    }
}

fn open_ports(ports: &BTreeSet<OpenPort>) -> BTreeSet<(Protocol, u16)> {
    let open = |port: &OpenPort| match *port {
        OpenPort::Tcp(port) => (Protocol::Tcp, port),
        OpenPort::Udp(port) => (Protocol::Udp, port),
    };
    ports.iter().map(open).collect()
}

/// Where instances may send their syslog at their gateways.
fn syslog_ports(config: &HostConfig) -> BTreeSet<(Protocol, u16)> {
    let port = config.logs.listen.map(|address| address.port());
    port.into_iter().flat_map(|port| [(Protocol::Tcp, port), (Protocol::Udp, port)]).collect()
}

fn unusable(state: &Path) -> String {
    format!("cannot use the state directory {} (`state` in the host file)", state.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &str) -> OpenPorts {
        let host = sluice_northbound::host::parse("sluice.yml", text).expect("a host file");
        settings(&host.config, &Netns::current().expect("a namespace")).open_ports
    }

    #[test]
    fn the_load_balancer_opens_the_host_files_ports_and_where_syslog_is_taken() {
        assert_eq!(opened("transit: {uplink: e}"), OpenPorts::default());
        let open = opened(
            "transit: {uplink: e, open_to_clients: [22/tcp], open_to_instances: [53/udp]}\nsyslog: {listen: '0.0.0.0:514'}",
        );
        assert_eq!(open.at_vips, [(Protocol::Tcp, 22)].into());
        let at_gateways = [(Protocol::Udp, 53), (Protocol::Tcp, 514), (Protocol::Udp, 514)];
        assert_eq!(open.at_gateways, at_gateways.into());
    }
}
