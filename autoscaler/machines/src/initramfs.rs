//! The guest's files: an archive of the form that the kernel unpacks, see
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cpio::newc;
use sluice_guest::Program;

const FOLDER: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// An archive that is being written. Paths in it are relative to the guest's root.
#[derive(Debug)]
pub struct Initramfs {
    out: BufWriter<File>,
    present: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// An empty archive that is written to `file`.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self { out: BufWriter::new(file), present: BTreeSet::new() }
    }

    /// Makes a folder and those above it, where they are not there yet: the kernel makes none by itself.
    pub fn folder(&mut self, path: &Path) -> Result<()> {
        let mut missing: Vec<&Path> =
            path.ancestors().take_while(|folder| !folder.as_os_str().is_empty()).collect();
        missing.reverse();
        for folder in missing {
            if self.present.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, 0, &mut io::empty())?;
            }
        }
        Ok(())
    }

    /// Adds an executable text.
    pub fn text(&mut self, path: &Path, text: &str) -> Result<()> {
        self.add(path, text.len() as u64, &mut text.as_bytes())
    }

    /// Adds a copy of a file, once.
    pub fn file(&mut self, path: &Path, original: &Path) -> Result<()> {
        let mut file = File::open(original).with_context(|| format!("cannot open {}", original.display()))?;
        let size = file.metadata()?.len();
        self.add(path, size, &mut file)
    }

    /// Adds a program with the libraries that it loads, which have the same paths as here.
    pub fn program(&mut self, path: &Path, original: &Path) -> Result<()> {
        self.loaded(path, &Program::of(original)?)
    }

    /// The same of one that was read already.
    pub fn loaded(&mut self, path: &Path, program: &Program) -> Result<()> {
        self.add(path, program.content.len() as u64, &mut program.content.as_slice())?;
        for library in &program.libraries {
            let place = library.strip_prefix("/").unwrap_or(library);
            self.file(place, library)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, size: u64, content: &mut dyn io::Read) -> Result<()> {
        if let Some(folder) = path.parent() {
            self.folder(folder)?;
        }
        if self.present.insert(path.to_owned()) {
            self.entry(path, EXECUTABLE, size, content)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, mode: u32, size: u64, content: &mut dyn io::Read) -> Result<()> {
        let size = u32::try_from(size).with_context(|| format!("{} is too large", path.display()))?;
        let name = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        let mut entry = newc::Builder::new(name).mode(mode).write(&mut self.out, size);
        io::copy(content, &mut entry).with_context(|| format!("cannot pack {}", path.display()))?;
        entry.finish().with_context(|| format!("cannot pack {}", path.display()))?;
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<()> {
        newc::trailer(self.out)?.flush().context("cannot write the initramfs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_found_again_with_its_folders() {
        let file = tempfile::tempfile().expect("a file");
        let mut image = Initramfs::new(file.try_clone().expect("the file"));
        image.text(Path::new("a/b/one"), "1").expect("packed");
        image.text(Path::new("a/two"), "22").expect("packed");
        image.text(Path::new("a/two"), "a second time").expect("left out");
        image.finish().expect("written");

        let mut file = file;
        io::Seek::rewind(&mut file).expect("at its beginning");
        let mut found = Vec::new();
        loop {
            let reader = newc::Reader::new(file).expect("an entry");
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            found.push((entry.name().to_owned(), entry.mode(), entry.file_size()));
            file = reader.finish().expect("the next");
        }
        let expected =
            [("a", FOLDER, 0), ("a/b", FOLDER, 0), ("a/b/one", EXECUTABLE, 1), ("a/two", EXECUTABLE, 2)];
        assert_eq!(found, expected.map(|(name, mode, size)| (name.to_owned(), mode, size)));
    }
}
