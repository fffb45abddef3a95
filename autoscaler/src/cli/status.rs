//! `sluice status`.

use jiff::Timestamp;
use sluice_logic::group::InstanceState;
use sluice_northbound::api::{FailedLaunch, HostProblem, InstanceStatus, Load, Status, TenantStatus};
use sluice_northbound::client::Client;

use super::Failure;
use super::args::StatusArgs;
use super::output::{self, BAD, BUSY, QUIET, ago, or_dash};

/// Shows tenants and instances.
pub(super) async fn status(client: &Client, args: &StatusArgs) -> Result<(), Failure> {
    let mut status = client.status().await?;
    if let Some(tenant) = &args.tenant {
        if !status.tenants.iter().any(|found| found.name == *tenant) {
            return Err(Failure::Wrong(format!("no tenant {tenant}: see `sluice status`")));
        }
        status.tenants.retain(|found| found.name == *tenant);
        status.held.retain(|held| held.tenant == *tenant);
        status.refused.retain(|file| file.tenant.as_ref() == Some(tenant));
    }
    if args.json {
        return Ok(output::json(&status)?);
    }
    print(&status, Timestamp::now());
    Ok(())
}

fn print(status: &Status, now: Timestamp) {
    let daemon = &status.daemon;
    output::say!(
        "{QUIET}sluice {} as `{}`, process {}, up {}, uplink {} ({} XDP){QUIET:#}",
        daemon.version,
        daemon.name,
        daemon.pid,
        ago(daemon.since, now),
        daemon.uplink,
        daemon.xdp_mode,
    );
    for problem in &status.problems {
        print_problem(problem, now);
    }
    if status.tenants.is_empty() {
        output::say!("no tenants: write a tenant file into the tenants' directory");
    }
    if let Some(logs) = &status.logs {
        let sluice_northbound::api::LogStatus { listen, kept, malformed, declined, lost, unknown, refused } =
            logs;
        output::say!(
            "{QUIET}logs at {listen}: {kept} kept, {malformed} of them no syslog, {declined} declined, {lost} lost, \
             {unknown} from unknown addresses, {refused} connections too many{QUIET:#}"
        );
    }
    for tenant in &status.tenants {
        let held = status.held.iter().any(|held| held.tenant == tenant.name);
        print_tenant(tenant, held, now);
    }
    for refused in &status.refused {
        let stays = if refused.tenant.is_some() { "; its last good form stays in force" } else { "" };
        output::say!("");
        let file = refused.file.display();
        if refused.waits {
            output::say!("{BUSY}waiting:{BUSY:#} {file} takes effect when what it asks for is free{stays}");
        } else {
            output::say!("{BAD}refused:{BAD:#} {file}{stays}");
        }
        for fault in &refused.faults {
            output::say_lines(fault);
        }
    }
}

fn print_problem(problem: &HostProblem, now: Timestamp) {
    let HostProblem { since, about, what, way_out } = problem;
    output::say!("{BAD}problem:{BAD:#} {about}: {what} {QUIET}(for {}){QUIET:#}", ago(*since, now));
    output::say!("  {way_out}");
}

fn print_tenant(tenant: &TenantStatus, held: bool, now: Timestamp) {
    let in_service = tenant.instances.iter().filter(|i| i.state == InstanceState::InService).count();
    output::say!("");
    output::say!(
        "{}  {}  desired {} ({} in service, {} to {})  {}",
        tenant.name,
        tenant.services.join(" "),
        tenant.desired,
        in_service,
        tenant.min,
        tenant.max,
        tenant.loads.iter().map(load).collect::<Vec<_>>().join("  "),
    );
    if tenant.leaving {
        let rest = tenant
            .leaving_until
            .map_or_else(String::new, |until| format!(" for at most {} more", ago(now, until)));
        output::say!(
            "{BUSY}leaving: its file is gone; it drains{rest}, and stays when the file is back before then{BUSY:#}"
        );
    }
    if held {
        output::say!(
            "{BAD}held:{BAD:#} its file is gone, and it stays until you say `sluice confirm-removal {}`",
            tenant.name
        );
    }
    if let Some(problem) = &tenant.problem {
        output::say!("{BAD}problem:{BAD:#} {problem}");
    }
    if let Some(failed) = &tenant.failed_launch {
        let FailedLaunch { instance, cloud, at, reason } = failed;
        output::say!(
            "{BAD}failed:{BAD:#} {instance} on `{cloud}`: {reason} {QUIET}({} ago){QUIET:#}",
            ago(*at, now)
        );
    }
    if let Some(decision) = &tenant.last_decision {
        output::say!("{}  {QUIET}({} ago){QUIET:#}", decision.reason, ago(decision.at, now));
    }
    if !tenant.instances.is_empty() {
        let header = [
            "INSTANCE",
            "CLOUD",
            "ADDRESS",
            "STATE",
            "SINCE",
            "CPU",
            "PACKETS/S",
            "LIVE FLOWS",
            "NEW FLOWS",
            "SHARE",
        ];
        let mut table = output::table(&header);
        for instance in &tenant.instances {
            table.add_row(row(instance, now));
        }
        output::say!("{table}");
    }
    for instance in &tenant.instances {
        if let Some(progress) = &instance.progress {
            output::say!("{BUSY}{}:{BUSY:#} {progress}", instance.id);
        }
    }
}

fn row(instance: &InstanceStatus, now: Timestamp) -> Vec<comfy_table::Cell> {
    vec![
        instance.id.as_str().into(),
        instance.cloud.as_str().into(),
        instance.addresses().map(|address| address.to_string()).collect::<Vec<_>>().join(" ").into(),
        output::state(instance.state),
        ago(instance.since, now).into(),
        or_dash(instance.cpu, percent).into(),
        or_dash(instance.packets_per_second, |rate| format!("{rate:.0}")).into(),
        or_dash(instance.live_flows, |flows| flows.to_string()).into(),
        or_dash(instance.new_flows, |flows| flows.to_string()).into(),
        or_dash(instance.new_flow_share, percent).into(),
    ]
}

fn load(load: &Load) -> String {
    let show: fn(f64) -> String =
        if load.metric.is_share() { percent } else { |value| format!("{value:.1}") };
    format!("{} {} of {}", load.metric.title(), or_dash(load.value, show), show(load.threshold))
}

fn percent(fraction: f64) -> String {
    format!("{:.0}%", fraction * 100.0)
}
