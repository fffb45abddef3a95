//! One call at a time on each instance, to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_logic::group::InstanceId;
use tokio::sync::OwnedMutexGuard;

use crate::provider::ProviderError;

/// Who may work on which instance.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until no other call works on the instance; it is this one's turn until the guard is dropped.
    pub(crate) async fn take(&self, id: &InstanceId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(id.clone()).or_default())
        };
        turn.lock_owned().await
    }

    /// Does `work` on an instance when its turn has come, to the end even if the caller no longer waits: what is
    /// half made would otherwise be met by a later call on the same instance.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        id: &InstanceId,
        work: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let turn = self.take(id).await;
        let task = tokio::spawn(async move {
            let _turn = turn;
            work.await
        });
        task.await.unwrap_or_else(|error| {
            Err(ProviderError::Step { id: id.clone(), step: "a task", reason: error.to_string() })
        })
    }
}
