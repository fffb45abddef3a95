//! A dockerd that is asked over TCP and knows its clients by their certificates.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sluice_containers::Dockerd;
use sluice_logic::spec::{DockerAddress, DockerTls};
use sluice_southbound::docker::DockerProvider;
use sluice_southbound::provider::{Provider, ProviderError};

use super::bed::Bed;

/// Somebody who signs, and whom they have signed.
struct Authority(PathBuf);

impl Authority {
    fn new(directory: &Path, name: &str) -> Self {
        let path = directory.join(name);
        std::fs::create_dir(&path).expect("a directory");
        let authority = Self(path);
        let extension = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"];
        authority.request("ca", &extension, &[]);
        authority
    }

    /// A certificate for loopback and its key.
    fn sign(&self, name: &str, usage: &str) -> DockerTls {
        let signer = ["-CA".into(), self.file("ca.pem"), "-CAkey".into(), self.file("ca.key")];
        let usage = format!("extendedKeyUsage={usage}");
        self.request(name, &["subjectAltName=IP:127.0.0.1", "basicConstraints=CA:FALSE", &usage], &signer);
        DockerTls {
            ca: self.file("ca.pem"),
            certificate: self.file(&format!("{name}.pem")),
            key: self.file(&format!("{name}.key")),
        }
    }

    fn request(&self, name: &str, extensions: &[&str], more: &[PathBuf]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "1", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-config", "/dev/null", "-subj"]);
        openssl.arg(format!("/CN={name}")).args(more);
        openssl.arg("-keyout").arg(self.file(&format!("{name}.key")));
        openssl.arg("-out").arg(self.file(&format!("{name}.pem")));
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        let done = openssl.output().expect("openssl: `apt-get install openssl`");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Arguments with which dockerd takes only clients with a certificate of that authority.
fn verifying(tls: &DockerTls, address: &str) -> Vec<OsString> {
    let file = |option: &str, path: &Path| format!("--{option}={}", path.display()).into();
    vec![
        "--tlsverify".into(),
        file("tlscacert", &tls.ca),
        file("tlscert", &tls.certificate),
        file("tlskey", &tls.key),
        format!("--host=tcp://{address}").into(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerd_and_its_clients_know_one_another_by_certificates() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ours, foreign) =
        (Authority::new(directory.path(), "ours"), Authority::new(directory.path(), "foreign"));
    let (server, client) = (ours.sign("server", "serverAuth"), ours.sign("client", "clientAuth"));
    let stranger = DockerTls { ca: client.ca.clone(), ..foreign.sign("client", "clientAuth") };
    let impostor = DockerTls { ca: foreign.file("ca.pem"), ..client.clone() };
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let dockerd = Dockerd::start_with("southbound-tls", verifying(&server, &address)).await;
    let bed = Bed::on(Arc::new(dockerd.expect("a dockerd"))).await;
    let provider = |tls| {
        let address = DockerAddress::Tcp { address: address.clone(), tls };
        DockerProvider::open(bed.scope.clone(), address).expect("a provider")
    };

    let spec = bed.spec(&bed.network().await, 1);
    let known = provider(Some(client));
    known.create(&spec).await.expect("created");
    known.start(&spec.id).await.expect("started");
    bed.ready(&spec).await;
    assert_eq!(known.list().await.expect("list").len(), 1);

    for (who, tls) in [
        ("a client without a certificate", None),
        ("a client with another authority's certificate", Some(stranger)),
        ("a client that trusts another authority", Some(impostor)),
    ] {
        let refused = provider(tls).list().await;
        let Err(ProviderError::Unavailable { reason, .. }) = refused else { panic!("{who}: {refused:?}") };
        assert!(reason.contains(&address), "{who}: {reason}");
    }
    known.delete(&spec.id).await.expect("deleted");
    bed.down().await;
}
