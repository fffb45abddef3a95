//! The load balancer: what is pinned in the kernel, as one value.

mod address;
mod apply;
mod batch;
mod bpffs;
mod bridge;
mod clsact;
mod counters;
mod drift;
mod error;
mod hints;
mod layout;
mod links;
mod loader;
mod local;
pub mod look;
mod maglev;
mod maps;
mod memory;
mod own_tables;
mod parts;
mod probe;
mod quota;
mod rcu;
mod recipe;
mod registry;
mod settings;
mod slots;
mod sweep;
mod tenants;
mod uplink;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use lb_common::abi::{Control, FlowTableShape, Quota, SweepOrder, sweep_order};
use lb_common::hash::Seed;

pub use bpffs::provide_bpffs;
pub use bridge::{admit_own_addresses, close_bridge};
pub use counters::{Counters, FlowCounters};
pub use drift::Repaired;
pub use error::Error;
pub use links::{Receiver, XdpMode, attach_receiver};
pub use memory::Memory;
pub use quota::{FlowTableUse, ServiceUse};
pub(crate) use registry::answers_clash;
pub use settings::{FlowTimeouts, Ipv4Subnet, Ipv6Subnet, Limits, OpenPorts, Settings, TenantLink};

use crate::net::Netns;
use crate::object::object;
use crate::service::{Service, ServiceKey};
use maps::Maps;
use parts::Parts;
use probe::Prober;
use registry::Registry;

/// The load balancer of one uplink: programs, maps and links, pinned so that packets flow without this process.
///
/// Calls are synchronous and take well under a millisecond, but for [`apply`](Self::apply) and
/// [`remove`](Self::remove), which wait up to about 20 ms for the kernel to finish with what they replaced.
///
/// ```no_run
/// use lb_userspace::lb::{FlowTimeouts, Limits, LoadBalancer, OpenPorts, Settings};
/// use lb_userspace::net::Netns;
/// use lb_userspace::service::Service;
///
/// let mut balancer = LoadBalancer::open(&Settings {
///     pin_root: "/sys/fs/bpf/example".into(),
///     transit: Netns::open("transit")?,
///     uplink: "eth1".to_owned(),
///     limits: Limits::default(),
///     timeouts: FlowTimeouts::default(),
///     open_ports: OpenPorts::default(),
/// })?;
/// let key = "45.45.45.45:80/tcp".parse()?;
/// balancer.apply(&Service { key, target_port: None, closing: false, backends: Vec::new() })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LoadBalancer {
    ebpf: Ebpf,
    maps: Maps,
    registry: Registry,
    pins: PathBuf,
    transit: Netns,
    /// The uplink's name there.
    uplink: String,
    mode: XdpMode,
    /// The tenants' sides that this process has attached, by their interfaces.
    tenants: BTreeMap<String, TenantLink>,
    adopted: bool,
    /// The flows' clock when tracked slots were last looked at.
    settled: u32,
    prober: Prober,
}

