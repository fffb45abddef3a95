//! Passwords in files, so that they come into no configuration, label, state file or log.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Longer ones are a mistake, bytes: somebody named another file.
const LONGEST: u64 = 16 << 10;

/// The first line of a file that only root can read. Errors name the file, and have nothing of its content in them.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let wrong = |reason: &str| io::Error::other(format!("{}: {reason}", path.display()));
    let of = |error: io::Error| wrong(&error.to_string());
    let file = File::open(path).map_err(of)?;
    let mode = file.metadata().map_err(of)?.mode();
    if mode & 0o077 != 0 {
        return Err(wrong(&format!(
            "others than root may read it (mode {:o}): `chmod 600` it",
            mode & 0o777
        )));
    }
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(of)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(wrong("its first line is empty"));
    }
    if line.len() as u64 > LONGEST {
        return Err(wrong(&format!("its first line has more than {LONGEST} bytes")));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_read_only_where_nobody_else_can() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("password");
        fs::write(&file, "s3cret\nmore\n").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("readable for all");
        let refused = read(&file).expect_err("others may read it").to_string();
        assert!(refused.contains("chmod 600") && !refused.contains("s3cret"), "{refused}");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("for root alone");
        assert_eq!(read(&file).expect("read"), "s3cret");
        assert!(read(&directory.path().join("none")).is_err());
    }

    #[test]
    fn faults_name_the_file_and_not_what_is_in_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("password");
        fs::write(&file, "").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("for root alone");
        let long = "x".repeat(20_000);
        for text in ["", "\nsecond", &long] {
            fs::write(&file, text).expect("written");
            let fault = read(&file).expect_err("a fault").to_string();
            assert!(fault.contains(&file.display().to_string()) && !fault.contains("xxx"), "{fault}");
        }
    }
}
