//! The passwords of a guest's users, on their way from the file where they are to the seed. No type here can be
//! printed, and no message has one in it.

use sha_crypt::{PasswordHasher as _, ShaCrypt};
use sluice_logic::spec::GuestPassword;

use super::connection::Fault;
use crate::secret;

/// What the seed says.
pub(super) enum GuestSecret {
    /// crypt(5): method, salt and hash.
    Hash(String),
    /// The password as it is, where the tenant has asked for that.
    Clear(String),
}

/// What a guest gets of a password.
pub(super) fn for_guest(password: &GuestPassword, encrypt: bool) -> Result<GuestSecret, Fault> {
    match password {
        GuestPassword::Hash(hash) => Ok(GuestSecret::Hash(hash.clone())),
        GuestPassword::File(path) => {
            let clear = secret::read(path)
                .map_err(|error| Fault::Other(format!("a user's password can't be used: {error}")))?;
            if encrypt { hash(&clear).map(GuestSecret::Hash) } else { Ok(GuestSecret::Clear(clear)) }
        }
    }
}

/// SHA-512 as in crypt(5), with a salt of its own each time.
fn hash(clear: &str) -> Result<String, Fault> {
    let hash = ShaCrypt::SHA512.hash_password(clear.as_bytes());
    hash.map(|hash| hash.as_str().to_owned())
        .map_err(|error| Fault::Other(format!("a password can't be hashed: {error}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use sha_crypt::PasswordVerifier as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn a_guest_gets_a_salted_hash_unless_it_was_asked_for_otherwise() {
        let file = file("hunter2\nnot this\n");
        let password = GuestPassword::File(file.path().to_owned());
        let hashed = || match for_guest(&password, true).expect("a hash") {
            GuestSecret::Hash(hash) => hash,
            GuestSecret::Clear(_) => panic!("it is in clear"),
        };
        let (one, other) = (hashed(), hashed());
        assert!(one.starts_with("$6$") && one != other, "each has a salt of its own");
        assert!(ShaCrypt::SHA512.verify_password(b"hunter2", one.as_str()).is_ok());
        let clear = for_guest(&password, false).expect("the password");
        assert!(matches!(clear, GuestSecret::Clear(clear) if clear == "hunter2"));
        let given = for_guest(&GuestPassword::Hash("$6$a$b".into()), false).expect("the hash");
        assert!(matches!(given, GuestSecret::Hash(hash) if hash == "$6$a$b"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let file = file("hunter2\n");
        let readable = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(file.path(), readable).expect("readable for a group");
        let fault = for_guest(&GuestPassword::File(file.path().to_owned()), true).err().expect("a fault");
        let fault = fault.to_string();
        assert!(fault.contains("chmod 600") && !fault.contains("hunter2"), "{fault}");
    }
}
