//! The one thread that owns the load balancer.

use std::thread;

use lb_userspace::lb::{Error, LoadBalancer};
use lb_userspace::service::Service;
use sluice_logic::spec::TenantName;
use tokio::sync::{mpsc, oneshot};

use super::services::{Claims, Step, confirmations, steps};

type Job = Box<dyn FnOnce(&mut Plane) + Send>;

/// The thread has ended, which it does only when the daemon does.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the load balancer's thread has ended: a bug; the data plane goes on, start the daemon again")]
pub(crate) struct Ended;

/// A handle to the load balancer. Calls on it block for up to 20 ms, so they run on a thread of their own, one
/// after the other.
#[derive(Debug, Clone)]
pub(crate) struct Balancer(mpsc::UnboundedSender<Job>);

/// What the thread has.
struct Plane {
    balancer: LoadBalancer,
    /// Which tenant each service is of. Nothing else makes services: see [`Balancer::settle`].
    claims: Claims,
}

/// What has come of a tenant's services.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The tenant's services as they are now.
    pub(crate) services: Vec<Service>,
    /// The first change that could not be made; the others are made all the same.
    pub(crate) error: Option<Error>,
}

impl Balancer {
    /// Gives the load balancer to a thread. It ends, and closes the load balancer, with the last handle; what
    /// is pinned stays.
    pub(crate) fn spawn(balancer: LoadBalancer) -> std::io::Result<Self> {
        let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
        let mut plane = Plane { balancer, claims: Claims::default() };
        thread::Builder::new().name("load-balancer".to_owned()).spawn(move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&mut plane);
            }
        })?;
        Ok(Self(sender))
    }

    /// Runs `work` on the load balancer.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LoadBalancer) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        self.run(|plane| work(&mut plane.balancer)).await
    }

    /// Puts the files' claims in force: what a service no longer has by them is taken from it, of all tenants, before
    /// any tenant is given something. Returns the steps that were taken, and the first error.
    pub(crate) async fn claim(&self, claims: Claims) -> Result<(Vec<Step>, Option<Error>), Ended> {
        self.run(move |plane| {
            let releases = claims.releases(&plane.balancer.services());
            plane.claims = claims;
            let error = plane.take(&releases);
            (releases, error)
        })
        .await
    }

    /// Makes a tenant's services the wanted ones: for packets, one step a service; what an earlier daemon may have left half
    /// changed is done again. What the claims in force do not give the tenant is left out: its task may not have read the
    /// newest form of its file.
    pub(crate) async fn settle(&self, tenant: TenantName, wanted: Vec<Service>) -> Result<Settled, Ended> {
        self.run(move |plane| {
            let wanted: Vec<Service> =
                wanted.into_iter().filter(|service| plane.claims.is_of(&service.key, &tenant)).collect();
            let there = plane.services_of(&tenant);
            let mut steps = steps(&wanted, &there);
            steps.extend(confirmations(&wanted, &there, |key| plane.balancer.is_confirmed(key)));
            let error = plane.take(&steps);
            Settled { services: plane.services_of(&tenant), error }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Plane) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (answer, done) = oneshot::channel();
        let job: Job = Box::new(move |plane| {
            // The caller may have gone; what it asked for is done all the same.
            let _ = answer.send(work(plane));
        });
        self.0.send(job).map_err(|_| Ended)?;
        done.await.map_err(|_| Ended)
    }
}

impl Plane {
    fn services_of(&self, tenant: &TenantName) -> Vec<Service> {
        let mut services = self.balancer.services();
        services.retain(|service| self.claims.is_of(&service.key, tenant));
        services
    }

    /// Takes the steps, all that can be taken: one that fails must not keep a new instance of another service unknown.
    fn take(&mut self, steps: &[Step]) -> Option<Error> {
        let mut first = None;
        for step in steps {
            let taken = match step {
                Step::Apply(service) => self.balancer.apply(service),
                Step::Remove(key) => self.balancer.remove(key),
            };
            first = first.or(taken.err());
        }
        first
    }
}
