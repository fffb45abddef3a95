//! How instances stop and are removed, beside the tenant's task. Which of it is due says [`Member::due`].
//!
//! [`Member::due`]: crate::daemon::roster::Member::due

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::ProviderKind;
use sluice_southbound::provider::{InstanceSpec, Provider, ProviderError};
use tokio::time::{Instant, sleep, timeout};

use super::Tenant;
use super::jobs::{ENDING_TIMEOUT, ending};
use super::problems::Work;
use crate::daemon::host::Host;
use crate::daemon::logs::output;

/// When an instance has stopped, its kernel's last segments have so long to reach its clients, and theirs to reach it, before
/// the load balancer forgets its backend. A FIN that is lost is repeated after 200 ms and, once more, after 600 ms (the shortest
/// retransmission timeout on Linux, doubled each time).
const LAST_SEGMENTS: Duration = Duration::from_secs(1);

/// A provider that takes so much longer to stop an instance than the instance was given hangs.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// A removal that takes longer is tried again.
const REMOVAL_LIMIT: Duration = Duration::from_mins(2);

impl Tenant {
    /// The load balancer is told in this round that it has no backend there any more.
    pub(super) fn stopped(&mut self, id: &InstanceId, result: Result<()>) {
        if let Some(member) = self.members.get_mut(id) {
            match &result {
                Ok(()) => member.stopped(),
                Err(_) => member.not_asked(Instant::now(), Timestamp::now()),
            }
        }
        self.outcome(Work::Removal, result.with_context(|| id.to_string()));
    }

    pub(super) fn removed(&mut self, id: &InstanceId, result: Result<()>) {
        if self.outcome(Work::Removal, result.with_context(|| id.to_string())).is_some() {
            self.forget(id);
        } else if let Some(member) = self.members.get_mut(id) {
            member.try_again(Instant::now());
        }
    }
}

/// Tells an instance to stop, of whose time for that so much has `passed`, and returns when it has and its last segments have
/// had their time. One that does not stop is left to its removal. An error: its cloud can't be asked.
pub(super) async fn stop(provider: &dyn Provider, spec: &InstanceSpec, passed: Duration) -> Result<()> {
    match ask_to_stop(provider, spec, passed).await {
        Ok(()) | Err(ProviderError::Unknown(_)) => {}
        Err(error @ ProviderError::Unavailable { .. }) => return Err(error.into()),
        Err(error) => tracing::warn!(id = %spec.id, %error, "it does not stop: it is removed all the same"),
    }
    sleep(LAST_SEGMENTS).await;
    Ok(())
}

async fn ask_to_stop(
    provider: &dyn Provider,
    spec: &InstanceSpec,
    passed: Duration,
) -> Result<(), ProviderError> {
    let grace = time_to_stop(provider.kind(), spec).saturating_sub(passed);
    timeout(grace.saturating_add(STOP_LIMIT), provider.stop(&spec.id, grace)).await.unwrap_or_else(|_| {
        let reason = format!("{} hangs", provider.kind());
        Err(ProviderError::Step { id: spec.id.clone(), step: "stopping", reason })
    })
}

/// After so long an instance is ended by force.
fn time_to_stop(kind: ProviderKind, spec: &InstanceSpec) -> Duration {
    let machine = spec.template.libvirt.as_ref().filter(|_| kind == ProviderKind::Libvirt);
    machine.map_or(spec.template.stop_timeout, |machine| machine.shutdown_timeout)
}

/// Removes an instance. One that has not stopped, as it has never had a flow or has failed, is told to first.
pub(super) async fn remove(host: Arc<Host>, spec: InstanceSpec) -> Result<()> {
    let provider = host.clouds.provider(&spec.cloud)?;
    let id = &spec.id;
    // One that does not end, or can't be asked to, is removed all the same.
    if let Err(error) = ask_to_stop(&**provider, &spec, Duration::ZERO).await {
        tracing::debug!(%id, %error, "not stopped");
    }
    // Before all that it has said goes with it.
    let lines = ending(&host, &spec).await.map(|ending| ending.last_lines).unwrap_or_default();
    if timeout(ENDING_TIMEOUT, output::keep_last(&host, provider, &spec, lines)).await.is_err() {
        tracing::warn!(%id, "its last output is not kept: the provider, or the disk, takes too long");
    }
    let removed = timeout(REMOVAL_LIMIT, provider.delete(id)).await;
    Ok(removed.with_context(|| format!("not removed after {} s", REMOVAL_LIMIT.as_secs()))??)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use sluice_southbound::provider::{InstanceMetrics, Observed, Presence};

    use super::*;
    use crate::daemon::testing::observed;

    /// A provider whose instances end when they are told to, if it answers at all.
    #[derive(Default)]
    struct Stopping {
        takes: Duration,
        fails: Option<fn(&InstanceId) -> ProviderError>,
        graces: Mutex<Vec<Duration>>,
    }

    #[async_trait]
    impl Provider for Stopping {
        fn kind(&self) -> ProviderKind {
            ProviderKind::Netns
        }

        async fn create(&self, _spec: &InstanceSpec) -> Result<(), ProviderError> {
            Ok(())
        }

        async fn start(&self, _id: &InstanceId) -> Result<(), ProviderError> {
            Ok(())
        }

        async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
            self.graces.lock().unwrap().push(grace);
            sleep(self.takes).await;
            self.fails.map_or(Ok(()), |error| Err(error(id)))
        }

        async fn delete(&self, _id: &InstanceId) -> Result<(), ProviderError> {
            Ok(())
        }

        async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
            Ok(Vec::new())
        }

        async fn metrics(&self, spec: &InstanceSpec) -> Result<InstanceMetrics, ProviderError> {
            Err(ProviderError::Unknown(spec.id.clone()))
        }
    }

    async fn stopped(provider: &Stopping, passed: Duration) -> (Duration, Result<()>) {
        let spec = observed(2, Presence::Running).spec.unwrap();
        let begun = Instant::now();
        let result = stop(provider, &spec, passed).await;
        (begun.elapsed(), result)
    }

    #[tokio::test]
    async fn what_has_stopped_has_a_moment_for_its_last_segments() {
        let provider = Stopping { takes: Duration::from_millis(100), ..Stopping::default() };
        for passed in [10, 3600].map(Duration::from_secs) {
            let (took, result) = stopped(&provider, passed).await;
            result.unwrap();
            assert!(took >= provider.takes + LAST_SEGMENTS, "{took:?}");
        }
        let given = observed(2, Presence::Running).spec.unwrap().template.stop_timeout;
        let graces = provider.graces.lock().unwrap().clone();
        assert_eq!(graces, [given.saturating_sub(Duration::from_secs(10)), Duration::ZERO]);
    }

    #[tokio::test]
    async fn only_a_cloud_that_cannot_be_asked_is_an_error() {
        let gone: fn(&InstanceId) -> ProviderError = |id| ProviderError::Unknown(id.clone());
        let stuck: fn(&InstanceId) -> ProviderError =
            |id| ProviderError::Step { id: id.clone(), step: "stopping", reason: "stuck".to_owned() };
        let away: fn(&InstanceId) -> ProviderError =
            |_| ProviderError::Unavailable { provider: ProviderKind::Netns, reason: "away".to_owned() };
        for (fails, is_error) in [(gone, false), (stuck, false), (away, true)] {
            let provider = Stopping { fails: Some(fails), ..Stopping::default() };
            let (took, result) = stopped(&provider, Duration::ZERO).await;
            assert_eq!((result.is_err(), took < LAST_SEGMENTS), (is_error, is_error), "{result:?}");
        }
    }
}
