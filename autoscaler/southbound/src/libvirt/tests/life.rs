//! What becomes of an instance that nothing befalls.

use super::*;
use crate::libvirt::accel::Trial;

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_and_leaves_nothing() {
    let host = Host::new().await;
    let spec = host.instance(1, &guests::OBEDIENT);
    let (provider, id) = (&host.provider, &spec.id);
    assert_eq!(host.presence(id).await, None);

    provider.create(&spec).await.expect("created");
    provider.create(&spec).await.expect("created again");
    assert_eq!(host.presence(id).await, Some(Presence::Created));
    let name = host.scope.domain(id);
    assert_eq!(host.files(), BTreeSet::from([format!("{name}.qcow2"), format!("{name}.seed")]));
    provider.start(id).await.expect("started");
    provider.start(id).await.expect("started again");
    provider.create(&spec).await.expect("created while it runs");
    let observed = host.restarted().list().await.expect("list");
    let expected = Observed { id: id.clone(), presence: Presence::Running, spec: Some(spec.clone()) };
    assert_eq!(observed, [expected]);
    let ports = [0, 1].map(|nic| host.scope.nic_port(id, nic));
    assert!(host.ports().await.is_superset(&ports.into()), "{:?}", host.ports().await);

    let metrics = provider.metrics(&spec).await.expect("metrics");
    assert!(
        metrics.cpu > Duration::ZERO && metrics.memory.is_some_and(|bytes| bytes > 1 << 20),
        "{metrics:?}"
    );
    until_it_runs(&host, &spec).await;
    let ended = tokio::spawn({
        let (provider, id) = (provider.clone(), id.clone());
        async move { provider.ended(&id).await }
    });
    let begin = Instant::now();
    provider.stop(id, PATIENCE).await.expect("stopped");
    eprintln!("shut down by ACPI in {:?}", begin.elapsed());
    assert!(begin.elapsed() < PATIENCE, "it was switched off by force");
    provider.stop(id, PATIENCE).await.expect("stopped again");
    ended.await.expect("its end was seen");
    assert_eq!(host.presence(id).await, Some(Presence::Exited));

    provider.delete(id).await.expect("deleted");
    provider.delete(id).await.expect("deleted again");
    assert_eq!(host.presence(id).await, None);
    assert_eq!(host.files(), BTreeSet::new());
    for unknown in [provider.start(id).await, provider.stop(id, PATIENCE).await] {
        assert!(matches!(unknown, Err(ProviderError::Unknown(_))), "{unknown:?}");
    }
    assert!(matches!(provider.metrics(&spec).await, Err(ProviderError::Unknown(_))));
    host.down().await;
}

