//! A libvirtd and a machine to boot.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use sluice_demo::world::{HostSettings, World};
use sluice_machines::{Image, PrivateLibvirtd};

use crate::{Inventory, responder, sluice};

/// A libvirtd of the test's own, whose guests are emulated, and an image for them. It goes with the value; what a killed
/// test has left, the next one of that name clears.
#[derive(Debug)]
pub struct Machines {
    /// The libvirtd; first, so that it has ended when its folder goes.
    pub libvirtd: PrivateLibvirtd,
    image: Image,
    folder: Folder,
}

impl Machines {
    /// Starts it, for a world of that name, of which nothing is left then.
    pub fn start(name: &str) -> Result<Self> {
        let (sluice, responder) = (sluice()?, responder()?);
        World::end_earlier(name, &sluice)?;
        let profile = responder.ancestors().nth(2).context("a folder of programs")?;
        let image = Image::make(&profile.join("test-images"), &responder)
            .context("the machine's image: `./x setup` installs what it needs")?;
        let folder = Folder(PathBuf::from(format!("/run/{name}-libvirtd")));
        let libvirtd = PrivateLibvirtd::start(&folder.0).context("there is no libvirtd")?;
        World::remove_earlier(name, &sluice)?;
        Ok(Self { libvirtd, image, folder })
    }

    /// The host file's part: this cloud, preferred, and what follows it in YAML's flow style.
    #[must_use]
    pub fn settings(&self, others: &str) -> HostSettings {
        let clouds = format!(
            "[{{name: machines, provider: libvirt, priority: 9, uri: '{}', pool: {}, accel: tcg}}{others}]",
            self.libvirtd.uri(),
            self.pool().display()
        );
        HostSettings { clouds: Some(clouds), ..HostSettings::default() }
    }

    /// A disk of that name on which there is nothing to boot.
    pub fn blank_disk(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.0.join(name);
        fs::write(&path, vec![0; 1 << 20]).with_context(|| format!("{} can't be written", path.display()))?;
        Ok(path)
    }

    /// A tenant's template.
    #[must_use]
    pub fn template(&self) -> String {
        format!(
            "template: {{cpus: 1, memory: {}MiB, request_cost: 0s, start_timeout: 4m, libvirt: {{kernel: '{}', initrd: \
             '{}', command_line: {}, shutdown_timeout: 20s}}}}\n",
            Image::MEMORY >> 20,
            self.image.kernel.display(),
            self.image.initrd.display(),
            Image::COMMAND_LINE
        )
    }

    /// Counts what there is of guests beside what is [anybody's](crate::inventory()): domains, and volumes in the pool.
    pub fn count(&self, found: &mut Inventory) -> Result<()> {
        let domains = self.libvirtd.remains()?.iter().filter(|name| name.starts_with("domain ")).count();
        found.insert("domains", domains);
        let volumes = fs::read_dir(self.pool()).context("the pool")?;
        found.insert("volumes", volumes.count());
        Ok(())
    }

    /// Fails when something of a guest is left: a domain, a pool, a file in it.
    pub fn empty(&self) -> Result<()> {
        let left = self.libvirtd.remains()?;
        ensure!(left.is_empty(), "left: {left:?}");
        ensure!(!self.pool().exists(), "left: {}", self.pool().display());
        Ok(())
    }

    fn pool(&self) -> PathBuf {
        self.folder.0.join("pool")
    }
}

/// A folder that goes with the value.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} can't be removed: {error}", self.0.display());
        }
    }
}
