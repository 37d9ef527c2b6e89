//! Passwords: read when needed, kept no longer than needed, never shown.

use std::fmt;
use std::path::PathBuf;

use super::error::MailError;
use crate::outside::secret_file;

/// Source of the password for the mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// The first line of this file. Only its owner and group may be able to read it.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
}

/// A password. `{:?}` does not show it.
pub(super) struct Secret(
    #[cfg_attr(not(feature = "mail"), expect(dead_code, reason = "only sending reads it"))] String,
);

#[cfg(feature = "mail")]
impl Secret {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PasswordSource {
    /// Checks that the password can be read, and that other users can neither read nor change it.
    pub fn check(&self) -> Result<(), MailError> {
        self.fetch().map(drop)
    }

    /// Reads the password. The error never contains any part of it.
    pub(super) fn fetch(&self) -> Result<Secret, MailError> {
        match self {
            Self::Environment(name) => {
                let wrong = |why: &str| MailError::Password { place: name.clone(), why: why.to_owned() };
                let value = std::env::var_os(name).ok_or_else(|| wrong("the variable is not set"))?;
                let text = value.into_string().map_err(|_| wrong("it is not UTF-8"))?;
                if text.is_empty() { Err(wrong("the variable is empty")) } else { Ok(Secret(text)) }
            }
            Self::File(path) => secret_file::first_line(path)
                .map(Secret)
                .map_err(|why| MailError::Password { place: path.display().to_string(), why }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{MailError, PasswordSource};

    fn fetched(content: &[u8], mode: u32) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match PasswordSource::File(path).fetch() {
            Ok(secret) => {
                assert_eq!(format!("{secret:?}"), "Secret(…)");
                Ok(secret.reveal().to_owned())
            }
            Err(MailError::Password { why, .. }) => Err(why),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_first_line_is_the_password() {
        assert_eq!(fetched(b"geheim\nnot this\n", 0o600), Ok("geheim".to_owned()));
        assert_eq!(fetched(" with spaces é\r\n".as_bytes(), 0o640), Ok(" with spaces é".to_owned()));
        assert_eq!(fetched(b"\n", 0o600), Err("its first line is empty".to_owned()));
        assert_eq!(fetched(b"\xff\n", 0o600), Err("it is not UTF-8".to_owned()));
    }

    #[test]
    fn a_file_that_everybody_may_read_is_refused() {
        assert!(fetched(b"geheim\n", 0o644).unwrap_err().contains("chmod o="));
        assert!(fetched(b"geheim\n", 0o602).unwrap_err().contains("chmod o="));
    }

    #[test]
    fn a_file_that_others_can_replace_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("open")).unwrap();
        let path = directory.path().join("open/password");
        fs::write(&path, "geheim\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = PasswordSource::File(path).fetch().map(drop).unwrap_err().to_string();
        assert!(error.contains("others can write to"), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = PasswordSource::Environment("VOLBAK_TEST_NOT_SET".to_owned()).fetch().unwrap_err();
        assert!(error.to_string().starts_with("VOLBAK_TEST_NOT_SET: "));
    }
}
