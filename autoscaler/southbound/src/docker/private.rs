//! What is known of an instance and stands in no label: labels are shown by every program that asks dockerd.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sluice_logic::group::InstanceId;

use crate::provider::InstanceSpec;
use crate::scope::Scope;

/// The whole specs of a scope's containers, in a directory for root alone. A boot takes them, as it ends the containers.
#[derive(Debug)]
pub(super) struct Private {
    directory: PathBuf,
}

impl Private {
    pub(super) fn of(scope: &Scope) -> Self {
        Self { directory: scope.containers_dir() }
    }

    /// Keeps a spec; it is replaced whole.
    pub(super) fn write(&self, spec: &InstanceSpec) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        fs::set_permissions(&self.directory, Permissions::from_mode(0o700))?;
        let draft = self.directory.join(format!("{}.new", spec.id));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(spec)?)?;
        fs::rename(draft, self.file(&spec.id))
    }

    /// The whole of a spec of which a label has a part; the part where the rest is not to be had.
    pub(super) fn complete(&self, public: InstanceSpec) -> InstanceSpec {
        let read = fs::read(self.file(&public.id)).ok();
        let whole = read.and_then(|text| serde_json::from_slice::<InstanceSpec>(&text).ok());
        whole.filter(|whole| without_secrets(whole) == public).unwrap_or(public)
    }

    /// Nothing is left of the instance; nor of the directories, where it was the last.
    pub(super) fn remove(&self, id: &InstanceId) -> io::Result<()> {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // What is still in them stays.
        self.directory
            .ancestors()
            .take(2)
            .map_while(|directory| fs::remove_dir(directory).ok())
            .for_each(drop);
        Ok(())
    }

    fn file(&self, id: &InstanceId) -> PathBuf {
        Path::new(&self.directory).join(format!("{id}.json"))
    }
}

/// What of a spec may stand in a label: not what the container is given, nor what it would be elsewhere.
pub(super) fn without_secrets(spec: &InstanceSpec) -> InstanceSpec {
    let mut public = spec.clone();
    (public.template.netns, public.template.libvirt) = (None, None);
    if let Some(docker) = &mut public.template.docker {
        docker.environment.clear();
        docker.labels.clear();
        (docker.command, docker.registry) = (None, None);
    }
    public
}
