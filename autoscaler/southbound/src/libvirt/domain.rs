//! An instance as a libvirt domain: its description, its label, and what libvirt says of it.

use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{ImageFormat, LibvirtTemplate, VmBoot};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::accel::Accel;
use super::connection::Fault;
use super::pool::{PoolPlace, path_text};
use super::xml;
use crate::provider::{Halt, InstanceMetrics, InstanceSpec, NicSpec, Presence, Traffic};
use crate::scope::Scope;

/// Which part of a domain's metadata: an element of our own.
const ELEMENT: i32 = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();

/// Where the template says nothing: what a small Debian boots in.
const DEFAULT_MEMORY: u64 = 512 << 20;

/// A domain of ours, by its label.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) domain: Domain,
    /// What the label says; `None` where it can't be read.
    pub(super) spec: Option<InstanceSpec>,
}

/// The document of an instance's domain.
pub(super) fn document(
    scope: &Scope,
    place: &PoolPlace,
    accel: Accel,
    spec: &InstanceSpec,
    vm: &LibvirtTemplate,
) -> Result<String, Fault> {
    let name = scope.domain(&spec.id);
    let label = serde_json::to_string(spec).map_err(|error| Fault::Other(error.to_string()))?;
    let domain = xml::Domain {
        kind: accel.domain_type(),
        metadata: xml::Metadata {
            instance: xml::Label { namespace: xml::NAMESPACE, scope: scope.name().to_owned(), spec: label },
        },
        memory: xml::Bytes::of(spec.template.memory.unwrap_or(DEFAULT_MEMORY)),
        vcpu: xml::Text { value: vcpus(spec, vm) },
        os: os(vm)?,
        features: xml::Features::default(),
        cpu: accel.cpu_mode().map(|mode| xml::Cpu { mode }),
        on_poweroff: "destroy",
        on_reboot: "restart",
        on_crash: "destroy",
        devices: xml::Devices {
            disk: disks(place, &name, vm),
            interface: interfaces(scope, spec),
            controller: vec![xml::Controller::no_usb()],
            serial: xml::Serial::default(),
            rng: xml::Rng::default(),
            memballoon: xml::Balloon::default(),
        },
        name,
    };
    xml::text("domain", &domain)
}

/// As many as hold the template's cores, where it doesn't say how many.
fn vcpus(spec: &InstanceSpec, vm: &LibvirtTemplate) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cores are 0.01 to 1024")]
    let whole = spec.template.cpus.ceil() as u32;
    vm.vcpus.unwrap_or(whole).max(1)
}

fn os(vm: &LibvirtTemplate) -> Result<xml::Os, Fault> {
    let (kernel, initrd, cmdline) = match &vm.boot {
        VmBoot::Image(_) => (None, None, None),
        VmBoot::Kernel { kernel, initrd, command_line, .. } => {
            let initrd = initrd.as_deref().map(path_text).transpose()?;
            (Some(path_text(kernel)?), initrd, Some(command_line.as_str()))
        }
    };
    let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(xml::Os {
        kind: xml::OsType { machine: vm.machine.clone(), value: "hvm" },
        kernel: owned(kernel),
        initrd: owned(initrd),
        cmdline: owned(cmdline),
    })
}

fn disks(place: &PoolPlace, name: &str, vm: &LibvirtTemplate) -> Vec<xml::Disk> {
    let overlay = || xml::Disk::of_file(place.overlay(name), ImageFormat::Qcow2.name(), "vda", false);
    let seed = xml::Disk::of_file(place.seed(name), ImageFormat::Raw.name(), "vdb", true);
    vm.boot.disk().map(|_| overlay()).into_iter().chain([seed]).collect()
}

/// One for each network. On the management network the instances don't see each other.
fn interfaces(scope: &Scope, spec: &InstanceSpec) -> Vec<xml::Interface> {
    let interface = |(number, nic): (usize, &NicSpec)| {
        let isolated = spec.management.as_ref() == Some(nic);
        let port = scope.nic_port(&spec.id, number);
        xml::Interface::of_bridge(nic.bridge.clone(), nic.mac.to_string(), port, isolated)
    };
    spec.nics().enumerate().map(interface).collect()
}

/// Fails with libvirt's words for it where there is no such machine; what it says of a domain with one is hard to
/// understand.
pub(super) fn check_machine(connect: &Connect, accel: Accel, vm: &LibvirtTemplate) -> Result<(), Fault> {
    if let Some(machine) = &vm.machine {
        connect.get_domain_capabilities(None, None, Some(machine), Some(accel.domain_type()), 0)?;
    }
    Ok(())
}

/// The domain of an instance. A foreign one of that name is an error; none is `None`.
pub(super) fn find(connect: &Connect, scope: &Scope, id: &InstanceId) -> Result<Option<Own>, Fault> {
    let name = scope.domain(id);
    let domain = match Domain::lookup_by_name(connect, &name) {
        Err(error) if error.code() == ErrorNumber::NoDomain => return Ok(None),
        domain => domain?,
    };
    match own(scope, id, domain)? {
        Some(own) => Ok(Some(own)),
        None => Err(Fault::Foreign(name)),
    }
}

