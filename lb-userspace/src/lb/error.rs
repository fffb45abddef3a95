//! What can go wrong with the load balancer.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::service::ServiceKey;

/// Why the load balancer could not do what it was asked. Nothing is half done then, but where it says so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program was built without a BPF toolchain.
    #[error("this program was built without its BPF object; run `cargo xtask setup` and build it again")]
    NoObject,
    /// The kernel refused the object.
    #[error("loading the BPF object: {0}")]
    Load(#[from] aya::EbpfError),
    /// The object lacks a part: it isn't the one that this library was built with.
    #[error("the BPF object has no `{0}`")]
    MissingPart(&'static str),
    /// A program was refused by the kernel's verifier, or couldn't be run.
    #[error("program `{program}`: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        source: aya::programs::ProgramError,
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
    /// IPv6 isn't balanced yet.
    #[error("{0} is an IPv6 address; only IPv4 is balanced so far")]
    NotIpv4(IpAddr),
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
    pub(crate) fn program(program: &'static str) -> impl Fn(aya::programs::ProgramError) -> Self {
        move |source| Self::Program { program, source }
    }

    /// For `map_err` on a path.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
