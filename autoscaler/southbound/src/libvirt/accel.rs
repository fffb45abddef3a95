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
use super::{domain, xml};
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

/// What came of a test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trial {
    /// It came to its end: guests run that way.
    Works,
    /// It did not, and why.
    Fails(String),
}

/// What is to be used, and fails where that can't be had or can't be told now.
pub(super) fn decide(
    connect: &Connect,
    scope: &Scope,
    pool: &Pool,
    choice: AccelChoice,
) -> Result<Accel, Fault> {
    judge(choice, |accel| attempt(connect, scope, pool, accel))
}

fn judge(choice: AccelChoice, attempt: impl Fn(Accel) -> Result<Trial, Fault>) -> Result<Accel, Fault> {
    if choice == AccelChoice::Tcg {
        return Ok(Accel::Tcg);
    }
    let Trial::Fails(reason) = attempt(Accel::Kvm)? else { return Ok(Accel::Kvm) };
    if choice == AccelChoice::Kvm {
        return Err(Fault::Other(format!(
            "no KVM on the cloud's host: {reason}. Set the cloud's `accel` to auto or tcg to have guests emulated"
        )));
    }
    // A host that is too busy for any guest, or has a fault, may have KVM all the same.
    if let Trial::Fails(emulated) = attempt(Accel::Tcg)? {
        return Err(Fault::Other(format!(
            "no guest runs on the cloud's host: with KVM {reason}; emulated {emulated}"
        )));
    }
    tracing::warn!(reason, "no KVM: guests are emulated, which is many times slower");
    Ok(Accel::Tcg)
}

/// Whether guests run that way: boots [`PROGRAM`] and waits for its end. Leaves nothing.
pub(super) fn attempt(connect: &Connect, scope: &Scope, pool: &Pool, accel: Accel) -> Result<Trial, Fault> {
    clear(connect, scope, pool)?;
    let disk = pool.make_raw(connect, &image(scope), &disk_of(&PROGRAM));
    let outcome = disk.and_then(|disk| boot(connect, scope, accel, &disk.get_path()?));
    let cleared = pool.delete(&image(scope));
    let outcome = outcome?;
    cleared.map(|()| outcome)
}

/// Removes what another process has left of a probe. A domain of its name that is not ours is an error.
pub(super) fn clear(connect: &Connect, scope: &Scope, pool: &Pool) -> Result<(), Fault> {
    pool.delete(&image(scope))?;
    let name = name(scope);
    let probe = match Domain::lookup_by_name(connect, &name) {
        Err(error) if error.code() == ErrorNumber::NoDomain => return Ok(()),
        probe => probe?,
    };
    match domain::vanishing(domain::label(scope, &probe))? {
        Some(None) => Err(Fault::Foreign(name)),
        Some(Some(_)) => end(&probe),
        None => Ok(()),
    }
}

fn name(scope: &Scope) -> String {
    format!("{}-probe", scope.name())
}

fn image(scope: &Scope) -> String {
    format!("{}.img", name(scope))
}

/// A disk that starts with a program.
pub(super) fn disk_of(program: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; DISK];
    disk[..program.len()].copy_from_slice(program);
    disk[SIGNATURE].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn boot(connect: &Connect, scope: &Scope, accel: Accel, disk: &str) -> Result<Trial, Fault> {
    // All in it is ours but the path, which is that of our pool.
    let path = quick_xml::escape::escape(disk);
    let (kind, name, namespace) = (accel.domain_type(), name(scope), xml::NAMESPACE);
    let document = format!(
        "<domain type='{kind}'><name>{name}</name>\
         <metadata><sluice:probe xmlns:sluice='{namespace}' scope='{}'/></metadata>\
         <memory unit='MiB'>16</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os><on_reboot>destroy</on_reboot><devices><disk type='file' device='disk'>\
         <source file='{path}'/><target dev='vda' bus='virtio'/></disk><memballoon model='none'/></devices></domain>",
        scope.name()
    );
    // It ends with the connection, if this process does.
    match Domain::create_xml(connect, &document, sys::VIR_DOMAIN_START_AUTODESTROY) {
        Ok(probe) => {
            let outcome = wait(&probe);
            end(&probe).and(outcome)
        }
        Err(error) => Ok(Trial::Fails(error.message().to_owned())),
    }
}

fn wait(probe: &Domain) -> Result<Trial, Fault> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if domain::vanishing(probe.is_active().map_err(Fault::from))? != Some(true) {
            return Ok(Trial::Works);
        }
        thread::sleep(PAUSE);
    }
    Ok(Trial::Fails(format!("a test program did not end within {} s", PATIENCE.as_secs())))
}

/// Ends a probe. It isn't stored, so then it is gone.
fn end(probe: &Domain) -> Result<(), Fault> {
    domain::vanishing(domain::switch_off(probe)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(reason: &str) -> Trial {
        Trial::Fails(reason.to_owned())
    }

    #[test]
    fn guests_are_emulated_only_where_emulation_does_what_kvm_does_not() {
        use AccelChoice::{Auto, Kvm, Tcg};
        let lacking = |accel| Ok(if accel == Accel::Kvm { fails("no device") } else { Trial::Works });
        assert_eq!(judge(Auto, lacking).expect("emulation"), Accel::Tcg);
        assert_eq!(judge(Auto, |_| Ok(Trial::Works)).expect("KVM"), Accel::Kvm);
        assert_eq!(judge(Tcg, |_| Ok(fails("not asked"))).expect("as told"), Accel::Tcg);
        let fault = judge(Kvm, lacking).expect_err("no KVM").to_string();
        assert!(fault.contains("no device"), "{fault}");
    }

    #[test]
    fn a_fault_of_the_host_says_nothing_of_kvm() {
        let busy = judge(AccelChoice::Auto, |_| Ok(fails("it did not end"))).expect_err("busy");
        assert!(busy.to_string().contains("it did not end"), "{busy}");
        let full = judge(AccelChoice::Auto, |_| Err(Fault::Other("no room".to_owned()))).expect_err("full");
        assert_eq!(full.to_string(), "no room");
    }
}
