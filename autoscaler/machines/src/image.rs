//! The machine's files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sluice_guest::Program;

use crate::initramfs::Initramfs;
use crate::kernel::{self, Kernel};

/// The first process.
const INIT: &str = include_str!("init");

/// Devices of QEMU's, the power button, and the file system of the seed.
const MODULES: [&str; 9] = [
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_balloon",
    "button",
    "evdev",
    "vfat",
    "nls_cp437",
    "nls_ascii",
];

/// A machine that can be booted: what a template names as `kernel`, `initrd` and `command_line`.
///
/// It asks for its addresses by DHCP, runs the responder, answers on the management network with metrics as
/// `node_exporter` has them (port 9100, `/metrics`), sends its log by syslog to whom DHCP names, and turns itself off
/// when its power button is pressed. Who it is, it reads from a seed for cloud-init's `NoCloud`.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initrd: PathBuf,
}

impl Image {
    /// A quiet kernel that ends the guest when it panics. Mitigations cost much under emulation.
    pub const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off";

    /// The memory it needs, bytes.
    pub const MEMORY: u64 = 160 << 20;

    /// The image that was made in `folder`.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { kernel: folder.join("vmlinuz"), initrd: folder.join("initrd") }
    }

    /// Makes an image in `folder` that runs a program of this host as its responder. The kernel is fetched once,
    /// with apt, and is not installed.
    pub fn make(folder: &Path, responder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let kernel = kernel::of_this_release(&folder.join("kernels"))?;
        let image = Self::in_folder(folder);
        fs::copy(&kernel.image, &image.kernel)
            .with_context(|| format!("cannot copy {}", kernel.image.display()))?;
        // Under another name until it is whole.
        let draft = folder.join("initrd.new");
        write(&draft, &kernel, responder)?;
        fs::rename(&draft, &image.initrd)
            .with_context(|| format!("cannot create {}", image.initrd.display()))?;
        Ok(image)
    }
}

fn write(path: &Path, kernel: &Kernel, responder: &Path) -> Result<()> {
    let file = fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut image = Initramfs::new(file);
    for folder in ["proc", "sys", "dev", "run", "tmp", "seed", "var/log"] {
        image.folder(Path::new(folder))?;
    }
    image.text(Path::new("init"), INIT)?;
    for (place, script) in sluice_guest::SCRIPTS {
        image.text(Path::new(place), script)?;
    }
    image.loaded(Path::new("bin/busybox"), &sluice_guest::busybox()?)?;
    for file in kernel.module_files(&MODULES)? {
        let place = file.strip_prefix(&kernel.root).unwrap_or(&file);
        image.file(place, &file)?;
    }
    image.loaded(Path::new("bin/responder"), &Program::stripped(responder)?)?;
    image.finish()
}
