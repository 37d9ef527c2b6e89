//! Which files of an image are wanted, and why there are none.

use std::io;
use std::path::PathBuf;

use crate::archive::error::ArchiveError;
use crate::layout::LayoutError;
use crate::manifest::ManifestError;
use crate::run::image_backup::OpenImageError;
use crate::run::restore::select::BadPattern;

/// Why there are no files of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFilesError {
    /// The backup cannot be read.
    #[error(transparent)]
    Backup(#[from] OpenImageError),
    /// Its layout cannot be read.
    #[error("the layout of the volume in it cannot be read")]
    Layout(#[from] LayoutError),
    /// There is no such filesystem, or none can be read here.
    #[error(
        "no filesystem in the image can be read here{}: write the image to a volume with `volbak restore --to-device`, and \
         mount it where that is possible", listed(.0)
    )]
    NoFiles(Vec<String>),
    /// A filesystem cannot be read.
    #[error("{region}: it cannot be read")]
    Region {
        /// The region.
        region: String,
        /// The cause.
        source: io::Error,
    },
    /// A pattern is invalid.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The files do not fit in the temporary directory, or it cannot be used.
    #[error("{}: this directory, which collects the files of the image, cannot be used", path.display())]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// They cannot be put there.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Their manifest cannot be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It was cancelled.
    #[error("interrupted")]
    Stopped,
}

fn listed(reasons: &[String]) -> String {
    if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) }
}

/// Which files are wanted.
#[derive(Clone, Copy, Debug)]
pub struct WantedFiles<'a> {
    /// Patterns of paths, as a restore has them; all without any.
    pub paths: &'a [String],
    /// The only region, by its name.
    pub region: Option<&'a str>,
}
