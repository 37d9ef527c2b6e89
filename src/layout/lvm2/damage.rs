//! Why a metadata area, or the text in it, cannot be used.

use super::group::MetadataError;

/// A metadata area that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata area at byte {at_byte}: {why}")]
pub struct AreaDamage {
    /// Where it begins, in the region.
    pub at_byte: u64,
    /// What is wrong with it.
    pub why: TextError,
}

/// Why the text of a metadata area cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// `struct mda_header` could not be read.
    #[error("its header is not on the disk or cannot be read")]
    HeaderUnreadable,
    /// `mda_header.magic` or `version` is another one.
    #[error("its header's magic is missing")]
    Magic,
    /// `mda_header.checksum_xl` is wrong.
    #[error("its header's checksum is wrong")]
    HeaderChecksum,
    /// Offsets or lengths in the header cannot be.
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
    /// The groups of the source have more parts together than this bound.
    #[error("the source's LVM2 metadata have more than {0} parts")]
    TooManyParts(usize),
    /// The text is no volume group.
    #[error("{0}")]
    NoGroup(MetadataError),
}
