//! Places, and whose they are.

use super::*;
use crate::daemon::testing::{Silent, name, observed, tenant};
use sluice_southbound::provider::Presence;

fn clouds(text: &[(&str, u32, Option<u32>)]) -> Clouds {
    let spec = |&(name, priority, capacity): &(&str, u32, Option<u32>)| CloudSpec {
        name: CloudName::new(name),
        priority,
        capacity,
        ..CloudSpec::default()
    };
    let specs: Vec<CloudSpec> = text.iter().map(spec).collect();
    Clouds::with(&specs, |_| Ok(Arc::new(Silent))).unwrap()
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
