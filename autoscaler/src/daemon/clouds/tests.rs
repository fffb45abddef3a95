//! Places, and whose they are.

use super::*;
use crate::daemon::testing::{Showing, name, observed, tenant};
use sluice_logic::spec::DockerAddress;
use sluice_southbound::provider::Presence;

fn clouds(text: &[(&str, u32, Option<u32>)]) -> Clouds {
    let spec = |&(name, priority, capacity): &(&str, u32, Option<u32>)| CloudSpec {
        name: CloudName::new(name),
        priority,
        capacity,
        ..CloudSpec::default()
    };
    let specs: Vec<CloudSpec> = text.iter().map(spec).collect();
    Clouds::with(&specs, |_| Ok(Arc::new(Showing::default()))).unwrap()
}

fn placed(clouds: &Clouds, owner: &str) -> Result<(CloudName, Place), NoPlace> {
    clouds.place(&name(owner), &tenant(owner).template, Instant::now())
}

#[test]
fn a_full_cloud_takes_no_more_until_one_leaves() {
    let clouds = clouds(&[("small", 9, Some(1)), ("large", 0, None)]);
    let (first, place) = placed(&clouds, "a").unwrap();
    let (second, _kept) = placed(&clouds, "b").unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("small", "large"));
    drop(place);
    assert_eq!(placed(&clouds, "b").unwrap().0.as_str(), "small");
}

#[test]
fn what_is_there_has_a_place_even_where_there_is_none() {
    let clouds = clouds(&[("small", 0, Some(1))]);
    let small = CloudName::new("small");
    let _there = [clouds.occupy(&small), clouds.occupy(&small)];
    assert!(placed(&clouds, "a").unwrap_err().to_string().contains("`small` is full"));
    assert_eq!(clouds.status(Instant::now())[0].used, 2);
}

#[test]
fn one_tenants_failure_is_not_anothers() {
    let clouds = clouds(&[("first", 9, None), ("second", 0, None)]);
    let (first, now) = (CloudName::new("first"), Instant::now());
    clouds.failed(&first, &name("a"), "no image", now, 0.5);
    assert_eq!(placed(&clouds, "a").unwrap().0.as_str(), "second");
    assert_eq!(placed(&clouds, "b").unwrap().0.as_str(), "first");
    assert_eq!(clouds.status(now)[0].troubles[0].reason, "no image");
    clouds.works(&first, &name("a"));
    assert_eq!(placed(&clouds, "a").unwrap().0.as_str(), "first");
}

#[test]
fn what_has_another_clouds_label_is_the_first_ones() {
    let (first, second) = (CloudName::new("first"), CloudName::new("second"));
    let mut found = observed(2, Presence::Running);
    assert_eq!(attributed(&[&first, &second], found.clone()).unwrap().cloud, first);
    found.spec.as_mut().unwrap().cloud = second.clone();
    assert_eq!(attributed(&[&first, &second], found).unwrap().cloud, second);
}

/// Two clouds of two dockerds on one host.
fn dockerds() -> (Clouds, [Arc<Showing>; 2]) {
    let names = ["first", "second"];
    let specs = names.map(|name| CloudSpec {
        name: CloudName::new(name),
        provider: ProviderSpec::Docker(DockerAddress::Socket(name.into())),
        ..CloudSpec::default()
    });
    let providers = [Arc::<Showing>::default(), Arc::default()];
    let mut unopened = providers.clone().into_iter();
    let clouds = Clouds::with(&specs, |_| Ok(unopened.next().unwrap())).unwrap();
    (clouds, providers)
}

fn show(provider: &Showing, observed: Option<Vec<Observed>>) {
    *provider.shown.lock().unwrap() = observed;
}

#[tokio::test]
async fn remains_at_one_dockerd_may_be_an_instance_of_another() {
    let (clouds, [first, second]) = dockerds();
    let instance = observed(2, Presence::Running);
    let remains = Observed { spec: None, presence: Presence::Broken, ..instance.clone() };
    let presences = async || {
        let mut seen: Vec<Presence> =
            clouds.poll().await.observations.iter().map(|seen| seen.observed.presence).collect();
        seen.sort_by_key(|presence| format!("{presence:?}"));
        seen
    };
    show(&first, Some(vec![remains.clone()]));
    show(&second, Some(vec![instance]));
    assert_eq!(presences().await, [Presence::Running]);
    show(&second, Some(vec![remains]));
    assert_eq!(presences().await, [Presence::Broken, Presence::Broken], "nobody has it");
}

#[tokio::test]
async fn a_cloud_that_hangs_holds_up_no_other() {
    let (clouds, [first, second]) = dockerds();
    let names = [CloudName::new("first"), CloudName::new("second")];
    show(&second, Some(vec![observed(2, Presence::Running)]));
    let asked = Instant::now();
    let mut snapshot = clouds.poll_briefly().await;
    assert_eq!(snapshot.answered.keys().collect::<Vec<_>>(), [&names[1]]);
    assert!(snapshot.news.is_empty(), "it may only be slow");

    while snapshot.news.is_empty() {
        assert!(snapshot.answered.contains_key(&names[1]));
        snapshot = clouds.poll_briefly().await;
    }
    assert!(asked.elapsed() >= LIST_TIMEOUT);
    let (cloud, reason) = &snapshot.news[0];
    assert!(*cloud == names[0] && reason.as_ref().unwrap().contains("has not answered within 5 s"));

    show(&first, Some(Vec::new()));
    while snapshot.answered.len() < 2 {
        snapshot = clouds.poll_briefly().await;
    }
    assert_eq!(snapshot.news, [(names[0].clone(), None)]);
    assert!(snapshot.answered[&names[0]] > asked + LIST_TIMEOUT, "what it says now, it was asked now");
}

#[tokio::test]
async fn each_look_lets_the_providers_repair_what_there_is() {
    let provider = Arc::<Showing>::default();
    show(&provider, Some(Vec::new()));
    let own = provider.clone();
    let clouds = Clouds::with(&[CloudSpec::default()], |_| Ok(own.clone())).unwrap();
    for polls in 1..3 {
        clouds.poll().await;
        assert_eq!(provider.maintained.load(Ordering::Relaxed), polls);
    }
}
