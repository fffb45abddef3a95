//! The command line: what may be typed, and the help that teaches it.

mod samples;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use sluice_logic::spec::TenantName;

use super::confirm::{self, ConfirmArgs};
use super::lb::LbArgs;
use super::simulate::{SimulateArgs, TuneArgs};

use self::samples::{EXPORT_COLUMNS, PUSH_BY_HTTP};
pub(crate) use self::samples::{ExportArgs, ExportKind, PushArgs};

const EXAMPLES: &str = "\
Examples:
  sluice check sluice.yml tenants/demo.yml    find every fault before the daemon sees it
  sluice evaluate question.json               what a policy would decide, without a daemon
  sluice run --config sluice.yml              the daemon (root)
  sluice status                               tenants, instances, load, the last decision and its reason
  sluice events demo --follow                 what happens, as it happens
  sluice logs demo --follow                   what its instances say
  sluice explain demo                         what the policies would do now, and why not more
  sluice export --kind activities             today's scaling activities as CSV
  sluice push demo queue_length 42            give policies a metric of your own
  sluice scale demo 4                         set the desired count by hand
  sluice drain demo-1f2e3d4c                  take one instance out without breaking its connections
  sluice lb backends                          what the XDP programs do: services, backends, flows, drops
  sluice down --config sluice.yml             remove everything Sluice made on this host
  sluice demo                                 all of it on real packets, in namespaces of its own

Every command means the same daemon by `--config` and `--socket`. What is given on the command line counts first, then
the variables SLUICE_SOCKET and SLUICE_CONFIG, then /etc/sluice/sluice.yml.

Exit codes: 0 done, 1 failed, 2 the input was wrong.";

