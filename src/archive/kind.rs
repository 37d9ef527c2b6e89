//! The kinds of archives, told by the suffix of their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::codec::CodecRef;
#[cfg(feature = "encryption")]
use super::sealed;
use super::{gzip, zstd};
use crate::encryption::Recipients;

/// How the members of an archive are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Gzip members (RFC 1952): `.tar.gz`.
    #[default]
    Gzip,
    /// Zstandard frames (RFC 8878): `.tar.zst`.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// Whether this is gzip, the default. By reference, for serde.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
    pub(crate) fn is_gzip(&self) -> bool {
        *self == Self::Gzip
    }

    pub(super) fn codec(self) -> CodecRef {
        match self {
            Self::Gzip => &gzip::Gzip,
            Self::Zstd => &zstd::Zstd,
        }
    }

    /// The codec of members that are encrypted for these recipients, or plain without any.
    pub(super) fn codec_for(self, recipients: Option<&Recipients>) -> CodecRef {
        #[cfg(feature = "encryption")]
        if let Some(recipients) = recipients {
            let like = match self {
                Self::Gzip => &sealed::READ_GZIP,
                Self::Zstd => &sealed::READ_ZSTD,
            };
            return sealed::for_recipients(like, recipients);
        }
        // Without the feature there are no recipients.
        let _ = recipients;
        self.codec()
    }

    /// The name of an archive's format: `tar.gz` or `tar.zst`.
    pub const fn format(self) -> &'static str {
        match self {
            Self::Gzip => "tar.gz",
            Self::Zstd => "tar.zst",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.format())
    }
}

/// The name of a format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no format {0:?}: an archive is tar.gz or tar.zst")]
pub struct UnknownFormat(pub String);

impl FromStr for Compression {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let known = Self::ALL.into_iter().find(|compression| compression.format() == text);
        known.ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// What of a volume is backed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackupMode {
    /// Its files.
    #[default]
    Files,
    /// All of it, as an image.
    Image,
}

/// What an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveKind {
    /// `STEM.tar.gz` or `STEM.tar.zst`: files.
    Files(Compression),
    /// `STEM.img.gz`: a whole volume, byte for byte.
    Image,
    /// `STEM.tar.gz.age` or `STEM.tar.zst.age`: files, encrypted.
    SealedFiles(Compression),
    /// `STEM.img.gz.age`: a whole volume, encrypted.
    SealedImage,
}

/// Files in gzip members.
impl Default for ArchiveKind {
    fn default() -> Self {
        Self::Files(Compression::Gzip)
    }
}

impl ArchiveKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Files(Compression::Gzip),
        Self::Files(Compression::Zstd),
        Self::Image,
        Self::SealedFiles(Compression::Gzip),
        Self::SealedFiles(Compression::Zstd),
        Self::SealedImage,
    ];

    /// The suffix of an archive's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Files(Compression::Gzip) => gzip::SUFFIX,
            Self::Files(Compression::Zstd) => zstd::SUFFIX,
            Self::Image => ".img.gz",
            Self::SealedFiles(Compression::Gzip) => ".tar.gz.age",
            Self::SealedFiles(Compression::Zstd) => ".tar.zst.age",
            Self::SealedImage => ".img.gz.age",
        }
    }

    /// The codec of its members, before they are encrypted.
    pub(super) fn codec(self) -> CodecRef {
        self.compression().codec()
    }

    /// What of a volume it has.
    pub fn mode(self) -> BackupMode {
        match self {
            Self::Files(_) | Self::SealedFiles(_) => BackupMode::Files,
            Self::Image | Self::SealedImage => BackupMode::Image,
        }
    }

    /// How its members are compressed.
    pub fn compression(self) -> Compression {
        match self {
            Self::Files(compression) | Self::SealedFiles(compression) => compression,
            Self::Image | Self::SealedImage => Compression::Gzip,
        }
    }

    /// Whether it is the image of a volume, not an archive of files.
    pub fn is_image(self) -> bool {
        self.mode() == BackupMode::Image
    }

    /// Whether it is encrypted.
    pub const fn is_sealed(self) -> bool {
        matches!(self, Self::SealedFiles(_) | Self::SealedImage)
    }

    /// The stem and the kind of an archive of this name; `None` if no archive has such a name.
    pub fn of_name(name: &str) -> Option<(&str, Self)> {
        let stem = |kind: Self| Some((name.strip_suffix(kind.suffix()).filter(|stem| !stem.is_empty())?, kind));
        Self::ALL.into_iter().find_map(stem)
    }
}
