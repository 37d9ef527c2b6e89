//! The result of a probe.

use crate::layout::lvm2::PhysicalVolume;
use crate::layout::window::Window;
use crate::layout::{Holds, HoldsKind, MadeWith};
use crate::units::ByteRange;

/// A signature found on a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// The content.
    pub holds: Holds,
    /// The offset of its magic in the region.
    pub magic_at: u64,
    /// How a backup can use it.
    pub content: Content,
    /// Reasons for doubt, one line each. If there are any, files are not read.
    pub doubts: Vec<String>,
}

/// How a backup can use recognised content.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A filesystem with a reader.
    Files,
    /// No reader: its bytes are kept.
    Opaque,
    /// Only its facts are kept.
    FactsOnly,
    /// An LVM2 physical volume.
    PhysicalVolume(Box<PhysicalVolume>),
    /// A RAID1 member: the range of the array's data in the region.
    Mirror(ByteRange),
}

impl Signature {
    /// A filesystem with a reader.
    pub(super) fn filesystem(name: &str, magic_at: u64) -> Self {
        Self::new(HoldsKind::Filesystem, name, magic_at, Content::Files)
    }

    /// A filesystem or other content that is kept as an image.
    pub(super) fn opaque(kind: HoldsKind, name: &str, magic_at: u64) -> Self {
        Self::new(kind, name, magic_at, Content::Opaque)
    }

    pub(super) fn new(kind: HoldsKind, name: &str, magic_at: u64, content: Content) -> Self {
        Self {
            holds: Holds { kind, fs: Some(name.to_owned()), ..Holds::default() },
            magic_at,
            content,
            doubts: Vec::new(),
        }
    }

    pub(super) fn with_uuid(mut self, uuid: Option<String>) -> Self {
        self.holds.uuid = uuid;
        self
    }

    pub(super) fn with_label(mut self, label: Option<String>) -> Self {
        self.holds.label = label;
        self
    }

    pub(super) fn with_version(mut self, version: impl Into<String>) -> Self {
        self.holds.version = Some(version.into());
        self
    }

    /// Sets the parameters it was made with.
    pub(super) fn with_parameters(mut self, made_with: MadeWith) -> Self {
        self.holds.made_with = Some(made_with);
        self
    }

    /// Sets the size from its headers, and adds a doubt if the region is smaller.
    pub(super) fn with_size(mut self, size_bytes: Option<u64>, window: &Window<'_>) -> Self {
        self.holds.size_bytes = size_bytes;
        match size_bytes {
            Some(size) if size <= window.len() => self,
            Some(size) => {
                let region = window.len();
                self.doubt(format!("it says that it is {size} bytes long and the region has {region}: it was cut off"))
            }
            None => self.doubt("the size that it says it has is impossible"),
        }
    }

    pub(super) fn doubt(mut self, why: impl Into<String>) -> Self {
        self.doubts.push(why.into());
        self
    }

    pub(super) fn doubt_if(self, wrong: bool, why: &str) -> Self {
        if wrong { self.doubt(why) } else { self }
    }
}
