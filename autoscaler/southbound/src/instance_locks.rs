//! One call at a time on each instance, to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_logic::group::InstanceId;
use tokio::sync::OwnedMutexGuard;

use crate::provider::ProviderError;

/// Who may work on which instance.
#[derive(Debug, Default)]
pub(crate) struct InstanceLocks(Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>);

impl InstanceLocks {
    /// Waits until no other call works on the instance; this one has it until the guard is dropped.
    pub(crate) async fn take(&self, id: &InstanceId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Does `work` on an instance once its lock is free, to the end even if the caller no longer waits: what is
    /// half made would otherwise be met by a later call on the same instance.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        id: &InstanceId,
        work: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let lock = self.take(id).await;
        let task = tokio::spawn(async move {
            let _lock = lock;
            work.await
        });
        task.await.unwrap_or_else(|error| {
            Err(ProviderError::Step { id: id.clone(), step: "a task", reason: error.to_string() })
        })
    }
}
