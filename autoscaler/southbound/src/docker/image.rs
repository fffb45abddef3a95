//! Images: there already, or pulled.

use std::io;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{DockerTemplate, PullPolicy, RegistryLogin};

use super::connection::{Dockerd, is_missing};
use crate::provider::ProviderError;
use crate::secret;

const STEP: &str = "getting the image";

/// Makes sure that dockerd has the template's image. Cancel safe: dockerd ends a pull that nobody waits for.
pub(super) async fn ensure(
    dockerd: &Dockerd,
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
    pull(docker, &template.image, credentials).await.map_err(dockerd.step(id, STEP))
}

async fn pull(
    docker: &Docker,
    image: &str,
    credentials: Option<DockerCredentials>,
) -> Result<(), bollard::errors::Error> {
    let mut options = CreateImageOptionsBuilder::default().from_image(image);
    if !has_tag(image) {
        // Without one dockerd would pull every tag there is.
        options = options.tag("latest");
    }
    docker.create_image(Some(options.build()), None, credentials).try_for_each(async |_| Ok(())).await
}

/// Whether a reference names a tag or a digest; a colon before the last slash is a registry's port.
fn has_tag(image: &str) -> bool {
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
