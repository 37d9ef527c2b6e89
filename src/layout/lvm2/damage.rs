//! Why a metadata area or its text is unusable.

use super::group::MetadataError;

/// An unusable metadata area.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata area at byte {at_byte}: {why}")]
pub struct AreaDamage {
    /// Its offset in the region.
    pub at_byte: u64,
    /// The reason.
    pub why: TextError,
}

/// Why the text of a metadata area is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// `struct mda_header` could not be read.
    #[error("its header is not on the disk or cannot be read")]
    HeaderUnreadable,
    /// `mda_header.magic` or `version` does not match.
    #[error("its header's magic is missing")]
    Magic,
    /// `mda_header.checksum_xl` is wrong.
    #[error("its header's checksum is wrong")]
    HeaderChecksum,
    /// An offset or length in the header is impossible.
    #[error("its header's numbers are impossible")]
    Numbers,
    /// The text could not be read.
    #[error("its text is not on the disk or cannot be read")]
    Unreadable,
    /// The text is longer than memory can address.
    #[error("its text is too long")]
    TooLong,
    /// `raw_locn.checksum` is wrong.
    #[error("its text's checksum is wrong")]
    Checksum,
    /// The source has more text than one detection reads, in MiB.
    #[error("the source has more than {0} MiB of LVM2 metadata, and the rest is not read")]
    TooMuchText(u64),
    /// The groups of the source together have more parts than this bound.
    #[error("the source's LVM2 metadata have more than {0} parts")]
    TooManyParts(usize),
    /// The text does not describe a volume group.
    #[error("{0}")]
    NoGroup(MetadataError),
}
