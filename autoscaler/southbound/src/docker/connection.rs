//! The connection to a dockerd, and what its failures mean.

use std::error::Error as _;
use std::fmt::Write as _;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{DockerAddress, ProviderKind};
use tokio::sync::OnceCell;

use crate::provider::ProviderError;

/// dockerd answers within so many seconds, or it is taken for one that hangs. Making a container on a busy host
/// takes a few of them.
const TIMEOUT_S: u64 = 30;

/// A dockerd, connected to when it is first asked. A connection is made for each request, so that one that was
/// restarted is no different.
#[derive(Debug)]
pub(super) struct Dockerd {
    address: DockerAddress,
    client: OnceCell<Docker>,
}

impl Dockerd {
    pub(super) fn at(address: DockerAddress) -> Self {
        Self { address, client: OnceCell::new() }
    }

    /// The client, which speaks the newest version of the API that both sides know.
    pub(super) async fn client(&self) -> Result<&Docker, ProviderError> {
        let connected = self.client.get_or_try_init(async || self.connect()?.negotiate_version().await).await;
        connected.map_err(|error| self.unavailable(&error))
    }

    fn connect(&self) -> Result<Docker, Error> {
        match &self.address {
            DockerAddress::Socket(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), TIMEOUT_S, API_DEFAULT_VERSION)
            }
            DockerAddress::Tcp { address, tls: None } => {
                Docker::connect_with_http(address, TIMEOUT_S, API_DEFAULT_VERSION)
            }
            DockerAddress::Tcp { address, tls: Some(tls) } => Docker::connect_with_ssl(
                address,
                &tls.key,
                &tls.certificate,
                &tls.ca,
                TIMEOUT_S,
                API_DEFAULT_VERSION,
            ),
        }
    }

    fn unavailable(&self, error: &Error) -> ProviderError {
        let reason = format!("dockerd at {}: {}; does it run?", self.address, told(error));
        ProviderError::Unavailable { provider: ProviderKind::Docker, reason }
    }

    /// A refusal is about the instance; anything else is about dockerd.
    pub(super) fn step(
        &self,
        id: &InstanceId,
        step: &'static str,
    ) -> impl FnOnce(Error) -> ProviderError + use<'_> {
        let id = id.clone();
        move |error| self.failed(&id, step, &error)
    }

    /// The same for an error that others see too.
    pub(super) fn failed(&self, id: &InstanceId, step: &'static str, error: &Error) -> ProviderError {
        let id = id.clone();
        match error {
            Error::DockerResponseServerError { message, .. }
            | Error::DockerStreamError { error: message } => {
                ProviderError::Step { id, step, reason: message.trim().to_owned() }
            }
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => {
                ProviderError::Step { id, step, reason: told(error) }
            }
            _ => self.unavailable(error),
        }
    }

    /// The same, where it is about no instance.
    pub(super) fn listing(&self) -> impl FnOnce(Error) -> ProviderError + use<'_> {
        |error| self.unavailable(&error)
    }
}

/// Whether dockerd says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether dockerd says that it is so already.
pub(super) fn is_unchanged(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 304, .. })
}

/// An error with its causes: the outermost of hyper's says nothing.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            // Writing to a `String` does not fail.
            let _ = write!(text, ": {inner}");
        }
        cause = error.source();
    }
    text
}
