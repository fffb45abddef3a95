//! Faults at every step, injected at the provider: what is said of them, what comes in the instance's place, and that
//! nothing is left behind. A whole daemon in this process, on the real kernel. Needs root.

mod faulty;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_demo::observer::Observer;
use sluice_demo::world::Network;
use sluice_logic::group::InstanceState;
use sluice_logic::spec::{CloudName, ProviderKind};
use sluice_northbound::api::{EventKind, InstanceStatus};
use sluice_northbound::client::Client;
use sluice_northbound::host;
use sluice_southbound::netns::NetnsProvider;
use sluice_southbound::provider::Provider;
use sluice_southbound::scope::Scope;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use self::faulty::{Fault, Faulty};
use super::clouds::Clouds;
use super::{open, serve};
use crate::daemon::testing::name;

/// On a busy machine, with back-offs and retries.
const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon with two clouds: `shaky`, which is preferred and can be made to fail, and `sound`.
struct Bed {
    shaky: Arc<Faulty>,
    observer: Observer,
    client: Client,
    daemon: JoinHandle<Result<()>>,
    scopes: [Scope; 2],
    directory: TempDir,
    network: Network,
}

impl Bed {
    async fn new(test: &str) -> Result<Self> {
        let scopes = ["a", "b"].map(|suffix| Scope::new(&format!("slf_{test}_{suffix}")));
        let [sound_scope, shaky_scope] = [scopes[0].clone()?, scopes[1].clone()?];
        let network = Network::create(sound_scope.name()).await.context("this test needs root")?;
        let directory = tempfile::tempdir()?;
        std::fs::create_dir(directory.path().join("tenants"))?;
        let written = host_file(sound_scope.name(), &network.transit_name(), directory.path());
        let config =
            host::parse("sluice.yml", &written).map_err(|faults| anyhow::anyhow!("{faults:#?}"))?.config;

        let responder = |scope: &Scope| NetnsProvider::with_responder(scope.clone(), program(), responder());
        let shaky = Arc::new(Faulty::around(responder(&shaky_scope)?));
        let sound: Arc<dyn Provider> = Arc::new(responder(&sound_scope)?);
        // What a test that was ended has left would be taken over.
        shaky.inner().remove_all().await?;
        sound.remove_all().await?;
        let clouds = Clouds::with(&config.clouds, |cloud| {
            Ok(match cloud.provider.kind() {
                ProviderKind::Netns => sound.clone(),
                _ => shaky.clone(),
            })
        })?;
        let opened = open::open(&config, sound_scope.clone(), network.transit().clone(), clouds).await?;
        let client = Client::new(&config.api.socket);
        let daemon = tokio::spawn(async move { serve(&config, opened, Instant::now()).await });
        while client.status().await.is_err() {
            ensure!(!daemon.is_finished(), "the daemon has ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let observer = Observer::new(client.clone()).await?;
        let scopes = [sound_scope, shaky_scope];
        Ok(Self { shaky, observer, client, daemon, scopes, directory, network })
    }

    fn write_tenant(&self, name: &str, number: u8) -> Result<()> {
        self.write_tenant_with(name, number, "none")
    }

    /// The same with another template: that of the docker provider names another image.
    fn write_tenant_with(&self, name: &str, number: u8, image: &str) -> Result<()> {
        let text = format!(
            "tenant: {name}\nnetworks: [{{name: nw, subnet: 10.233.{number}.0/24}}]\n\
             services: [{{vip: 198.51.100.{number}, protocol: tcp}}]\ngroup: {{min: 2, max: 4, buffer_time: 0s, \
             cool_down: 1s}}\ntemplate: {{start_timeout: 3s, netns: {{}}, docker: {{image: {image}}}}}\n"
        );
        Ok(std::fs::write(self.directory.path().join(format!("tenants/{name}.yml")), text)?)
    }

    /// Waits until a tenant has so many instances on each cloud, all of them in service.
    async fn settled(&mut self, tenant: &str, shaky: usize, sound: usize) -> Result<()> {
        let what = format!("{tenant}: {shaky} on the shaky cloud and {sound} on the sound one");
        let settled = |seen: &Observer| {
            let all = instances(seen, tenant);
            let on = |cloud: &str| all.iter().filter(|instance| instance.cloud.as_str() == cloud).count();
            let serving = all.iter().all(|instance| instance.state == InstanceState::InService);
            serving && (on("shaky"), on("sound")) == (shaky, sound)
        };
        self.observer.until(&what, PATIENCE, settled).await
    }

    /// Waits until the log says so of a tenant.
    async fn said(&mut self, tenant: Option<&str>, kind: EventKind, fragment: &str) -> Result<()> {
        let said = |seen: &Observer| {
            seen.events().iter().any(|event| {
                let about =
                    tenant.is_none_or(|tenant| event.tenant.as_ref().is_some_and(|t| t.as_str() == tenant));
                about && event.kind == kind && event.message.contains(fragment)
            })
        };
        let what = format!("an event {kind:?} of {tenant:?} with `{fragment}`");
        self.observer.until(&what, PATIENCE, said).await
    }

    /// Waits until the status of each tenant has shown why its instances fail. It does so until others have worked.
    async fn shown(&mut self, table: &[(&str, Fault, &str)]) -> Result<()> {
        let shown = RefCell::new(BTreeSet::new());
        let is_shown = |seen: &Observer| {
            let tenants = seen.status().into_iter().flat_map(|status| &status.tenants);
            for (group, failed) in tenants.filter_map(|group| Some((group, group.failed_launch.as_ref()?))) {
                let row = table.iter().find(|(tenant, ..)| *tenant == group.name.as_str());
                // What can't be removed is no launch.
                let is_it = |(_, fault, fragment): &(&str, Fault, &str)| {
                    *fault == Fault::DeleteFails || failed.reason.contains(fragment)
                };
                if row.is_some_and(is_it) && failed.cloud.as_str() == "shaky" {
                    shown.borrow_mut().insert(group.name.clone());
                }
            }
            shown.borrow().len() == table.len()
        };
        self.observer.until("the cause of each failed launch", PATIENCE, is_shown).await
    }

    /// Ends the daemon, removes what it has made, and sees that nothing is left.
    async fn close(self) -> Result<()> {
        for entry in std::fs::read_dir(self.directory.path().join("tenants"))? {
            // Not the marker: without it the directory would be one that isn't mounted.
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yml") {
                std::fs::remove_file(path)?;
            }
        }
        let Self { mut observer, client, daemon, shaky, network, .. } = self;
        let gone = |seen: &Observer| seen.status().is_some_and(|status| status.tenants.is_empty());
        observer.until("no tenant is left", PATIENCE, gone).await?;
        let left = shaky.inner().list().await?;
        ensure!(left.is_empty(), "left on the shaky cloud: {left:?}");
        client.stop().await?;
        daemon.await??;
        sluice_southbound::management::remove(&self.scopes[0]).await?;
        let names = lb_userspace::net::Netns::names()?;
        let left: Vec<_> = names
            .iter()
            .filter(|name| self.scopes.iter().any(|s| name.starts_with(&format!("{}-t", s.name()))))
            .collect();
        ensure!(left.iter().all(|name| **name == network.transit_name()), "left: {left:?}");
        lb_userspace::lb::LoadBalancer::remove_pins(std::path::Path::new(&format!(
            "/sys/fs/bpf/{}",
            self.scopes[0].name()
        )))?;
        Ok(())
    }
}

fn instances<'a>(observer: &'a Observer, tenant: &str) -> &'a [InstanceStatus] {
    let tenants = observer.status().map_or(&[][..], |status| &status.tenants);
    tenants.iter().find(|found| found.name.as_str() == tenant).map_or(&[], |found| &found.instances)
}

