//! `check`: licences, duplicates and sources of the crates in `Cargo.lock`, as `deny.toml` allows them.
//!
//! `deny.toml` is a file of cargo-deny. That takes minutes to build, so a host need not have it: what needs neither its
//! collection of licence texts nor its database of advisories is checked here, on every host. Where it is installed, it
//! checks the same and more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::build::{cargo_command, workspace};
use crate::report::Report;

/// The policy's file, in the workspace's folder.
const POLICY: &str = "deny.toml";

/// What `cargo metadata` says.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate that is built with.
#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: Version,
    license: Option<String>,
    /// Where it comes from; `None` is this workspace.
    source: Option<String>,
}

/// What of `deny.toml` is checked here.
#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    /// Licences of any crate.
    allow: Vec<String>,
    /// Further licences of one crate.
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    /// Versions that may be there beside another one of the same crate.
    #[serde(default)]
    skip: Vec<Skip>,
}

#[derive(Debug, Deserialize)]
struct Skip {
    name: String,
    version: VersionReq,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    /// Addresses of registries.
    allow_registry: Vec<String>,
}

/// The steps. What can't run on this host is named in the summary.
pub(super) fn steps(report: &mut Report) {
    report.check("dependencies", check);
    if !is_installed() {
        report.leave_out("advisories", "cargo-deny is missing: `cargo install --locked cargo-deny`");
        return;
    }
    report.step(
        "dependencies, by cargo-deny",
        &mut cargo_command(&["deny", "check", "licenses", "bans", "sources"]),
    );
    if has_advisories() {
        report.step(
            "advisories, as fetched last",
            &mut cargo_command(&["deny", "check", "--disable-fetch", "advisories"]),
        );
    } else {
        report.leave_out("advisories", "this host has no copy of the database: `cargo deny fetch`");
    }
}

fn is_installed() -> bool {
    let silent = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    silent(&mut cargo_command(&["deny", "--version"])).is_ok_and(|status| status.success())
}

/// Whether cargo-deny has fetched a database of advisories: it keeps them in cargo's folder.
fn has_advisories() -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    home.is_some_and(|home| {
        fs::read_dir(home.join("advisory-dbs")).is_ok_and(|mut entries| entries.next().is_some())
    })
}

fn check() -> Result<()> {
    let policy = read_policy(&workspace().join(POLICY))?;
    let packages = packages()?;
    let faults = faults(&policy, &packages)?;
    if !faults.is_empty() {
        bail!("{POLICY} does not allow all of Cargo.lock:\n{}", faults.join("\n"));
    }
    eprintln!("{} crates are as {POLICY} allows them", packages.len());
    Ok(())
}

fn read_policy(path: &Path) -> Result<Policy> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is wrong", path.display()))
}

/// What is built on Linux of what `Cargo.lock` names; crates for other systems need not be on this host. Those that are
/// missing are downloaded, as any build would.
fn packages() -> Result<Vec<Package>> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let output = cargo_command(&[
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        target.as_str(),
    ])
    .stderr(Stdio::inherit())
    .output()
    .context("cannot run cargo")?;
    ensure!(output.status.success(), "`cargo metadata` failed; its reason is above");
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot read `cargo metadata`")?;
    Ok(metadata.packages)
}

/// All that the policy does not allow, and what it allows in vain.
fn faults(policy: &Policy, packages: &[Package]) -> Result<Vec<String>> {
    let mut faults = unlicensed(&policy.licenses, packages)?;
    faults.extend(duplicates(&policy.bans, packages));
    faults.extend(packages.iter().filter_map(|package| foreign(&policy.sources, package)));
    faults.extend(unneeded(policy, packages));
    Ok(faults)
}

fn unlicensed(policy: &Licenses, packages: &[Package]) -> Result<Vec<String>> {
    let allowed = licensees(&policy.allow)?;
    let mut exceptions = BTreeMap::new();
    for exception in &policy.exceptions {
        exceptions.insert(exception.name.as_str(), licensees(&exception.allow)?);
    }
    let own = |package: &Package| exceptions.get(package.name.as_str()).map_or(&[][..], Vec::as_slice);
    let faults = packages.iter().filter_map(|package| unlicensed_package(package, &allowed, own(package)));
    Ok(faults.collect())
}

fn licensees(names: &[String]) -> Result<Vec<Licensee>> {
    let parse = |name: &String| {
        Licensee::parse_mode(name, ParseMode::LAX)
            .with_context(|| format!("{POLICY}: `{name}` is no licence in SPDX's list"))
    };
    names.iter().map(parse).collect()
}

fn unlicensed_package(package: &Package, allowed: &[Licensee], exceptions: &[Licensee]) -> Option<String> {
    let Package { name, version, license, .. } = package;
    let Some(license) = license else {
        return Some(format!("{name} {version} does not say its licence: read it, and choose another crate"));
    };
    let Ok(expression) = Expression::parse_mode(license, ParseMode::LAX) else {
        return Some(format!("{name} {version}: `{license}` is no SPDX expression"));
    };
    let holds = expression.evaluate(|requirement| {
        allowed.iter().chain(exceptions).any(|licensee| licensee.satisfies(requirement))
    });
    (!holds).then(|| format!("{name} {version}: `{license}` is not allowed by `licenses`"))
}

