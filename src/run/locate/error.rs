//! Why a name stands for no backup.

use std::path::PathBuf;

use super::located::Located;
use crate::archive::kind::ArchiveKind;
use crate::store::StoreError;

/// Why no backup was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The path does not have the suffix of an archive.
    #[error(
        "{} is not the name of an archive: those end with {}",
        .0.display(),
        ArchiveKind::ALL.map(ArchiveKind::suffix).join(" or ")
    )]
    NotAnArchive(PathBuf),
    /// A volume was named without a destination.
    #[error(
        "{0} is not the path of an archive, and there is no destination in which to look for a volume of that name: use --destination"
    )]
    NoDestination(String),
    /// The address is not in the destination.
    #[error("{wanted} is not an archive in {}: name its destination with --destination", destination.display())]
    Elsewhere {
        /// The address.
        wanted: String,
        /// The destination.
        destination: PathBuf,
    },
    /// The destination has no complete backup of that volume.
    #[error("{} has no backup of {volume} that is complete{}", destination.display(), listed(there))]
    NoBackup {
        /// The volume.
        volume: String,
        /// The destination.
        destination: PathBuf,
        /// The incomplete ones.
        there: Vec<String>,
    },
    /// It has backups, but none usable as "the newest".
    #[error(
        "{volume} has no backup that can be relied on; name one by its date to use it nevertheless:{}",
        lines(passed_over)
    )]
    NoneUsable {
        /// The volume.
        volume: String,
        /// Each backup, and why it was passed over.
        passed_over: Vec<String>,
        /// The newest of them, for read-only use.
        #[doc(hidden)]
        newest: Box<Located>,
    },
    /// It has no backup of that date.
    #[error("{volume} has no backup of {date}{}", listed(there))]
    NoSuchDate {
        /// The volume.
        volume: String,
        /// The date as typed.
        date: String,
        /// The existing ones, in a form that can be typed.
        there: Vec<String>,
    },
    /// The name is ambiguous.
    #[error("{wanted} may mean any of {}: write the one that you mean", candidates.join(", "))]
    Ambiguous {
        /// The name.
        wanted: String,
        /// The candidates, in a form that can be typed.
        candidates: Vec<String>,
    },
    /// It is no valid date.
    #[error(
        "{0} is not a date: write 2026-11-20, 20_11_2026 as in the file's name, today, yesterday or last, with _HHMMSS \
         after the date where needed"
    )]
    BadDate(String),
    /// The destination cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LocateError {
    /// Whether the name is the mistake, whatever backups there are: a share that is not mounted has none.
    pub fn is_wrong_name(&self) -> bool {
        !matches!(self, Self::NoBackup { .. } | Self::NoSuchDate { .. } | Self::NoneUsable { .. } | Self::Store(_))
    }
}

fn listed(there: &[String]) -> String {
    if there.is_empty() { String::new() } else { format!("; there are: {}", there.join(", ")) }
}

fn lines(texts: &[String]) -> String {
    texts.iter().flat_map(|text| ["\n  ", text.as_str()]).collect()
}
