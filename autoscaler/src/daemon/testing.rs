//! A tenant and instances for the tests of the pure parts.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lb_userspace::net::MacAddr;
use sluice_logic::group::{Instance, InstanceId, InstanceState};
use sluice_logic::spec::{
    CloudName, GroupSpec, NetnsTemplate, NetworkSpec, Outbound, Pace, Protocol, ProviderKind, ServiceSpec,
    TemplateSpec, TenantName, TenantSpec,
};
use sluice_southbound::provider::{
    InstanceMetrics, InstanceSpec, NicSpec, Observed, Presence, Provider, ProviderError,
};

pub(super) fn name(text: &str) -> TenantName {
    TenantName::try_from(text.to_owned()).unwrap()
}

/// A provider that makes nothing, and shows what it is told to; where that is nothing at all it does not answer.
#[derive(Debug, Default)]
pub(super) struct Showing {
    pub(super) shown: Mutex<Option<Vec<Observed>>>,
    /// How often it was told to repair what there is.
    pub(super) maintained: AtomicU32,
}

#[async_trait]
impl Provider for Showing {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Netns
    }

    async fn create(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        Err(ProviderError::Unknown(spec.id.clone()))
    }

    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError> {
        Err(ProviderError::Unknown(id.clone()))
    }

    async fn stop(&self, id: &InstanceId, _grace: Duration) -> Result<(), ProviderError> {
        Err(ProviderError::Unknown(id.clone()))
    }

    async fn delete(&self, _id: &InstanceId) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let shown = self.shown.lock().unwrap().clone();
        match shown {
            Some(observed) => Ok(observed),
            None => std::future::pending().await,
        }
    }

    async fn maintain(&self) -> Result<(), ProviderError> {
        self.maintained.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn metrics(&self, spec: &InstanceSpec) -> Result<InstanceMetrics, ProviderError> {
        Err(ProviderError::Unknown(spec.id.clone()))
    }
}

/// A moment, in seconds after one that all tests share.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// The tenant of the design, with 2 to 5 instances.
pub(super) fn tenant(text: &str) -> TenantSpec {
    let vip = IpAddr::V4(Ipv4Addr::new(45, 45, 45, 45));
    TenantSpec {
        name: name(text),
        networks: vec![NetworkSpec {
            name: format!("{text}_nw"),
            subnet: "19.0.0.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(19, 0, 0, 1),
            dhcp_start: Ipv4Addr::new(19, 0, 0, 2),
            dhcp_end: Ipv4Addr::new(19, 0, 0, 254),
        }],
        outbound: Outbound::None,
        services: vec![
            ServiceSpec::new(vip, Protocol::Icmp, None),
            ServiceSpec::new(vip, Protocol::Tcp, None),
        ],
        template: TemplateSpec {
            cpus: 1.0,
            memory: None,
            request_cost: Duration::ZERO,
            port: 80,
            start_timeout: Duration::from_secs(5),
            stop_timeout: TemplateSpec::default_stop_timeout(),
            netns: Some(NetnsTemplate::default()),
            docker: None,
            libvirt: None,
        },
        group: GroupSpec {
            min: 2,
            max: 5,
            buffer_time: Duration::from_mins(2),
            cool_down: Duration::from_mins(1),
            pace: Pace::default(),
        },
        metrics: Vec::new(),
        policies: Vec::new(),
        keep_logs: true,
        encrypt_passwords: true,
    }
}

/// The instance with the address 19.0.0.`host`.
pub(super) fn instance(host: u8, state: InstanceState) -> Instance {
    Instance {
        id: InstanceId::new(&name("demo"), host.into()),
        cloud: CloudName::default(),
        rank: 0,
        address: Ipv4Addr::new(19, 0, 0, host),
        state,
        created: at(host.into()),
        since: at(host.into()),
        live_flows: None,
        failed: false,
        stopping: false,
    }
}

/// What a provider finds of that instance.
pub(super) fn observed(host: u8, presence: Presence) -> Observed {
    let instance = instance(host, InstanceState::Pending);
    let spec = InstanceSpec {
        id: instance.id.clone(),
        tenant: name("demo"),
        created: instance.created,
        cloud: CloudName::default(),
        template: tenant("demo").template,
        nic: NicSpec {
            bridge: "br".to_owned(),
            address: instance.address,
            prefix: 24,
            gateway: Some(Ipv4Addr::new(19, 0, 0, 1)),
            mac: MacAddr::of_instance(instance.address),
        },
        other_nics: Vec::new(),
        management: None,
    };
    Observed { id: instance.id, presence, spec: (presence != Presence::Broken).then_some(spec) }
}
