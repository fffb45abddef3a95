//! A small image: a program with the libraries that it loads, and a busybox.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sluice_guest::Program;
use tar::{Builder, EntryType, Header};

/// The first process.
const INIT: &str = include_str!("init");

/// What of busybox is there by its own name: what the scripts need, and what a person looks for.
const APPLETS: &[&str] = &[
    "awk", "cat", "grep", "hostname", "ip", "kill", "logger", "ls", "nc", "ping", "ps", "sed", "sh", "sleep",
    "syslogd", "top", "udhcpc", "wget",
];

/// An image as `docker load` takes it.
///
/// Beside its program it answers on the management network with metrics as `node_exporter` has them (port 9100,
/// `/metrics`) and sends what is logged there by syslog. An interface that `SLUICE_DHCP` names asks for its address, which
/// takes the capability `NET_ADMIN`. A template's `command` comes in the place of all this.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    configuration: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    /// An image of that name, as `docker pull` takes it, that runs a program of this host, without its debug information.
    /// `arguments` follow the program's name. The same files make the same image, to the byte.
    pub fn of(name: &str, program: &Path, arguments: &[&str]) -> Result<Self> {
        let layer = layer(program)?;
        let place = format!("/bin/{}", file_name(program)?);
        let command: Vec<&str> = ["/init", &place].into_iter().chain(arguments.iter().copied()).collect();
        Ok(Self { name: name.to_owned(), configuration: configuration(&layer, &command)?, layer })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What Docker's image specification calls its JSON.
    #[must_use]
    pub fn configuration(&self) -> &[u8] {
        &self.configuration
    }

    /// Its one layer, a tar.
    #[must_use]
    pub fn layer(&self) -> &[u8] {
        &self.layer
    }

    /// The archive that `docker load` reads, of the form of `docker save`: a manifest, the configuration, the layer. See
    /// the section "Combined Image JSON + Filesystem Changeset Format" of Docker's image specification, version 1.2.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let configuration = format!("{}.json", digest(&self.configuration));
        let layer = format!("{}/layer.tar", digest(&self.layer));
        let manifest = serde_json::to_vec(&json!([
            { "Config": configuration, "RepoTags": [self.name], "Layers": [layer] }
        ]))?;
        let mut archive = Builder::new(Vec::new());
        let files =
            [("manifest.json", &manifest), (&configuration, &self.configuration), (&layer, &self.layer)];
        for (place, content) in files {
            let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
            archive.append_data(&mut header, place, &content[..])?;
        }
        Ok(archive.into_inner()?)
    }
}

/// The files, as a tar.
fn layer(program: &Path) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for folder in ["bin", "tmp", "etc", "proc", "sys", "dev", "run", "var/log"] {
        add_folder(&mut layer, Path::new(folder), &mut folders)?;
    }
    for (place, script) in sluice_guest::SCRIPTS.into_iter().chain([("init", INIT)]) {
        add_file(&mut layer, Path::new(place), script.as_bytes(), &mut folders)?;
    }
    let place = Path::new("bin").join(file_name(program)?);
    add_program(&mut layer, &place, &Program::stripped(program)?, &mut folders)?;
    add_program(&mut layer, Path::new("bin/busybox"), &sluice_guest::busybox()?, &mut folders)?;
    for applet in APPLETS {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, Path::new("bin").join(applet), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn add_program(
    layer: &mut Builder<Vec<u8>>,
    place: &Path,
    program: &Program,
    folders: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    add_file(layer, place, &program.content, folders)?;
    for library in &program.libraries {
        let place = library.strip_prefix("/").unwrap_or(library);
        if folders.insert(place.to_owned()) {
            let content = fs::read(library).with_context(|| format!("cannot read {}", library.display()))?;
            add_file(layer, place, &content, folders)?;
        }
    }
    Ok(())
}

fn add_file(
    layer: &mut Builder<Vec<u8>>,
    place: &Path,
    content: &[u8],
    folders: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    if let Some(folder) = place.parent() {
        add_folder(layer, folder, folders)?;
    }
    let mut header = header(EntryType::Regular, 0o755, content.len() as u64);
    layer.append_data(&mut header, place, content).with_context(|| format!("cannot pack {}", place.display()))
}

/// Makes a folder and those above it, where they are not there yet.
fn add_folder(layer: &mut Builder<Vec<u8>>, place: &Path, folders: &mut BTreeSet<PathBuf>) -> Result<()> {
    let mut missing: Vec<&Path> = place.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    missing.reverse();
    for folder in missing {
        if folders.insert(folder.to_owned()) {
            layer.append_data(&mut header(EntryType::Directory, 0o755, 0), folder, std::io::empty())?;
        }
    }
    Ok(())
}

/// Owned by root and of no time, so that the same files make the same image.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}

fn configuration(layer: &[u8], command: &[&str]) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": command, "Env": ["PATH=/bin"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))] },
    }))?)
}

/// As Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn file_name(program: &Path) -> Result<&str> {
    let name = program.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{} is not the path of a program", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_image() {
        let image = || Image::of("sluice/test:1", Path::new("/bin/true"), &["x"]).expect("an image");
        let (one, other) = (image(), image());
        let (one, other) = (one.archive().expect("packed"), other.archive().expect("packed"));
        assert_eq!(one, other);

        let mut archive = tar::Archive::new(&one[..]);
        let names: Vec<String> = (archive.entries().expect("entries"))
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[0], "manifest.json");
    }

    #[test]
    fn a_program_is_packed_with_its_loader() {
        let packed = layer(Path::new("/bin/true")).expect("a layer");
        let mut archive = tar::Archive::new(&packed[..]);
        let names: Vec<String> = (archive.entries().expect("entries"))
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        for needed in ["bin/true", "bin/busybox", "bin/sh", "init", "etc/exporter"] {
            assert!(names.iter().any(|name| name == needed), "{needed} is not in {names:?}");
        }
        assert!(names.iter().any(|name| name.contains("ld-linux")), "{names:?}");
    }
}
