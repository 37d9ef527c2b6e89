//! Errors that keep an entry from being restored, in words.

use rustix::io::Errno;

use crate::run::restore::attributes::AttributeError;
use crate::run::restore::data::DataError;

/// Why a complete file does not get its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    /// The directory that is worked in is gone.
    #[error("{}", in_words(*.0))]
    Here(Errno),
    /// What has its name cannot be looked at, or is called otherwise.
    #[error("not restored: {}", in_words(*.0))]
    Look(Errno),
    /// The archive has the name twice, which none of volbak's own has.
    #[error("not restored: an entry of the same name was restored before it")]
    Twice,
    /// Something has the name, and stays.
    #[error("{EXISTS}")]
    Exists,
    /// It cannot be renamed.
    #[error("it cannot get its name: {}", in_words(*.0))]
    Rename(Errno),
}

/// Why a file was not restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Its data is lost, or cannot be written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its data is other data than at the backup.
    #[error("not restored, since its SHA-256 is not the one in the index")]
    Digest,
    /// An attribute cannot be set.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
    /// It does not get its name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// For an entry whose name another one's stands for: on a filesystem that does not tell capital and small letters apart,
/// or spellings of Unicode.
const SAME_NAME: &str = "the target takes its name and that of another entry there for one";
pub(super) const EXISTS: &str =
    "not restored: another entry of the archive has its name; --overwrite takes the last one, as tar does";
/// What stays even with `Existing::Overwrite`.
pub(super) const DIRECTORY_IN_THE_WAY: &str =
    "not restored: a directory of that name is there, and --overwrite removes none";

/// An error number, with what it means here.
pub(super) fn in_words(error: Errno) -> String {
    match error {
        Errno::LOOP => "a symbolic link is in the way".to_owned(),
        Errno::NOTDIR => "something that is no directory is in the way".to_owned(),
        Errno::EXIST => "something of that name is there already".to_owned(),
        Errno::NOTUNIQ => SAME_NAME.to_owned(),
        Errno::XDEV => "its path leads out of the directory".to_owned(),
        error => error.to_string(),
    }
}
