//! What a virtual machine is made of.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a machine may take to shut down where nothing is said.
pub const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// An instance as a virtual machine. Paths are those of the host that libvirt runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibvirtTemplate {
    /// What it boots from.
    pub boot: VmBoot,
    /// Its virtual CPUs; `None` is as many as hold the template's cores.
    #[serde(default)]
    pub vcpus: Option<u32>,
    /// The machine type, as `qemu-system-x86_64 -machine help` lists it; `None` is libvirt's default.
    #[serde(default)]
    pub machine: Option<String>,
    /// Asked to shut down by ACPI, it may take so long before it is switched off.
    #[serde(default = "default_shutdown_timeout")]
    pub shutdown_timeout: Duration,
    /// What its first boot makes of it.
    #[serde(default)]
    pub cloud_init: CloudInit,
}

fn default_shutdown_timeout() -> Duration {
    DEFAULT_SHUTDOWN_TIMEOUT
}

/// What a virtual machine boots from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmBoot {
    /// Its disk, by the machine's firmware.
    Image(VmDisk),
    /// A kernel, without firmware or boot loader.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The initial file system.
        #[serde(default)]
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        #[serde(default)]
        command_line: String,
        /// A disk beside it.
        #[serde(default)]
        disk: Option<VmDisk>,
    },
}

impl VmBoot {
    /// The disk, if it has one.
    #[must_use]
    pub fn disk(&self) -> Option<&VmDisk> {
        match self {
            Self::Image(disk) => Some(disk),
            Self::Kernel { disk, .. } => disk.as_ref(),
        }
    }
}

/// A disk of its own, of which only what differs from the image is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmDisk {
    /// The base image, which is only read. It must not change while an instance uses it.
    pub image: PathBuf,
    /// The image's format.
    pub format: ImageFormat,
    /// The disk's size, bytes; `None` is the image's.
    pub size: Option<u64>,
}

/// The format of a disk image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// QEMU's own.
    #[default]
    Qcow2,
    /// The disk's bytes.
    Raw,
}

impl ImageFormat {
    /// As QEMU and libvirt call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// What cloud-init, or what does its work in the guest, finds at the first boot, beside the instance's name and
/// networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudInit {
    /// The host's name; `None` is the instance's id.
    pub hostname: Option<String>,
    /// Who can log in, beside those of the image.
    pub users: Vec<GuestUser>,
    /// The tenant's own user data: a whole document that begins with a header that cloud-init knows
    /// (`#cloud-config`, `#!`). What it says of users takes the place of `users`.
    pub user_data: Option<String>,
    /// `should_encrypt_pwd`: whether the guest gets its users' passwords as salted hashes only.
    pub encrypt_passwords: bool,
}

impl Default for CloudInit {
    fn default() -> Self {
        Self { hostname: None, users: Vec::new(), user_data: None, encrypt_passwords: true }
    }
}

/// Somebody who can log in on a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestUser {
    /// The login name.
    pub name: String,
    /// `None`: not by password.
    pub password: Option<GuestPassword>,
    /// Public keys for SSH, one line each, as in `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// Whether they may become root by `sudo` without a password.
    pub sudo: bool,
}

/// Where a user's password comes from. The password itself stands nowhere here, so that it comes into no label, state
/// file, log or answer of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestPassword {
    /// Its salted hash, in the form of crypt(5).
    Hash(String),
    /// The file on the daemon's host whose first line it is. It is read when an instance is made.
    File(PathBuf),
}