impl fmt::Debug for LoadBalancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadBalancer")
            .field("pins", &self.pins)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl LoadBalancer {
    /// Loads the programs, or adopts what an earlier process has pinned; new programs replace the old ones on their
    /// links without a packet between.
    ///
    /// Pins of another version are left alone: [`Error::OtherVersion`], [`Error::OtherLayout`].
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        Self::open_with(settings, object().ok_or(Error::NoObject)?)
    }

    /// As [`open`](Self::open), with the programs of another build of this version: what an upgrade does.
    pub fn open_with(settings: &Settings, object: &[u8]) -> Result<Self, Error> {
        layout::check(&settings.pin_root)?;
        let pins = loader::pin_directory(&settings.pin_root);
        let (mut ebpf, adopted) = loader::load(object, &pins, &settings.limits)?;
        // As they are pinned: aya takes those that it has adopted to be of the sizes that were asked for.
        let mut maps = Maps::from_pins(&pins)?;
        let mut flows = Parts::from_pins(&pins)?;
        flows.complete(FlowTableShape::for_flows(settings.limits.flows).entries)?;
        let registry = Registry::from_maps(&mut maps)?;
        let uplink = links::interface_index(&settings.transit, &settings.uplink)?;
        let before = maps.control()?;
        let services = registry.services().count();
        // What is pinned keeps its size.
        let flow_room = if before.flow_room == 0 { settings.limits.flows } else { before.flow_room };
        let before = Control {
            flow_parts: flows.count(),
            flow_room,
            quota: Quota::of(flow_room, u32::try_from(services).unwrap_or(u32::MAX)),
            ..before
        };
        let sets = (maps.recent_sets(), maps.attempt_sets());
        maps.set_control(&control(before, uplink, &settings.timeouts, sets))?;
        maps.set_open_ports(&settings.open_ports)?;
        let transit = settings.transit.clone();
        let mode = drift::attach_uplink(&mut ebpf, &mut maps, &pins, (&transit, &settings.uplink, uplink))?;
        let mut balancer = Self {
            ebpf,
            maps,
            registry,
            pins,
            uplink: settings.uplink.clone(),
            mode,
            tenants: BTreeMap::new(),
            adopted,
            settled: before.clock,
            prober: Prober::open(&transit)?,
            transit,
        };
        // From now on the flows' clock counts the time, whether the daemon lives or not.
        balancer
            .order(SweepOrder { with: sweep_order::TIME_PASSED, ..SweepOrder::of(sweep_order::CLOCK) })?;
        balancer.follow_uplink()?;
        Ok(balancer)
    }

    /// Whether an earlier process had pinned the maps: services and flows are as it left them.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// How the uplink's program runs.
    #[must_use]
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// The services as the maps have them: after a restart, what the last daemon left.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        self.registry.to_services()
    }

    /// Whether packets are known to meet the service as [`services`](Self::services) says. Not so where an earlier process
    /// has left it, which may have been ended between the backends' states and this service's table: [`apply`](Self::apply)
    /// makes it so.
    #[must_use]
    pub fn is_confirmed(&self, key: &ServiceKey) -> bool {
        self.registry.service(key).is_some_and(|known| known.table_of.is_some())
    }

    /// The program of that name, for test runs.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&aya::programs::Program> {
        self.ebpf.program(name)
    }

    /// Starts or adopts a tenant's side: the answer program on its interface. Idempotent.
    pub fn attach_tenant(&mut self, link: &TenantLink) -> Result<(), Error> {
        let index = links::interface_index(&self.transit, &link.interface)?;
        // The tenant first: a packet that meets the program without it is dropped.
        if self.maps.set_tenant(index, link)? {
            self.forget_absent_tenants()?;
        }
        links::attach_tenant(&mut self.ebpf, &self.pins, &self.transit, link)?;
        self.tenants.insert(link.interface.clone(), link.clone());
        Ok(())
    }

    /// Ends a tenant's side. Idempotent, also where the interface is gone already.
    pub fn detach_tenant(&mut self, interface: &str, peer: &str) -> Result<(), Error> {
        self.tenants.remove(interface);
        links::detach_tenant(&self.pins, &self.transit, interface, peer)?;
        if let Ok(index) = links::interface_index(&self.transit, interface) {
            self.maps.remove_tenant(index)?;
        }
        self.forget_absent_tenants()
    }

    /// Forgets tenants whose interface is gone: by its name it can't be found any more.
    fn forget_absent_tenants(&mut self) -> Result<(), Error> {
        let there = links::interfaces(&self.transit)?.into_values().collect();
        let absent: Vec<u32> = self.maps.tenant_interfaces()?.difference(&there).copied().collect();
        absent.into_iter().try_for_each(|interface| self.maps.remove_tenant(interface))
    }

    /// Detaches from an uplink what no pin holds. Idempotent, also where there is no such interface.
    pub fn release_uplink(transit: &Netns, uplink: &str) -> Result<(), Error> {
        links::release_uplink(transit, uplink)
    }

    /// Removes every pin below the root, and so every program and map that nothing else holds. Returns what was
    /// removed. No pin is a success.
    ///
    /// Before Linux 6.6 the answer program is held by a tenant's interface and ends with it, or by
    /// [`detach_tenant`](Self::detach_tenant); what is held by the uplink ends by [`release_uplink`](Self::release_uplink).
    pub fn remove_pins(pin_root: &Path) -> Result<Vec<PathBuf>, Error> {
        loader::remove_pins(pin_root)
    }
}

/// What the programs are told: the clock and the seed stay, the rest is the settings'.
fn control(
    before: Control,
    uplink: u32,
    timeouts: &FlowTimeouts,
    (recent_sets, attempt_sets): (u32, u32),
) -> Control {
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    Control {
        uplink,
        seed: if before.seed == Seed::default() { loader::random_seed() } else { before.seed },
        tcp_timeout: seconds(timeouts.tcp),
        icmp_timeout: seconds(timeouts.icmp),
        udp_timeout: seconds(timeouts.udp),
        nascent_timeout: seconds(timeouts.nascent),
        closed_timeout: seconds(timeouts.closed),
        recent_mask: match before.recent_mask {
            0 => recent_sets.saturating_sub(1),
            mask => mask.min(recent_sets.saturating_sub(1)),
        },
        attempt_mask: attempt_sets - 1,
        ..before
    }
}
