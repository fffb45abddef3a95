//! What each tenant file claims, and who has to wait for whom: pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;

use super::tenant_file::TenantFile;
use crate::diagnostic::Diagnostic;
use crate::tenant::{Tenant, check_reserved, check_windows, cross_check};

/// What a tenant, or a file with a new one, wants to be in force.
pub(super) struct Claim<'a> {
    path: &'a Path,
    established: Option<&'a Tenant>,
    /// What the file says is last, what is in force before it.
    candidates: Vec<&'a Tenant>,
    refusal: Vec<Diagnostic>,
    is_of_file: bool,
}

/// What a claim has come to.
pub(super) struct Ruling {
    pub(super) path: PathBuf,
    /// What is in force from now on; `None`: nothing new.
    pub(super) tenant: Option<Tenant>,
    /// Why what the file says is not.
    pub(super) refusal: Vec<Diagnostic>,
    /// Whether the file at `path` makes the claim; otherwise the tenant's file is gone.
    pub(super) is_of_file: bool,
}

/// What a host allows no tenant.
#[derive(Debug, Default)]
pub(super) struct HostRules {
    pub(super) reserved: Option<Ipv4Net>,
    pub(super) sample_interval: Option<Duration>,
}

impl<'a> Claim<'a> {
    /// The claim of a tenant in force, of the file that speaks for it, or of a file with a new tenant.
    pub(super) fn new(path: &'a Path, established: Option<&'a Tenant>, file: Option<&'a TenantFile>) -> Self {
        let mut candidates: Vec<&Tenant> = established.into_iter().collect();
        let mut refusal = Vec::new();
        match file.and_then(|file| file.says.as_ref()) {
            Some(Ok(tenant)) => candidates.push(tenant),
            Some(Err(faults)) => refusal.clone_from(faults),
            None => {}
        }
        Self { path, established, candidates, refusal, is_of_file: file.is_some() }
    }

    fn tenant(&self) -> Option<&'a Tenant> {
        self.candidates.last().copied()
    }

    /// Who comes first has the older claim: what is in force, then edits of it, then what is new.
    fn seniority(&self) -> (u8, &'a Path) {
        let rank = match (self.established, self.tenant()) {
            (Some(established), Some(tenant)) if established.spec == tenant.spec => 0,
            (Some(_), _) => 1,
            (None, _) => 2,
        };
        (rank, self.path)
    }
}

/// Decides for each claim what is in force from now on, and why what its file says is not.
pub(super) fn rule(mut claims: Vec<Claim<'_>>, host: &HostRules) -> Vec<Ruling> {
    loop {
        claims.sort_by_key(Claim::seniority);
        let standing: Vec<usize> = (0..claims.len()).filter(|&i| claims[i].tenant().is_some()).collect();
        let tenants: Vec<&Tenant> = standing.iter().filter_map(|&i| claims[i].tenant()).collect();
        let mut conflicts = cross_check(&tenants);
        conflicts.extend(host.reserved.iter().flat_map(|reserved| check_reserved(&tenants, *reserved)));
        conflicts.extend(host.sample_interval.iter().flat_map(|every| check_windows(&tenants, *every)));
        // One at a time: who conflicts with a claim that falls may stand after all.
        let Some(offender) = conflicts.iter().map(|conflict| conflict.offender).min() else { break };
        let reasons = conflicts.into_iter().filter(|conflict| conflict.offender == offender);
        let claim = &mut claims[standing[offender]];
        claim.refusal.extend(reasons.map(|conflict| conflict.diagnostic));
        claim.candidates.pop();
    }
    let ruling = |claim: Claim<'_>| Ruling {
        path: claim.path.to_owned(),
        tenant: claim.tenant().cloned(),
        refusal: claim.refusal,
        is_of_file: claim.is_of_file,
    };
    claims.into_iter().map(ruling).collect()
}