/// The firmware hears the power button too, and does nothing then.
pub(super) async fn until_it_runs(host: &Host, spec: &InstanceSpec) {
    // A guest that polls uses all of its CPU; firmware that waits for a device does not for long.
    let mut last = Duration::ZERO;
    let mut busy = 0;
    while busy < 10 {
        sleep(Duration::from_millis(200)).await;
        let cpu = host.provider.metrics(spec).await.expect("metrics").cpu;
        busy = if cpu.saturating_sub(last) > Duration::from_millis(50) { busy + 1 } else { 0 };
        last = cpu;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_hear_is_switched_off() {
    let host = Host::new().await;
    let spec = host.instance(1, &guests::DEAF);
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    host.provider.stop(&spec.id, Duration::from_millis(300)).await.expect("stopped");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Exited));
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ends_by_itself_is_noticed() {
    let host = Host::new().await;
    let spec = host.instance(1, &guests::BRIEF);
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    let ended = host.provider.ended(&spec.id);
    tokio::time::timeout(PATIENCE, ended).await.expect("it switches itself off");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Exited));
    // Running or not, it goes.
    host.provider.start(&spec.id).await.expect("started anew");
    host.provider.delete(&spec.id).await.expect("deleted while it runs");
    assert_eq!(host.presence(&spec.id).await, None);
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_was_paused_does_not_run() {
    let host = Host::new().await;
    let spec = host.instance(1, &guests::OBEDIENT);
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    let name = host.scope.domain(&spec.id);
    let pause = move |connect: &Connect| Ok(Domain::lookup_by_name(connect, &name)?.suspend()?);
    host.ask(pause).await;
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Halted(Halt::Paused)));
    // It can't hear, so nothing is waited for.
    let begin = Instant::now();
    host.provider.stop(&spec.id, 2 * PATIENCE).await.expect("stopped");
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Exited));
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_shows_whether_guests_run() {
    let host = Host::new().await;
    let (place, scope) = (host.provider.0.place.clone(), host.scope.clone());
    let trial = move |connect: &Connect| accel::attempt(connect, &scope, &place.ensure(connect)?, Accel::Tcg);
    assert_eq!(host.ask(trial).await, Trial::Works, "emulation works everywhere");
    assert_eq!((host.domains().await, host.files()), (BTreeSet::new(), BTreeSet::new()));
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kvm_guests_are_emulated_or_refused_as_asked() {
    let host = Host::new().await;
    let with = |accel| open(&host.scope, &LibvirtSettings { accel, ..settings(&host.uri, &host.directory) });
    let spec = host.instance(1, &guests::OBEDIENT);
    let refused = with(AccelChoice::Kvm).create(&spec).await.expect_err("there is no KVM").to_string();
    assert!(refused.contains("no KVM on the cloud's host: "), "{refused}");
    assert!(refused.contains("Set the cloud's `accel` to auto or tcg"), "{refused}");
    assert_eq!((host.domains().await, host.files()), (BTreeSet::new(), BTreeSet::new()));

    let emulating = with(AccelChoice::Auto);
    emulating.create(&spec).await.expect("created");
    emulating.start(&spec.id).await.expect("started");
    until_it_runs(&host, &spec).await;
    let name = host.scope.domain(&spec.id);
    let document =
        host.ask(move |connect| Ok(Domain::lookup_by_name(connect, &name)?.get_xml_desc(0)?)).await;
    assert!(document.starts_with("<domain type='qemu'"), "{document}");
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_says_what_the_guest_is_and_no_password() {
    let host = Host::new().await;
    let mut spec = host.instance(1, &guests::DEAF);
    let vm = spec.template.libvirt.as_mut().expect("a machine");
    vm.cloud_init.hostname = Some("web <&>\"1\"".to_owned());
    let password = GuestPassword::Hash("$6$salt$hash".to_owned());
    let user = GuestUser { name: "ann".into(), password: Some(password), ssh_keys: vec![], sudo: true };
    vm.cloud_init.users = vec![user];
    vm.cloud_init.user_data = Some("#!/bin/sh\necho \"hello\"\n".to_owned());
    host.provider.create(&spec).await.expect("created");
    // What a person wrote survives XML, JSON and libvirt.
    assert_eq!(host.provider.list().await.expect("list")[0].spec, Some(spec.clone()));

    let seed = fs::read(host.pool().join(format!("{}.seed", host.scope.domain(&spec.id)))).expect("a seed");
    let files = read_seed(seed);
    let meta: serde_json::Value = serde_json::from_str(&files["meta-data"]).expect("JSON");
    assert_eq!((&meta["instance-id"], &meta["sluice-port"]), (&"demo-00000001".into(), &"80".into()));
    assert_eq!(meta["local-hostname"], "web <&>\"1\"");
    // As it is: cloud-init looks only there for all kinds of document.
    assert_eq!(files["user-data"], "#!/bin/sh\necho \"hello\"\n");
    let (header, body) = files["vendor-data"].split_once('\n').expect("a header");
    assert_eq!(header, "#cloud-config");
    let own: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(own["users"][1]["hashed_passwd"], "$6$salt$hash");
    let network: serde_json::Value = serde_json::from_str(&files["network-config"]).expect("JSON");
    assert_eq!(network["ethernets"]["nic0"]["match"]["macaddress"], spec.nic.mac.to_string());
    host.down().await;
}

fn read_seed(bytes: Vec<u8>) -> std::collections::BTreeMap<String, String> {
    let volume = fatfs::FileSystem::new(std::io::Cursor::new(bytes), fatfs::FsOptions::new()).expect("FAT");
    assert_eq!(volume.volume_label().trim(), "CIDATA");
    let file = |entry: fatfs::DirEntry<'_, _>| {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry.to_file(), &mut text).expect("a text");
        (entry.file_name(), text)
    };
    volume.root_dir().iter().map(|entry| file(entry.expect("an entry"))).collect()
}
