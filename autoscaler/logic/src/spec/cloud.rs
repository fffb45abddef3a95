//! Where instances can run: the clouds of a host.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A cloud's name, unique on the host. What a name may be is for the reader of the host file to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CloudName(String);

impl CloudName {
    /// A cloud of that name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CloudName {
    /// The one cloud of a host that names none.
    fn default() -> Self {
        Self::new("local")
    }
}

impl fmt::Display for CloudName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place where instances can run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloudSpec {
    /// Unique on the host.
    pub name: CloudName,
    /// Its driver, and where that finds it.
    pub provider: ProviderSpec,
    /// The cloud with the highest priority gets instances first and loses them last.
    pub priority: u32,
    /// Most instances of all tenants together; `None` is no limit.
    pub capacity: Option<u32>,
    /// The place that it shares its fate with: a rack, a room, a data centre.
    pub zone: Option<String>,
    /// What an instance costs in an hour, in the operator's currency. Of clouds with the same priority the cheapest
    /// is preferred.
    pub price_per_hour: f64,
}

impl Default for CloudSpec {
    /// The one cloud of a host that names none.
    fn default() -> Self {
        Self {
            name: CloudName::default(),
            provider: ProviderSpec::Netns,
            priority: 0,
            capacity: None,
            zone: None,
            price_per_hour: 0.0,
        }
    }
}

/// A kind of cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Namespaces with a process in them.
    Netns,
    /// Containers.
    Docker,
    /// Virtual machines.
    Libvirt,
}

impl ProviderKind {
    /// As in `sluice.yml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Netns => "netns",
            Self::Docker => "docker",
            Self::Libvirt => "libvirt",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A driver, and where it finds its cloud. Clouds with the same one share what is there: each takes what it has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ProviderSpec {
    /// This host's kernel.
    Netns,
    /// A Docker daemon.
    Docker(DockerAddress),
    /// A libvirt daemon.
    Libvirt {
        /// As `virsh -c` takes it: `qemu:///system`, `qemu+ssh://root@host/system`.
        uri: String,
        /// The directory of the instances' disks and seeds, on libvirt's host; `None` is `/var/lib/libvirt/<name>`.
        #[serde(default)]
        pool: Option<PathBuf>,
        /// How guests run.
        #[serde(default)]
        accel: AccelChoice,
    },
}

/// How a guest's instructions are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelChoice {
    /// By the processor (KVM) where that works, by QEMU's emulation (TCG) where it doesn't. Whether it works is found
    /// out by trying.
    #[default]
    Auto,
    /// By the processor, or not at all.
    Kvm,
    /// By emulation.
    Tcg,
}

impl ProviderSpec {
    /// The kind of cloud.
    #[must_use]
    pub fn kind(&self) -> ProviderKind {
        match self {
            Self::Netns => ProviderKind::Netns,
            Self::Docker(_) => ProviderKind::Docker,
            Self::Libvirt { .. } => ProviderKind::Libvirt,
        }
    }
}

impl fmt::Display for ProviderSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns => f.write_str("this host's kernel"),
            Self::Docker(address) => address.fmt(f),
            Self::Libvirt { uri, .. } => f.write_str(uri),
        }
    }
}

/// How to reach a Docker daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DockerAddress {
    /// By its Unix socket.
    Socket(PathBuf),
    /// By TCP.
    Tcp {
        /// `host:port`.
        address: String,
        /// The certificates; without them nothing is secret and nobody is who they say.
        tls: Option<DockerTls>,
    },
}

impl fmt::Display for DockerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { address, .. } => write!(f, "tcp://{address}"),
        }
    }
}

/// PEM files, as for `docker --tlsverify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerTls {
    /// Who signs the daemon's certificate.
    pub ca: PathBuf,
    /// Our certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}
