//! `sluice logs`.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_store::logs::{LogBook, LogCursor, LogLine, LogOwner};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::args::LogsArgs;
use super::output::{self, BAD, BUSY, PLAIN, QUIET};
use super::which::WhichDaemon;
use crate::daemon::open::log_book;

/// What comes is looked for so often; the daemon writes a batch a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    tenant: &'a TenantName,
    #[serde(flatten)]
    line: &'a LogLine,
}

/// Shows what a tenant's instances have logged, and with `--follow` what they log from then on.
pub(super) async fn logs(daemon: &WhichDaemon, args: &LogsArgs) -> Result<(), Failure> {
    let (config, _) = daemon.host_config()?;
    let (book, owner) = (log_book(&config), LogOwner::Tenant(args.tenant.clone()));
    let unreadable = || format!("the logs below {} can't be read", config.state.display());
    let wanted = |line: &LogLine| {
        let id = line.instance.as_ref().map(InstanceId::as_str);
        args.instance.as_deref().is_none_or(|wanted| id == Some(wanted))
    };
    let since = args.since.unwrap_or(Timestamp::MIN);
    let (lines, mut cursor) = book.tail(&owner, since, args.lines, wanted).with_context(unreadable)?;
    if lines.is_empty() && !args.follow {
        nothing(&book, args).with_context(unreadable)?;
    }
    lines.iter().try_for_each(|line| print(line, args))?;
    if !args.follow {
        return Ok(());
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        follow(&book, &owner, &mut cursor, wanted, args).with_context(unreadable)?;
    }
}

/// Prints what has come since.
fn follow(
    book: &LogBook,
    owner: &LogOwner,
    cursor: &mut LogCursor,
    wanted: impl Fn(&LogLine) -> bool,
    args: &LogsArgs,
) -> anyhow::Result<()> {
    let mut printed = Ok(());
    book.after(owner, cursor, |line| {
        if wanted(&line) && printed.is_ok() {
            printed = print(&line, args);
        }
    })?;
    Ok(printed?)
}

/// Says on standard error that there is nothing, and of whom there is something.
fn nothing(book: &LogBook, args: &LogsArgs) -> std::io::Result<()> {
    let names = book.owners()?.into_iter().filter_map(|owner| match owner {
        LogOwner::Tenant(name) => Some(name.to_string()),
        LogOwner::Host => None,
    });
    let names: Vec<String> = names.collect();
    if names.contains(&args.tenant.to_string()) {
        output::remark!("no line of {} is what was asked for", args.tenant);
    } else if names.is_empty() {
        output::remark!("nothing is kept of {}, nor of any other tenant", args.tenant);
    } else {
        output::remark!("nothing is kept of {}; there is something of: {}", args.tenant, names.join(", "));
    }
    Ok(())
}

fn print(line: &LogLine, args: &LogsArgs) -> std::io::Result<()> {
    if args.json {
        return output::json_line(&Line { tenant: &args.tenant, line });
    }
    let at = line.at.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f");
    let from = line.instance.as_ref().map_or_else(|| line.from.to_string(), ToString::to_string);
    let style = match line.message.severity.as_deref() {
        Some("emerg" | "alert" | "crit" | "err") => BAD,
        Some("warning") => BUSY,
        _ => PLAIN,
    };
    let app = line.message.app.as_deref().map(|app| format!("{app}: ")).unwrap_or_default();
    output::say!("{QUIET}{at}{QUIET:#}  {from:<20}  {style}{app}{}{style:#}", line.message.text);
    Ok(())
}
