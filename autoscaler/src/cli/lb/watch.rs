//! `sluice lb watch`.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lb_userspace::lb::look::{Look, Outcome, Sample, Watch, WatchFilter, Watched};
use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use super::super::output::{self, BAD, BUSY, GOOD, QUIET};
use super::super::{Failure, in_runtime};
use super::args::WatchArgs;
use super::failed;

/// So often the watcher looks whether a daemon has brought a new program.
const FOLLOW: Duration = Duration::from_millis(500);

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// When it was read from the kernel.
    at: Timestamp,
    #[serde(flatten)]
    sample: &'a Sample,
}

pub(super) fn watch(look: &Look, json: bool, args: &WatchArgs) -> Result<(), Failure> {
    let filter = WatchFilter { service: args.service, client: args.client, all: args.all, every: args.every };
    in_runtime(async {
        let mut shown = 0;
        let watch = look.watch(&filter).map_err(failed)?;
        // SAFETY: the descriptor is the ring buffer's, which the watch keeps open and the same for its whole life.
        let watch = unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) };
        let mut watch = watch.map_err(std::io::Error::from)?;
        let result = show_all(&mut watch, json, args, &mut shown).await;
        summary(watch.get_ref().watched().map_err(failed)?, shown);
        result
    })
}

/// Shows decisions until there were enough, or somebody has.
async fn show_all(
    watch: &mut AsyncFd<Watch>,
    json: bool,
    args: &WatchArgs,
    shown: &mut u64,
) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut follow = tokio::time::interval(FOLLOW);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = follow.tick() => {
                if watch.get_mut().follow().map_err(failed)? {
                    output::remark!("{QUIET}a new program is on the uplink{QUIET:#}");
                }
            }
            ready = watch.readable_mut() => {
                let mut ready = ready?;
                // Before reading: what comes from now on makes it ready again.
                ready.clear_ready();
                if drain(ready.get_inner_mut(), json, args, shown)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
}

/// Shows what is there. Breaks when there were enough.
fn drain(
    watch: &mut Watch,
    json: bool,
    args: &WatchArgs,
    shown: &mut u64,
) -> Result<ControlFlow<()>, Failure> {
    while let Some(sample) = watch.read() {
        print(&sample, json)?;
        *shown += 1;
        if args.count.is_some_and(|count| *shown >= count) {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn print(sample: &Sample, json: bool) -> Result<(), Failure> {
    let at = Timestamp::now();
    if json {
        return Ok(output::json_line(&Line { at, sample })?);
    }
    let style = match sample.outcome {
        Outcome::Backend { new_flow: true, .. } => GOOD,
        Outcome::Backend { .. } | Outcome::Kernel => output::PLAIN,
        Outcome::Answered { .. } => BUSY,
        Outcome::Dropped { .. } => BAD,
    };
    let at = at.to_zoned_datetime(TimeZone::system()).strftime("%H:%M:%S%.3f");
    output::say!("{QUIET}{at}{QUIET:#}  {style}{sample}{style:#}");
    Ok(())
}

/// Says on standard error what the lines don't.
fn summary(watched: Watched, shown: u64) {
    let Watched { wanted, lost } = watched;
    let lost = match lost {
        0 => String::new(),
        lost => {
            format!("; {lost} were lost: they came faster than they were read. Filters or `--every` help")
        }
    };
    output::remark!("{QUIET}{shown} decisions shown, of {wanted} packets{lost}{QUIET:#}");
}