fn duplicates(policy: &Bans, packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&Version>> = BTreeMap::new();
    for package in packages.iter().filter(|package| !policy.skip.iter().any(|skip| skip.is(package))) {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let text =
        |versions: &[&Version]| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| {
            let found = text(versions);
            format!("{name} is there in several versions ({found}): bring them together, or add one to `bans.skip`")
        })
        .collect()
}

impl Skip {
    fn is(&self, package: &Package) -> bool {
        self.name == package.name && self.version.matches(&package.version)
    }
}

fn foreign(policy: &Sources, package: &Package) -> Option<String> {
    let Package { name, version, source, .. } = package;
    let source = source.as_ref()?;
    let registry = source.strip_prefix("registry+");
    let is_allowed =
        registry.is_some_and(|registry| policy.allow_registry.iter().any(|allowed| allowed == registry));
    (!is_allowed).then(|| format!("{name} {version} comes from {source}, which `sources` does not allow"))
}

/// Exceptions for what is not there any more.
fn unneeded<'a>(policy: &'a Policy, packages: &'a [Package]) -> impl Iterator<Item = String> + 'a {
    let is_alone = |skip: &&Skip| {
        let others = packages.iter().filter(|package| package.name == skip.name);
        !packages.iter().any(|package| skip.is(package)) || others.count() < 2
    };
    let is_gone = |exception: &&Exception| !packages.iter().any(|package| package.name == exception.name);
    let skips = policy.bans.skip.iter().filter(is_alone).map(|skip| {
        let Skip { name, version } = skip;
        format!("`bans.skip` has {name} {version}, which is not there or alone: remove it")
    });
    let exceptions = policy.licenses.exceptions.iter().filter(is_gone).map(|exception| {
        format!("`licenses.exceptions` has {}, which is not there: remove it", exception.name)
    });
    skips.chain(exceptions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn policy() -> Policy {
        toml::from_str(
            r#"
            [licenses]
            allow = ["MIT", "Apache-2.0"]
            exceptions = [{ name = "virt", allow = ["LGPL-2.1"] }]
            [bans]
            skip = [{ name = "syn", version = "1" }]
            [sources]
            allow-registry = ["https://github.com/rust-lang/crates.io-index"]
            "#,
        )
        .expect("a policy")
    }

    fn package(name: &str, version: &str, license: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: version.parse().expect("a version"),
            license: license.map(str::to_owned),
            source: Some(REGISTRY.to_owned()),
        }
    }

    /// What the policy is for, beside others.
    fn with(others: Vec<Package>) -> Vec<Package> {
        let expected = [("virt", "0.4.3", "LGPL-2.1"), ("syn", "1.0.0", "MIT"), ("syn", "2.0.0", "MIT")];
        expected
            .map(|(name, version, license)| package(name, version, Some(license)))
            .into_iter()
            .chain(others)
            .collect()
    }

    #[test]
    fn what_is_allowed_has_no_fault() {
        let others = [
            ("a", "MIT OR Apache-2.0"),
            ("b", "MIT/Apache-2.0"),
            ("c", "Apache-2.0 WITH LLVM-exception OR MIT"),
            ("d", "(MIT OR GPL-3.0-only) AND Apache-2.0"),
        ];
        let others = others.map(|(name, license)| package(name, "1.0.0", Some(license))).into();
        assert_eq!(faults(&policy(), &with(others)).expect("a policy"), [""; 0]);
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_a_fault() {
        for license in
            [Some("GPL-3.0-only"), Some("MIT AND CC0-1.0"), Some("LGPL-2.1"), Some("whatever"), None]
        {
            let found = faults(&policy(), &with(vec![package("other", "1.0.0", license)])).expect("a policy");
            assert_eq!(found.len(), 1, "{license:?}: {found:?}");
            assert!(found[0].starts_with("other 1.0.0"), "{found:?}");
        }
    }

    #[test]
    fn a_second_version_is_a_fault_where_none_is_skipped() {
        let others = vec![package("rand", "0.8.0", Some("MIT")), package("rand", "0.9.0", Some("MIT"))];
        let found = faults(&policy(), &with(others)).expect("a policy");
        assert_eq!(
            found,
            [
                "rand is there in several versions (0.8.0, 0.9.0): bring them together, or add one to `bans.skip`"
            ]
        );
    }

    #[test]
    fn an_exception_for_what_is_gone_is_a_fault() {
        let found = faults(&policy(), &[package("syn", "2.0.0", Some("MIT"))]).expect("a policy");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("syn ^1") && found[1].contains("virt"), "{found:?}");
    }

    #[test]
    fn a_crate_from_elsewhere_is_a_fault() {
        let source = Some("git+https://example.com/a".to_owned());
        let others = vec![Package { source, ..package("a", "1.0.0", Some("MIT")) }];
        let found = faults(&policy(), &with(others)).expect("a policy");
        assert_eq!(found, ["a 1.0.0 comes from git+https://example.com/a, which `sources` does not allow"]);
    }

    #[test]
    fn the_policy_of_this_repository_can_be_read() {
        read_policy(&workspace().join(POLICY)).expect("a policy");
    }
}
