//! Images that come from a registry, which wants to know who asks.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use sluice_logic::spec::{DockerTemplate, PullPolicy, RegistryLogin};
use sluice_southbound::networks::TenantNetwork;
use sluice_southbound::provider::{InstanceSpec, Provider};
use tempfile::TempDir;

use super::bed::{Bed, PATIENCE, container, image};
use super::registry::{Asked, Registry};

const PASSWORD: &str = "correct-horse";
/// `shop:correct-horse`, as RFC 7617 has it.
const LOGIN: &str = "c2hvcDpjb3JyZWN0LWhvcnNl";

/// A login with that password, which is kept in the folder.
fn login(folder: &TempDir, password: &str) -> RegistryLogin {
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, password).expect("written");
    std::fs::set_permissions(&password_file, Permissions::from_mode(0o600)).expect("for root alone");
    RegistryLogin { username: "shop".to_owned(), password_file }
}

fn spec_of(
    bed: &Bed,
    network: &TenantNetwork,
    number: u8,
    template: &DockerTemplate,
    pull: PullPolicy,
) -> InstanceSpec {
    let mut spec = bed.spec(network, number);
    spec.template.docker = Some(DockerTemplate { pull, ..template.clone() });
    spec
}

/// Whether the registry was asked which image has the tag, and how much of that was fetched.
fn pulled(asked: &[Asked]) -> (bool, usize) {
    let below = |folder: &str| asked.iter().filter(|asked| asked.path.starts_with(folder)).count();
    (below("/v2/shop/manifests/") > 0, below("/v2/shop/blobs/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_where_the_policy_says_so() {
    let bed = Bed::new().await;
    let network = bed.network().await;
    let folder = tempfile::tempdir().expect("a directory");
    // Another one than the bed's, which is there already.
    let mut registry = Registry::with(&image(&["pulled"]), LOGIN).await;
    let template =
        DockerTemplate { image: registry.image(), registry: Some(login(&folder, PASSWORD)), ..container() };
    let spec = |number, pull| spec_of(&bed, &network, number, &template, pull);

    let absent = bed.provider.create(&spec(1, PullPolicy::Never)).await.expect_err("not there").to_string();
    assert!(absent.contains("there is no image"), "{absent}");
    assert_eq!(registry.asked(), []);
    for (number, pull, expected) in [
        // Its configuration and its layer.
        (2, PullPolicy::IfMissing, (true, 2)),
        (3, PullPolicy::IfMissing, (false, 0)),
        // The tag may have passed on to another image; what is there is not fetched again.
        (4, PullPolicy::Always, (true, 0)),
        (5, PullPolicy::Never, (false, 0)),
    ] {
        let spec = spec(number, pull);
        bed.launch(&spec).await;
        assert_eq!(bed.ask(&spec, "hello\n").await, format!("{} hello\n", spec.id));
        let asked = registry.asked();
        assert_eq!(pulled(&asked), expected, "{pull:?}: {asked:?}");
    }
    bed.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrys_password_is_shown_to_the_registry_alone() {
    const WRONG: &str = "wrong-horse";
    /// `shop:wrong-horse`.
    const SHOWN: &str = "c2hvcDp3cm9uZy1ob3JzZQ==";
    let bed = Bed::new().await;
    let network = bed.network().await;
    let folder = tempfile::tempdir().expect("a directory");
    let mut registry = Registry::with(&image(&[]), LOGIN).await;
    let template =
        DockerTemplate { image: registry.image(), registry: Some(login(&folder, WRONG)), ..container() };
    let spec = spec_of(&bed, &network, 1, &template, PullPolicy::Always);
    let error = tokio::time::timeout(PATIENCE, bed.provider.create(&spec)).await.expect("in time");
    let error = error.expect_err("the registry says no");
    let said = error.to_string();
    assert!(said.contains(spec.id.as_str()) && said.contains("unauthorized"), "{said}");
    let asked = registry.asked();
    assert!(asked.iter().any(|asked| asked.credentials.as_deref() == Some(SHOWN)), "it was used: {asked:?}");
    let label = serde_json::to_string(&spec).expect("a label");
    for shown in [format!("{error} {error:?}"), format!("{spec:?}"), label, format!("{:?}", bed.provider)] {
        assert!(!shown.contains(WRONG) && !shown.contains(SHOWN), "{shown}");
    }
    bed.down().await;
}
