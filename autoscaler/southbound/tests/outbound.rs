//! What outbound connections switch on and off in a namespace of the real kernel. Needs root, and `nft`.

use std::fs;

use lb_userspace::net::{Links, Mark, Netns, VethEnd};
use sluice_southbound::outbound::Outbound;
use sluice_southbound::scope::Scope;

#[tokio::test]
async fn an_uplink_that_is_no_more_the_uplink_forwards_no_more() {
    let name = format!("slo{}", std::process::id());
    let scope = Scope::new(&name).expect("a scope");
    let namespace = format!("{name}_transit");
    let transit = Netns::create(&namespace).expect("a namespace: this test needs root");
    let links = Links::open(&transit).expect("netlink");
    let end = |name| VethEnd { links: &links, name, mac: None, master: None };
    let mark = Mark { group: 9, alias: "test".to_owned() };
    links.ensure_veth(&mark, &end("old0"), &end("new0")).await.expect("a veth");
    let setting = |uplink: &str| format!("ipv4/conf/{uplink}/forwarding");
    for uplink in ["old0", "new0"] {
        transit.set_sysctl(&setting(uplink), "0").expect("a setting");
    }
    let forwards =
        || ["old0", "new0"].map(|uplink| transit.sysctl(&setting(uplink)).expect("a setting") == "1");
    fs::create_dir_all(scope.run_dir()).expect("a directory");

    let (old, new) = (Outbound::new(&scope, &transit, "old0"), Outbound::new(&scope, &transit, "new0"));
    old.admit("slt0").await.expect("nftables");
    assert_eq!(forwards(), [true, false]);
    new.admit("slt0").await.expect("nftables");
    assert_eq!(forwards(), [false, true]);

    // The same where nobody needs it any more when the other uplink is named.
    let removed = old.remove().await.expect("nftables");
    assert_eq!(removed, ["forwarding from new0".to_owned(), format!("the nftables table sluice_{name}")]);
    assert_eq!(forwards(), [false, false]);

    // What forwards by somebody else's will goes on.
    transit.set_sysctl(&setting("new0"), "1").expect("a setting");
    new.admit("slt0").await.expect("nftables");
    new.remove().await.expect("nftables");
    assert_eq!(forwards(), [false, true]);
    fs::remove_dir(scope.run_dir()).expect("nothing is left in it");
    Netns::delete(&namespace).expect("it goes");
}
