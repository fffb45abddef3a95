//! A libvirt that is reached by ssh, as one on another host is. Needs Debian's `openssh-server` and `netcat-openbsd` too.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::life::until_it_runs;
use super::*;

/// Where the server puts those who have not logged in yet. A service manager would make it.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// An ssh server on the loopback interface, and a client that knows it and that it knows; nothing of anybody else's keys
/// is used. All of it goes with the value.
struct Sshd {
    server: Child,
    port: u16,
    directory: TempDir,
}

impl Sshd {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at(key))
                .status();
            assert!(made.expect("ssh-keygen: `cargo xtask setup` installs it").success());
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.expect("a port").port();
        let public = fs::read_to_string(at("host.pub")).expect("a key");
        fs::write(at("known"), format!("[127.0.0.1]:{port} {public}")).expect("written");
        fs::write(at("sshd.conf"), configuration(directory.path(), port)).expect("written");
        fs::write(at("ssh"), client(directory.path())).expect("written");
        fs::set_permissions(at("ssh"), fs::Permissions::from_mode(0o700)).expect("a program");
        fs::create_dir_all(PRIVILEGE_SEPARATION).expect("a directory: this needs root");
        let mut server = Command::new("/usr/sbin/sshd");
        server.args(["-D", "-e", "-f"]).arg(at("sshd.conf")).stdin(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("sshd: `cargo xtask setup` installs it");
        Self { server, port, directory }
    }

    /// The address of a libvirt by this server.
    async fn uri(&self, libvirtd: &PrivateLibvirtd) -> String {
        let listens = async || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        until("the ssh server listens", listens).await;
        let local = libvirtd.uri();
        let (_, socket) = local.split_once("socket=").expect("a socket");
        let client = self.directory.path().join("ssh");
        format!(
            "qemu+ssh://root@127.0.0.1:{}/system?socket={socket}&command={}&proxy=netcat&netcat=nc.openbsd",
            self.port,
            client.display()
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn configuration(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/client.pub\n\
         PidFile none\nPermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\n"
    )
}

fn client(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "#!/bin/sh\nexec ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o \
         UserKnownHostsFile={directory}/known -i {directory}/client \"$@\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirt_is_reached_by_ssh() {
    let sshd = Sshd::start();
    let host = Host::at(sshd.uri(shared_libvirtd()).await).await;
    let spec = host.instance(1, &guests::OBEDIENT);
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    until_it_runs(&host, &spec).await;
    let observed = Observed { id: spec.id.clone(), presence: Presence::Running, spec: Some(spec.clone()) };
    assert_eq!(host.restarted().list().await.expect("list"), [observed]);
    host.provider.stop(&spec.id, PATIENCE).await.expect("stopped");
    assert_eq!(host.presence(&spec.id).await, Some(Presence::Exited));
    host.provider.delete(&spec.id).await.expect("deleted");
    host.down().await;
}
