//! The small files of a copy, which have its name in them.

use sha2::{Digest, Sha256};

use crate::archive::kind::ArchiveKind;
use crate::encryption::Signer;
use crate::manifest::{CopiedFrom, LockedRecord, Manifest, ManifestError};
use crate::run::backup::record::checksum_text;
use crate::shown::hex;

/// The manifest and the checksum file of a copy.
pub(super) struct Named {
    pub(super) manifest: Vec<u8>,
    pub(super) checksum: Option<Vec<u8>>,
    pub(super) checksum_sha256: String,
}

impl Named {
    /// Those of the source, byte for byte, if the copy has its stem. Otherwise they name the copy, and the manifest says
    /// what was copied; that of an encrypted backup also names `signer`, who signs the copy. A checksum file that is not the
    /// one of the manifest is taken as it is: its digest will not fit. One that the manifest knows nothing of is left out.
    pub(super) fn of(
        read: Manifest,
        manifest: Vec<u8>,
        checksum: Option<Vec<u8>>,
        stem: &str,
        kind: ArchiveKind,
        lock: Option<LockedRecord>,
        signer: Option<&Signer>,
    ) -> Result<Self, ManifestError> {
        let expected = read.digests.checksum_sha256.clone();
        // One that a verification added names the source: a verification of the copy adds its own. Any other one without a
        // digest in the manifest was made by somebody else.
        let is_added = read.stem == stem && read.digests.archive_sha1().is_none();
        let checksum = checksum.filter(|_| is_added || !expected.is_empty());
        if read.stem == stem {
            return Ok(Self { manifest, checksum, checksum_sha256: expected });
        }
        let is_expected = |bytes: &Vec<u8>| hex(&Sha256::digest(bytes)) == expected;
        let (checksum, checksum_sha256) = match checksum {
            Some(bytes) if is_expected(&bytes) => {
                let own = checksum_text(stem, kind, &read.digests.archive_sha1).map(String::into_bytes);
                let digest = own.as_ref().map_or(expected, |bytes| hex(&Sha256::digest(bytes)));
                (own, digest)
            }
            other => (other, expected),
        };
        let own = CopiedFrom { stem: read.stem.clone(), self_sha256: read.self_sha256.clone() };
        let mut copy = read;
        copy.copied_from.get_or_insert(own);
        stem.clone_into(&mut copy.stem);
        copy.locked = lock;
        copy.objects = None;
        // They name backups of the source.
        copy.unpinned = Vec::new();
        if let (Some(record), Some(signer)) = (&mut copy.encryption, signer) {
            record.signer = signer.public().to_string();
        }
        copy.digests.checksum_sha256.clone_from(&checksum_sha256);
        Ok(Self { manifest: copy.to_bytes()?, checksum, checksum_sha256 })
    }
}
