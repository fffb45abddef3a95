//! Labels: what an instance is, written down before anything of it exists.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sluice_logic::group::InstanceId;

use crate::provider::InstanceSpec;
use crate::scope::{Scope, instance_id};

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
        fs::write(&draft, text)?;
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
    pub(super) fn ids(&self) -> io::Result<Vec<InstanceId>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.split_once('.')).map(|(stem, _)| stem);
            ids.extend(stem.and_then(instance_id));
        }
        Ok(ids)
    }

    /// Opens an empty log. It gets its name only by [`started`](Self::started).
    pub(super) fn open_log(&self, id: &InstanceId) -> io::Result<File> {
        File::create(self.file(id, "log.new"))
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
    pub(super) fn log(&self, id: &InstanceId) -> PathBuf {
        self.file(id, "log")
    }

    /// Removes log and label, the label last.
    pub(super) fn remove(&self, id: &InstanceId) -> io::Result<()> {
        for extension in ["log.new", "log", "json.new", "json"] {
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
