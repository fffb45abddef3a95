//! The provider on a real libvirt and QEMU, which emulates. Needs root, and Debian's `libvirt-daemon-system` and
//! `qemu-system-x86`; `cargo xtask setup` installs them.
//!
//! Most guests are a few bytes of machine code, so that they boot as soon as their firmware has.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use lb_userspace::net::{Links, MacAddr, Netns};
use sluice_logic::spec::{
    CloudInit, CloudName, GuestPassword, GuestUser, ImageFormat, TemplateSpec, TenantName, VmBoot, VmDisk,
};
use sluice_machines::PrivateLibvirtd;
use tempfile::TempDir;

use super::*;
use crate::provider::{Halt, NicSpec};

mod boot;
mod faults;
mod guests;
mod life;
mod ssh;

const PATIENCE: Duration = Duration::from_mins(1);

/// The libvirtd that most tests share: it asks QEMU what it can do only once.
fn shared_libvirtd() -> &'static PrivateLibvirtd {
    static SHARED: OnceLock<(PrivateLibvirtd, TempDir)> = OnceLock::new();
    &SHARED.get_or_init(private_libvirtd).0
}

fn private_libvirtd() -> (PrivateLibvirtd, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    (start_libvirtd(directory.path()), directory)
}

fn start_libvirtd(directory: &std::path::Path) -> PrivateLibvirtd {
    let daemon = PrivateLibvirtd::start_without_kvm(directory);
    daemon.expect("a libvirtd: this test needs root, and what `cargo xtask setup` installs")
}

/// A scope of this test alone, with its pool, base images and a bridge. All of it goes with the value, also on a
/// panic.
struct Host {
    scope: Scope,
    directory: TempDir,
    uri: String,
    bridge: String,
    links: Links,
    provider: LibvirtProvider,
}

impl Host {
    async fn new() -> Self {
        Self::on(shared_libvirtd()).await
    }

    async fn on(libvirtd: &PrivateLibvirtd) -> Self {
        Self::at(libvirtd.uri()).await
    }

    /// With the libvirt of that address.
    async fn at(uri: String) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let scope = Scope::new(&format!("slv{}_{number}", std::process::id())).expect("a scope");
        let directory = tempfile::tempdir().expect("a directory");
        let links = Links::open(&Netns::current().expect("a namespace")).expect("netlink");
        let bridge = scope.network_links(&tenant(), "management").bridge;
        let mark = scope.network_mark(&tenant(), "nw");
        links
            .ensure_bridge(&mark, &bridge, MacAddr([2, 0, 0, 0, 0, 1]))
            .await
            .expect("a bridge: this needs root");
        links.set_up(&bridge).await.expect("up");
        Self { provider: open(&scope, &settings(&uri, &directory)), uri, scope, directory, bridge, links }
    }

    /// A daemon that has just started and knows nothing.
    fn restarted(&self) -> LibvirtProvider {
        open(&self.scope, &settings(&self.uri, &self.directory))
    }

    fn pool(&self) -> PathBuf {
        self.directory.path().join("pool")
    }

    /// An instance whose disk begins with a program.
    fn instance(&self, number: u8, program: &[u8]) -> InstanceSpec {
        let image = self.directory.path().join(format!("base-{number}.img"));
        fs::write(&image, accel::disk_of(program)).expect("an image");
        self.instance_of(number, VmBoot::Image(VmDisk { image, format: ImageFormat::Raw, size: None }))
    }

    fn instance_of(&self, number: u8, boot: VmBoot) -> InstanceSpec {
        let vm = LibvirtTemplate {
            boot,
            vcpus: None,
            machine: None,
            shutdown_timeout: Duration::from_secs(5),
            cloud_init: CloudInit::default(),
        };
        InstanceSpec {
            id: InstanceId::new(&tenant(), number.into()),
            tenant: tenant(),
            created: Timestamp::now(),
            cloud: CloudName::default(),
            template: TemplateSpec {
                cpus: 1.0,
                memory: Some(32 << 20),
                request_cost: Duration::ZERO,
                port: 80,
                start_timeout: Duration::from_mins(1),
                stop_timeout: TemplateSpec::default_stop_timeout(),
                netns: None,
                docker: None,
                libvirt: Some(vm),
            },
            nic: self.nic(Ipv4Addr::new(10, 98, 0, number)),
            other_nics: Vec::new(),
            management: Some(self.nic(Ipv4Addr::new(10, 97, 0, number))),
        }
    }

    fn nic(&self, address: Ipv4Addr) -> NicSpec {
        NicSpec {
            bridge: self.bridge.clone(),
            address,
            prefix: 24,
            gateway: None,
            mac: MacAddr::of_instance(address),
        }
    }

    async fn presence(&self, id: &InstanceId) -> Option<Presence> {
        let listed = self.provider.list().await.expect("list");
        listed.into_iter().find(|observed| observed.id == *id).map(|observed| observed.presence)
    }

    /// The files in the pool.
    fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.pool()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Asks libvirt directly, as another program would.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connect) -> Result<T, Fault> + Send + 'static,
    ) -> T {
        self.provider.0.connection.call(PATIENCE, work).await.expect("libvirt")
    }

    /// The names of all domains that have to do with this test.
    async fn domains(&self) -> BTreeSet<String> {
        let name = self.scope.name().to_owned();
        self.ask(move |connect| {
            let all = connect.list_all_domains(0)?;
            let names = all.iter().map(Domain::get_name).collect::<Result<BTreeSet<_>, _>>()?;
            // Another test's name may begin with this one's: they end in numbers.
            let is_ours = |domain: &String| {
                domain.strip_prefix(&name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
            };
            Ok(names.into_iter().filter(is_ours).collect())
        })
        .await
    }

    /// The ports of the bridge.
    async fn ports(&self) -> BTreeSet<String> {
        let bridge = self.links.get(&self.bridge).await.expect("the bridge").index;
        let links = self.links.list().await.expect("links");
        links.into_iter().filter(|link| link.master == Some(bridge)).map(|link| link.name).collect()
    }

    /// Removes everything, and sees that it is so.
    async fn down(self) {
        self.provider.remove_all().await.expect("removed");
        assert_eq!(self.domains().await, BTreeSet::new());
        assert_eq!(self.ports().await, BTreeSet::new());
        assert!(!self.pool().exists(), "{:?}", self.files());
        assert!(!self.scope.run_dir().join("dhcp").exists(), "a DHCP server is left");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let (provider, links, bridge) = (self.provider.clone(), self.links.clone(), self.bridge.clone());
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                if let Err(error) = provider.remove_all().await {
                    eprintln!("{error}");
                }
                if let Err(error) = links.delete(&bridge).await {
                    eprintln!("{error}");
                }
            });
        });
        let _ = fs::remove_dir(self.scope.run_dir());
    }
}

fn open(scope: &Scope, settings: &LibvirtSettings) -> LibvirtProvider {
    LibvirtProvider::open(scope.clone(), settings).expect("a provider")
}

fn settings(uri: &str, directory: &TempDir) -> LibvirtSettings {
    let pool = directory.path().join("pool").display().to_string();
    LibvirtSettings { uri: uri.to_owned(), pool, accel: AccelChoice::Tcg }
}

fn tenant() -> TenantName {
    TenantName::try_from("demo".to_owned()).expect("a tenant name")
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
