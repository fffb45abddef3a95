//! What can go wrong with the load balancer.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use aya::programs::ProgramError;
use aya::{BtfError, EbpfError};

use crate::service::ServiceKey;

/// What [`Error::Refused`] calls the object's types.
const TYPES: &str = "BTF";

/// So many lines of a verifier's log are shown: the instruction, the registers before it, and what is wrong with it.
const REASON_LINES: usize = 3;

/// Why the load balancer could not do what it was asked. Nothing is half done then, but where it says so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program was built without a BPF toolchain.
    #[error("this program was built without its BPF object; run `cargo xtask setup` and build it again")]
    NoObject,
    /// The kernel refused the object.
    #[error("loading the BPF object: {0}")]
    Load(#[source] EbpfError),
    /// The object lacks a part: it isn't the one that this library was built with.
    #[error("the BPF object has no `{0}`")]
    MissingPart(&'static str),
    /// The kernel's verifier refused a program, or the object's types.
    #[error(
        "the kernel's verifier refuses `{part}` ({error}); its whole log is logged at level debug:\n{reason}"
    )]
    Refused {
        /// The program's name, or `BTF`.
        part: &'static str,
        /// What the system call returned.
        error: io::Error,
        /// The last lines of the verifier's log.
        reason: String,
    },
    /// A program couldn't be loaded or run.
    #[error("program `{program}`: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A program could not be attached.
    #[error("attaching `{program}` to interface {interface}: {reason}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// Where to.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// A map could not be read or written.
    #[error("map `{map}`: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        source: aya::maps::MapError,
    },
    /// A file below the pin root, or a namespace.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Pins need a file system of their own kind.
    #[error("{} is not in a bpffs: choose a place below {usual}, or mount one there", pin_root.display())]
    NoBpffs {
        /// Where pins were to be.
        pin_root: PathBuf,
        /// Where one belongs.
        usual: &'static str,
    },
    /// There is no load balancer to look at.
    #[error(
        "no load balancer is pinned below {}: `sluice run` makes one; another host file may have another place (`pins`)",
        pin_root.display()
    )]
    NothingPinned {
        /// Where it was looked for.
        pin_root: PathBuf,
    },
    /// The maps are there, but no program is attached to an uplink.
    #[error("no program is attached to the uplink: start the daemon, which attaches it")]
    NoUplink,
    /// There is one place for a watcher.
    #[error("somebody watches already: one watcher has room before the program on the uplink")]
    Watched,
    /// The program is of a version from before watchers.
    #[error("the program on the uplink can't be watched: let a daemon of this version put its own there")]
    NotWatchable,
    /// The load balancer there is of a version with another layout of maps.
    #[error(
        "the load balancer below {} is of another version of sluice ({found}): look at it, and end it, with that one \
         (`sluice down --stop`)",
        pin_root.display()
    )]
    OtherVersion {
        /// Where it is.
        pin_root: PathBuf,
        /// The folder of its pins.
        found: String,
    },
    /// A pinned map has keys or values of other sizes than this version's, in whose folder it is.
    #[error(
        "the pinned map {} has keys of {} and values of {} bytes, where this version of sluice has {} and {}: end what \
         has made it (`sluice down --stop`), or choose another place (`pins`)",
        pin.display(), found.0, found.1, expected.0, expected.1
    )]
    OtherLayout {
        /// Its name.
        map: &'static str,
        /// Where it is pinned.
        pin: PathBuf,
        /// The sizes of its keys and values, in bytes.
        found: (usize, usize),
        /// Those of this version.
        expected: (usize, usize),
    },
    /// There is no room for another service.
    #[error("no room for service {key}: all {limit} places are taken (load_balancer.max_services)")]
    NoRoomForService {
        /// The one refused.
        key: ServiceKey,
        /// The configured number.
        limit: u32,
    },
    /// There is no room for another backend.
    #[error("no room for backend {address}: all {limit} places are taken (load_balancer.max_backends)")]
    NoRoomForBackend {
        /// The one refused.
        address: IpAddr,
        /// The configured number.
        limit: u32,
    },
    /// A service names the same backend twice.
    #[error("service {key} names backend {address} twice")]
    DuplicateBackend {
        /// The service.
        key: ServiceKey,
        /// The backend.
        address: IpAddr,
    },
    /// An answer from this backend would belong to two services.
    #[error("backend {address} already answers {other}: its answers could not be told from those of {key}")]
    AmbiguousAnswer {
        /// The one refused.
        key: ServiceKey,
        /// The backend.
        address: IpAddr,
        /// The service that it answers for.
        other: ServiceKey,
    },
    /// An IPv4 service has IPv6 backends or the other way round: the client's address has no form in the other.
    #[error(
        "backend {address} is of another family than service {key}; give it an address of the VIP's family"
    )]
    OtherFamily {
        /// The service.
        key: ServiceKey,
        /// The backend.
        address: IpAddr,
    },
    /// A service of every port has no single port to translate, and ICMP has none at all.
    #[error("service {0} can't have a target port: only a service of one port can")]
    TargetPort(ServiceKey),
    /// Port 0 stands for every port in the maps.
    #[error("service {0} names port 0, which no packet may have; leave the port out for every port")]
    PortZero(ServiceKey),
    /// ICMP has no ports.
    #[error("service {0} has a port, but ICMP has none")]
    IcmpPort(ServiceKey),
}

