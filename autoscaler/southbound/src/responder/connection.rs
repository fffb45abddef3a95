//! One connection of the responder.

use std::convert::Infallible;
use std::io;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::burn::burn;
use super::{Options, without_delay};

/// How HTTP/1 requests begin (RFC 9110, 9.1).
const METHODS: [&[u8]; 8] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT "];

/// The longest line that is echoed as one.
const LINE_MAX: u64 = 64 * 1024;

/// Answers on a connection until the client closes it, or `stop` and no request is under way.
pub(super) async fn serve(mut stream: TcpStream, options: Options, stop: CancellationToken) {
    without_delay(&stream);
    // An idle connection holds no buffer.
    let first = tokio::select! {
        first = first_bytes(&mut stream) => first,
        () = stop.cancelled() => return,
    };
    let Ok((first, is_http)) = first else { return };
    let (read, write) = stream.into_split();
    let stream = tokio::io::join(io::Cursor::new(first).chain(read), write);
    // A client that goes away is no fault of ours.
    let _ = if is_http { http(stream, options, stop).await } else { echo(stream, &options, &stop).await };
}

/// Reads until it is plain what the client speaks.
async fn first_bytes(stream: &mut TcpStream) -> io::Result<(Vec<u8>, bool)> {
    stream.readable().await?;
    let mut first = Vec::with_capacity(256);
    loop {
        let ended = stream.read_buf(&mut first).await? == 0;
        if METHODS.iter().any(|method| first.starts_with(method)) {
            return Ok((first, true));
        }
        if ended || !METHODS.iter().any(|method| method.starts_with(&first)) {
            return Ok((first, false));
        }
    }
}

async fn echo(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    options: &Options,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(1024, stream);
    loop {
        let mut line = format!("{} ", options.instance).into_bytes();
        let name = line.len();
        let mut limited = (&mut stream).take(LINE_MAX);
        tokio::select! {
            read = limited.read_until(b'\n', &mut line) => read?,
            () = stop.cancelled() => return Ok(()),
        };
        if line.len() == name {
            return Ok(());
        }
        burn(options.request_cost).await;
        stream.write_all(&line).await?;
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    options: Options,
    stop: CancellationToken,
) -> io::Result<()> {
    let answer = service_fn(|request: Request<Incoming>| respond(request, &options));
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(16 * 1024)
        // A client that has sent all it has to say still waits for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(io::Error::other),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(io::Error::other)
}

async fn respond(_: Request<Incoming>, options: &Options) -> Result<Response<Full<Bytes>>, Infallible> {
    burn(options.request_cost).await;
    let mut response = Response::new(Full::from(format!("{}\n", options.instance)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Ok(instance) = HeaderValue::from_str(&options.instance) {
        headers.insert("x-sluice-instance", instance);
    }
    Ok(response)
}
