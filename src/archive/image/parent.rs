//! The previous image archive, from which members are copied whose content is the same.

use std::io;
use std::sync::Arc;

use super::index::{Holds, ImageIndexError, ImageIndexReader, ImageMember};
use crate::archive::carry::Share;
use crate::archive::members::{KnownMember, KnownMembersOf};
use crate::outside::digest::sha256_of;
use crate::outside::{BlockRead, Cancel};
use crate::shown::hex;

/// What the manifest of the previous backup says.
#[derive(Clone, Debug)]
pub struct ImageParentFacts {
    /// The start of its file names.
    pub stem: String,
    /// The SHA-256 of its index, hex.
    pub index_sha256: String,
    /// The length of its archive.
    pub archive_bytes: u64,
    /// The number of its members.
    pub members: u64,
}

/// Why nothing is copied from a previous archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageParentError {
    /// Its index cannot be read.
    #[error("its index cannot be read")]
    Io(#[from] io::Error),
    /// Its index was changed.
    #[error("its index was changed: its SHA-256 is not the one in its manifest")]
    Changed,
    /// Its index is wrong.
    #[error("its index: {0}")]
    Index(#[from] ImageIndexError),
}

/// The previous archive. Its index is read beside the volume, so that it takes no memory.
pub struct ImageParent {
    stem: String,
    archive: Arc<dyn BlockRead>,
    index_file: Arc<dyn BlockRead>,
    /// The table of its segments, if it is encrypted.
    segments: Option<Arc<dyn BlockRead>>,
    share: Share,
    index: ImageIndexReader,
    /// The member that was read last.
    next: Option<ImageMember>,
}

/// A member of the previous archive at the place of a new one.
pub(super) struct OldMember {
    pub(super) archive: Arc<dyn BlockRead>,
    pub(super) member: ImageMember,
    /// Whether it is compressed anew today, whatever its content.
    pub(super) is_due: bool,
}

impl ImageParent {
    /// Opens it. All of the index is read, and must be the one of the manifest.
    pub fn open(
        archive: Arc<dyn BlockRead>,
        index: Arc<dyn BlockRead>,
        facts: &ImageParentFacts,
        share: Share,
    ) -> Result<Self, ImageParentError> {
        if hex(&sha256_of(&*index, index.len_bytes(), &Cancel::default())?) != facts.index_sha256 {
            return Err(ImageParentError::Changed);
        }
        let index_file = Arc::clone(&index);
        let index = ImageIndexReader::new(index)?;
        Ok(Self { stem: facts.stem.clone(), archive, index_file, segments: None, share, index, next: None })
    }

    /// Sets the table of its segments, whose digest was checked: what is copied is not hashed for the table again.
    pub(crate) fn set_segments(&mut self, table: Arc<dyn BlockRead>) {
        self.segments = Some(table);
    }

    /// The table of its segments.
    pub(super) fn segments(&self) -> Option<&Arc<dyn BlockRead>> {
        self.segments.as_ref()
    }

    /// The start of its file names.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// Its archive.
    pub(super) fn archive(&self) -> &Arc<dyn BlockRead> {
        &self.archive
    }

    /// Its members, read from the index again: fewer if that has changed.
    pub(super) fn members(&self) -> KnownMembersOf {
        let mut index = ImageIndexReader::new(Arc::clone(&self.index_file)).ok();
        Box::new(std::iter::from_fn(move || {
            let ImageMember { offset, length, digest, .. } = index.as_mut()?.next_member().ok().flatten()?;
            Some(KnownMember { offset, length, digest })
        }))
    }

    /// The member of data at this place of the volume, if there is one of that length. Places must ascend.
    pub(super) fn member_at(&mut self, volume_offset: u64, volume_length: u64) -> Option<OldMember> {
        while self.next.is_none_or(|next| next.volume_offset < volume_offset) {
            // An index that is wrong from here on has no more members to copy; it matches its manifest, so that this is
            // how it was written.
            self.next = Some(self.index.next_member().ok().flatten()?);
        }
        let member = self.next?;
        let is_it = member.volume_offset == volume_offset
            && member.volume_length == volume_length
            && matches!(member.holds, Holds::Data(_));
        is_it.then(|| OldMember {
            archive: Arc::clone(&self.archive),
            member,
            is_due: self.share.is_due(volume_offset / super::BORDER_BYTES),
        })
    }
}
