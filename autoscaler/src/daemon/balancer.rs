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

#[cfg(test)]
mod tests {
    //! On the real kernel. Needs root.

    use std::path::PathBuf;

    use lb_userspace::lb::{FlowTimeouts, Limits, OpenPorts, Settings, provide_bpffs};
    use lb_userspace::net::{Links, MacAddr, Mark, Netns, VethEnd};
    use sluice_logic::group::InstanceState;
    use sluice_logic::spec::TenantSpec;

    use super::*;
    use crate::daemon::services::{Egress, services};
    use crate::daemon::testing::{at, instance, name, tenant};

    /// A load balancer in a namespace of its own.
    struct Bed {
        balancer: Balancer,
        netns: String,
        pins: PathBuf,
    }

    impl Bed {
        async fn new() -> Self {
            let netns = format!("slbal{}", std::process::id());
            let pins = PathBuf::from("/sys/fs/bpf").join(&netns);
            let transit = Netns::create(&netns).expect("this test needs root");
            let links = Links::open(&transit).expect("netlink");
            let mark = Mark { group: 7, alias: "a test's".to_owned() };
            let [up, far] =
                ["up0", "far0"].map(|name| VethEnd { links: &links, name, mac: None, master: None });
            links.ensure_veth(&mark, &up, &far).await.expect("a veth");
            provide_bpffs(&pins).expect("a bpffs");
            let settings = Settings {
                pin_root: pins.clone(),
                transit,
                uplink: up.name.to_owned(),
                limits: Limits { flows: 1024, nascent_flows: 8192, services: 8, backends: 8 },
                timeouts: FlowTimeouts::default(),
                open_ports: OpenPorts::default(),
            };
            let balancer = LoadBalancer::open(&settings).expect("a load balancer");
            Self { balancer: Balancer::spawn(balancer).expect("a thread"), netns, pins }
        }

        /// The files of these tenants are in force.
        async fn claim(&self, tenants: &[&TenantSpec]) {
            let claims = Claims::of(tenants.iter().copied(), true);
            let (_, error) = self.balancer.claim(claims).await.expect("the thread");
            assert!(error.is_none(), "{error:?}");
        }

        async fn services(&self) -> Vec<Service> {
            self.balancer.call(|balancer| balancer.services()).await.expect("the thread")
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = LoadBalancer::remove_pins(&self.pins);
            let _ = Netns::delete(&self.netns);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_task_that_has_not_read_its_newest_file_is_given_nothing_of_anothers() {
        let bed = Bed::new().await;
        let (a, mut b) = (tenant("a"), tenant("b"));
        b.networks[0].subnet = "19.0.1.0/24".parse().unwrap();
        let egress = Egress { interface: 7, mac: MacAddr([2; 6]) };
        let wanted = services(&a, &[instance(2, InstanceState::InService)], egress, false, at(0));

        // The services are b's by now.
        bed.claim(&[&b]).await;
        let settled = bed.balancer.settle(name("a"), wanted.clone()).await.expect("the thread");
        assert!(settled.error.is_none() && settled.services.is_empty(), "{settled:?}");
        assert_eq!(bed.services().await, []);

        bed.claim(&[&a]).await;
        let settled = bed.balancer.settle(name("a"), wanted.clone()).await.expect("the thread");
        assert!(settled.error.is_none(), "{settled:?}");
        assert_eq!(settled.services, wanted);

        bed.claim(&[&b]).await;
        let left = bed.services().await;
        assert!(
            left.iter().all(|service| service.backends.is_empty()),
            "taken before b is given it: {left:?}"
        );
    }
}
