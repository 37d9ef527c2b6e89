//! The content of a mounted backup: the entries of its archive, or the volume of an image as one file.

use std::io;
use std::sync::Arc;

use super::entries::{Facts, Files, OpenFile, seek_in};
use super::error::ContentsError;
use super::tree::ROOT;
use crate::archive::image::blocks::ImageBlocks;
use crate::archive::index::IndexedKind;
use crate::archive::read::anywhere::MemberCache;
use crate::archive::read::head::HeadKind;
use crate::outside::{BlockRead, Cancel};
use crate::shown::text;
use crate::store::Backup;

/// The number of the volume in an image.
const VOLUME: u32 = 1;

/// The content of one backup.
pub(super) enum Contents {
    Files(Box<Files>),
    Image { name: Vec<u8>, blocks: Arc<ImageBlocks> },
}

impl Contents {
    /// Reads the index of a backup, after comparing it with the manifest.
    pub(super) fn load(files: &Backup, cache: &Arc<MemberCache>, cancel: &Cancel) -> Result<Self, ContentsError> {
        if files.kind().is_image() {
            let blocks = ImageBlocks::open(files.open_archive()?, files.open_index()?)?;
            let name = format!("{}.img", files.volume()).into_bytes();
            return Ok(Self::Image { name, blocks: Arc::new(blocks) });
        }
        Ok(Self::Files(Box::new(Files::load(files, cache, cancel)?)))
    }

    /// The number of entries that are not served, since no path can have them.
    pub(super) fn left_out(&self) -> u64 {
        match self {
            Self::Files(files) => files.tree.left_out,
            Self::Image { .. } => 0,
        }
    }

    /// The lines of its index that are kept.
    pub(super) fn lines(&self) -> u64 {
        match self {
            Self::Files(files) => files.tree.nodes().len() as u64 + files.tar.members() as u64,
            Self::Image { .. } => 1,
        }
    }

    /// The entry with this name in a directory.
    pub(super) fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        match self {
            Self::Files(files) => files.tree.child(directory, name),
            Self::Image { name: volume, .. } => (directory == ROOT && name == volume).then_some(VOLUME),
        }
    }

    /// The entries of a directory.
    pub(super) fn listed(&self, directory: u32) -> Vec<u32> {
        match self {
            Self::Files(files) => files.tree.listed(directory),
            Self::Image { .. } if directory == ROOT => vec![VOLUME],
            Self::Image { .. } => Vec::new(),
        }
    }

    pub(super) fn name(&self, number: u32) -> &[u8] {
        match self {
            Self::Files(files) => files.tree.name(number),
            Self::Image { name, .. } => name,
        }
    }

    /// The type by the index; a hard link is its target's, `None` if that is not there.
    pub(super) fn kind(&self, number: u32) -> Option<IndexedKind> {
        match self {
            Self::Files(files) => files.kind(number),
            Self::Image { .. } if number == ROOT => Some(IndexedKind::Directory),
            Self::Image { .. } => Some(IndexedKind::SparseFile),
        }
    }

    /// Whether a part of it could not be read for the backup.
    pub(super) fn is_damaged(&self, number: u32) -> bool {
        match self {
            Self::Files(files) => files.tree.node(number).is_some_and(|node| node.damaged),
            Self::Image { .. } => false,
        }
    }

    /// Its path, for messages.
    pub(super) fn shown(&self, number: u32) -> String {
        match self {
            Self::Files(files) => text(&String::from_utf8_lossy(&files.tree.path(number))),
            Self::Image { name, .. } => text(&String::from_utf8_lossy(name)),
        }
    }

    /// The directory above, of a directory.
    pub(super) fn parent(&self, number: u32) -> u32 {
        match self {
            Self::Files(files) => files.tree.node(number).map_or(ROOT, |node| node.parent),
            Self::Image { .. } => ROOT,
        }
    }

    /// The facts of an entry, from its headers. `None`: there is no such entry.
    pub(super) fn facts(&self, number: u32) -> io::Result<Option<Facts>> {
        match self {
            Self::Files(files) => files.facts(number),
            Self::Image { .. } if number == ROOT => Ok(Some(Facts::of_directory(ROOT, 0))),
            Self::Image { blocks, .. } if number == VOLUME => {
                let size = blocks.len_bytes();
                // Less than the length: programs then look for holes.
                let stored_bytes = size.saturating_sub(512);
                let facts = Facts::of_directory(VOLUME, 0);
                Ok(Some(Facts { kind: HeadKind::File, mode: 0o400, size, stored_bytes, links: 1, ..facts }))
            }
            Self::Image { .. } => Ok(None),
        }
    }

    pub(super) fn open(&self, number: u32) -> io::Result<Option<OpenFile>> {
        match self {
            Self::Files(files) => files.open(number),
            Self::Image { .. } => Ok((number == VOLUME).then_some(OpenFile::Volume)),
        }
    }

    /// At most `len` bytes of an open file, fewer only at its end.
    pub(super) fn read(&self, file: &OpenFile, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        let within = |size: u64| usize::try_from(size.saturating_sub(offset).min(u64::from(len))).unwrap_or(0);
        match (self, file) {
            (Self::Files(files), OpenFile::Stored { size, runs }) => {
                let mut data = vec![0; within(*size)];
                files.fill(runs, offset, &mut data)?;
                Ok(data)
            }
            (Self::Image { blocks, .. }, OpenFile::Volume) => {
                let mut data = vec![0; within(blocks.len_bytes())];
                blocks.read_at(offset, &mut data)?;
                Ok(data)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The first byte at or after `offset` that is data, or with `data` false a hole; the end counts as a hole. `None`:
    /// there is none.
    pub(super) fn seek(&self, file: &OpenFile, offset: u64, data: bool) -> io::Result<Option<u64>> {
        match (self, file) {
            (Self::Image { blocks, .. }, OpenFile::Volume) => {
                let is_past_end = offset >= blocks.len_bytes();
                match (is_past_end, data) {
                    (true, _) => Ok(None),
                    (false, true) => blocks.next_data(offset),
                    (false, false) => blocks.next_hole(offset).map(Some),
                }
            }
            (_, OpenFile::Stored { size, runs }) => Ok(seek_in(runs, *size, offset, data)),
            _ => Ok(None),
        }
    }
}
