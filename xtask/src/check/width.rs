//! `check`: no line is too wide to be read.
//!
//! rustfmt breaks code at the `max_width` of `rustfmt.toml`. It leaves comments and long strings as they are, and knows
//! nothing of Markdown.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Endings of file names, and how many characters a line may have.
const LIMITS: [(&str, usize); 2] = [("rs", 130), ("md", 120)];

/// Checks all sources and texts below a folder.
///
/// # Errors
/// Every line that is too wide, with file and line; or a file that can't be read.
pub(super) fn check(root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    for (path, limit) in files(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        faults.extend(too_wide(&text, limit).map(|(line, width)| {
            format!("{name}:{line}: {width} characters, and {limit} are allowed: break the line")
        }));
    }
    if faults.is_empty() { Ok(()) } else { bail!("lines are too wide:\n{}", faults.join("\n")) }
}

/// The files that have a limit, each with it, but for what cargo, git and editors make.
fn files(folder: &Path) -> Result<Vec<(PathBuf, usize)>> {
    let cannot_read = || format!("cannot read {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot_read)? {
        let entry = entry.with_context(cannot_read)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(cannot_read)?);
        if kind.is_dir() {
            let name = entry.file_name();
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                found.extend(files(&path)?);
            }
        } else if let Some((_, limit)) =
            LIMITS.iter().find(|(ending, _)| path.extension().is_some_and(|e| e == *ending))
        {
            found.push((path, *limit));
        }
    }
    found.sort();
    Ok(found)
}

/// The lines that are too wide: number and width in characters. A row of a table can't be broken, and what is between
/// ``` in a text, commands and pictures, is as wide as it has to be.
fn too_wide(text: &str, limit: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut in_block = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let content = line.trim_start();
        let is_fence = content.starts_with("```");
        in_block ^= is_fence;
        let content = content.strip_prefix("///").or_else(|| content.strip_prefix("//!")).unwrap_or(content);
        let is_row = content.trim_start().starts_with('|');
        let width = line.chars().count();
        (width > limit && !is_row && !is_fence && !in_block).then_some((number, width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_line_is_found_but_in_a_table_or_a_block() {
        let text = "short\nfar too wide\n| far too wide |\n```sh\nfar too wide\n```\nfar too wide, again\n";
        assert_eq!(too_wide(text, 10).collect::<Vec<_>>(), [(2, 12), (7, 19)]);
        assert_eq!(
            too_wide("    /// | far too wide |\n//! | far too wide |\n/// far too wide", 10).count(),
            1
        );
    }

    #[test]
    fn width_is_counted_in_characters() {
        assert_eq!(too_wide("──────────", 10).count(), 0);
    }

    #[test]
    fn what_cargo_makes_is_left_out() {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["src", "target", ".git"] {
            fs::create_dir(root.path().join(folder)).expect("a folder in it");
            fs::write(root.path().join(folder).join("lib.rs"), "x".repeat(200)).expect("a file");
        }
        let error = check(root.path()).expect_err("a line is too wide").to_string();
        assert_eq!(
            error,
            "lines are too wide:\nsrc/lib.rs:1: 200 characters, and 130 are allowed: break the line"
        );
    }
}
