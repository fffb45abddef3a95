//! The built-in responder as a program of its own, for tests of the provider.

use sluice_southbound::responder::{self, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    responder::run(Options::from_env()?)?;
    Ok(())
}
