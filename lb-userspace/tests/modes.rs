//! How the uplink's program runs, by what the uplink has room for. Needs root.

use std::path::PathBuf;
use std::process::Command;

use lb_userspace::lb::{
    FlowTimeouts, Limits, LoadBalancer, OpenPorts, Settings, XdpMode, attach_receiver, provide_bpffs,
};
use lb_userspace::net::{Links, Mark, Netns, VethEnd};

/// A transit namespace, whose uplink leads to another one.
struct Uplink {
    names: [String; 2],
    settings: Settings,
}

impl Uplink {
    async fn new(test: &str) -> Self {
        let name = format!("slmode-{test}-{}", std::process::id());
        let names = ["transit", "client"].map(|part| format!("{name}-{part}"));
        let [transit, client] =
            names.each_ref().map(|name| Netns::create(name).expect("this test needs root"));
        let (there, here) = (Links::open(&client).expect("netlink"), Links::open(&transit).expect("netlink"));
        let end = |links, name| VethEnd { links, name, mac: None, master: None };
        let mark = Mark { group: 7, alias: "a test's".to_owned() };
        here.ensure_veth(&mark, &end(&here, "up0"), &end(&there, "cl0")).await.expect("a veth");
        here.set_up("up0").await.expect("up");
        there.set_up("cl0").await.expect("up");
        let settings = Settings {
            pin_root: PathBuf::from("/sys/fs/bpf").join(&name),
            transit,
            uplink: "up0".to_owned(),
            limits: Limits { flows: 4096, nascent_flows: 1024, services: 8, backends: 64 },
            timeouts: FlowTimeouts::default(),
            open_ports: OpenPorts::default(),
        };
        provide_bpffs(&settings.pin_root).expect("a bpffs");
        Self { names, settings }
    }

    fn set_mtu(&self, mtu: &str) {
        for (name, interface) in self.names.iter().zip(["up0", "cl0"]) {
            let mut command = Command::new("ip");
            command.args(["-n", name, "link", "set", interface, "mtu", mtu]);
            assert!(command.status().expect("ip runs").success(), "{interface}");
        }
    }

    /// The mode that a new daemon finds or makes.
    fn mode(&self) -> XdpMode {
        LoadBalancer::open(&self.settings).expect("it opens").mode()
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = LoadBalancer::remove_pins(&self.settings.pin_root);
        for name in &self.names {
            let _ = Netns::delete(name);
        }
    }
}

#[tokio::test]
async fn a_veth_that_was_too_long_for_native_xdp_has_it_after_a_restart() {
    let uplink = Uplink::new("mtu").await;
    uplink.set_mtu("9000");
    assert_eq!([uplink.mode(), uplink.mode()], [XdpMode::Generic; 2]);
    uplink.set_mtu("1500");
    assert_eq!([uplink.mode(), uplink.mode()], [XdpMode::Native; 2]);
}

#[tokio::test]
async fn another_program_on_the_uplink_is_not_put_aside() {
    let uplink = Uplink::new("foreign").await;
    let foreign = attach_receiver(&uplink.settings.transit, "up0").expect("another program");
    LoadBalancer::open(&uplink.settings).expect_err("the uplink is taken");
    drop(foreign);
    assert_eq!(uplink.mode(), XdpMode::Native);
}
