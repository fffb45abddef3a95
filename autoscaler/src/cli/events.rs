//! `sluice events`.

use jiff::tz::TimeZone;
use sluice_northbound::api::{Event, EventKind, EventQuery};
use sluice_northbound::client::{Client, ClientError};

use super::Failure;
use super::args::EventsArgs;
use super::output::{self, BAD, BUSY, GOOD, QUIET};
use crate::daemon::name_of;

/// One request waits so long for the next event, in seconds.
const WAIT: u64 = 30;

/// Shows events, and with `--follow` those to come.
pub(super) async fn events(client: &Client, args: &EventsArgs) -> Result<(), Failure> {
    let mut query =
        EventQuery { tenant: args.tenant.clone(), limit: Some(args.lines), ..EventQuery::default() };
    let mut page = client.events(&query).await?;
    loop {
        for event in &page.events {
            print(event, args.json)?;
        }
        if !args.follow {
            return Ok(());
        }
        query = EventQuery {
            tenant: args.tenant.clone(),
            limit: Some(10_000),
            after: Some(page.next),
            wait: Some(WAIT),
        };
        page = match client.events(&query).await {
            // The daemon ended while we waited.
            Err(ClientError::Broken { .. }) => return Err(anyhow::anyhow!("the daemon has ended").into()),
            page => page?,
        };
    }
}

fn print(event: &Event, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(output::json_line(event)?);
    }
    let style = match event.kind {
        EventKind::InService | EventKind::DaemonStarted | EventKind::TenantAdded => GOOD,
        EventKind::ScaleOut | EventKind::ScaleIn | EventKind::ManualScale | EventKind::Draining => BUSY,
        EventKind::InstanceFailed
        | EventKind::StepFailed
        | EventKind::TenantRefused
        | EventKind::DrainingServes
        | EventKind::FlowTableFull
        | EventKind::LogsMalformed
        | EventKind::LogsLost => BAD,
        _ => output::PLAIN,
    };
    let about = match (&event.instance, &event.tenant) {
        (Some(instance), _) => instance.as_str(),
        (None, Some(tenant)) => tenant.as_str(),
        (None, None) => "-",
    };
    let at = event.at.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f");
    let kind = name_of(event.kind);
    output::say!("{QUIET}{at}{QUIET:#}  {style}{kind:<16}{style:#}  {about:<20}  {}", event.message);
    Ok(())
}
