//! The built-in responder, and the supervisor of instances, as a program of its own, for tests of the provider.

use std::process::ExitCode;

use sluice_southbound::netns;
use sluice_southbound::responder::{self, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == "supervise") {
        let ended = netns::supervise(arguments);
        return if ended == ExitCode::SUCCESS { Ok(()) } else { Err("it was not started".into()) };
    }
    responder::run(Options::from_env()?)?;
    Ok(())
}
