//! The default routes of a namespace.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};

use super::error::LinkError;
use super::link::Links;

/// By which interfaces packets to unknown IPv4 addresses leave, in any routing table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefaultRoutes {
    /// The interfaces' indexes.
    pub interfaces: BTreeSet<u32>,
}

impl Links {
    /// The IPv4 default routes of the namespace.
    pub async fn default_routes(&self) -> Result<DefaultRoutes, LinkError> {
        let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes = self.collect(|| self.handle.route().get(every).execute()).await;
        let routes = routes.map_err(|error| self.error("listing", "routes", error))?;
        let default = |route: &&RouteMessage| {
            route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
        };
        let interfaces = routes.iter().filter(default).flat_map(|route| interfaces(&route.attributes));
        Ok(DefaultRoutes { interfaces: interfaces.collect() })
    }
}

fn interfaces(attributes: &[RouteAttribute]) -> Vec<u32> {
    let of = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    };
    attributes.iter().flat_map(of).collect()
}
