//! One HTTP request, whose answer is read piece by piece and is not larger than it should be.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{SourceError, shown, unreachable};

/// A connection's buffer, in bytes: headers have to fit, and no piece of a body is larger.
const BUFFER: usize = 32 << 10;

/// So much of an answer that is an error is read for its reason, in bytes.
const REASON: usize = 1 << 10;

/// An answer whose headers have come, and whose body comes piece by piece.
pub(super) struct Answer {
    name: String,
    response: Response<Incoming>,
    /// Ends with the answer, whatever becomes of it.
    _driver: JoinSet<Result<(), hyper::Error>>,
}

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

/// Asks for `path`; `name` is what errors call the server. An answer that can't be used is an error.
pub(super) async fn get(
    stream: TcpStream,
    name: &str,
    host: &str,
    path: &str,
    accept: &str,
) -> Result<Answer, SourceError> {
    let broken = |error: &dyn std::error::Error| unreachable(name, error);
    let mut client = hyper::client::conn::http1::Builder::new();
    client.max_buf_size(BUFFER);
    let (mut sender, connection) =
        client.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(path)
        .header("host", host)
        .header("accept", accept)
        // What is compressed may be any length once it is not.
        .header("accept-encoding", "identity")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let answer = Answer { name: name.to_owned(), response, _driver: driver };
    match answer.response.status() {
        StatusCode::OK => match header(answer.response.headers(), &CONTENT_ENCODING) {
            "" | "identity" => Ok(answer),
            other => {
                let other = shown(other);
                Err(answer.wrong(format!("in the encoding {other}, though it was asked for none")))
            }
        },
        _ => Err(answer.refusal().await),
    }
}

impl Answer {
    /// As its headers say; empty where they don't.
    pub(super) fn content_type(&self) -> &str {
        header(self.response.headers(), &CONTENT_TYPE)
    }

    /// What comes next of its body; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(|error| self.wrong(format!("a part only: {error}")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body, of at most so many bytes.
    pub(super) async fn whole(mut self, most: usize) -> Result<Vec<u8>, SourceError> {
        let mut body = Vec::new();
        while let Some(data) = self.next().await? {
            if body.len() + data.len() > most {
                return Err(self.wrong(format!("with more than {} MiB", most >> 20)));
            }
            body.extend_from_slice(&data);
        }
        Ok(body)
    }

    pub(super) fn wrong(&self, reason: String) -> SourceError {
        SourceError::Answer { target: self.name.clone(), reason }
    }

    /// What a status that is not 200 says.
    async fn refusal(mut self) -> SourceError {
        let status = self.response.status();
        if status.is_redirection() {
            let place = shown(header(self.response.headers(), &LOCATION));
            return self.wrong(format!("{status}, to {place}: no redirection is followed, name that place"));
        }
        let mut beginning = Vec::new();
        while beginning.len() < REASON
            && let Ok(Some(data)) = self.next().await
        {
            beginning.extend_from_slice(&data);
        }
        beginning.truncate(REASON);
        self.wrong(format!("{status}: {}", shown(String::from_utf8_lossy(&beginning).trim())))
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}
