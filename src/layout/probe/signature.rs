//! What one probe recognised on a region.

use crate::layout::lvm2::PhysicalVolume;
use crate::layout::window::Window;
use crate::layout::{Holds, HoldsKind, MadeWith};
use crate::units::ByteRange;

/// Something that was found on a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// What it is.
    pub holds: Holds,
    /// Where its magic is, in the region.
    pub magic_at: u64,
    /// What a backup can make of it.
    pub content: Content,
    /// What speaks against it: each is one line. With any, its files are not read.
    pub doubts: Vec<String>,
}

/// What a backup can make of something that was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A filesystem that a reader takes.
    Files,
    /// Nothing that is read: its bytes are kept.
    Opaque,
    /// Nothing worth keeping beyond its facts.
    FactsOnly,
    /// A physical volume of LVM2.
    PhysicalVolume(Box<PhysicalVolume>),
    /// A member of a RAID1: the array's data, in the region.
    Mirror(ByteRange),
}

impl Signature {
    /// A filesystem that a reader takes.
    pub(super) fn filesystem(name: &str, magic_at: u64) -> Self {
        Self::new(HoldsKind::Filesystem, name, magic_at, Content::Files)
    }

    /// A filesystem, or something else, that is kept as it is.
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

    /// Takes note of what it was made with.
    pub(super) fn with_parameters(mut self, made_with: MadeWith) -> Self {
        self.holds.made_with = Some(made_with);
        self
    }

    /// Takes note of the size it says that it has, and doubts it when the region is smaller.
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