impl Error {
    /// For `map_err` on a map.
    pub(crate) fn map(map: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |source| Self::Map { map, source }
    }

    /// For `map_err` on a program.
    pub(crate) fn program(program: &'static str) -> impl Fn(ProgramError) -> Self {
        move |source| match source {
            ProgramError::LoadError { io_error, verifier_log } => {
                Self::refused(program, io_error, &verifier_log.to_string())
            }
            source => Self::Program { program, source },
        }
    }

    fn refused(part: &'static str, error: io::Error, log: &str) -> Self {
        tracing::debug!(part, log, "the verifier's log");
        Self::Refused { part, error, reason: reason(log) }
    }

    /// For `map_err` on a path.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

impl From<EbpfError> for Error {
    fn from(error: EbpfError) -> Self {
        match error {
            EbpfError::BtfError(BtfError::LoadError { io_error, verifier_log }) => {
                Self::refused(TYPES, io_error, &verifier_log.to_string())
            }
            error => Self::Load(error),
        }
    }
}

/// The end of a verifier's log without its statistics (`print_verification_stats` in `kernel/bpf/verifier.c`): it
/// stops at what it refuses.
fn reason(log: &str) -> String {
    const STATISTICS: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    let lines: Vec<&str> = log
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
        .collect();
    lines[lines.len().saturating_sub(REASON_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
func#0 @0
0: R1=ctx() R10=fp0
0: (61) r2 = *(u32 *)(r1 +0)          ; R1=ctx() R2_w=pkt(r=0)
1: (71) r0 = *(u8 *)(r2 +0)
invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)
R2 offset is outside of the packet
verification time 41 usec
stack depth 0
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

";

    #[test]
    fn what_the_verifier_refuses_is_shown_and_no_more() {
        let error = Error::refused("uplink", io::Error::from_raw_os_error(13), LOG);
        let expected = "\
the kernel's verifier refuses `uplink` (Permission denied (os error 13)); its whole log is logged at level debug:
1: (71) r0 = *(u8 *)(r2 +0)
invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)
R2 offset is outside of the packet";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_log_without_a_reason_shows_nothing() {
        assert_eq!(reason(""), "");
        assert_eq!(reason("processed 2 insns (limit 1000000)\n"), "");
        assert_eq!(
            reason("BPF program is too large. Processed 1000001 insn"),
            "BPF program is too large. Processed 1000001 insn"
        );
    }
}
