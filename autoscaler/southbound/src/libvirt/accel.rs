//! How a guest's instructions are run: by the processor (KVM), or by QEMU's emulation (TCG).
//!
//! That libvirt offers KVM says only that its device can be opened; on hosts that are guests themselves it may be
//! there and run nothing. So a program of a few bytes is booted: where it comes to its end, KVM works.

use std::thread;
use std::time::{Duration, Instant};

use sluice_logic::spec::AccelChoice;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::connection::Fault;
use super::pool::Pool;
use crate::scope::Scope;

/// How guests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    /// libvirt's word for it.
    pub(super) fn domain_type(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "qemu",
        }
    }

    /// Under KVM a guest sees the host's processor; emulation has one of its own.
    pub(super) fn cpu_mode(self) -> Option<&'static str> {
        match self {
            Self::Kvm => Some("host-passthrough"),
            Self::Tcg => None,
        }
    }
}

/// The firmware takes a second or two, emulated on a busy host several.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// A boot sector: resets the machine by its keyboard controller, which ends the domain.
const PROGRAM: [u8; 7] = [
    0xb0, 0xfe, // mov al, 0xfe: "pulse the reset line"
    0xe6, 0x64, // out 0x64, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];
/// Where a boot sector says that it is one.
const SIGNATURE: std::ops::Range<usize> = 510..512;
/// The firmware boots no virtio disk that is smaller than a cylinder of 16 × 63 sectors.
const DISK: usize = 1 << 20;

/// What is to be used, and fails where that can't be had.
pub(super) fn decide(
    connect: &Connect,
    scope: &Scope,
    pool: &Pool,
    choice: AccelChoice,
) -> Result<Accel, Fault> {
    if choice == AccelChoice::Tcg {
        return Ok(Accel::Tcg);
    }
    let fault = match works(connect, scope, pool, Accel::Kvm) {
        Ok(true) => return Ok(Accel::Kvm),
        Ok(false) => format!("a test program did not end within {} s", PATIENCE.as_secs()),
        Err(fault) if fault.is_outage() => return Err(fault),
        Err(fault) => fault.to_string(),
    };
    if choice == AccelChoice::Kvm {
        return Err(Fault::Other(format!(
            "no KVM on the cloud's host: {fault}. Set the cloud's `accel` to auto or tcg to have guests emulated"
        )));
    }
    tracing::warn!(reason = fault, "no KVM: guests are emulated, which is many times slower");
    Ok(Accel::Tcg)
}

/// Whether guests run that way: boots [`PROGRAM`] and waits for its end.
pub(super) fn works(connect: &Connect, scope: &Scope, pool: &Pool, accel: Accel) -> Result<bool, Fault> {
    let name = format!("{}-probe", scope.name());
    end(connect, &name)?;
    let disk = format!("{name}.img");
    let volume = pool.make_raw(connect, &disk, &disk_of(&PROGRAM))?;
    let outcome = boot(connect, accel, &name, &volume.get_path()?);
    end(connect, &name)?;
    pool.delete(&disk)?;
    outcome
}

/// A disk that starts with a program.
pub(super) fn disk_of(program: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; DISK];
    disk[..program.len()].copy_from_slice(program);
    disk[SIGNATURE].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn boot(connect: &Connect, accel: Accel, name: &str, disk: &str) -> Result<bool, Fault> {
    // All in it is ours but the path, which is that of our pool.
    let path = quick_xml::escape::escape(disk);
    let kind = accel.domain_type();
    let document = format!(
        "<domain type='{kind}'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os><on_reboot>destroy</on_reboot><devices><disk type='file' device='disk'>\
         <source file='{path}'/><target dev='vda' bus='virtio'/></disk><memballoon model='none'/></devices></domain>"
    );
    // It ends with the connection, if this process does.
    let domain = Domain::create_xml(connect, &document, sys::VIR_DOMAIN_START_AUTODESTROY)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match domain.is_active() {
            Ok(true) => thread::sleep(PAUSE),
            Ok(false) => return Ok(true),
            Err(error) if error.code() == ErrorNumber::NoDomain => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Ends a probe, also one that another process has left. It isn't stored, so then it is gone.
fn end(connect: &Connect, name: &str) -> Result<(), Fault> {
    let gone = |error: &virt::error::Error| {
        matches!(error.code(), ErrorNumber::NoDomain | ErrorNumber::OperationInvalid)
    };
    match Domain::lookup_by_name(connect, name).and_then(|domain| domain.destroy()) {
        Err(error) if !gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