/// All domains of the scope.
pub(super) fn list(connect: &Connect, scope: &Scope) -> Result<Vec<(InstanceId, Own)>, Fault> {
    let mut found = Vec::new();
    for domain in connect.list_all_domains(0)? {
        let Some(id) = scope.instance_of_domain(&domain.get_name()?) else { continue };
        if let Some(own) = vanishing(own(scope, &id, domain))?.flatten() {
            found.push((id, own));
        }
    }
    Ok(found)
}

/// The label of a domain of ours; `None` where it is not ours.
pub(super) fn label(scope: &Scope, domain: &Domain) -> Result<Option<xml::ReadLabel>, Fault> {
    let text = match domain.get_metadata(ELEMENT, Some(xml::NAMESPACE), 0) {
        Err(error) if error.code() == ErrorNumber::NoDomainMetadata => return Ok(None),
        text => text?,
    };
    let label = quick_xml::de::from_str::<xml::ReadLabel>(&text).ok();
    Ok(label.filter(|label| label.scope == scope.name()))
}

/// A domain, if its label says that it is ours.
fn own(scope: &Scope, id: &InstanceId, domain: Domain) -> Result<Option<Own>, Fault> {
    let Some(label) = label(scope, &domain)? else { return Ok(None) };
    let spec = serde_json::from_str::<InstanceSpec>(&label.spec).ok();
    Ok(Some(Own { domain, spec: spec.filter(|spec| spec.id == *id) }))
}

/// A domain that goes away while it is looked at is none.
pub(super) fn vanishing<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Err(fault) if fault.is(ErrorNumber::NoDomain) => Ok(None),
        result => result.map(Some),
    }
}

/// Whether it runs, or why not.
pub(super) fn presence(own: &Own) -> Result<Presence, Fault> {
    if own.spec.is_none() {
        return Ok(Presence::Broken);
    }
    let (state, reason) = own.domain.get_state()?;
    Ok(match state {
        // After a restart of libvirt it no longer knows that a domain has run.
        sys::VIR_DOMAIN_SHUTOFF if reason == sys::VIR_DOMAIN_SHUTOFF_UNKNOWN.cast_signed() => {
            Presence::Created
        }
        sys::VIR_DOMAIN_SHUTOFF | sys::VIR_DOMAIN_CRASHED => Presence::Exited,
        sys::VIR_DOMAIN_PMSUSPENDED => Presence::Halted(Halt::Paused),
        sys::VIR_DOMAIN_PAUSED => halt(reason.cast_unsigned()).map_or(Presence::Running, Presence::Halted),
        _ => Presence::Running,
    })
}

/// Why a paused domain won't go on by itself; `None` where libvirt has paused it in the middle of something, as of its
/// start, a snapshot or a migration.
fn halt(reason: u32) -> Option<Halt> {
    match reason {
        sys::VIR_DOMAIN_PAUSED_UNKNOWN
        | sys::VIR_DOMAIN_PAUSED_USER
        | sys::VIR_DOMAIN_PAUSED_FROM_SNAPSHOT => Some(Halt::Paused),
        sys::VIR_DOMAIN_PAUSED_IOERROR => Some(Halt::Disk),
        sys::VIR_DOMAIN_PAUSED_WATCHDOG
        | sys::VIR_DOMAIN_PAUSED_CRASHED
        | sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
        | sys::VIR_DOMAIN_PAUSED_API_ERROR => Some(Halt::Crashed),
        _ => None,
    }
}

/// Switches a domain off. One that is off is a success.
pub(super) fn switch_off(domain: &Domain) -> Result<(), Fault> {
    match domain.destroy() {
        Err(error) if error.code() == ErrorNumber::OperationInvalid && !domain.is_active()? => Ok(()),
        done => Ok(done?),
    }
}

/// Removes a domain that is off, with all that libvirt keeps beside it.
pub(super) fn undefine(domain: &Domain) -> Result<(), Fault> {
    let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
    Ok(domain.undefine_flags(all)?)
}

/// A running domain's metrics.
pub(super) fn metrics(domain: &Domain, spec: &InstanceSpec) -> Result<InstanceMetrics, Fault> {
    let at = Timestamp::now();
    let info = domain.get_info()?;
    Ok(InstanceMetrics {
        at,
        cpu: Duration::from_nanos(info.cpu_time),
        memory: memory(domain),
        traffic: traffic(domain, spec),
    })
}

/// As the guest sees it: libvirt turns the directions of a tap around.
fn traffic(domain: &Domain, spec: &InstanceSpec) -> Option<Traffic> {
    let nic = |nic: &NicSpec| {
        let stats = domain.interface_stats(&nic.mac.to_string()).ok()?;
        // -1 where libvirt doesn't know.
        Some(Traffic {
            received: u64::try_from(stats.rx_bytes).ok()?,
            sent: u64::try_from(stats.tx_bytes).ok()?,
        })
    };
    spec.tenant_nics().map(nic).sum()
}

/// What the guest says that it uses; where it says nothing, what QEMU holds for it. Bytes.
fn memory(domain: &Domain) -> Option<u64> {
    let stats = domain.memory_stats(0).ok()?;
    let stat = |tag| stats.iter().find(|stat| stat.tag == tag).map(|stat| stat.val);
    let actual = stat(sys::VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON);
    let used =
        actual.zip(stat(sys::VIR_DOMAIN_MEMORY_STAT_USABLE)).map(|(all, free)| all.saturating_sub(free));
    used.or_else(|| stat(sys::VIR_DOMAIN_MEMORY_STAT_RSS)).map(|kib| kib.saturating_mul(1024))
}
