//! The one thread that owns the load balancer.

use std::thread;

use lb_userspace::lb::LoadBalancer;
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&mut LoadBalancer) + Send>;

/// The thread has ended, which it does only when the daemon does.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the load balancer's thread has ended: a bug; the data plane goes on, start the daemon again")]
pub(crate) struct Ended;

/// A handle to the load balancer. Calls on it block for up to 20 ms, so they run on a thread of their own, one
/// after the other.
#[derive(Debug, Clone)]
pub(crate) struct Balancer(mpsc::UnboundedSender<Job>);

impl Balancer {
    /// Gives the load balancer to a thread. It ends, and closes the load balancer, with the last handle; what
    /// is pinned stays.
    pub(crate) fn spawn(mut balancer: LoadBalancer) -> std::io::Result<Self> {
        let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
        thread::Builder::new().name("load-balancer".to_owned()).spawn(move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&mut balancer);
            }
        })?;
        Ok(Self(sender))
    }

    /// Runs `work` on the load balancer.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LoadBalancer) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (answer, done) = oneshot::channel();
        let job: Job = Box::new(move |balancer| {
            // The caller may have gone; what it asked for is done all the same.
            let _ = answer.send(work(balancer));
        });
        self.0.send(job).map_err(|_| Ended)?;
        done.await.map_err(|_| Ended)
    }
}
