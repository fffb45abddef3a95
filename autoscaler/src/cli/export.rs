//! `sluice export`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sluice_northbound::client::{self, ClientError};
use sluice_northbound::export::{Archive, ExportError, Format, Kind, Query};
use sluice_northbound::terminal::{escape, escape_json};
use sluice_store::Store;

use super::args::{ExportArgs, ExportKind};
use super::output::Screened;
use super::which::WhichDaemon;
use super::{Failure, in_runtime};
use crate::daemon::open::{log_book, store_settings};

/// Writes what was kept of a day.
pub(super) fn export(daemon: &WhichDaemon, args: &ExportArgs) -> Result<(), Failure> {
    let (client, query) = (daemon.client()?, query(args)?);
    query.span().map_err(failure)?;
    let mut out = open(args);
    let asked = in_runtime(async {
        match client.export(&query, &mut out).await {
            Err(client::ExportError::Daemon(error)) => Err(error.into()),
            written => written.map_err(|error| Failure::Failed(error.into())),
        }
    });
    match asked {
        Err(Failure::Failed(error)) if is_no_daemon(&error) => read(daemon, &query, &mut out)?,
        done => done?,
    }
    Ok(out.flush()?)
}

fn is_no_daemon(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::NoDaemon(_)))
}

/// Without a daemon nobody has the store open; the file's own lock keeps one that begins meanwhile from it.
fn read(daemon: &WhichDaemon, query: &Query, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let (config, _) = daemon.host_config()?;
    let path = store_settings(&config).path;
    let store = Store::open_for_reading(&path).context("no daemon answers, and the store can't be read")?;
    let archive = Archive { store: &store, logs: &log_book(&config) };
    archive.check(query).map_err(failure)?;
    archive.export(query, out).map_err(failure)
}

fn query(args: &ExportArgs) -> Result<Query, Failure> {
    let kind = match (args.kind, args.fine) {
        (ExportKind::Samples, true) => Kind::FineSamples,
        (ExportKind::Samples, false) => Kind::Samples,
        (_, true) => return Err(Failure::Wrong("`--fine` goes with `--kind samples`".to_owned())),
        (ExportKind::Activities, false) => Kind::Activities,
        (ExportKind::Decisions, false) => Kind::Decisions,
        (ExportKind::Logs, false) => Kind::Logs,
    };
    let here = TimeZone::system();
    let zone = args.tz.clone().unwrap_or_else(|| here.iana_name().unwrap_or("UTC").to_owned());
    let today = || {
        let zone = TimeZone::get(&zone).unwrap_or(TimeZone::UTC);
        Timestamp::now().to_zoned_datetime(zone).date()
    };
    let day = args.day.unwrap_or_else(today);
    let format = if args.json { Format::Json } else { Format::Csv };
    Ok(Query { kind, day, zone, tenant: args.tenant.clone(), format })
}

fn open(args: &ExportArgs) -> Box<dyn Write + Send> {
    match &args.output {
        Some(path) => Box::new(io::BufWriter::new(Output { path: path.to_owned(), file: None })),
        None if io::stdout().is_terminal() => {
            Box::new(Screened::new(io::stdout(), if args.json { escape_json } else { escape }))
        }
        None => Box::new(io::BufWriter::new(io::stdout())),
    }
}

/// A file that is made, or emptied, when there is something to write or to flush: an export that is refused leaves the
/// one before it as it was.
struct Output {
    path: PathBuf,
    file: Option<File>,
}

impl Output {
    fn file(&mut self) -> io::Result<&mut File> {
        let Self { path, file } = self;
        if let Some(file) = file {
            Ok(file)
        } else {
            let made = File::create(&*path).map_err(|error| {
                io::Error::new(error.kind(), format!("{} can't be made: {error}", path.display()))
            })?;
            Ok(file.insert(made))
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

fn failure(error: ExportError) -> Failure {
    match error {
        ExportError::Zone(_) | ExportError::Day(_) | ExportError::Unknown { .. } => {
            Failure::Wrong(error.to_string())
        }
        ExportError::Store(_) | ExportError::Logs(_) | ExportError::Write(_) => Failure::Failed(error.into()),
    }
}
