//! Compares the tenant's networks, its instances' ports and its VIPs with what is there, and has put right what differs.

use std::net::Ipv4Addr;
use std::time::Duration;

use sluice_logic::group::InstanceState;
use sluice_northbound::api::EventKind;
use sluice_southbound::networks::PortState;

use super::Tenant;
use crate::daemon::drift::View;
use crate::daemon::roster::Member;

/// An instance without a port for so long is replaced; how it has ended, where it has, is known by then.
const PORTLESS_FOR: Duration = Duration::from_secs(3);

impl Tenant {
    /// Finds what is not as it should be. What has changed since the view began, the view says nothing of; what is found is made
    /// again in the round that follows.
    pub(super) fn find_drift(&mut self, view: &View) {
        if self.has_withdrawn() {
            return;
        }
        if self.attached.as_ref().is_some_and(|attached| attached.since < view.began) {
            let networks = self.network_drift(view);
            let ports = self.port_drift(view);
            if let Some(what) = networks.or(ports) {
                self.tell_drift(&what);
                // What is there of it is found as it is, and the rest is made.
                self.attached = None;
            }
            self.replace_portless(view);
        }
        for vip in self.vips.missing(view.began, |vip| view.networks.has_vip(vip)) {
            self.tell_drift(&vip_is_gone(vip));
        }
    }

    fn tell_drift(&self, what: &str) {
        self.host.events.record(self.event(EventKind::Drift, format!("{what}: it is put right")));
    }

    fn network_drift(&self, view: &View) -> Option<String> {
        let attached = self.attached.as_ref()?;
        let known = self.spec.networks.iter().filter(|network| attached.bridges.contains_key(&network.name));
        let fault = known.into_iter().find_map(|network| {
            let fault = view.networks.network_fault(&self.spec.name, network)?;
            Some(format!("the network `{}`: {fault}", network.name))
        });
        let first = self.spec.networks.first()?;
        let interface = view.networks.interface(&self.spec.name, &first.name);
        let is_another = interface != Some(attached.egress.interface);
        fault.or_else(|| is_another.then(|| format!("the network `{}` had been made anew", first.name)))
    }

    fn port_drift(&self, view: &View) -> Option<String> {
        self.members.values().filter(|member| is_old(member, view)).find_map(|member| {
            let ports = self.host.networks.ports(&member.spec);
            let port = ports.into_iter().find(|port| view.networks.port(port) == PortState::Unplugged)?;
            Some(format!("the port of {}, `{}`, was down or not on its bridge", member.spec.id, port.name))
        })
    }

    /// An instance whose port is gone can't be reached any more, and only its maker can give it another. One whose ports were
    /// never seen here may be on another host: nothing is known of those.
    fn replace_portless(&mut self, view: &View) {
        let mut gone = Vec::new();
        self.ports.retain(|id, _| self.members.contains_key(id));
        for member in self.members.values().filter(|member| is_old(member, view)) {
            let id = &member.spec.id;
            let mut ports = self.host.networks.ports(&member.spec).into_iter();
            if ports.all(|port| view.networks.port(&port) != PortState::Absent) {
                self.ports.insert(id.clone(), None);
            } else if let Some(absent) = self.ports.get_mut(id) {
                let since = *absent.get_or_insert(view.began);
                if !member.ending_asked && view.began.duration_since(since) >= PORTLESS_FOR {
                    gone.push(id.clone());
                }
            }
        }
        for id in gone {
            self.fail(&id, "its interface on a network was removed");
        }
    }
}

/// Whether an instance was what it is before the view began, and is to have ports.
fn is_old(member: &Member, view: &View) -> bool {
    let serves = matches!(member.instance.state, InstanceState::InService | InstanceState::Draining);
    serves && member.settled().is_some_and(|settled| settled < view.began)
}

fn vip_is_gone(vip: Ipv4Addr) -> String {
    format!("{vip} was not on the uplink any more")
}
