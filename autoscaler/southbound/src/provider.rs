//! The driver of a kind of cloud.

use std::fmt;
use std::iter::Sum;
use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use lb_userspace::net::MacAddr;
use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{CloudName, ProviderKind, TemplateSpec, TenantName};

/// How an instance is plugged into one of its tenant's networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// The bridge's interface name, in the daemon's namespace.
    pub bridge: String,
    /// The instance's address.
    pub address: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// The default route, on one of an instance's NICs.
    pub gateway: Option<Ipv4Addr>,
    /// The instance's own MAC address.
    pub mac: MacAddr,
}

impl NicSpec {
    /// On the management network, the daemon's own address: the subnet's first. Syslog is taken there.
    #[must_use]
    pub fn manager(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet().network()).saturating_add(1))
    }

    /// The network's addresses.
    #[must_use]
    pub fn subnet(&self) -> Ipv4Net {
        // A prefix that is none stands for the address alone.
        Ipv4Net::new(self.address, self.prefix).map_or(Ipv4Net::from(self.address), |net| net.trunc())
    }
}

/// All that is needed to make an instance, and to find it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Its name.
    pub id: InstanceId,
    /// Whose it is.
    pub tenant: TenantName,
    /// When it was asked for.
    pub created: Timestamp,
    /// Where it runs.
    #[serde(default)]
    pub cloud: CloudName,
    /// What it is made of.
    pub template: TemplateSpec,
    /// Its place on the tenant's first network, which carries the services.
    pub nic: NicSpec,
    /// Its places on the tenant's other networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_nics: Vec<NicSpec>,
    /// Its place on the management network, which no tenant reaches; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management: Option<NicSpec>,
}

impl InstanceSpec {
    /// All its NICs in the order in which it numbers them: the tenant's first network, its others, management.
    pub fn nics(&self) -> impl Iterator<Item = &NicSpec> {
        self.tenant_nics().chain(&self.management)
    }

    /// Those of its NICs that are on its tenant's networks, the first of all.
    pub fn tenant_nics(&self) -> impl Iterator<Item = &NicSpec> {
        std::iter::once(&self.nic).chain(&self.other_nics)
    }

    /// What its program finds in its environment, on every kind of cloud.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("SLUICE_INSTANCE", self.id.to_string()),
            ("SLUICE_TENANT", self.tenant.to_string()),
            ("SLUICE_PORT", self.template.port.to_string()),
            ("SLUICE_REQUEST_COST", self.template.request_cost.as_micros().to_string()),
        ];
        // Where its exporters are read, and where its log goes.
        let management = self.management.iter().flat_map(|nic| {
            [("SLUICE_MANAGEMENT", nic.address.to_string()), ("SLUICE_SYSLOG", nic.manager().to_string())]
        });
        all.into_iter().chain(management).collect()
    }
}

/// What is there of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Some parts exist, but it has not been started.
    Created,
    /// It runs.
    Running,
    /// It was started and has not ended, but nothing in it runs any more, and that won't change by itself.
    Halted(Halt),
    /// It was started, and has ended.
    Exited,
    /// Remains without a readable label: to be deleted.
    Broken,
}

impl Presence {
    /// Whether it was started and has not ended.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Halted(_))
    }
}

/// Why nothing runs in an instance that has not ended. Nobody is served by it, so it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// A person or another program has paused it, or it has put itself to sleep.
    Paused,
    /// Its disk can't be written.
    Disk,
    /// It has crashed, or something on its host has gone wrong with it.
    Crashed,
}

impl Halt {
    /// The same for people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Paused => "it was paused",
            Self::Disk => "its disk can't be written: where its cloud keeps it, there is no room or a fault",
            Self::Crashed => "it has crashed",
        }
    }
}

/// An instance as its provider sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// From its label.
    pub id: InstanceId,
    /// What is there.
    pub presence: Presence,
    /// The label; `None` only for [`Presence::Broken`].
    pub spec: Option<InstanceSpec>,
}

/// So many of the last lines stand in the text for people.
const LINES_TOLD: usize = 3;

/// How an instance ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The exit code of its process, where that ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel has ended it, or a process of it, for the memory that it used.
    pub out_of_memory: bool,
    /// What the provider says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last lines that it has written, oldest first.
    pub last_lines: Vec<String>,
}

impl fmt::Display for Ending {
    /// In one line, with the last of what it said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its process has ended")?;
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, " with exit code {code}")?,
            (None, Some(signal)) => write!(f, " by signal {signal}{}", signal_name(signal))?,
            (None, None) => {}
        }
        if self.out_of_memory {
            f.write_str(", out of memory (`memory` in its template)")?;
        }
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        let said = self.last_lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
        let said: Vec<&str> = said.collect();
        match said.as_slice() {
            [] => Ok(()),
            lines => {
                write!(f, "; it said last: {}", lines[lines.len().saturating_sub(LINES_TOLD)..].join(" | "))
            }
        }
    }
}

/// A signal's name, in brackets.
fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| String::new(), |signal| format!(" ({signal})"))
}

/// What an instance has written and is not kept yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Whose it is.
    pub spec: InstanceSpec,
    /// The lines, oldest first, without their ends.
    pub lines: Vec<String>,
    /// How far that is, in the provider's own words.
    pub mark: String,
}

/// Raw metrics of an instance; rates are differences of two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMetrics {
    /// When it was read.
    pub at: Timestamp,
    /// CPU time used since the instance began.
    pub cpu: Duration,
    /// Memory in use, bytes, where the provider can tell.
    pub memory: Option<u64>,
    /// What went over its tenant's networks, where the provider can tell.
    pub traffic: Option<Traffic>,
}

