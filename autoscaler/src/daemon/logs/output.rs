//! What instances write to their own output, into their tenants' logs.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use sluice_southbound::provider::{InstanceSpec, Output, Provider};
use sluice_store::logs::{LogLine, LogMessage, LogOwner};
use tokio::time::MissedTickBehavior;

use super::Logs;
use crate::daemon::host::Host;

/// Output is asked for so often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A provider that takes longer has no output this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// What such a line has as its program.
const APP: &str = "output";

/// Keeps what instances write, as it comes. Never returns.
pub(super) async fn collect(host: &Arc<Host>) {
    let mut turns = tokio::time::interval(ASK_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        for (cloud, provider) in host.clouds.providers() {
            match tokio::time::timeout(PATIENCE, provider.output(None)).await {
                Ok(Ok(outputs)) => keep(host, provider.as_ref(), outputs).await,
                Ok(Err(error)) => tracing::warn!(%cloud, %error, "instances' output can't be read"),
                Err(_) => tracing::warn!(%cloud, "instances' output takes too long to be read"),
            }
        }
    }
}

/// Keeps the rest of what an instance has written, before it is removed: what its provider has, or else these lines.
pub(in crate::daemon) async fn keep_last(
    host: &Arc<Host>,
    provider: &Arc<dyn Provider>,
    spec: &InstanceSpec,
    lines: Vec<String>,
) {
    let mut is_providers = false;
    while let Ok(outputs) = provider.output(Some(&spec.id)).await
        && !outputs.is_empty()
    {
        is_providers = true;
        keep(host, provider.as_ref(), outputs).await;
    }
    if !is_providers && !provider.keeps_output() {
        write(host, vec![(spec.clone(), lines)]).await;
    }
}

/// Keeps output, and then lets the provider know that it is kept.
async fn keep(host: &Arc<Host>, provider: &dyn Provider, outputs: Vec<Output>) {
    write(host, outputs.iter().map(|output| (output.spec.clone(), output.lines.clone())).collect()).await;
    for output in outputs {
        // It comes again otherwise: twice is better than not at all.
        if let Err(error) = provider.output_kept(&output).await {
            tracing::warn!(%error, "output may be kept twice");
        }
    }
}

async fn write(host: &Arc<Host>, outputs: Vec<(InstanceSpec, Vec<String>)>) {
    let lines = host.logs.lines_of(outputs, Timestamp::now());
    if lines.is_empty() {
        return;
    }
    let host = host.clone();
    let _ = tokio::task::spawn_blocking(move || host.logs.write(lines, &host.events)).await;
}

impl Logs {
    /// Output as lines of its tenants' logs; of tenants whose files say that nothing is kept it is counted.
    fn lines_of(&self, outputs: Vec<(InstanceSpec, Vec<String>)>, at: Timestamp) -> Vec<(LogOwner, LogLine)> {
        let mut kept = Vec::new();
        for (spec, lines) in outputs {
            if !self.keeps(&spec.tenant) {
                self.declined.fetch_add(lines.len() as u64, Ordering::Relaxed);
                continue;
            }
            kept.extend(lines.into_iter().map(|text| {
                let message = LogMessage { app: Some(APP.to_owned()), text, ..LogMessage::default() };
                let (from, instance) = (IpAddr::V4(spec.nic.address), Some(spec.id.clone()));
                (LogOwner::Tenant(spec.tenant.clone()), LogLine { at, from, instance, message })
            }));
        }
        kept
    }
}
