//! What changed in the tenants' directory.

use std::path::{Path, PathBuf};

use sluice_logic::spec::{TenantName, TenantSpec};

use crate::diagnostic::Diagnostic;
use crate::tenant::Tenant;

/// What changed in the tenants' directory.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A tenant is in force that was not.
    Added {
        /// Its file.
        path: PathBuf,
        /// The tenant. Its warnings are new.
        tenant: Box<Tenant>,
    },
    /// A tenant asks for something else than before.
    Changed {
        /// Its file.
        path: PathBuf,
        /// What was in force.
        before: TenantSpec,
        /// What is in force now. Its warnings are new.
        tenant: Box<Tenant>,
    },
    /// A tenant is to leave: its file was deleted, or has another tenant in it now. It stays in force until the caller
    /// says that it has left.
    Removed {
        /// Its file.
        path: PathBuf,
        /// What is in force until it has left.
        before: TenantSpec,
        /// A person has said so.
        is_confirmed: bool,
    },
    /// A tenant's file is gone, but it stays until a person confirms. It may have been leaving already.
    Held {
        /// Its file.
        path: PathBuf,
        /// What is in force.
        before: TenantSpec,
    },
    /// The file of a tenant that was leaving, or held, is back. What it says now follows as [`Change::Changed`].
    Back {
        /// Its file.
        path: PathBuf,
        /// The tenant.
        tenant: TenantName,
    },
    /// What a file says was refused. Said once for each edit.
    Refused {
        /// The file.
        path: PathBuf,
        /// The tenant of that file that stays in force as it was.
        in_force: Option<TenantName>,
        /// It is good by itself, and waits for what another tenant has.
        waits: bool,
        /// Why.
        diagnostics: Vec<Diagnostic>,
    },
}

impl Change {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Added { path, .. }
            | Self::Changed { path, .. }
            | Self::Removed { path, .. }
            | Self::Held { path, .. }
            | Self::Back { path, .. }
            | Self::Refused { path, .. } => path,
        }
    }

    /// What is freed comes before what is taken, and what is back before what it says now.
    pub(super) fn order(&self) -> u8 {
        match self {
            Self::Removed { .. } | Self::Held { .. } | Self::Back { .. } => 0,
            Self::Changed { .. } => 1,
            Self::Added { .. } => 2,
            Self::Refused { .. } => 3,
        }
    }
}
