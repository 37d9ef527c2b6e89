//! Opens files by name without trusting what is there: any kind of node may have taken the place of a file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::retried::{RetriedFile, tried_again};
use crate::encryption::LockedError;
use crate::outside::{BlockRead, FileBlocks};

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is missing.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// The node is no regular file.
    #[error("{} is {what}, not a file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// Its type: `a fifo`.
        what: &'static str,
    },
    /// It is encrypted.
    #[error("{} is encrypted{}", path.display(), for_whom(recipients))]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// Who can decrypt it, if that is known.
        recipients: Vec<String>,
        /// Why it cannot be decrypted.
        source: LockedError,
    },
    /// The system refused to open it.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

fn for_whom(recipients: &[String]) -> String {
    if recipients.is_empty() { String::new() } else { format!(" for {}", recipients.join(" and ")) }
}

/// Opens the regular file `path` for reading. Does not follow a symbolic link as the last component. Does not open
/// a fifo, socket or device, since some devices act on being opened.
pub fn open_regular(path: &Path) -> Result<Arc<dyn BlockRead>, OpenError> {
    let failed = failed_at(path);
    let not_a_file = |what| OpenError::NotAFile { path: path.to_owned(), what };
    let facts = tried_again(|| rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)).map_err(failed)?;
    if let Some(what) = name_of_other(FileType::from_raw_mode(facts.st_mode)) {
        return Err(not_a_file(what));
    }
    open_known(CWD, path, path)
}

/// Opens the regular file `at` in `directory` like [`open_regular`]; messages call it `path`. A device is opened
/// before its type is checked.
pub(super) fn open_known(directory: impl AsFd, at: &Path, path: &Path) -> Result<Arc<dyn BlockRead>, OpenError> {
    let failed = failed_at(path);
    let not_a_file = |what| OpenError::NotAFile { path: path.to_owned(), what };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = tried_again(|| rustix::fs::openat(&directory, at, flags, Mode::empty()));
    let file = opened.map_err(|error| match error {
        Errno::LOOP => not_a_file("a symbolic link"),
        error => failed(error),
    })?;
    // The node may have been replaced since its type was checked.
    let facts = rustix::fs::fstat(&file).map_err(failed)?;
    match name_of_other(FileType::from_raw_mode(facts.st_mode)) {
        None => {
            let len_bytes = u64::try_from(facts.st_size).unwrap_or(0);
            Ok(Arc::new(RetriedFile::new(FileBlocks::new(File::from(file), len_bytes))))
        }
        Some(what) => Err(not_a_file(what)),
    }
}

fn failed_at(path: &Path) -> impl Fn(Errno) -> OpenError + Copy {
    move |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR => OpenError::Missing(path.to_owned()),
        error => OpenError::Io { path: path.to_owned(), source: error.into() },
    }
}

/// The type in words; `None` for a regular file.
fn name_of_other(file_type: FileType) -> Option<&'static str> {
    match file_type {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a fifo"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice => Some("a character device"),
        FileType::BlockDevice => Some("a block device"),
        FileType::Unknown => Some("something unknown"),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode};

    use super::{OpenError, open_regular};

    #[test]
    fn only_a_file_is_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(open_regular(&at("file")).is_ok());
        for name in ["link", "directory", "fifo"] {
            assert!(matches!(open_regular(&at(name)), Err(OpenError::NotAFile { .. })), "{name}");
        }
        assert!(matches!(open_regular(&at("none")), Err(OpenError::Missing(_))));
        assert!(matches!(open_regular(&at("file/below")), Err(OpenError::Missing(_))));
    }
}
