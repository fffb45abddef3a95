//! Whose an address is: pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::{IpNet, Ipv4Net};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_store::logs::LogOwner;

/// Who has which address.
#[derive(Debug, Default)]
pub(super) struct Senders {
    /// The tenants, and whether their logs are kept: what has come before an edit follows it.
    tenants: BTreeMap<TenantName, Arc<AtomicBool>>,
    networks: Vec<(Ipv4Net, TenantName)>,
    /// Whose instance has an address on a tenant's network, or had it last: what it has sent may come after its end.
    instances: HashMap<Ipv4Addr, (TenantName, InstanceId)>,
    /// Of hosts.
    hosts: Vec<IpNet>,
}

/// Whose a message is.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) owner: LogOwner,
    /// `None`: a host, or who is on a tenant's network and no instance.
    pub(super) instance: Option<InstanceId>,
    keep: Arc<AtomicBool>,
}

impl Sender {
    /// Whether its tenant wants its logs kept, by now.
    pub(super) fn keeps(&self) -> bool {
        self.keep.load(Ordering::Relaxed)
    }
}

impl Senders {
    pub(super) fn new(hosts: Vec<IpNet>) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// Says which tenants there are.
    pub(super) fn set_tenants<'a>(&mut self, specs: impl Iterator<Item = &'a TenantSpec> + Clone) {
        let keep = |spec: &TenantSpec| {
            let keep = self.tenants.get(&spec.name).cloned().unwrap_or_default();
            keep.store(spec.keep_logs, Ordering::Relaxed);
            (spec.name.clone(), keep)
        };
        self.tenants = specs.clone().map(keep).collect();
        let networks = |spec: &'a TenantSpec| spec.networks.iter().map(|nw| (nw.subnet, spec.name.clone()));
        self.networks = specs.flat_map(networks).collect();
        self.instances.retain(|address, (tenant, _)| match network(&self.networks, *address) {
            Some(owner) => owner == tenant,
            // Its network may have been taken out of the file, and it is still there.
            None => self.tenants.contains_key(tenant),
        });
    }

    /// Whether a tenant wants its logs kept; one that has left does not.
    pub(super) fn keeps(&self, tenant: &TenantName) -> bool {
        self.tenants.get(tenant).is_some_and(|keep| keep.load(Ordering::Relaxed))
    }

    /// Says that an instance has an address of its tenant's networks from now on.
    pub(super) fn set_instance(&mut self, address: Ipv4Addr, tenant: &TenantName, id: &InstanceId) {
        self.instances.insert(address, (tenant.clone(), id.clone()));
    }

    /// Who has an instance.
    pub(super) fn of_instance(&self, id: &InstanceId) -> Option<Sender> {
        let (tenant, _) = id.as_str().rsplit_once('-')?;
        self.of_tenant(&TenantName::try_from(tenant.to_owned()).ok()?, Some(id.clone()))
    }

    /// Whose an address is, on the tenants' networks or beyond the uplink.
    pub(super) fn of(&self, from: IpAddr) -> Option<Sender> {
        let from = from.to_canonical();
        if let IpAddr::V4(address) = from {
            if let Some((tenant, id)) = self.instances.get(&address) {
                return self.of_tenant(tenant, Some(id.clone()));
            }
            if let Some(tenant) = network(&self.networks, address) {
                return self.of_tenant(tenant, None);
            }
        }
        let host = || Sender { owner: LogOwner::Host, instance: None, keep: Arc::new(AtomicBool::new(true)) };
        self.hosts.iter().any(|net| net.contains(&from)).then(host)
    }

    fn of_tenant(&self, tenant: &TenantName, instance: Option<InstanceId>) -> Option<Sender> {
        let keep = self.tenants.get(tenant)?.clone();
        Some(Sender { owner: LogOwner::Tenant(tenant.clone()), instance, keep })
    }
}

/// In whose network an address is.
fn network(networks: &[(Ipv4Net, TenantName)], address: Ipv4Addr) -> Option<&TenantName> {
    networks.iter().find(|(net, _)| net.contains(&address)).map(|(_, tenant)| tenant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{name, tenant};

    fn spec(text: &str, subnet: &str, keep_logs: bool) -> TenantSpec {
        let mut spec = TenantSpec { keep_logs, ..tenant(text) };
        spec.networks[0].subnet = subnet.parse().unwrap();
        spec
    }

    fn whose(sender: Option<Sender>) -> Option<(LogOwner, Option<InstanceId>)> {
        sender.map(|sender| (sender.owner, sender.instance))
    }

    #[test]
    fn a_sender_is_known_by_its_address() {
        let mut senders = Senders::new(vec!["192.0.2.0/24".parse().unwrap()]);
        let specs = [spec("shop", "19.0.1.0/24", true), spec("quiet", "19.0.2.0/24", false)];
        senders.set_tenants(specs.iter());
        let id = |number| InstanceId::new(&name("shop"), number);
        senders.set_instance([19, 0, 1, 5].into(), &name("shop"), &id(5));
        let of = |text: &str| whose(senders.of(text.parse().unwrap()));
        let shop = |instance| Some((LogOwner::Tenant(name("shop")), instance));
        assert_eq!(of("19.0.1.5"), shop(Some(id(5))));
        assert_eq!(of("::ffff:19.0.1.5"), of("19.0.1.5"));
        assert_eq!(of("19.0.1.6"), shop(None), "no instance");
        assert!(!senders.of("19.0.2.9".parse().unwrap()).unwrap().keeps());
        assert_eq!(of("192.0.2.1"), Some((LogOwner::Host, None)));
        assert_eq!(of("203.0.113.1"), None);
        let managed = |owner| {
            let held = InstanceId::new(&name(owner), 7);
            whose(senders.of_instance(&held))
        };
        assert_eq!(managed("shop"), shop(Some(id(7))));
        assert_eq!(managed("shop-2"), None, "a tenant that has left");
    }

    #[test]
    fn a_message_under_way_follows_its_own_tenants_file_alone() {
        let mut senders = Senders::default();
        senders.set_tenants([spec("shop", "19.0.1.0/24", true)].iter());
        senders.set_instance([19, 0, 1, 5].into(), &name("shop"), &InstanceId::new(&name("shop"), 5));
        let from = "19.0.1.5".parse().unwrap();
        let sender = senders.of(from).unwrap();
        senders.set_tenants([spec("shop", "19.0.1.0/24", false)].iter());
        assert!(!sender.keeps(), "edited since");
        senders.set_tenants([spec("shop", "19.0.9.0/24", true)].iter());
        assert_eq!(whose(senders.of(from)), whose(Some(sender.clone())), "not yet off its old network");
        senders.set_tenants([spec("shop", "19.0.1.0/24", true)].iter());
        senders.set_tenants([spec("other", "19.0.1.0/24", false)].iter());
        assert!(sender.keeps(), "another tenant has its network now");
        assert_eq!(whose(senders.of(from)), Some((LogOwner::Tenant(name("other")), None)));
    }
}
