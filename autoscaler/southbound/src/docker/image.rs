//! Images: there already, or pulled.

use std::io;

use bollard::auth::DockerCredentials;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{DockerTemplate, PullPolicy, RegistryLogin};

use super::connection::{Dockerd, is_missing};
use super::pull::{PullError, Pulls, Wanted};
use crate::provider::ProviderError;
use crate::secret;

const STEP: &str = "getting the image";

/// Makes sure that dockerd has the template's image. Cancel safe: the pull goes on, and the next one who wants the image
/// joins it.
pub(super) async fn ensure(
    dockerd: &Dockerd,
    pulls: &Pulls,
    id: &InstanceId,
    template: &DockerTemplate,
) -> Result<(), ProviderError> {
    let docker = dockerd.client().await?;
    if template.pull != PullPolicy::Always {
        match docker.inspect_image(&template.image).await {
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) && template.pull == PullPolicy::IfMissing => {}
            Err(error) if is_missing(&error) => {
                let reason = format!(
                    "there is no image `{}`, and `pull` is `never`: load it with `docker load`, or change `pull`",
                    template.image
                );
                return Err(ProviderError::Step { id: id.clone(), step: STEP, reason });
            }
            Err(error) => return Err(dockerd.step(id, STEP)(error)),
        }
    }
    let credentials = template.registry.as_ref().map(|login| credentials(login, &template.image)).transpose();
    let credentials = credentials.map_err(|error| ProviderError::Step {
        id: id.clone(),
        step: "reading the registry's password",
        reason: error.to_string(),
    })?;
    let wanted = Wanted::new(&template.image, template.registry.as_ref());
    let pulled = pulls.join(docker, id, wanted, credentials, template.pull_timeout).await;
    pulled.map_err(|error| {
        let failed = |reason: String| ProviderError::Step { id: id.clone(), step: STEP, reason };
        match &*error {
            PullError::Docker(error) => dockerd.failed(id, STEP, error),
            PullError::Stalled(patience) => failed(format!(
                "nothing of `{}` has come for {} s (`docker.pull_timeout`): the registry, or the way to it, is at fault",
                template.image,
                patience.as_secs()
            )),
            PullError::Lost => failed(format!("the pull of `{}` was lost: see the daemon's log", template.image)),
        }
    })
}

/// Whether a reference names a tag or a digest; a colon before the last slash is a registry's port.
pub(super) fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|name| name.contains([':', '@']))
}

/// The host that a reference begins with, if it begins with one; Docker's own registry otherwise. The rule is that
/// of `splitDockerDomain` in `github.com/distribution/reference`.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

fn credentials(login: &RegistryLogin, image: &str) -> io::Result<DockerCredentials> {
    Ok(DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(secret::read(&login.password_file)?),
        serveraddress: Some(registry(image).to_owned()),
        ..DockerCredentials::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        for image in ["a:1", "host:5000/a:1", "a@sha256:0", "host/b/a:1"] {
            assert!(has_tag(image), "{image}");
        }
        for image in ["a", "host:5000/a", "b/a"] {
            assert!(!has_tag(image), "{image}");
        }
    }

    #[test]
    fn the_registry_is_what_looks_like_a_host() {
        assert_eq!(registry("registry.example.net/a/b:1"), "registry.example.net");
        assert_eq!(registry("localhost/a"), "localhost");
        assert_eq!(registry("host:5000/a"), "host:5000");
        assert_eq!(registry("library/a"), "docker.io");
        assert_eq!(registry("a"), "docker.io");
    }
}
