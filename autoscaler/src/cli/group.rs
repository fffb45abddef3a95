//! `sluice scale` and `sluice drain`.

use sluice_logic::group::InstanceId;
use sluice_northbound::client::Client;

use super::args::{DrainArgs, ScaleArgs};
use super::{Failure, output};

/// Sets a tenant's desired count.
pub(super) async fn scale(client: &Client, args: &ScaleArgs) -> Result<(), Failure> {
    let answer = client.scale(&args.tenant, args.count).await?;
    if args.json {
        return Ok(output::json(&answer)?);
    }
    output::say!("{}: desired {} → {}", answer.tenant, answer.from, answer.to);
    Ok(())
}

/// Drains an instance.
pub(super) async fn drain(client: &Client, args: &DrainArgs) -> Result<(), Failure> {
    let id = InstanceId::from_label(args.instance.as_str());
    let answer = client.drain(&id, args.decrement).await?;
    if args.json {
        return Ok(output::json(&answer)?);
    }
    output::say!("{} drains; {} instances are desired", answer.instance, answer.desired);
    Ok(())
}
