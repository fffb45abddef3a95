//! The programs of tc before Linux 6.6, which has no tcx: as a filter of the `clsact` qdisc.
//!
//! A filter belongs to its interface, not to a process or a pin: it stays until it or the interface is removed.

use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

/// Where our filter is: by these a later process finds it again.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Attaches the program to an interface of the calling thread's namespace, or puts it in place of the one there.
pub(super) fn attach(program: &mut SchedClassifier, interface: &str) -> Result<(), ProgramError> {
    match qdisc_add_clsact(interface) {
        Err(error) if !is_there_already(&error) => return Err(error.into()),
        _ => {}
    }
    let found = SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None);
    let id = if let Ok(id) = program.attach_to_link(found.map_err(TcError::IoError)?) {
        id
    } else {
        let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
        program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options))?
    };
    // Dropped, it would take the filter with it.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes the program from an interface of the calling thread's namespace. Idempotent.
pub(super) fn detach(interface: &str) {
    // A link that is dropped takes its filter with it; without filter or interface there is nothing to take.
    drop(SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None));
}

fn is_there_already(error: &TcError) -> bool {
    matches!(error, TcError::NetlinkError(error) if error.raw_os_error() == Some(nix::libc::EEXIST))
}
