//! The names of the shared layout.

/// How the nights of a volume lie in a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveLayout {
    /// Each archive is a file of its own.
    #[default]
    Plain,
    /// Archives share what they have in common.
    Shared,
}

/// The suffix of a recipe, behind the name of the archive.
pub const PARTS: &str = ".parts";
/// The suffix of a mark, behind the name of a segment: in an object store, what has it is removed later.
pub(super) const UNNEEDED: &str = ".unneeded";
/// The folder of the segments, in that of the volume.
pub const SEGMENTS_FOLDER: &str = "segments";
