//! The HTTP API on the Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::{
    CloudStatus, ConfirmAnswer, ConfirmRequest, DrainAnswer, DrainRequest, EventPage, EventQuery,
    Explanation, Problem, PushAnswer, PushRequest, RescanAnswer, ScaleAnswer, ScaleRequest, Status,
    StopAnswer, path,
};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::registry::{Registry, Request};
use super::tenant::{Handle, Message};

pub(super) type Shared = State<Arc<Registry>>;

/// Listens on the socket; the caller holds the daemon's lock, so one that is there is left over.
pub(crate) fn listen(socket: &FilePath) -> Result<UnixListener> {
    let bind = || -> io::Result<UnixListener> {
        if let Some(directory) = socket.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().with_context(|| format!("cannot listen on {}", socket.display()))
}

/// Answers until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, registry: Arc<Registry>) -> io::Result<()> {
    axum::serve(listener, router(registry)).await
}

fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route(path::STATUS, get(status))
        .route(path::EVENTS, get(events))
        .route(path::CLOUDS, get(clouds))
        .route(path::SCALE, post(scale))
        .route(path::DRAIN, post(drain))
        .route(path::EXPLAIN, get(explain))
        .route(path::PUSH, post(push))
        .route(path::EXPORT, get(super::export::export))
        .route(path::CONFIRM, post(confirm_removal))
        .route(path::RESCAN, post(rescan))
        .route(path::STOP, post(stop))
        .fallback(async || Refusal::Unknown("no such path; see the API's documentation".to_owned()))
        .with_state(registry)
}

async fn status(State(registry): Shared) -> Json<Status> {
    Json(registry.status())
}

async fn events(State(registry): Shared, Query(query): Query<EventQuery>) -> Json<EventPage> {
    Json(registry.host.events.query(&query).await)
}

async fn clouds(State(registry): Shared) -> Json<Vec<CloudStatus>> {
    Json(registry.host.clouds.status(tokio::time::Instant::now()))
}

async fn scale(
    State(registry): Shared,
    Path(tenant): Path<TenantName>,
    Json(request): Json<ScaleRequest>,
) -> Result<Json<ScaleAnswer>, Refusal> {
    let handle = registry.tenant(&tenant)?;
    ask(&handle, |reply| Message::Scale(request.count, reply)).await.map(Json)
}

async fn drain(
    State(registry): Shared,
    Path(id): Path<InstanceId>,
    Json(request): Json<DrainRequest>,
) -> Result<Json<DrainAnswer>, Refusal> {
    let handle = registry.tenant_of(&id)?;
    ask(&handle, |reply| Message::Drain(id, request.decrement, reply)).await.map(Json)
}

async fn explain(
    State(registry): Shared,
    Path(tenant): Path<TenantName>,
) -> Result<Json<Explanation>, Refusal> {
    let handle = registry.tenant(&tenant)?;
    ask(&handle, Message::Explain).await.map(Json)
}

async fn push(
    State(registry): Shared,
    Path(tenant): Path<TenantName>,
    Json(request): Json<PushRequest>,
) -> Result<Json<PushAnswer>, Refusal> {
    let handle = registry.tenant(&tenant)?;
    ask(&handle, |reply| Message::Push(request, reply)).await.map(Json)
}

async fn confirm_removal(
    State(registry): Shared,
    Json(request): Json<ConfirmRequest>,
) -> Result<Json<ConfirmAnswer>, Refusal> {
    registry.ask(|reply| Request::Confirm(request.tenants, reply)).await?.map(Json)
}

async fn rescan(State(registry): Shared) -> Result<Json<RescanAnswer>, Refusal> {
    registry.ask(Request::Rescan).await.map(Json)
}

async fn stop(State(registry): Shared) -> Result<Json<StopAnswer>, Refusal> {
    registry.ask(Request::Stop).await.map(Json)
}

async fn ask<T>(
    handle: &Handle,
    message: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Message,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    handle.tell(message(reply)).await;
    answer.await.map_err(|_| Refusal::Ending)?
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::NotNow(_) => StatusCode::CONFLICT,
            Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(Problem { error: self.to_string() })).into_response()
    }
}
