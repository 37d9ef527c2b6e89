//! A source: a logical volume, a block device or a raw disk image.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::events::SourceName;
use crate::image::format::Format;
use crate::outside::{BlockRead, FileBlocks};
use crate::source::device::{Node, sector_size_bytes};
use crate::source::error::SourceError;
use crate::source::image;
use crate::source::lvm::LvFacts;
use crate::source::refusal::refusal_of;

/// The sector size for image files and inactive volumes.
pub(super) const USUAL_SECTOR_BYTES: u32 = 512;

/// A source, with the facts at the time it was resolved.
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) kind: SourceKind,
    pub(super) display_name: String,
    pub(super) backup_name: String,
    pub(super) is_named: bool,
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
    pub(super) sector_size_bytes: u32,
    pub(super) format: Format,
}

/// The kind of a [`Source`].
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// A logical volume; a backup reads a snapshot of it.
    Volume(Box<LvFacts>),
    /// A block device, opened exclusively and read directly.
    Device {
        /// Its major and minor number.
        number: (u32, u32),
    },
    /// A disk image, raw or qcow2, read directly.
    Image,
}

impl Source {
    /// A volume from [`list_volumes`](super::list_volumes). Fails like [`resolve`].
    pub fn of_volume(facts: LvFacts) -> Result<Self, SourceError> {
        let display_name = facts.full_name();
        if let Some(reason) = refusal_of(&facts) {
            return Err(SourceError::Refused { name: display_name, reason });
        }
        let path = facts.node().to_owned();
        let sector_size_bytes = if facts.is_active {
            Node::look(&path)
                .and_then(|node| sector_size_bytes(&node.open(OFlags::empty())?))
                .map_err(|error| SourceError::io("opening the volume", &path, error))?
        } else {
            USUAL_SECTOR_BYTES
        };
        Ok(Self {
            backup_name: backup_name(&facts.lv)?,
            is_named: false,
            display_name,
            path,
            size_bytes: facts.size_bytes,
            format: Format::Raw,
            sector_size_bytes,
            kind: SourceKind::Volume(Box::new(facts)),
        })
    }

    /// The kind of the source.
    pub fn kind(&self) -> &SourceKind {
        &self.kind
    }

    /// The name for people: `VG/LV`, or the path as given, with control characters and bytes that are not UTF-8
    /// escaped.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// Its name in events and log lines.
    pub fn name(&self) -> SourceName {
        let group = match &self.kind {
            SourceKind::Volume(facts) => Some(facts.vg.clone()),
            SourceKind::Device { .. } | SourceKind::Image => None,
        };
        SourceName { shown: self.display_name.clone(), volume: self.backup_name.clone(), group }
    }

    /// The directory name of its backups: the volume's or device's name, or the image's file name without `.img`,
    /// `.raw` or `.qcow2`. Not empty, at most 200 bytes, no `/`, no control characters, no leading dot. Volumes of the same
    /// name in two groups share it.
    pub fn backup_name(&self) -> &str {
        &self.backup_name
    }

    /// The same source with a directory name chosen by the user. Fails with `BadName` if the name is invalid.
    pub fn named(self, name: &str) -> Result<Self, SourceError> {
        Ok(Self { backup_name: backup_name(name)?, is_named: true, ..self })
    }

    /// Whether the user chose the directory name.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// The volume's own device, the device, or the image. Its data changes while an instance runs; a backup reads
    /// [`SnapshotGuard::path`](super::SnapshotGuard::path) instead. An inactive thin volume has no device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the live source for reading: the disk in it, if it is a qcow2 image. Others may write to it meanwhile, so never
    /// use it for a backup.
    pub fn open_blocks(&self) -> Result<Arc<dyn BlockRead>, SourceError> {
        let io_error = |error| SourceError::io("opening it", &self.path, error);
        let node = Node::look(&self.path).map_err(io_error)?;
        if self.format == Format::Qcow2
            && let Some(disk) = image::check(&node, &self.display_name, Some(self.format))?
        {
            return Ok(disk);
        }
        let file = node.open(OFlags::empty()).map_err(io_error)?;
        Ok(Arc::new(FileBlocks::new(file, self.size_bytes)))
    }

    /// How an image file is read; volumes and devices are raw, whatever they begin with.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Its logical sector size; 512 for an image file.
    pub fn sector_size_bytes(&self) -> u32 {
        self.sector_size_bytes
    }
}

/// Checks a name for a directory and the files in it.
pub(super) fn backup_name(name: &str) -> Result<String, SourceError> {
    // A file name has at most 255 bytes, including date, time, suffixes and the temporary prefix.
    const LONGEST: usize = 200;
    let why = if name.is_empty() {
        "it is empty"
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if name.contains('/') {
        "it holds a slash"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else if name.len() > LONGEST {
        "it is longer than 200 bytes"
    } else {
        return Ok(name.to_owned());
    };
    Err(SourceError::BadName { name: name.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::backup_name;
    use crate::source::error::SourceError;

    #[test]
    fn names_of_backups_are_checked() {
        assert_eq!(backup_name("vol-1").unwrap(), "vol-1");
        for bad in ["", ".x", "a/b", "a\nb", &"x".repeat(201)] {
            assert!(matches!(backup_name(bad), Err(SourceError::BadName { .. })), "{bad:?}");
        }
    }
}
