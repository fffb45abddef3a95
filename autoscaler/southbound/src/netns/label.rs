//! Labels: what an instance is, written down before anything of it exists.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sluice_logic::group::InstanceId;

use super::output::{self, Files};
use super::process::Status;
use crate::provider::InstanceSpec;
use crate::scope::{Scope, instance_id};

/// All files of an instance, in the order in which they are removed: the label last.
const EXTENSIONS: [&str; 9] =
    ["log.new", "log.1", "log", "kept.new", "kept", "exit.new", "exit", "json.new", "json"];

/// The labels and logs of a scope.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    directory: PathBuf,
}

/// A label that was looked for.
#[derive(Debug)]
pub(super) enum Label {
    /// There is none.
    None,
    /// There is one, but it can't be read or is another instance's.
    Unreadable,
    /// What it says.
    Read(Box<InstanceSpec>),
}

impl Labels {
    pub(super) fn of(scope: &Scope) -> Self {
        Self { directory: scope.instances_dir() }
    }

    /// Writes a label; it appears whole or not at all.
    pub(super) fn write(&self, spec: &InstanceSpec) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(spec)?;
        // A template may hold what is nobody else's.
        fs::create_dir_all(&self.directory)?;
        fs::set_permissions(&self.directory, Permissions::from_mode(0o700))?;
        let draft = self.file(&spec.id, "json.new");
        output::create(&draft)?.write_all(&text)?;
        fs::rename(draft, self.file(&spec.id, "json"))
    }

    pub(super) fn read(&self, id: &InstanceId) -> io::Result<Label> {
        let text = match fs::read(self.file(id, "json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Label::None),
            text => text?,
        };
        match serde_json::from_slice::<InstanceSpec>(&text) {
            Ok(spec) if spec.id == *id => Ok(Label::Read(Box::new(spec))),
            _ => Ok(Label::Unreadable),
        }
    }

    /// The instances of which there is any file.
    pub(super) fn ids(&self) -> io::Result<BTreeSet<InstanceId>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries?,
        };
        let mut ids = BTreeSet::new();
        for entry in entries {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.split_once('.')).map(|(stem, _)| stem);
            ids.extend(stem.and_then(instance_id));
        }
        Ok(ids)
    }

    /// Opens an empty log. It gets its name only by [`started`](Self::started).
    pub(super) fn open_log(&self, id: &InstanceId) -> io::Result<File> {
        output::create(&self.file(id, "log.new"))
    }

    /// Says that the instance was started: its log is there from now on.
    pub(super) fn started(&self, id: &InstanceId) -> io::Result<()> {
        fs::rename(self.file(id, "log.new"), self.file(id, "log"))
    }

    /// Whether it was ever started.
    pub(super) fn was_started(&self, id: &InstanceId) -> bool {
        self.file(id, "log").exists()
    }

    /// Where the instance's output goes.
    pub(super) fn output(&self, id: &InstanceId) -> Files {
        let file = |extension| self.file(id, extension);
        Files { current: file("log"), before: file("log.1"), kept: file("kept") }
    }

    /// Says how its process has ended.
    pub(super) fn ended(&self, id: &InstanceId, status: Status) -> io::Result<()> {
        let draft = self.file(id, "exit.new");
        output::create(&draft)?.write_all(&serde_json::to_vec(&status)?)?;
        fs::rename(draft, self.file(id, "exit"))
    }

    /// How its process has ended, where that is known.
    pub(super) fn status(&self, id: &InstanceId) -> io::Result<Option<Status>> {
        match fs::read(self.file(id, "exit")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => Ok(serde_json::from_slice(&text?).ok()),
        }
    }

    /// Removes log and label, the label last.
    pub(super) fn remove(&self, id: &InstanceId) -> io::Result<()> {
        for extension in EXTENSIONS {
            match fs::remove_file(self.file(id, extension)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the directories, if nothing is in them.
    pub(super) fn remove_directories(&self) -> io::Result<()> {
        for directory in self.directory.ancestors().take(2) {
            remove_empty(directory)?;
        }
        Ok(())
    }

    fn file(&self, id: &InstanceId, extension: &str) -> PathBuf {
        self.directory.join(format!("{id}.{extension}"))
    }
}

fn remove_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(error)
        }
        _ => Ok(()),
    }
}
