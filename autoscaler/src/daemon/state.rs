//! What outlives the daemon: a file per tenant, replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::group::GroupState;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_southbound::provider::InstanceSpec;

/// A tenant's state file.
///
/// Losing it breaks no flow: what exists is found on the host, and what is in service in the load balancer's
/// maps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedTenant {
    /// The tenant file that `spec` was read from.
    pub(crate) file: PathBuf,
    /// The last good form of it: it stays in force while the file has faults, also over a restart.
    pub(crate) spec: TenantSpec,
    /// The group.
    pub(crate) group: GroupState,
    /// How it leaves, while its file is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaving: Option<Departure>,
    /// Its instances: what the daemon goes by while their cloud does not answer.
    #[serde(default)]
    pub(crate) instances: Vec<InstanceSpec>,
}

/// How a tenant leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Departure {
    /// Since when: its cool-down does not begin anew with the daemon.
    pub(crate) since: Timestamp,
    /// A person has confirmed it.
    pub(crate) is_confirmed: bool,
}

/// The state files of all tenants.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    directory: PathBuf,
}

impl StateDir {
    /// The state files in `directory`, which is made.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Replaces a tenant's file in one step: a reader, and the next daemon, find the old one or the new one.
    pub(crate) fn save(&self, tenant: &SavedTenant) -> io::Result<()> {
        let path = self.path(&tenant.spec.name);
        let fresh = path.with_extension("json.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(tenant)?)?;
        // Without it a power cut may leave the new name with nothing behind it.
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Every tenant that was saved. A file that can't be read is set aside with a line in the log: its tenant
    /// starts from what is found on the host.
    pub(crate) fn load_all(&self) -> io::Result<Vec<SavedTenant>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match serde_json::from_slice(&fs::read(&path)?) {
                Ok(saved) => found.push(saved),
                Err(error) => {
                    let aside = path.with_extension("json.unreadable");
                    tracing::error!(%error, file = %path.display(), "a state file can't be read; it is now {}", aside.display());
                    fs::rename(&path, &aside)?;
                }
            }
        }
        Ok(found)
    }

    /// Forgets a tenant. Nothing there is a success.
    pub(crate) fn forget(&self, tenant: &TenantName) -> io::Result<()> {
        match fs::remove_file(self.path(tenant)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, tenant: &TenantName) -> PathBuf {
        self.directory.join(format!("{tenant}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{at, name, tenant};

    fn saved() -> SavedTenant {
        let group = GroupState { desired: Some(3), last_action: Some(at(5)), ..GroupState::default() };
        let instances = Vec::new();
        SavedTenant {
            file: "/etc/sluice/tenants/demo.yml".into(),
            spec: tenant("demo"),
            group,
            leaving: None,
            instances,
        }
    }

    #[test]
    fn what_is_saved_is_found_again_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.save(&saved()).unwrap();
        let mut later = saved();
        later.group.desired = Some(4);
        state.save(&later).unwrap();
        assert_eq!(StateDir::open(dir.path()).unwrap().load_all().unwrap(), [later]);
        state.forget(&name("demo")).unwrap();
        state.forget(&name("demo")).unwrap();
        assert_eq!(state.load_all().unwrap(), []);
    }

    #[test]
    fn a_broken_file_is_set_aside_and_a_half_written_one_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.save(&saved()).unwrap();
        fs::write(dir.path().join("broken.json"), "{").unwrap();
        fs::write(dir.path().join("other.json.new"), "{").unwrap();
        assert_eq!(state.load_all().unwrap(), [saved()]);
        assert!(dir.path().join("broken.json.unreadable").exists());
    }
}
