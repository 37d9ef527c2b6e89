//! The names of a backup's files: what follows their common start.

use crate::archive::kind::{ArchiveKind, Compression};

/// The suffixes of all files that a backup may have, in the order of publication; it has one archive. The manifest, which
/// makes the backup complete, is last.
pub const SUFFIXES: [&str; 12] = [
    INDEX,
    SEALED_INDEX,
    SEGMENTS,
    CHECKSUM,
    ARCHIVE,
    ZSTD_ARCHIVE,
    IMAGE,
    ArchiveKind::SealedFiles(Compression::Gzip).suffix(),
    ArchiveKind::SealedFiles(Compression::Zstd).suffix(),
    ArchiveKind::SealedImage.suffix(),
    SIGNATURE,
    MANIFEST,
];
/// The suffix of an archive of files in gzip members.
pub const ARCHIVE: &str = ArchiveKind::Files(Compression::Gzip).suffix();
/// The suffix of an archive of files in Zstandard frames.
pub const ZSTD_ARCHIVE: &str = ArchiveKind::Files(Compression::Zstd).suffix();
/// The suffix of an archive that is an image.
pub const IMAGE: &str = ArchiveKind::Image.suffix();
/// The checksum's suffix.
pub const CHECKSUM: &str = ".checksum";
/// The index's suffix.
pub const INDEX: &str = ".index";
/// The suffix of an encrypted index.
pub const SEALED_INDEX: &str = ".index.age";
/// The suffix of the table of an encrypted archive's segments.
pub const SEGMENTS: &str = ".segments";
/// The suffix of the signature of an encrypted backup's manifest.
pub const SIGNATURE: &str = ".manifest.sig";
/// The manifest's suffix.
pub const MANIFEST: &str = ".manifest.json";

/// The suffix of the index of such an archive.
pub const fn index_suffix(kind: ArchiveKind) -> &'static str {
    if kind.is_sealed() { SEALED_INDEX } else { INDEX }
}

/// The checksum file: the output of `sha1sum` in the archive's directory.
pub(crate) fn checksum_line(stem: &str, kind: ArchiveKind, archive_sha1: &str) -> String {
    format!("{archive_sha1}  {stem}{}\n", kind.suffix())
}

/// The suffixes of the files of a backup of this kind but the manifest, in the order of publication.
pub(super) fn files_before_manifest(kind: ArchiveKind) -> Vec<&'static str> {
    if kind.is_sealed() {
        vec![SEALED_INDEX, SEGMENTS, CHECKSUM, kind.suffix(), SIGNATURE]
    } else {
        vec![INDEX, CHECKSUM, kind.suffix()]
    }
}

/// The suffixes of the files of a backup of this kind, in the order of publication. The manifest, which makes the backup
/// complete, is last.
pub(super) fn files_of(kind: ArchiveKind) -> impl Iterator<Item = &'static str> {
    files_before_manifest(kind).into_iter().chain([MANIFEST])
}
