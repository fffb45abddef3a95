//! `sluice explain`.

use jiff::Timestamp;
use sluice_logic::policy::Wish;
use sluice_northbound::api::Explanation;
use sluice_northbound::client::Client;

use super::Failure;
use super::args::ExplainArgs;
use super::output::{self, BAD, BUSY, QUIET, ago};

/// Shows what a tenant's policies would do now.
pub(super) async fn explain(client: &Client, args: &ExplainArgs) -> Result<(), Failure> {
    let explanation = client.explain(&args.tenant).await?;
    if args.json {
        return Ok(output::json(&explanation)?);
    }
    print(&explanation, Timestamp::now());
    Ok(())
}

fn print(explanation: &Explanation, now: Timestamp) {
    let Explanation { tenant, desired, min, max, instances, decision, .. } = explanation;
    output::say!(
        "{tenant}  desired {desired} ({min} to {max})  {} in service, {} pending, {} draining",
        instances.in_service,
        instances.pending,
        instances.draining,
    );
    output::say!("{BUSY}now:{BUSY:#} {}", decision.reason);
    for (number, policy) in decision.policies.iter().enumerate() {
        output::say!("policy {}: {}  {}", number + 1, wish(policy.wish), policy.reason);
    }
    list("why not more", &explanation.why_not_more);
    list("why not fewer", &explanation.why_not_fewer);
    if let Some(problem) = &explanation.store_problem {
        output::say!("{BAD}history is not kept:{BAD:#} {problem}");
    }
    for (why, count) in &explanation.refused {
        output::say!("{BAD}refused samples:{BAD:#} {count}: {why}");
    }
    if explanation.newest.is_empty() {
        return;
    }
    let mut table = output::table(&["METRIC", "OF", "VALUE", "AGE"]);
    for sample in &explanation.newest {
        let of = sample.instance.as_ref().map_or_else(|| "the group".to_owned(), ToString::to_string);
        let value = if sample.metric.is_share() {
            format!("{:.1}%", sample.value * 100.0)
        } else {
            format!("{:.1}", sample.value)
        };
        table.add_row([sample.metric.to_string(), of, value, ago(sample.at, now)]);
    }
    output::say!("{table}");
}

fn list(title: &str, reasons: &[String]) {
    if reasons.is_empty() {
        return;
    }
    output::say!("{QUIET}{title}:{QUIET:#}");
    for reason in reasons {
        output::say!("  - {reason}");
    }
}

fn wish(wish: Wish) -> String {
    match wish {
        Wish::Out(more) => format!("{more} more"),
        Wish::In(fewer) => format!("{fewer} fewer"),
        Wish::Hold => "as it is".to_owned(),
        Wish::Unknown => "not known".to_owned(),
        Wish::Abstain => "nothing".to_owned(),
    }
}