/// Gives a tenant one public address, spreads its traffic over instances, and adds and removes instances as
/// the load changes.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The daemon's host file, which says where its socket, state and data plane are. Without it: the variable
    /// `SLUICE_CONFIG`, then `/etc/sluice/sluice.yml`.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The daemon's Unix socket, instead of what the host file says. Without it: the host file of `--config`, the variable
    /// `SLUICE_SOCKET`, the host file of `SLUICE_CONFIG`, `/etc/sluice/sluice.yml`, and last `/run/sluice/sluice.sock`.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// How log lines are written to standard error. What is logged is said by `RUST_LOG`, e.g.
    /// `RUST_LOG=sluice=debug`.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground.
    ///
    /// Takes over what an earlier daemon left, without a packet lost. Ends on SIGTERM or Ctrl-C and leaves
    /// instances and the data plane running; reads the tenants' directory again on SIGHUP. Needs root.
    Run,
    /// Check host and tenant files, and print every fault with its line and column.
    ///
    /// A file with a `transit` key is a host file, any other a tenant file. Tenant files are also checked
    /// against one another. Nothing on the host is read or changed.
    Check(CheckArgs),
    /// Say what policies would decide about a group and its samples, without a daemon.
    ///
    /// Reads a question in JSON (or YAML): `time`, `group`, `policies` as in a tenant file, `samples`. Prints each
    /// policy's wish, the decision and its reasons as JSON. It is the code of the daemon, so a policy can be tried
    /// before it is let loose. The keys are in docs/evaluate.md, examples in examples/evaluate.
    Evaluate(EvaluateArgs),
    /// Show tenants, instances, load and the last decision.
    Status(StatusArgs),
    /// Show what happened, oldest first.
    Events(EventsArgs),
    /// Show what a tenant's policies would do now, and why they do no more and no less.
    ///
    /// Runs the policies on the samples of this moment, without following them: what each of them sees and wants,
    /// what the limits, the pace and the buffer time make of it, and the newest sample of each metric.
    Explain(ExplainArgs),
    /// Write what was kept of a day as CSV or JSON: scaling activities, decisions, samples, logs.
    ///
    /// Asks the daemon; where none runs, reads the store itself. CSV is by RFC 4180, with a header. Times have the
    /// offset of the time zone. A text that a spreadsheet would take for a formula begins with an apostrophe.
    #[command(after_help = EXPORT_COLUMNS)]
    Export(ExportArgs),
    /// Give a tenant a sample of a metric of its own, which policies know as `custom/<METRIC>`.
    ///
    /// A value that is not a finite number or is negative, one older than the newest or of the same time, and one of
    /// the future is refused, counted and explained.
    #[command(after_help = PUSH_BY_HTTP)]
    Push(PushArgs),
    /// Show where instances can run: room, use, price, what has failed and when it is tried again.
    Clouds(CloudsArgs),
    /// Set how many instances a tenant should have.
    ///
    /// Within its limits; no policy changes it again before the group's buffer time is over.
    Scale(ScaleArgs),
    /// Take an instance out: no new flow, old ones go on until they end or the cool-down is over.
    ///
    /// Another instance takes its place unless `--decrement` is given.
    Drain(DrainArgs),
    /// Let tenants go whose files are gone: `sluice status` lists those that wait for this.
    ///
    /// When more than one tenant's file, and more than a half of all, are gone within a minute, that may be an accident: a
    /// wrong `rsync --delete`, another branch, a volume that is not mounted. So these tenants stay in force until their files
    /// are back, or a person says here that they are to go. Then each drains as in a scale-in: live connections go on until
    /// they end or the cool-down is over. A file that is written again before then keeps its tenant.
    ///
    /// `confirm_removal: false` in the host file lets all go without this. `sluice down` asks for no confirmation.
    #[command(after_help = confirm::EXAMPLES)]
    ConfirmRemoval(ConfirmArgs),
    /// Look into the data plane: services, backends, flows, drops.
    ///
    /// Reads what is pinned, so that it works while no daemon runs. Needs root; changes nothing.
    Lb(LbArgs),
    /// Run policies against a recorded load in virtual time, with the code that the daemon runs.
    Simulate(SimulateArgs),
    /// Search a proactive policy's parameters on the first part of a recorded load, and score them on the rest.
    ///
    /// Prints a table, and the policy as a tenant file that `sluice check` takes. The same arguments find the same.
    Tune(TuneArgs),
    /// Remove all that Sluice made on this host: instances, networks, public addresses, XDP programs.
    ///
    /// Works with and without a daemon; one that runs has to be stopped first (`--stop` does it). Tenant
    /// files and the state directory stay.
    Down(DownArgs),
    /// Show autoscaling on real packets, in namespaces of its own.
    Demo(DemoArgs),
    /// Show what a tenant's instances have logged: their own output, and what they sent by syslog.
    ///
    /// Reads the store of the host file, with and without a daemon. Namespaces' output is all there, but for what came too fast;
    /// of containers the last lines are, once they have ended: `docker logs` has the rest. Needs root.
    Logs(LogsArgs),
    /// The parent of a namespace's command, which takes its output: the daemon starts it.
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    /// The built-in responder: what an instance runs when its template has no command.
    #[command(hide = true)]
    Responder,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Host and tenant files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// The question; `-` is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Print the decision's reason only, for people.
    #[arg(long)]
    pub(crate) summary: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this tenant.
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: Option<TenantName>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only this tenant.
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: Option<TenantName>,
    /// Only the newest so many.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    pub(crate) lines: usize,
    /// Go on with new events as they happen, until Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Whose.
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: TenantName,
    /// Only of this instance.
    #[arg(long, value_name = "ID")]
    pub(crate) instance: Option<String>,
    /// Only what came since then: a time as 2026-11-24T10:00:00Z, or how long ago, as 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Timestamp>,
    /// Only the newest so many lines.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) lines: usize,
    /// Go on with new lines as they come, until Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// The scope, the instance, and its command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    pub(crate) words: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct CloudsArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Whose policies.
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: TenantName,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Whose.
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: TenantName,
    /// How many instances there should be.
    pub(crate) count: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The instance's id, from `sluice status`.
    pub(crate) instance: String,
    /// Lower the desired count by one, so that no other takes its place.
    #[arg(long)]
    pub(crate) decrement: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Stop the daemon first, if one runs.
    #[arg(long)]
    pub(crate) stop: bool,
    /// Remove the state directory as well: desired counts and the event log.
    #[arg(long)]
    pub(crate) purge: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the demo's instances are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoProvider {
    /// Namespaces with a process in them.
    Netns,
    /// Containers.
    Docker,
    /// Virtual machines.
    Libvirt,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// What instances are. `docker` starts a dockerd of the demo's own and needs Debian's docker.io; `libvirt` starts a
    /// libvirtd of its own and needs what `./x setup --for machines` installs.
    #[arg(long, value_name = "KIND", default_value = "netns")]
    pub(crate) provider: DemoProvider,
    /// The folder of the virtual machines' `vmlinuz` and `initrd`, as `./x images` makes them. Default: where that puts
    /// them, for a program that was built beside it.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) image: Option<PathBuf>,
    /// Let the load rise and fall once, in less than a minute. Not with virtual machines, which take longer to boot.
    #[arg(long)]
    pub(crate) brief: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = text.parse::<jiff::SignedDuration>().ok();
    let since = ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    since
        .ok_or_else(|| format!("`{text}` is neither a time as 2026-11-24T10:00:00Z nor how long ago, as 10m"))
}

pub(super) fn tenant_name(text: &str) -> Result<TenantName, String> {
    TenantName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
