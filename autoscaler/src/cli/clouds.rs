//! `sluice clouds`.

use sluice_northbound::api::CloudStatus;
use sluice_northbound::client::Client;

use super::Failure;
use super::args::CloudsArgs;
use super::output::{self, BAD, GOOD, or_dash};

/// Shows where instances can run, the most preferred cloud first.
pub(super) async fn clouds(client: &Client, args: &CloudsArgs) -> Result<(), Failure> {
    let clouds = client.clouds().await?;
    if args.json {
        return Ok(output::json(&clouds)?);
    }
    print(&clouds);
    Ok(())
}

fn print(clouds: &[CloudStatus]) {
    let mut table = output::table(&[
        "CLOUD", "KIND", "PRIORITY", "ZONE", "USED", "CAPACITY", "PRICE/H", "COST/H", "ADDRESS",
    ]);
    for cloud in clouds {
        table.add_row(row(cloud));
    }
    output::say!("{table}");
    for cloud in clouds {
        print_state(cloud);
    }
}

fn row(cloud: &CloudStatus) -> Vec<comfy_table::Cell> {
    vec![
        cloud.name.as_str().into(),
        cloud.kind.as_str().into(),
        cloud.priority.into(),
        or_dash(cloud.zone.clone(), |zone| zone).into(),
        cloud.used.into(),
        or_dash(cloud.capacity, |capacity| capacity.to_string()).into(),
        format!("{:.4}", cloud.price_per_hour).into(),
        format!("{:.4}", cloud.price_per_hour * f64::from(cloud.used)).into(),
        cloud.address.as_str().into(),
    ]
}

fn print_state(cloud: &CloudStatus) {
    let name = &cloud.name;
    match &cloud.fault {
        Some(fault) => {
            let again = cloud.asked_again_in.map(|seconds| format!("; it is asked again in {seconds:.0} s"));
            output::say!("{BAD}{name} does not answer:{BAD:#} {fault}{}", again.unwrap_or_default());
        }
        None if cloud.troubles.is_empty() => output::say!("{GOOD}{name} is fine{GOOD:#}"),
        None => {}
    }
    for trouble in &cloud.troubles {
        let next = match trouble.backed_off_for {
            0.0 => "the next one may be tried".to_owned(),
            seconds => format!("the next try is in {seconds:.0} s"),
        };
        output::say!("{BAD}{name}, {}:{BAD:#} {}; {next}", trouble.tenant, trouble.reason);
    }
}
