//! The client of the daemon's API, as the commands and the demo use it.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::api::{
    CloudStatus, ConfirmAnswer, ConfirmRequest, DrainAnswer, DrainRequest, EventPage, EventQuery,
    Explanation, Problem, PushAnswer, PushRequest, RescanAnswer, ScaleAnswer, ScaleRequest, Status,
    StopAnswer, path,
};
use crate::export::Query;

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no daemon at {}: start it with `sluice run --config sluice.yml`, or name its socket with `--socket`",
        .0.display()
    )]
    NoDaemon(PathBuf),
    /// The socket is somebody else's.
    #[error("no right to open {}: run this as root", .0.display())]
    NoRight(PathBuf),
    /// The request itself is wrong: no such tenant, a count outside the limits.
    #[error("{0}")]
    Wrong(String),
    /// Right, but not possible now, or tried and failed.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or its other end is not a daemon of this version.
    #[error("the daemon at {} did not answer as expected: {reason}", socket.display())]
    Broken {
        /// Whom we talked to.
        socket: PathBuf,
        /// What was wrong.
        reason: String,
    },
}

impl ClientError {
    /// Whether the input was wrong, and not the daemon or the host.
    #[must_use]
    pub fn is_wrong_input(&self) -> bool {
        matches!(self, Self::Wrong(_))
    }
}

/// Talks to one daemon. Each call is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon behind that socket. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket it talks to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the daemon is doing. The first answer also says that the daemon is ready.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(path::STATUS).await
    }

    /// Events, oldest first; see [`EventQuery`] for how to wait for the next.
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage, ClientError> {
        let pairs = [
            query.tenant.as_ref().map(|tenant| format!("tenant={tenant}")),
            query.limit.map(|limit| format!("limit={limit}")),
            query.after.map(|after| format!("after={after}")),
            query.wait.map(|wait| format!("wait={wait}")),
        ];
        // Tenant names and numbers need no escaping.
        let pairs: Vec<String> = pairs.into_iter().flatten().collect();
        self.get(&format!("{}?{}", path::EVENTS, pairs.join("&"))).await
    }

    /// The clouds, the most preferred one first.
    pub async fn clouds(&self) -> Result<Vec<CloudStatus>, ClientError> {
        self.get(path::CLOUDS).await
    }

    /// Sets a group's desired count.
    pub async fn scale(&self, tenant: &TenantName, count: u32) -> Result<ScaleAnswer, ClientError> {
        let path = path::SCALE.replace("{tenant}", tenant.as_str());
        self.post(&path, &ScaleRequest { count }).await
    }

    /// Drains an instance; with `decrement` no other takes its place.
    pub async fn drain(&self, instance: &InstanceId, decrement: bool) -> Result<DrainAnswer, ClientError> {
        if !is_plain(instance.as_str()) {
            return Err(ClientError::Wrong(format!("`{instance}` is not an instance's id")));
        }
        let path = path::DRAIN.replace("{id}", instance.as_str());
        self.post(&path, &DrainRequest { decrement }).await
    }

    /// What would happen to a group now, and why not more.
    pub async fn explain(&self, tenant: &TenantName) -> Result<Explanation, ClientError> {
        self.get(&path::EXPLAIN.replace("{tenant}", tenant.as_str())).await
    }

    /// Gives a group, or one of its instances, a sample of a metric of its own.
    pub async fn push(&self, tenant: &TenantName, sample: &PushRequest) -> Result<PushAnswer, ClientError> {
        self.post(&path::PUSH.replace("{tenant}", tenant.as_str()), sample).await
    }

    /// Writes what was kept, as it comes.
    ///
    /// # Errors
    /// As every call; and where `out` can't be written.
    pub async fn export(&self, query: &Query, out: &mut (dyn io::Write + Send)) -> Result<(), ExportError> {
        let query = serde_urlencoded::to_string(query).map_err(|error| self.broken(&error))?;
        let call = self.begin(Method::GET, &format!("{}?{query}", path::EXPORT), Bytes::new()).await?;
        let status = call.answer.status();
        let mut body = call.answer.into_body();
        if !status.is_success() {
            let problem = body.collect().await.map_err(|error| self.broken(&error))?.to_bytes();
            return Err(self.refused(status, &problem).into());
        }
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if let Ok(bytes) = frame.into_data() {
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    /// Has the tenants' directory read again.
    pub async fn rescan(&self) -> Result<RescanAnswer, ClientError> {
        self.post(path::RESCAN, &()).await
    }

    /// Lets tenants go whose files are gone, and whose removal is held; all that are held where none is named.
    pub async fn confirm_removal(&self, tenants: &[TenantName]) -> Result<ConfirmAnswer, ClientError> {
        self.post(path::CONFIRM, &ConfirmRequest { tenants: tenants.to_vec() }).await
    }

    /// Asks the daemon to end; instances and the data plane stay.
    pub async fn stop(&self) -> Result<StopAnswer, ClientError> {
        self.post(path::STOP, &()).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let call = self.begin(method, path, body).await?;
        let status = call.answer.status();
        let body = call.answer.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        self.read(status, &body)
    }

    async fn begin(&self, method: Method, path: &str, body: Bytes) -> Result<Call, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.cannot_connect(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sluice")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        Ok(Call { answer, _connections: connections })
    }

    fn read<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|error| self.broken(&error));
        }
        Err(self.refused(status, body))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let problem = serde_json::from_slice::<Problem>(body)
            .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |problem| problem.error);
        match status {
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
                ClientError::Wrong(problem)
            }
            StatusCode::CONFLICT => ClientError::Refused(problem),
            _ => ClientError::Broken { socket: self.socket.clone(), reason: format!("{status}: {problem}") },
        }
    }

    fn cannot_connect(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::NoRight(self.socket.clone()),
            _ => self.broken(error),
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), reason: error.to_string() }
    }
}

/// An answer that has begun.
struct Call {
    answer: Response<Incoming>,
    /// Drives the connection, and ends with the call.
    _connections: JoinSet<hyper::Result<()>>,
}

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// By the daemon.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// Where it was to be written to.
    #[error("the export can't be written: {0}")]
    Write(#[from] io::Error),
}

/// Whether a text can stand in a path as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_daemon_the_error_says_how_to_start_one() {
        let error = Client::new("/nonexistent/api.sock").status().await.unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon(_)));
        assert!(error.to_string().contains("sluice run --config"), "{error}");
    }

    #[test]
    fn a_problem_becomes_the_error_text() {
        let client = Client::new("/x");
        let body = br#"{"error":"no tenant `x`"}"#;
        let error = client.read::<Status>(StatusCode::NOT_FOUND, body).unwrap_err();
        assert!(error.is_wrong_input());
        assert_eq!(error.to_string(), "no tenant `x`");
        let error = client.read::<Status>(StatusCode::CONFLICT, body).unwrap_err();
        assert!(!error.is_wrong_input());
    }

    #[tokio::test]
    async fn an_id_that_would_change_the_path_is_refused() {
        let error = Client::new("/x").drain(&InstanceId::from_label("a/../b"), false).await.unwrap_err();
        assert!(error.is_wrong_input());
    }
}
