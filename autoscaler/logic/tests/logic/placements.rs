//! Where instances go, and from where they leave.

use sluice_logic::group::InstanceState;
use sluice_logic::placement::{Health, NoPlace, Obstacle, Offer, place, sort_by_preference};
use sluice_logic::planner::{Step, plan};
use sluice_logic::spec::{
    CloudName, CloudSpec, DockerAddress, NetnsTemplate, ProviderKind, ProviderSpec, TemplateSpec,
};

use crate::fixture::{at, instance, limits};

fn cloud(name: &str, priority: u32, capacity: Option<u32>) -> CloudSpec {
    CloudSpec { name: CloudName::new(name), priority, capacity, ..CloudSpec::default() }
}

fn offer(cloud: &CloudSpec, used: u32) -> Offer<'_> {
    Offer { cloud, used, health: Health::Good }
}

fn template() -> TemplateSpec {
    TemplateSpec {
        cpus: 1.0,
        memory: None,
        request_cost: std::time::Duration::ZERO,
        port: 80,
        start_timeout: std::time::Duration::from_mins(1),
        stop_timeout: TemplateSpec::default_stop_timeout(),
        netns: Some(NetnsTemplate::default()),
        docker: None,
        libvirt: None,
    }
}

fn placed(offers: &[Offer<'_>]) -> Result<String, NoPlace> {
    place(&template(), offers).map(|cloud| cloud.name.to_string())
}

#[test]
fn the_preferred_cloud_is_filled_before_the_next() {
    let (first, second) = (cloud("first", 9, Some(2)), cloud("second", 1, None));
    let names: Vec<String> = [(0, 0), (1, 0), (2, 0), (2, 1)]
        .map(|(here, there)| placed(&[offer(&first, here), offer(&second, there)]).expect("a cloud"))
        .into();
    assert_eq!(names, ["first", "first", "second", "second"]);
}

#[test]
fn a_cloud_that_fails_is_passed_over_until_it_is_back() {
    let (first, second) = (cloud("first", 9, None), cloud("second", 1, None));
    for health in [Health::Unreachable, Health::BackedOff] {
        let offers = [Offer { health, ..offer(&first, 0) }, offer(&second, 0)];
        assert_eq!(placed(&offers).as_deref(), Ok("second"));
    }
    assert_eq!(placed(&[offer(&first, 0), offer(&second, 7)]).as_deref(), Ok("first"));
}

#[test]
fn where_there_is_no_place_each_cloud_says_why() {
    let (full, away, early) = (cloud("full", 9, Some(1)), cloud("away", 2, None), cloud("early", 1, None));
    let socket = DockerAddress::Socket("/var/run/docker.sock".into());
    let other = CloudSpec { provider: ProviderSpec::Docker(socket), ..cloud("other", 0, None) };
    let offers = [
        offer(&full, 1),
        Offer { health: Health::Unreachable, ..offer(&away, 0) },
        Offer { health: Health::BackedOff, ..offer(&early, 0) },
        offer(&other, 0),
    ];
    let no_place = placed(&offers).expect_err("no place");
    let obstacles: Vec<Obstacle> = no_place.obstacles.iter().map(|(_, obstacle)| *obstacle).collect();
    let expected = [
        Obstacle::Full(1),
        Obstacle::Unreachable,
        Obstacle::BackedOff,
        Obstacle::NotInTemplate(ProviderKind::Docker),
    ];
    assert_eq!(obstacles, expected);
    let text = no_place.to_string();
    assert!(
        text.contains("`full` is full: 1 instances") && text.contains("`other` needs a section `docker`")
    );
}

#[test]
fn preference_is_by_priority_then_price_then_place_in_the_file() {
    let dear = CloudSpec { price_per_hour: 2.0, ..cloud("dear", 5, None) };
    let cheap = CloudSpec { price_per_hour: 1.0, ..cloud("cheap", 5, None) };
    let mut clouds = [cloud("last", 0, None), dear, cheap, cloud("later", 0, None), cloud("first", 9, None)];
    sort_by_preference(&mut clouds);
    assert_eq!(clouds.map(|cloud| cloud.name.to_string()), ["first", "cheap", "dear", "last", "later"]);
}

#[test]
fn the_least_preferred_cloud_is_left_first_and_there_the_newest() {
    let serving = |unique, rank| {
        let mut instance = instance(unique, InstanceState::InService);
        instance.rank = rank;
        instance
    };
    // The newest of all is on the preferred cloud.
    let instances = [serving(1, 0), serving(2, 1), serving(3, 1), serving(4, 0)];
    let drained: Vec<String> = plan(&limits(0, 9), 1, &instances, at(0))
        .into_iter()
        .filter_map(|step| match step {
            Step::Drain { id, .. } => Some(id.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(drained, ["demo-00000003", "demo-00000002", "demo-00000004"]);
}
