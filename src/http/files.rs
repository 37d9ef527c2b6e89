//! Files of settings, of credentials and of certificates: bounded, and refused if other users can change them.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, PemItem, parse_pem};

use crate::outside::trust::changeable;

/// A longer file is no file of settings.
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_CA_BYTES: u64 = 4 << 20;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be used.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl FileError {
    pub(crate) fn wrong(path: &Path, what: String) -> Self {
        Self::Wrong { path: path.to_owned(), what }
    }
}

/// Reads a file of settings; `None` if it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let wrong = |what: String| FileError::wrong(path, what);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(wrong("it is not a regular file".to_owned()));
    }
    // Who changes the address in it gets the password.
    if let Some(found) = changeable(path).map_err(unreadable)? {
        return Err(wrong(format!("it is not used: {found}")));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(Some(text))
}

/// That every user of this host can read a file with a password.
pub(crate) fn doubt(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.mode();
    (mode & 0o004 != 0).then(|| {
        format!("every user of this host can read {}, which may hold a password; run chmod o= on it", path.display())
    })
}

/// The authorities in `ca_file`, or those of the system.
pub(super) fn authorities(ca_file: Option<&Path>) -> Result<Vec<Certificate<'static>>, FileError> {
    let Some(path) = ca_file else {
        let found = rustls_native_certs::load_native_certs();
        return Ok(found.certs.iter().map(|one| Certificate::from_der(one.as_ref()).to_owned()).collect());
    };
    let wrong = |what: String| FileError::wrong(path, what);
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_CA_BYTES {
        return Err(wrong("it is no file with certificates".to_owned()));
    }
    let text = fs::read(path).map_err(unreadable)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate.to_owned()),
            Ok(_) => {}
            Err(error) => return Err(wrong(format!("a certificate in it is damaged: {error}"))),
        }
    }
    if certificates.is_empty() {
        return Err(wrong("it holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}
