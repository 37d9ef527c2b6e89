//! Errors that prevent the restore of an entry, in words.

use rustix::io::Errno;

use crate::run::restore::attributes::AttributeError;
use crate::run::restore::data::DataError;

/// Why a complete file does not get its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// The current directory no longer exists.
    #[error("{}", in_words(*.0))]
    Here(Errno),
    /// The existing entry cannot be examined, or has another name.
    #[error("not restored: {}", in_words(*.0))]
    Look(Errno),
    /// The archive contains the name twice, which volbak's own archives never do.
    #[error("not restored: an entry with the same name was already restored")]
    Twice,
    /// An existing entry has the name and is kept.
    #[error("{EXISTS}")]
    Exists,
    /// The rename failed.
    #[error("its temporary file cannot be renamed to it: {}", in_words(*.0))]
    Rename(Errno),
}

/// Why a file was not restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// Its data is lost or cannot be written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its data differs from the backed up data.
    #[error("not restored, since its SHA-256 is not the one in the index")]
    Digest,
    /// It ends too early.
    #[error("not restored, since its data in the archive is shorter than the file")]
    Short,
    /// An attribute cannot be set.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
    /// It does not get its final name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FileError {
    /// The number that the system gave a failed write or rename.
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Data(DataError::Write(error)) => Errno::from_io_error(error),
            Self::Name(NameError::Rename(error)) => Some(*error),
            _ => None,
        }
    }
}

/// The message if two names refer to the same entry: on a filesystem that ignores case or Unicode normalisation.
const SAME_NAME: &str = "the target takes its name and that of another entry there for one";
pub(super) const EXISTS: &str =
    "not restored: another entry of the archive has its name; --overwrite takes the last one, as tar does";
/// The message for an existing directory, which is kept even with `Existing::Overwrite`.
pub(super) const DIRECTORY_IN_THE_WAY: &str =
    "not restored: a directory of that name is there, and --overwrite removes none";

/// An error number in words suitable here.
pub(crate) fn in_words(error: Errno) -> String {
    match error {
        Errno::LOOP => "a symbolic link is in the way".to_owned(),
        Errno::NOTDIR => "something that is no directory is in the way".to_owned(),
        Errno::EXIST => "something of that name is there already".to_owned(),
        Errno::NOTUNIQ => SAME_NAME.to_owned(),
        Errno::XDEV => "its path leads out of the directory".to_owned(),
        error => error.to_string(),
    }
}