/// Bytes over all of an instance's tenant networks since it was plugged into them; the management network's are not among
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// To the instance.
    pub received: u64,
    /// From the instance.
    pub sent: u64,
}

impl Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |all, part| Self {
            received: all.received.saturating_add(part.received),
            sent: all.sent.saturating_add(part.sent),
        })
    }
}

/// Why a provider could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// There is no such instance.
    #[error("no instance {0}")]
    Unknown(InstanceId),
    /// The provider itself can't be used now.
    #[error("{provider} is not available: {reason}")]
    Unavailable {
        /// Which.
        provider: ProviderKind,
        /// Why, and the way out.
        reason: String,
    },
    /// A step of making, stopping or deleting failed.
    #[error("{step} of {id} failed: {reason}")]
    Step {
        /// Whose.
        id: InstanceId,
        /// Which step.
        step: &'static str,
        /// Why.
        reason: String,
    },
}

/// The driver of a kind of cloud.
///
/// Every call is idempotent (what is already so is a success) and cancellable (dropping the future at any point
/// leaves something that [`list`](Provider::list) shows and [`delete`](Provider::delete) removes). A provider
/// keeps no state of its own: what exists is what [`list`](Provider::list) finds by label, also after a crash.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The kind of cloud.
    fn kind(&self) -> ProviderKind;

    /// Fetches what an instance needs and may take long to come, as an image, before it is made. It has a deadline of its
    /// own, and goes on for the next one where this call is dropped.
    async fn prepare(&self, _spec: &InstanceSpec) -> Result<(), ProviderError> {
        Ok(())
    }

    /// What is being fetched for an instance and how far that is, for people.
    fn progress(&self, _id: &InstanceId) -> Option<String> {
        None
    }

    /// Makes all that the instance needs, short of starting it.
    async fn create(&self, spec: &InstanceSpec) -> Result<(), ProviderError>;

    /// Starts an instance that was created.
    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError>;

    /// Asks it to end, and ends it by force after `grace`.
    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), ProviderError>;

    /// Removes it and everything of it, running or not.
    async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError>;

    /// Everything of ours that exists, by label. A foreign thing is never listed.
    async fn list(&self) -> Result<Vec<Observed>, ProviderError>;

    /// Repairs what instances need beside themselves, as servers on their networks. To be called every now and then.
    async fn maintain(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Removes every instance and whatever is left of instances, running or not: for `sluice down`. Returns what was
    /// removed.
    async fn remove_all(&self) -> Result<Vec<InstanceId>, ProviderError> {
        let mut removed = Vec::new();
        for observed in self.list().await? {
            self.delete(&observed.id).await?;
            removed.push(observed.id);
        }
        Ok(removed)
    }

    /// Waits until a running instance has ended, by itself or because it was stopped. Cancel safe. A provider that
    /// can't tell never returns: then the next [`list`](Provider::list) shows it, as it does one that is
    /// [`Halted`](Presence::Halted).
    async fn ended(&self, _id: &InstanceId) {
        std::future::pending::<()>().await;
    }

    /// How an instance has ended; `None` where it has not, or the provider can't tell. To be asked before
    /// [`delete`](Self::delete).
    async fn ending(&self, _id: &InstanceId) -> Result<Option<Ending>, ProviderError> {
        Ok(None)
    }

    /// What instances, or that one, have written and is not kept elsewhere yet, of each a bounded part. A provider whose
    /// instances' output is kept by others has none.
    async fn output(&self, _id: Option<&InstanceId>) -> Result<Vec<Output>, ProviderError> {
        Ok(Vec::new())
    }

    /// Whether [`output`](Self::output) has all that instances write.
    fn keeps_output(&self) -> bool {
        false
    }

    /// Output is kept elsewhere, and does not come again.
    async fn output_kept(&self, _output: &Output) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Its metrics, the newest there are: `at` says when they were read.
    async fn metrics(&self, spec: &InstanceSpec) -> Result<InstanceMetrics, ProviderError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_told_in_one_line() {
        let last_lines = ["one", "two", "starting", "PANIC: out of cheese", ""].map(str::to_owned).to_vec();
        let ending = Ending { code: Some(9), last_lines, ..Ending::default() };
        assert_eq!(
            ending.to_string(),
            "its process has ended with exit code 9; it said last: two | starting | PANIC: out of cheese"
        );
        let killed = Ending { signal: Some(9), out_of_memory: true, ..Ending::default() };
        assert!(killed.to_string().contains("by signal 9 (SIGKILL), out of memory"), "{killed}");
    }

    /// Instances run on when the daemon is replaced by a newer one.
    #[test]
    fn a_label_from_before_there_were_clouds_is_readable() {
        let label = r#"{
            "id": "demo-000000ab", "tenant": "demo", "created": "2026-01-01T00:00:00Z",
            "template": {
                "command": null, "cpus": 0.5, "request_cost": {"secs": 0, "nanos": 2000000}, "port": 80,
                "start_timeout": {"secs": 60, "nanos": 0}
            },
            "nic": {
                "bridge": "slb-0ba6964f", "address": "19.0.0.2", "prefix": 24, "gateway": "19.0.0.1",
                "mac": "02:00:13:00:00:02"
            }
        }"#;
        let spec: InstanceSpec = serde_json::from_str(label).expect("readable");
        assert_eq!(spec.cloud, CloudName::default());
        assert_eq!(spec.nic.gateway, Some(Ipv4Addr::new(19, 0, 0, 1)));
        assert_eq!(spec.nics().count(), 1);
        let again = serde_json::to_string(&spec).expect("writable");
        assert_eq!(serde_json::from_str::<InstanceSpec>(&again).expect("readable"), spec);
    }
}
