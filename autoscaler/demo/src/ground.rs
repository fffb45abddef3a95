//! What the demo's instances run on.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sluice_containers::{Dockerd, Image};
use sluice_logic::spec::ProviderKind;
use sluice_machines::PrivateLibvirtd;

use crate::phases::{self, Course};
use crate::run::Options;
use crate::world::HostSettings;

/// The one tenant. Connections are held for less than the cool-down, so that every drain can end by itself; a tenth
/// of a core is little enough for real load on a small machine.
const IN_NAMESPACES: &str = "\
t_name: demo
nw_name: demo-net
subnet: 10.231.80.0/24
subnet_addr: 10.231.80.1
dhcp_start: 10.231.80.10
dhcp_end: 10.231.80.99
public_ip: 198.51.100.80
min_instances: 2
max_instances: 5
policy: dynamic
threshold: 0.5
window: 4s
buffer_time: 5s
cool_down: 15s
cpus: 0.1
request_cost: 2ms
";

/// The same in containers.
const IN_CONTAINERS: &str = "\
tenant: demo
networks:
  - {name: demo-net, subnet: 10.231.80.0/24, gateway: 10.231.80.1, dhcp: {start: 10.231.80.10, end: 10.231.80.99}}
services:
  - {vip: 198.51.100.80, protocol: icmp}
  - {vip: 198.51.100.80, protocol: tcp}
group: {min: 2, max: 5, buffer_time: 5s, cool_down: 15s}
policies:
  - reactive: {threshold: 50%, window: 4s}
template:
  cpus: 0.1
  memory: 64MiB
  request_cost: 2ms
  docker: {image: sluice/responder:demo, pull: never}
";

/// The image of [`IN_CONTAINERS`].
const IMAGE: &str = "sluice/responder:demo";

/// The same in virtual machines, short of their template's image. Not their CPU but what arrives at them is measured, see
/// [`phases::SLOW`].
const IN_MACHINES: &str = "\
tenant: demo
networks:
  - {name: demo-net, subnet: 10.231.80.0/24, gateway: 10.231.80.1, dhcp: {start: 10.231.80.10, end: 10.231.80.99}}
services:
  - {vip: 198.51.100.80, protocol: icmp}
  - {vip: 198.51.100.80, protocol: tcp}
group: {min: 1, max: 3, buffer_time: 5s, cool_down: 15s}
policies:
  - reactive: {metric: new_flows, threshold: 8, window: 4s}
";

/// Where the demo's libvirtd keeps everything: gone after a reboot, and with the demo, and cleared by the next one after
/// one that was killed.
const LIBVIRTD: &str = "/run/sluice-demo-libvirtd";

/// The tenants' files.
#[cfg(test)]
pub(crate) fn tenants() -> [String; 3] {
    let image = sluice_machines::Image::in_folder(Path::new("/images"));
    [IN_NAMESPACES.to_owned(), IN_CONTAINERS.to_owned(), in_machines(&image)]
}

/// What instances run on, for as long as it lives.
#[derive(Debug)]
pub(crate) enum Ground {
    /// The host itself.
    Namespaces,
    /// A dockerd of the demo's own.
    Containers(Dockerd),
    /// A libvirtd of the demo's own.
    Machines {
        /// Boxed, as it is much larger than the others.
        libvirtd: Box<Libvirtd>,
        tenant: String,
    },
}

impl Ground {
    /// Makes it ready; the instances' program is `sluice` itself, as the responder.
    pub(crate) async fn prepare(options: &Options) -> Result<Self> {
        match options.provider {
            ProviderKind::Netns => Ok(Self::Namespaces),
            ProviderKind::Docker => {
                let dockerd = Dockerd::start("demo").await?;
                dockerd.load(&Image::of(IMAGE, &options.sluice, &["responder"])?).await?;
                Ok(Self::Containers(dockerd))
            }
            ProviderKind::Libvirt => {
                let image = sluice_machines::Image::in_folder(&options.image);
                ensure!(
                    image.kernel.is_file() && image.initrd.is_file(),
                    "{} has no `vmlinuz` and `initrd`: `./x images` makes them; name another folder with --image",
                    options.image.display()
                );
                let libvirtd = Box::new(Libvirtd::start()?);
                Ok(Self::Machines { libvirtd, tenant: in_machines(&image) })
            }
        }
    }

    /// What clients do. Virtual machines know no brief one.
    pub(crate) fn course(&self, brief: bool) -> &'static Course {
        match self {
            Self::Machines { .. } => &phases::SLOW,
            Self::Namespaces | Self::Containers(_) if brief => &phases::BRIEF,
            Self::Namespaces | Self::Containers(_) => &phases::QUICK,
        }
    }

    /// What instances have left.
    pub(crate) fn remains(&self) -> Result<Vec<String>> {
        match self {
            Self::Namespaces | Self::Containers(_) => Ok(Vec::new()),
            Self::Machines { libvirtd, .. } => Ok(libvirtd.process.remains()?),
        }
    }

    /// The host file's part.
    pub(crate) fn settings(&self) -> HostSettings {
        let clouds = match self {
            Self::Namespaces => None,
            Self::Containers(dockerd) => {
                let socket = dockerd.socket();
                Some(format!("[{{name: containers, provider: docker, socket: {}}}]", socket.display()))
            }
            Self::Machines { libvirtd, .. } => Some(format!(
                "[{{name: machines, provider: libvirt, uri: '{}', pool: {LIBVIRTD}/pool, accel: tcg}}]",
                libvirtd.process.uri()
            )),
        };
        HostSettings { clouds, ..HostSettings::default() }
    }

    /// The tenant's file.
    pub(crate) fn tenant(&self) -> &str {
        match self {
            Self::Namespaces => IN_NAMESPACES,
            Self::Containers(_) => IN_CONTAINERS,
            Self::Machines { tenant, .. } => tenant,
        }
    }
}

/// The demo's libvirtd. It ends before its folder goes.
#[derive(Debug)]
pub(crate) struct Libvirtd {
    process: PrivateLibvirtd,
    _folder: Folder,
}

impl Libvirtd {
    fn start() -> Result<Self> {
        let process = PrivateLibvirtd::start(Path::new(LIBVIRTD)).context("there is no libvirtd")?;
        Ok(Self { process, _folder: Folder })
    }

    /// Another one in the place of that of a demo that was killed, with which it has ended: by it can be removed what the
    /// demo's instances have left. `None` where nothing is.
    pub(crate) fn of_killed() -> Result<Option<Self>> {
        Path::new(LIBVIRTD).exists().then(Self::start).transpose()
    }
}

/// [`LIBVIRTD`], which goes with the value.
#[derive(Debug)]
struct Folder;

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(LIBVIRTD) {
            tracing::warn!(%error, "{LIBVIRTD} can't be removed, the next demo does");
        }
    }
}

fn in_machines(image: &sluice_machines::Image) -> String {
    format!(
        "{IN_MACHINES}template:\n  cpus: 1\n  memory: {}MiB\n  request_cost: 1ms\n  start_timeout: 3m\n  libvirt: \
         {{kernel: '{}', initrd: '{}', command_line: {}, shutdown_timeout: 10s}}\n",
        sluice_machines::Image::MEMORY >> 20,
        image.kernel.display(),
        image.initrd.display(),
        sluice_machines::Image::COMMAND_LINE,
    )
}
