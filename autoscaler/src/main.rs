//! The program `sluice`: the daemon, and the commands that talk to it.
//!
//! | crate | what it is for |
//! | --- | --- |
//! | [`sluice_northbound`] | tenant and host files, the API and its client |
//! | [`sluice_logic`] | samples, policies, decisions and the plan: pure |
//! | [`sluice_store`] | samples, decisions and logs of the past |
//! | [`sluice_southbound`] | providers, networks and metric sources |
//! | [`lb_userspace`] | the load balancer: its programs, maps and tables |
//! | [`sluice_demo`] | `sluice demo`, and the clients of the end-to-end tests |
//!
//! `lb_common` has what the kernel's programs and userspace share. `ARCHITECTURE.md` in the repository shows how these
//! work together, and `docs/decisions` says why.

mod cli;
mod daemon;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.log_format);
    match cli::dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Standard output is for what was asked for.
fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let stderr = std::io::stderr();
    let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(colours).with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
