//! `sluice push`.

use sluice_logic::group::InstanceId;
use sluice_northbound::api::PushRequest;
use sluice_northbound::client::Client;

use super::args::PushArgs;
use super::{Failure, output};

/// Gives a tenant a sample of a metric of its own.
pub(super) async fn push(client: &Client, args: &PushArgs) -> Result<(), Failure> {
    let sample = PushRequest {
        metric: args.metric.clone(),
        value: args.value,
        instance: args.instance.as_deref().map(InstanceId::from_label),
        at: args.at,
    };
    let answer = client.push(&args.tenant, &sample).await?;
    if args.json {
        return Ok(output::json(&answer)?);
    }
    output::say!("{}: {} = {} of {}", answer.tenant, answer.metric, args.value, answer.at);
    Ok(())
}
