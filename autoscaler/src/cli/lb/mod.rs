//! `sluice lb`: a look into the data plane. Reads what is pinned, so that it works while no daemon runs, and needs root.

mod args;
mod explain;
mod print;
mod watch;

use std::path::PathBuf;

use lb_userspace::lb::FlowTableUse;
use lb_userspace::lb::look::{FlowFilter, Look};
use lb_userspace::net::Netns;

pub(super) use self::args::LbArgs;
use self::args::{DropsArgs, FlowsArgs, LbCommand};
use super::which::WhichDaemon;
use super::{Failure, output};

/// Shows a part of the data plane.
pub(super) fn lb(daemon: &WhichDaemon, args: &LbArgs) -> Result<(), Failure> {
    let place = place(daemon, args)?;
    let look = Look::open(&place.pins).map_err(failed)?;
    match &args.command {
        LbCommand::Services => show(args.json, &look.services().map_err(failed)?, |all| print::services(all)),
        LbCommand::Backends => show(args.json, &look.backends().map_err(failed)?, |all| print::backends(all)),
        LbCommand::Tables => show(args.json, &tables(&look)?, |all| print::tables(all)),
        LbCommand::Flows(flows) => self::flows(&look, args.json, flows),
        LbCommand::Drops(drops) => self::drops(&look, args.json, drops),
        LbCommand::Explain(question) => explain::explain(&look, &place.transit()?, args.json, question),
        LbCommand::Watch(filter) => watch::watch(&look, args.json, filter),
    }
}

/// Where the data plane is.
struct Place {
    pins: PathBuf,
    /// Its namespace; `None` is the one that we are in.
    transit: Option<String>,
}

impl Place {
    /// What is pinned can be read from anywhere; only who asks the programs needs this.
    fn transit(&self) -> Result<Netns, Failure> {
        Ok(match &self.transit {
            Some(name) => Netns::open(name)?,
            None => Netns::current()?,
        })
    }
}

fn place(daemon: &WhichDaemon, args: &LbArgs) -> Result<Place, Failure> {
    if let Some(pins) = &args.pins {
        return Ok(Place { pins: pins.clone(), transit: None });
    }
    let (config, _) = daemon.host_config()?;
    Ok(Place { pins: config.pins, transit: config.transit.namespace })
}

/// How full a table of the data plane is.
#[derive(serde::Serialize)]
struct TableView {
    /// The map's name.
    table: &'static str,
    /// Entries.
    used: u64,
    /// Entries for which there is room.
    room: u64,
}

fn tables(look: &Look) -> Result<[TableView; 1], Failure> {
    let FlowTableUse { used, room } = look.flow_table().map_err(failed)?;
    Ok([TableView { table: "flows", used, room }])
}

fn flows(look: &Look, json: bool, args: &FlowsArgs) -> Result<(), Failure> {
    let FlowsArgs { service, backend, client, limit } = *args;
    let list = look.flows(FlowFilter { service, backend, client }, limit).map_err(failed)?;
    show(json, &list, print::flows)
}

fn drops(look: &Look, json: bool, args: &DropsArgs) -> Result<(), Failure> {
    let mut drops = look.drops().map_err(failed)?;
    drops.retain(|drop| args.all || drop.packets > 0);
    show(json, &drops, |drops| print::drops(drops))
}

fn show<T: serde::Serialize>(json: bool, value: &T, print: impl FnOnce(&T)) -> Result<(), Failure> {
    if json {
        return Ok(output::json(value)?);
    }
    print(value);
    Ok(())
}

fn failed(error: lb_userspace::lb::Error) -> Failure {
    Failure::Failed(error.into())
}
