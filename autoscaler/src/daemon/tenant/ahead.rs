//! What the policies are told of the future: forecasts that go on with each minute, and are made anew from what was
//! kept when a daemon begins or a file changes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_logic::forecast::Lookouts;
use sluice_logic::group::Instance;
use sluice_logic::spec::TenantSpec;
use sluice_store::{Spread, StoreError};

use super::Tenant;
use super::jobs::Done;

const MINUTE: Duration = Duration::from_mins(1);
/// How far back it looks: two weeks of days, two of each day of the week.
const MEMORY: SignedDuration = SignedDuration::from_hours(14 * 24);

impl Tenant {
    /// Takes the last minute in, where it is over, and asks for what is expected now.
    pub(super) fn look_ahead(&mut self, instances: &[Instance], now: Timestamp) {
        self.lookouts.observe(&self.samples, instances, now);
        self.outlooks = self.lookouts.outlooks(now);
    }

    /// Begins to make the forecasts from what was kept. Until they are there, they begin with nothing, and are silent.
    pub(super) fn recall(&mut self) {
        self.lookouts = lookouts(&self.spec);
        if self.lookouts.metrics().next().is_none() {
            return;
        }
        let (host, spec) = (self.host.clone(), self.spec.clone());
        self.jobs.spawn(async move {
            let recalled = tokio::task::spawn_blocking(move || -> Result<Lookouts, StoreError> {
                let mut lookouts = lookouts(&spec);
                let now = Timestamp::now();
                let from = now.checked_sub(MEMORY).unwrap_or(Timestamp::MIN);
                let metrics: std::collections::BTreeSet<_> = lookouts.metrics().cloned().collect();
                for metric in metrics {
                    let history =
                        host.store.history(&spec.name, &metric, Spread::Sum, (from, now), MINUTE)?;
                    let first = from.as_second().div_euclid(60);
                    for (minute, rollup) in (first..).zip(&history) {
                        if let Some(demand) = rollup.average() {
                            lookouts.recall(&metric, minute, demand);
                        }
                    }
                }
                Ok(lookouts)
            });
            Done::Recalled(recalled.await.map_err(anyhow::Error::from).and_then(|recalled| Ok(recalled?)))
        });
    }

    /// Takes them in. The file may have changed meanwhile: then others are on their way.
    pub(super) fn recalled(&mut self, recalled: anyhow::Result<Lookouts>) {
        match recalled {
            Ok(recalled) if recalled.serve(&lookouts(&self.spec)) => self.lookouts = recalled,
            Ok(_) => {}
            Err(error) => {
                let tenant = &self.spec.name;
                tracing::warn!(%tenant, "what was kept can't be had, its forecasts begin anew: {error:#}");
            }
        }
    }
}

/// Forecasts that have seen nothing. An instance that takes longer to start than its timeout is replaced, so that is
/// the longest start there is to look beyond.
pub(super) fn lookouts(spec: &TenantSpec) -> Lookouts {
    Lookouts::new(&spec.group, &spec.policies, spec.template.start_timeout)
}
