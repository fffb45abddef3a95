//! Exports over the API: written as they are read, so that a day of samples needs no more memory than a page of them.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sluice_northbound::export::{self, Archive, ExportError, Format};
use tokio::sync::mpsc;

use super::api::Shared;
use super::host::Host;
use super::refusal::Refusal;

/// Pieces that may wait for a slow reader.
const PIECES: usize = 8;
/// The size of a piece.
const PIECE: usize = 64 << 10;

/// Answers with what was kept.
pub(super) async fn export(
    State(registry): Shared,
    Query(query): Query<export::Query>,
) -> Result<Response, Refusal> {
    let host = registry.host.clone();
    let checked = query.clone();
    let found = tokio::task::spawn_blocking(move || archive(&host).check(&checked)).await;
    found.map_err(|_| Refusal::Ending)?.map_err(|error| refusal(&error))?;
    let (sender, pieces) = mpsc::channel(PIECES);
    let (host, asked) = (registry.host.clone(), query.clone());
    tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        let written = archive(&host).export(&asked, &mut out);
        let written = written.and_then(|()| Ok(out.flush()?));
        if let Err(error) = written {
            // Breaks the answer off, so that nobody takes a part for the whole.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    let body = stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
    let content_type = match query.format {
        Format::Csv => "text/csv; charset=utf-8; header=present",
        Format::Json => "application/x-ndjson",
    };
    Ok(([(CONTENT_TYPE, content_type)], Body::from_stream(body)).into_response())
}

fn archive(host: &Host) -> Archive<'_> {
    Archive { store: &host.store, logs: &host.logs.book }
}

/// What is written, in pieces, for a reader.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refusal(error: &ExportError) -> Refusal {
    match error {
        ExportError::Zone(_) | ExportError::Day(_) => Refusal::Wrong(error.to_string()),
        ExportError::Unknown { .. } => Refusal::Unknown(error.to_string()),
        ExportError::Store(_) | ExportError::Logs(_) | ExportError::Write(_) => {
            Refusal::NotNow(error.to_string())
        }
    }
}
