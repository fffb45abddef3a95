//! The commands.

mod args;
mod check;
mod clouds;
mod confirm;
mod down;
mod evaluate;
mod events;
mod explain;
mod export;
mod group;
mod lb;
mod logs;
mod output;
mod push;
mod run;
mod simulate;
mod status;
mod which;

use std::process::ExitCode;

use nix::sys::signal::{SigHandler, Signal, signal};
use sluice_logic::spec::ProviderKind;
use sluice_northbound::client::ClientError;
use sluice_southbound::{netns, responder};

pub(crate) use self::args::{Cli, LogFormat};
use self::args::{Command, DemoArgs, DemoProvider};
use self::which::WhichDaemon;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The input was wrong; what is wrong with it has been printed.
    Faults,
    /// It has failed; how has been printed.
    Shown,
    /// The input was wrong.
    Wrong(String),
    /// It was tried, and failed.
    Failed(anyhow::Error),
}

impl Failure {
    /// Says why, and gives the exit code: 1 failed, 2 the input was wrong.
    pub(crate) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::Faults => return ExitCode::from(2),
            Self::Shown => return ExitCode::FAILURE,
            Self::Wrong(message) => (message, 2),
            Self::Failed(error) => (format!("{error:#}"), 1),
        };
        output::remark!("{}error:{:#} {message}", output::BAD, output::BAD);
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if error.is_wrong_input() { Self::Wrong(error.to_string()) } else { Self::Failed(error.into()) }
    }
}

/// Does what was typed.
pub(crate) fn dispatch(cli: Cli) -> Result<(), Failure> {
    let daemon = WhichDaemon::new(cli.config, cli.socket);
    if !matches!(cli.command, Command::Responder | Command::Supervise(_) | Command::Run | Command::Demo(_)) {
        end_with_the_reader();
    }
    match cli.command {
        // These two make their own runtimes, fit for what they do.
        Command::Responder => {
            let options =
                responder::Options::from_env().map_err(|error| Failure::Wrong(error.to_string()))?;
            Ok(responder::run(options)?)
        }
        Command::Supervise(args) => match netns::supervise(args.words.into_iter()) {
            ExitCode::SUCCESS => Ok(()),
            _ => Err(Failure::Shown),
        },
        Command::Run => run::run(&daemon),
        Command::Check(args) => check::check(&args),
        Command::Evaluate(args) => evaluate::evaluate(&args),
        Command::Status(args) => in_runtime(status::status(&daemon.client()?, &args)),
        Command::Events(args) => in_runtime(events::events(&daemon.client()?, &args)),
        Command::Logs(args) => in_runtime(logs::logs(&daemon, &args)),
        Command::Explain(args) => in_runtime(explain::explain(&daemon.client()?, &args)),
        Command::Export(args) => export::export(&daemon, &args),
        Command::Push(args) => in_runtime(push::push(&daemon.client()?, &args)),
        Command::Clouds(args) => in_runtime(clouds::clouds(&daemon.client()?, &args)),
        Command::Scale(args) => in_runtime(group::scale(&daemon.client()?, &args)),
        Command::Drain(args) => in_runtime(group::drain(&daemon.client()?, &args)),
        Command::ConfirmRemoval(args) => in_runtime(confirm::confirm(&daemon.client()?, &args)),
        Command::Lb(args) => lb::lb(&daemon, &args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Tune(args) => simulate::tune::run(&args),
        Command::Down(args) => in_runtime(down::down(&daemon, &args)),
        Command::Demo(args) => demo(&args),
    }
}

/// A command that prints ends quietly when nobody reads any more, as in `sluice events | head`. Rust ignores the
/// signal, so that printing would panic.
fn end_with_the_reader() {
    // SAFETY: no handler is installed, only the default restored, before any thread is made.
    let restored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    if let Err(error) = restored {
        tracing::debug!(%error, "SIGPIPE stays ignored");
    }
}

/// Runs the demo with this very program as its daemon.
fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let provider = match args.provider {
        DemoProvider::Netns => ProviderKind::Netns,
        DemoProvider::Docker => ProviderKind::Docker,
        DemoProvider::Libvirt => ProviderKind::Libvirt,
    };
    if args.brief && provider == ProviderKind::Libvirt {
        return Err(Failure::Wrong(
            "virtual machines take longer to boot than `--brief` lasts: leave it out".to_owned(),
        ));
    }
    let sluice = std::env::current_exe()?;
    // The program is target/<profile>/sluice.
    let target = sluice.ancestors().nth(2).unwrap_or(&sluice);
    let image = args.image.clone().unwrap_or_else(|| target.join("images"));
    let options = sluice_demo::Options { provider, image, sluice, brief: args.brief, json: args.json };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let summary = runtime.block_on(sluice_demo::run(&options))?;
    if summary.is_good() { Ok(()) } else { Err(Failure::Shown) }
}

fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
