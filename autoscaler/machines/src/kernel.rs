//! Debian's kernel, unpacked beside what cargo builds. It is not installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Depends on the newest kernel of the release for guests: few drivers, so a small package.
const NEWEST: &str = "linux-image-cloud-amd64";

/// A kernel's package, unpacked.
#[derive(Debug)]
pub struct Kernel {
    /// What `uname -r` says.
    pub release: String,
    /// The kernel itself.
    pub image: PathBuf,
    /// The folder that stands for `/`.
    pub root: PathBuf,
}

impl Kernel {
    /// These modules, those that they need, and the indices in which `modprobe` finds them.
    pub fn module_files(&self, modules: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("lib/modules").join(&self.release);
        let index = folder.join("modules.dep");
        let text = fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
        let mut files = vec![index, folder.join("modules.alias"), folder.join("modules.symbols")];
        files.extend(needed(&text, modules)?.into_iter().map(|module| folder.join(module)));
        Ok(files)
    }
}

/// The files of these modules and of all they need, from the lines `FILE: FILE…` of `modules.dep`.
fn needed<'a>(index: &'a str, modules: &[&str]) -> Result<BTreeSet<&'a str>> {
    let mut files = BTreeSet::new();
    for module in modules {
        let is_module = |file: &str| {
            let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.split('.').next() == Some(module)
        };
        let line = index.lines().filter_map(|line| line.split_once(':')).find(|(file, _)| is_module(file));
        let (file, needs) = line.with_context(|| format!("the kernel's package has no module {module}"))?;
        files.insert(file);
        files.extend(needs.split_whitespace());
    }
    Ok(files)
}

/// The newest kernel of this host's release of Debian, fetched once for each of its versions.
pub fn of_this_release(folder: &Path) -> Result<Kernel> {
    let package = newest().with_context(|| {
        format!(
            "apt knows no package {NEWEST}: run `apt-get update` on Debian, or name a package with --package"
        )
    })?;
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("cannot create {}", packages.display()))?;
    let version = apt_candidate(&package).unwrap_or_default();
    if let Some(file) = fetched(&packages, &package, &version) {
        return unpack(&file, folder);
    }
    if !download(&package, &packages)? && nix::unistd::geteuid().is_root() {
        // Old lists name files that security updates have replaced.
        let _ = Command::new("apt-get").arg("update").status();
        download(&package, &packages)?;
    }
    let version = apt_candidate(&package).unwrap_or_default();
    let file = fetched(&packages, &package, &version)
        .with_context(|| format!("apt-get did not fetch {package} {version}; its reason is above"))?;
    unpack(&file, folder)
}

fn newest() -> Option<String> {
    let output = Command::new("apt-cache").args(["depends", NEWEST]).env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
}

fn download(package: &str, folder: &Path) -> Result<bool> {
    let mut command = Command::new("apt-get");
    // As root apt fetches with fewer rights, and can't write to a folder of root's: that is worth no warning.
    command.args(["--quiet", "-o", "APT::Sandbox::User=root", "download", package]);
    Ok(command.current_dir(folder).status().context("cannot run apt-get")?.success())
}

/// The file as `apt-get download` names it: the colon of an epoch is escaped.
fn fetched(folder: &Path, package: &str, version: &str) -> Option<PathBuf> {
    let file = folder.join(format!("{package}_{}_amd64.deb", version.replace(':', "%3a")));
    file.is_file().then_some(file)
}

/// Unpacks a kernel's package, and indexes its modules.
pub fn unpack(package: &Path, folder: &Path) -> Result<Kernel> {
    let name = package.file_stem().with_context(|| format!("{} is no file", package.display()))?;
    let root = folder.join(name);
    if let Ok(kernel) = find(&root) {
        return Ok(kernel);
    }
    // Under another name until it is whole.
    let unpacked = folder.join("unpacking");
    remove(&unpacked)?;
    remove(&root)?;
    succeed(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unpacked))?;
    let kernel = find(&unpacked)?;
    succeed(Command::new("busybox").args(["depmod", "-b"]).arg(&unpacked).arg(&kernel.release))?;
    fs::rename(&unpacked, &root).with_context(|| format!("cannot create {}", root.display()))?;
    find(&root)
}

fn find(root: &Path) -> Result<Kernel> {
    let boot = root.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            return Ok(Kernel { release: release.to_owned(), root: root.to_owned(), image: path });
        }
    }
    bail!("{} has no kernel: this is no package of a Linux image", boot.display())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if status.success() { Ok(()) } else { bail!("{name} failed ({status})") }
}

/// The version of a Debian package that would be installed, without its revision; `None` where apt knows none.
#[must_use]
pub fn apt_candidate(package: &str) -> Option<String> {
    let output = Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").output().ok()?;
    candidate(&String::from_utf8_lossy(&output.stdout))
}

fn candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "kernel/drivers/net/veth.ko:\n\
                         kernel/net/802/stp.ko: kernel/net/llc/llc.ko\n\
                         kernel/net/llc/llc.ko:\n\
                         kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko kernel/net/llc/llc.ko\n";

    #[test]
    fn modules_come_with_what_they_need() {
        let files = needed(INDEX, &["veth", "bridge"]).expect("both are there");
        let expected = [
            "kernel/drivers/net/veth.ko",
            "kernel/net/802/stp.ko",
            "kernel/net/bridge/bridge.ko.xz",
            "kernel/net/llc/llc.ko",
        ];
        assert_eq!(files.into_iter().collect::<Vec<_>>(), expected);
        assert!(needed(INDEX, &["cls_bpf"]).expect_err("not there").to_string().contains("cls_bpf"));
    }

    #[test]
    fn the_candidate_is_read_from_apts_policy() {
        let policy =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate("rustup:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }
}
