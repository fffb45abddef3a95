//! `sluice confirm-removal`.

use clap::Args;
use sluice_logic::spec::TenantName;
use sluice_northbound::client::Client;

use super::args::tenant_name;
use super::{Failure, output};

/// How it is typed.
pub(super) const EXAMPLES: &str = "\
Examples:
  sluice confirm-removal              all that are held
  sluice confirm-removal web shop     these; the others stay";

/// What it takes.
#[derive(Debug, Args)]
pub(crate) struct ConfirmArgs {
    /// Which; default: all whose removal is held.
    #[arg(value_parser = tenant_name, value_name = "TENANT")]
    pub(crate) tenants: Vec<TenantName>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Lets tenants go whose files are gone.
pub(super) async fn confirm(client: &Client, args: &ConfirmArgs) -> Result<(), Failure> {
    let answer = client.confirm_removal(&args.tenants).await?;
    if args.json {
        return Ok(output::json(&answer)?);
    }
    for tenant in &answer.tenants {
        output::say!("{tenant} drains, and is removed when its cool-down is over at the latest");
    }
    Ok(())
}
