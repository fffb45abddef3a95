//! A small image: a program with the libraries that it loads, and a busybox.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Debian's `busybox-static` puts it there.
const BUSYBOX: &str = "/usr/bin/busybox";

/// What of busybox is there by its own name.
const APPLETS: &[&str] =
    &["sh", "ls", "cat", "ps", "ip", "ping", "wget", "nc", "top", "sleep", "kill", "syslogd"];

/// An image as `docker load` takes it.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    archive: Vec<u8>,
}

impl Image {
    /// An image of that name, as `docker pull` takes it, that runs a program of this host. `arguments` follow the
    /// program's name. The same files make the same image, to the byte.
    pub fn of(name: &str, program: &Path, arguments: &[&str]) -> Result<Self> {
        let layer = layer(program)?;
        let place = format!("/bin/{}", file_name(program)?);
        let command: Vec<&str> = std::iter::once(place.as_str()).chain(arguments.iter().copied()).collect();
        Ok(Self { name: name.to_owned(), archive: archive(name, &layer, &command)? })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The archive that `docker load` reads.
    #[must_use]
    pub fn archive(&self) -> &[u8] {
        &self.archive
    }
}

/// The files, as a tar.
fn layer(program: &Path) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for folder in ["bin", "tmp", "etc", "proc", "sys", "dev", "run"] {
        add_folder(&mut layer, Path::new(folder), &mut folders)?;
    }
    add_program(&mut layer, &Path::new("bin").join(file_name(program)?), program, &mut folders)?;
    let busybox = Path::new(BUSYBOX);
    if !busybox.exists() {
        bail!("{BUSYBOX} is missing: `apt-get install busybox-static`, or `./x setup`");
    }
    add_program(&mut layer, Path::new("bin/busybox"), busybox, &mut folders)?;
    for applet in APPLETS {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, Path::new("bin").join(applet), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn add_program(
    layer: &mut Builder<Vec<u8>>,
    place: &Path,
    original: &Path,
    folders: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    add_file(layer, place, original, folders)?;
    for library in libraries(original)? {
        let place = library.strip_prefix("/").unwrap_or(&library).to_owned();
        if folders.insert(place.clone()) {
            add_file(layer, &place, &library, folders)?;
        }
    }
    Ok(())
}

fn add_file(
    layer: &mut Builder<Vec<u8>>,
    place: &Path,
    original: &Path,
    folders: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    if let Some(folder) = place.parent() {
        add_folder(layer, folder, folders)?;
    }
    let file = File::open(original).with_context(|| format!("cannot open {}", original.display()))?;
    let mut header = header(EntryType::Regular, 0o755, file.metadata()?.len());
    layer.append_data(&mut header, place, file).with_context(|| format!("cannot pack {}", original.display()))
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

/// The form of `docker save`: a manifest, the image's configuration, a layer. See the section "Combined Image JSON +
/// Filesystem Changeset Format" of Docker's image specification, version 1.2.
fn archive(name: &str, layer: &[u8], command: &[&str]) -> Result<Vec<u8>> {
    let configuration = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": command, "Env": ["PATH=/bin"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))] },
    }))?;
    let configuration_name = format!("{}.json", digest(&configuration));
    let layer_name = format!("{}/layer.tar", digest(layer));
    let manifest = serde_json::to_vec(&json!([
        { "Config": configuration_name, "RepoTags": [name], "Layers": [layer_name] }
    ]))?;
    let mut archive = Builder::new(Vec::new());
    let files =
        [("manifest.json", &manifest[..]), (&configuration_name, &configuration), (&layer_name, layer)];
    for (place, content) in files {
        let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
        archive.append_data(&mut header, place, content)?;
    }
    Ok(archive.into_inner()?)
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

/// The libraries of a program, its loader among them; none where it is static.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} can't run on this host: {}", program.display(), line.trim());
    }
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or the loader's path alone.
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_image() {
        let image = || Image::of("sluice/test:1", Path::new("/bin/true"), &["x"]).expect("an image");
        let (one, other) = (image(), image());
        assert_eq!(one.archive(), other.archive());

        let mut archive = tar::Archive::new(one.archive());
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
        for needed in ["bin/true", "bin/busybox", "bin/sh"] {
            assert!(names.iter().any(|name| name == needed), "{needed} is not in {names:?}");
        }
        assert!(names.iter().any(|name| name.contains("ld-linux")), "{names:?}");
    }
}
