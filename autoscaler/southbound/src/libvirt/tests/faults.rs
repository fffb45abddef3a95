//! What befalls instances, libvirt and the host.

use super::*;

/// A domain as somebody else would make it.
fn foreign(name: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
    )
}

fn text<T>(result: Result<T, ProviderError>) -> String {
    result.err().expect("a fault").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_domain_is_never_touched() {
    let host = Host::new().await;
    let spec = host.instance(1, &guests::DEAF);
    let name = host.scope.domain(&spec.id);
    let document = foreign(&name);
    host.ask(move |connect| Ok(Domain::define_xml(connect, &document)?)).await;

    assert_eq!(host.provider.list().await.expect("list"), []);
    let error = text(host.provider.create(&spec).await);
    assert!(error.contains(&name) && error.contains("not ours"), "{error}");
    host.provider.delete(&spec.id).await.expect("nothing of ours is left");
    host.provider.remove_all().await.expect("removed");
    assert_eq!(host.domains().await, BTreeSet::from([name.clone()]), "it is still there");
    host.ask(move |connect| Ok(Domain::lookup_by_name(connect, &name)?.undefine()?)).await;
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_domain_that_is_named_like_a_probe_is_not_touched_either() {
    let host = Host::new().await;
    let auto = LibvirtSettings { accel: AccelChoice::Auto, ..settings(&host.uri, &host.directory) };
    let provider = open(&host.scope, &auto);
    let name = format!("{}-probe", host.scope.name());
    let document = foreign(&name);
    host.ask(move |connect| Ok(Domain::create_xml(connect, &document, 0).map(|_| ())?)).await;
    let error = text(provider.create(&host.instance(1, &guests::DEAF)).await);
    assert!(error.contains(&name) && error.contains("not ours"), "{error}");
    // What a crash in the middle of a probe leaves goes with the rest.
    let (place, image) = (host.provider.0.place.clone(), format!("{name}.img"));
    host.ask(move |connect| place.ensure(connect)?.make_raw(connect, &image, b"half").map(|_| ())).await;
    provider.remove_all().await.expect("removed");
    assert_eq!(host.domains().await, BTreeSet::from([name.clone()]), "it still runs");
    host.ask(move |connect| Ok(Domain::lookup_by_name(connect, &name)?.destroy()?)).await;
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_is_found_and_goes() {
    let host = Host::new().await;
    let (whole, disk, mute) = (host.instance(1, &guests::DEAF), host.instance(2, &guests::DEAF), 3);
    host.provider.create(&whole).await.expect("created");
    // A disk without a domain, and a domain whose label says nothing.
    let (place, own) = (host.provider.0.place.clone(), disk.clone());
    let name = host.scope.domain(&disk.id);
    let image = template(&own).expect("a machine").boot.disk().expect("a disk").clone();
    host.ask(move |connect| place.ensure(connect)?.make_overlay(&name, &image)).await;
    let mute = host.instance(mute, &guests::DEAF);
    let (scope, name) = (host.scope.name().to_owned(), host.scope.domain(&mute.id));
    let label = format!(
        "<metadata><s:instance xmlns:s='{}' scope='{scope}'>nonsense</s:instance></metadata><memory",
        xml::NAMESPACE
    );
    let document = foreign(&name).replacen("<memory", &label, 1);
    host.ask(move |connect| Ok(Domain::define_xml(connect, &document)?)).await;

    let fresh = host.restarted();
    let found: Vec<_> = fresh.list().await.expect("list").into_iter().map(|o| (o.id, o.presence)).collect();
    let found: BTreeSet<String> =
        found.into_iter().map(|(id, presence)| format!("{id} {presence:?}")).collect();
    let expected = ["demo-00000001 Created", "demo-00000002 Broken", "demo-00000003 Broken"];
    assert_eq!(found, expected.map(str::to_owned).into());
    for spec in [&disk, &mute] {
        fresh.delete(&spec.id).await.expect("deleted");
    }
    // A disk that was half written is made anew.
    let file = host.pool().join(format!("{}.qcow2", host.scope.domain(&whole.id)));
    fs::write(&file, "half").expect("written");
    fresh.create(&whole).await.expect("finished");
    assert!(fs::read(&file).expect("a disk").starts_with(b"QFI\xfb"));
    fresh.start(&whole.id).await.expect("started");
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_name_what_and_where() {
    let host = Host::new().await;
    let missing = VmDisk { image: "/no/such/image.qcow2".into(), format: ImageFormat::Qcow2, size: None };
    let spec = host.instance_of(1, VmBoot::Image(missing));
    let error = text(host.provider.create(&spec).await);
    assert!(error.contains("demo-00000001") && error.contains("/no/such/image.qcow2"), "{error}");
    host.provider.delete(&spec.id).await.expect("deleted");

    let kernel = VmBoot::Kernel {
        kernel: "/no/such/vmlinuz".into(),
        initrd: None,
        command_line: "quiet".into(),
        disk: None,
    };
    let spec = host.instance_of(2, kernel);
    host.provider.create(&spec).await.expect("libvirt looks for the kernel when it is started");
    let error = text(host.provider.start(&spec.id).await);
    assert!(error.contains("/no/such/vmlinuz"), "{error}");
    host.provider.delete(&spec.id).await.expect("deleted");

    let mut spec = host.instance(3, &guests::DEAF);
    spec.nic.bridge = "no-such-bridge".to_owned();
    let error = text(host.provider.create(&spec).await);
    assert!(error.contains("no-such-bridge"), "{error}");
    let mut spec = host.instance(4, &guests::DEAF);
    spec.template.libvirt.as_mut().expect("a machine").machine = Some("abacus".to_owned());
    let error = text(host.provider.create(&spec).await);
    assert!(error.contains("abacus"), "{error}");
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirt_that_is_not_there_is_said_to_be_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let scope = Scope::new("slvnone").expect("a scope");
    for uri in ["qemu+unix:///system?socket=/no/such/socket", "nonsense://host/system"] {
        let provider = open(&scope, &settings(uri, &directory));
        let error = provider.list().await.expect_err("nobody is there");
        assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains(uri), "{error}");
        let id = InstanceId::new(&tenant(), 1);
        let error = provider.delete(&id).await.expect_err("nobody is there");
        assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirt_that_never_answers_is_away_until_another_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let mute = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let scope = Scope::new("slvmute").expect("a scope");
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let provider = open(&scope, &settings(&uri, &directory));
    // More than there are threads for calls.
    let calls = (0..40).map(|_| provider.list());
    for silent in futures_util::future::join_all(calls).await {
        assert!(matches!(silent, Err(ProviderError::Unavailable { .. })), "{silent:?}");
    }

    let uri = shared_libvirtd().uri();
    let (_, real) = uri.split_once("socket=").expect("a socket");
    fs::remove_file(&socket).expect("removed");
    std::os::unix::fs::symlink(real, &socket).expect("a link");
    until("another attempt is answered", async || provider.list().await.is_ok()).await;
    drop(mute);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_given_up_is_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let uri = shared_libvirtd().uri();
    let (_, real) = uri.split_once("socket=").expect("a socket");
    let (listener, real) = (tokio::net::UnixListener::bind(&socket).expect("a socket"), real.to_owned());
    let open_now = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&open_now);
    let relay = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::UnixStream::connect(&real).await.expect("libvirtd");
            count.fetch_add(1, Ordering::Relaxed);
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                count.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    let scope = Scope::new("slvrelay").expect("a scope");
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let provider = open(&scope, &settings(&uri, &directory));
    for _ in 0..3 {
        provider.list().await.expect("list");
        assert!(open_now.load(Ordering::Relaxed) > 0);
        provider.0.connection.give_up();
    }
    provider.list().await.expect("list");
    until("the last one is left", async || open_now.load(Ordering::Relaxed) == 1).await;
    relay.abort();
}

/// A file system with hardly any room, as long as this lives.
struct Tight(PathBuf);

impl Tight {
    fn mount(place: PathBuf, kib: u32) -> Self {
        fs::create_dir(&place).expect("a directory");
        let size = format!("size={kib}k");
        let none = nix::mount::MsFlags::empty();
        let done = nix::mount::mount(Some("tight"), &place, Some("tmpfs"), none, Some(size.as_str()));
        done.expect("a file system: this test needs root");
        Self(place)
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    // Before the daemon, which sees nothing that is mounted later.
    let tight = Tight::mount(directory.path().join("tight"), 512);
    let libvirtd = start_libvirtd(directory.path());
    let mut host = Host::on(&libvirtd).await;
    let pool = tight.0.join("pool").display().to_string();
    let tight = LibvirtSettings { pool: pool.clone(), ..settings(&host.uri, &host.directory) };
    let spec = host.instance(1, &guests::DEAF);
    let auto = open(&host.scope, &LibvirtSettings { accel: AccelChoice::Auto, ..tight.clone() });
    let error = text(auto.create(&spec).await);
    assert!(error.contains("No space left on device"), "that is no reason to emulate: {error}");
    assert_eq!(fs::read_dir(&pool).expect("the pool").count(), 0, "the probe's disk is left");

    host.provider = open(&host.scope, &tight);
    let error = text(host.provider.create(&spec).await);
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Created), "what is half made is seen");
    host.provider.delete(&spec.id).await.expect("deleted");
    assert!(host.provider.list().await.expect("list").is_empty());
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_disk_finds_no_room_is_said_to_be_halted() {
    let directory = tempfile::tempdir().expect("a directory");
    // Room for the seed, and for less of the disk than the guest writes.
    let tight = Tight::mount(directory.path().join("tight"), 4 << 10);
    let libvirtd = start_libvirtd(directory.path());
    let mut host = Host::on(&libvirtd).await;
    let pool = tight.0.join("pool").display().to_string();
    host.provider = open(&host.scope, &LibvirtSettings { pool, ..settings(&host.uri, &host.directory) });
    let mut spec = host.instance(1, &guests::WRITER);
    let machine = spec.template.libvirt.as_mut().expect("a machine");
    let VmBoot::Image(disk) = &mut machine.boot else { panic!("it boots from its disk") };
    disk.size = Some(16 << 20);
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    let halted = async || host.presence(&spec.id).await == Some(Presence::Halted(Halt::Disk));
    until("its disk is full", halted).await;
    host.provider.delete(&spec.id).await.expect("deleted");
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_outlive_a_libvirtd_that_hangs_or_dies() {
    let (libvirtd, _directory) = private_libvirtd();
    let host = Host::on(&libvirtd).await;
    let spec = host.instance(1, &guests::DEAF);
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    let watcher = host.provider.clone();
    let ended = watcher.ended(&spec.id);
    tokio::pin!(ended);

    libvirtd.hang(true).expect("stopped");
    let begin = Instant::now();
    let calls = (0..4).map(|_| host.provider.list());
    for silent in futures_util::future::join_all(calls).await {
        assert!(matches!(silent, Err(ProviderError::Unavailable { .. })), "{silent:?}");
    }
    assert!(begin.elapsed() < 2 * ANSWER, "calls wait side by side: {:?}", begin.elapsed());
    libvirtd.hang(false).expect("going on");
    until("it answers again", async || host.provider.list().await.is_ok()).await;
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Running));

    libvirtd.kill_daemon().expect("killed");
    until("another has taken its place", async || host.provider.list().await.is_ok()).await;
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Running));
    let unseen = tokio::time::timeout(2 * WATCH, &mut ended).await;
    assert!(unseen.is_err(), "the guest has run all the time");
    host.provider.delete(&spec.id).await.expect("deleted");
    host.down().await;
}
