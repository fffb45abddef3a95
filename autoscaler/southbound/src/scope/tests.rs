//! Names and labels: what is ours is known again.

use super::*;

fn tenant(name: &str) -> TenantName {
    TenantName::try_from(name.to_owned()).expect("a tenant name")
}

fn scope(name: &str) -> Scope {
    Scope::new(name).expect("a scope name")
}

/// Pinned: a daemon that computes other names does not find what the last one made.
#[test]
fn names_never_change() {
    let id = InstanceId::new(&tenant("demo"), 0xab);
    let links = scope("sluice").network_links(&tenant("demo"), "demo_nw");
    assert_eq!(links.bridge, "slb-0ba6964f");
    assert_eq!(links.port, "slp-0ba6964f");
    assert_eq!(links.transit, "slt-0ba6964f");
    assert!(links.transit.starts_with(TENANT_INTERFACES));
    assert_eq!(scope("sluice").instance_port(&id), "sli-21e30fcd");
    assert_eq!(scope("sluice").group(), 0x44d8_b71e);
    assert_eq!(scope("sluice").netns(&id), "sluice-demo-000000ab");
}

#[test]
fn names_differ_by_daemon_tenant_and_network() {
    let names = [("a", "t", "n"), ("b", "t", "n"), ("a", "u", "n"), ("a", "t", "m"), ("a", "tn", "n")]
        .map(|(name, owner, network)| scope(name).network_links(&tenant(owner), network).bridge);
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(names.iter().all(|name| name.len() <= 15));
}

#[test]
fn only_what_has_the_form_of_an_instance_is_one() {
    let ours = scope("sluice");
    let id = InstanceId::new(&tenant("a-b_c"), 7);
    assert_eq!(ours.instance_of_netns(&ours.netns(&id)), Some(id));
    for foreign in [
        "sluice-transit",
        "sluice-client",
        "sluice",
        "sluice_x-a-00000001",
        "sluice-00000001",
        "sluice-a-0000001",
        "sluice-a-0000000G",
        "sluice-../x-00000001",
    ] {
        assert_eq!(ours.instance_of_netns(foreign), None, "{foreign}");
    }
}

#[test]
fn bad_names_are_refused() {
    for bad in ["", "1a", "a-b", "A", "a/b", "abcdefghijklmnopq", "_a"] {
        assert!(Scope::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn aliases_say_what_a_link_is() {
    let (ours, owner) = (scope("sluice"), tenant("demo"));
    let id = InstanceId::new(&owner, 1);
    let network = ours.network_mark(&owner, "my net = x");
    assert_eq!(
        ours.read_alias(&network.alias),
        Some(Labelled::Network(owner.clone(), "my net = x".to_owned()))
    );
    for (kind, _) in INSTANCE_WORDS {
        let instance = ours.instance_mark(kind, &owner, &id);
        let read = ours.read_alias(&instance.alias);
        assert_eq!(read, Some(Labelled::Instance(kind, owner.clone(), id.clone())));
        assert_eq!(scope("other").read_alias(&instance.alias), None);
    }
    assert_eq!(ours.read_alias("sluice"), None);
    assert!(ours.network_mark(&owner, &"ü".repeat(300)).alias.len() <= ALIAS_MAX);
}

#[test]
fn links_lead_to_their_network() {
    let links = scope("sluice").network_links(&tenant("demo"), "n");
    for name in [&links.bridge, &links.port, &links.transit] {
        assert_eq!(NetworkLinks::of_link(name).as_ref(), Some(&links));
    }
    assert_eq!(NetworkLinks::of_link("slb-xyz"), None);
    assert!(
        is_instance_port("sli-0123abcd") && !is_instance_port("sli-0123abc") && !is_instance_port("eth0")
    );
}