fn host_file(name: &str, transit: &str, directory: &std::path::Path) -> String {
    let below = directory.display();
    format!(
        "name: {name}\ntransit: {{namespace: {transit}, uplink: up0}}\ntenants: {below}/tenants\nstate: \
         {below}/state\nrun: {below}/run\napi: {{socket: {below}/sock}}\nsample_interval: 200ms\nload_balancer: \
         {{max_flows: 1024, max_nascent_flows: 1024}}\nconfirm_removal: false\nclouds:\n  - \
         {{name: shaky, provider: docker, priority: 9}}\n  - {{name: sound, provider: netns}}\n"
    )
}

/// The program that supervises instances. `cargo test` builds it beside the tests, as some run it.
fn program() -> std::path::PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("sluice");
    assert!(path.exists(), "{} is missing: `cargo build -p sluice`", path.display());
    path
}

/// This test's own program is none; a shell can answer on a port with busybox.
fn responder() -> Vec<std::ffi::OsString> {
    let answer = "while :; do busybox nc -l -p \"$SLUICE_PORT\" -e true; done";
    ["sh", "-c", answer].map(Into::into).to_vec()
}

/// Each fault is one tenant's: the preferred cloud fails it, the log says what and where, the next cloud is used, and
/// nothing of the attempts is left. When the fault is gone that cloud is used again, and what runs stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_any_step_is_told_and_got_over() -> Result<()> {
    let mut bed = Bed::new("step").await?;
    let table = [
        ("create", Fault::CreateFails, "making the container of"),
        ("disk", Fault::DiskFull, "no space left on device"),
        ("boot", Fault::BootHangs, "not started after 3 s"),
        ("address", Fault::NoAddress, "10.233."),
        ("health", Fault::NeverHealthy, "10.233."),
        ("delete", Fault::DeleteFails, "no way"),
    ];
    for (number, (tenant, fault, _)) in (100..).zip(&table) {
        bed.shaky.inject(&name(tenant), *fault);
        bed.write_tenant(tenant, number)?;
    }
    bed.shown(&table).await?;
    for (tenant, fault, fragment) in &table {
        bed.settled(tenant, 0, 2).await?;
        let kind =
            if *fault == Fault::DeleteFails { EventKind::StepFailed } else { EventKind::InstanceFailed };
        bed.said(Some(tenant), kind, fragment).await?;
        bed.said(Some(tenant), EventKind::InstanceFailed, "`shaky`").await?;
    }
    let clouds = bed.client.clouds().await?;
    assert_eq!(clouds[0].name, CloudName::new("shaky"));
    assert_eq!(clouds[0].troubles.len(), table.len(), "{clouds:#?}");
    assert_eq!(clouds[0].used, 0, "every place is given back");

    // A failure is of the template that it was made by.
    bed.write_tenant_with("create", 100, "other")?;
    bed.said(Some("create"), EventKind::TenantChanged, "").await?;
    bed.client.scale(&name("create"), 2).await?;
    let troubles = bed.client.clouds().await?.swap_remove(0).troubles;
    assert_eq!(troubles.len(), table.len() - 1, "{troubles:#?}");

    bed.shaky.clear();
    for (tenant, ..) in &table {
        bed.client.scale(&name(tenant), 3).await?;
    }
    for (tenant, ..) in &table {
        bed.settled(tenant, 1, 2).await?;
        // The least preferred cloud is left first.
        bed.client.scale(&name(tenant), 2).await?;
        bed.settled(tenant, 1, 1).await?;
    }
    bed.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_is_away_loses_no_instance_and_is_used_again() -> Result<()> {
    let mut bed = Bed::new("away").await?;
    bed.write_tenant("web", 120)?;
    bed.settled("web", 2, 0).await?;

    bed.shaky.set_away(true);
    bed.said(None, EventKind::CloudLost, "`shaky`").await?;
    bed.client.scale(&name("web"), 3).await?;
    bed.settled("web", 2, 1).await?;
    assert_eq!(bed.observer.count(EventKind::InstanceFailed), 0, "nothing is known against them");
    assert!(bed.client.clouds().await?[0].fault.is_some());

    bed.shaky.set_away(false);
    bed.said(None, EventKind::CloudBack, "`shaky`").await?;
    bed.client.scale(&name("web"), 4).await?;
    bed.settled("web", 3, 1).await?;

    // Deleted by hand: replaced.
    let victim = instances(&bed.observer, "web")[0].id.clone();
    bed.shaky.inner().delete(&victim).await?;
    let replaced = |seen: &Observer| {
        let all = instances(seen, "web");
        all.len() == 4 && all.iter().all(|i| i.id != victim && i.state == InstanceState::InService)
    };
    bed.observer.until("another in its place", PATIENCE, replaced).await?;
    bed.close().await
}
