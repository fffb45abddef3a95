//! One HTTP request, with an answer that is not larger than it should be.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{SourceError, unreachable};

/// An exporter with more to say than that is not one of metrics.
const LARGEST: usize = 16 << 20;

/// Connects to a server, from the daemon's own namespace. Returns its name for the request too.
pub(super) async fn connect(url: &str) -> Result<(TcpStream, String), SourceError> {
    let wrong = |reason: &str| SourceError::Unreachable { target: url.to_owned(), reason: reason.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("only http:// can be asked"));
    }
    let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
    // An IPv6 address stands in brackets there, and without them for the resolver.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((bare, port)).await.map_err(|error| unreachable(url, &error))?;
    Ok((stream, format!("{host}:{port}")))
}

/// The text at `path`; `name` is what errors call the server.
pub(super) async fn get(
    stream: TcpStream,
    name: &str,
    host: &str,
    path: &str,
) -> Result<String, SourceError> {
    let broken = |error: &dyn std::error::Error| unreachable(name, error);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // Ends with this call, whatever becomes of it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(path)
        .header("host", host)
        .header("accept", "text/plain;version=0.0.4, application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body =
        body.map_err(|error| SourceError::Answer { target: name.to_owned(), reason: error.to_string() })?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if status == StatusCode::OK {
        return Ok(text);
    }
    let beginning: String = text.chars().take(200).collect();
    Err(SourceError::Answer { target: name.to_owned(), reason: format!("{status}: {beginning}") })
}
