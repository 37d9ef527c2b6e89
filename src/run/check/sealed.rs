//! What of an encrypted backup is checked without a key: the signature of its manifest, the digests in the manifest, and
//! the digest of each segment.

use std::sync::Arc;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::error::CheckError;
use super::finding::{BackupFile, Finding, Findings};
use crate::encryption::table::{Segment, TableReader};
use crate::encryption::{keyring, signer_of};
use crate::error::with_causes;
use crate::manifest::{EncryptionRecord, Manifest};
use crate::outside::digest::sha256_of;
use crate::outside::{BlockRead, Cancel};
use crate::shown::hex;
use crate::store::Backup;

/// A segment is read at once. A longer one cannot be of volbak.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// Checks the signature of the manifest, and the table of segments and the encrypted index, which the manifest has the
/// digests of. Returns the table if it is the signed one.
pub(crate) fn check_signed(
    files: &Backup,
    manifest: &Manifest,
    record: &EncryptionRecord,
    cancel: &Cancel,
    findings: &mut Findings,
) -> Result<Option<Arc<dyn BlockRead>>, CheckError> {
    check_signature(files, findings);
    let mut checked = |file: Result<Arc<dyn BlockRead>, crate::store::open::OpenError>,
                       what: BackupFile,
                       (bytes, sha256): (u64, &str)| {
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                findings.about(what, with_causes(&error));
                return Ok(None);
            }
        };
        let len = file.len_bytes();
        if len != bytes {
            findings.about(what, format!("it has {len} bytes, and the manifest says {bytes}"));
            return Ok(None);
        }
        match sha256_of(&*file, len, cancel) {
            Ok(found) if hex(&found) == sha256 => Ok(Some(file)),
            Ok(_) => {
                findings.about(what, "it does not match the manifest: its SHA-256 differs");
                Ok(None)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(CheckError::Stopped),
            Err(error) => {
                findings.about(what, format!("it cannot be read: {error}"));
                Ok(None)
            }
        }
    };
    let index = (manifest.sizes.index_bytes, manifest.digests.index_sha256.as_str());
    checked(files.open_stored_index(), BackupFile::Index, index)?;
    checked(files.open_segments(), BackupFile::Segments, (record.segments_bytes, record.segments_sha256.as_str()))
}

fn check_signature(files: &Backup, findings: &mut Findings) {
    let signature = match files.read_signature() {
        Ok(signature) => signature,
        Err(error) => return findings.about(BackupFile::Signature, with_causes(&error)),
    };
    let manifest = match files.read_manifest_bytes() {
        Ok(manifest) => manifest,
        Err(error) => return findings.about(BackupFile::Manifest, with_causes(&error)),
    };
    match signer_of(&manifest, &signature) {
        Err(error) => findings.about(BackupFile::Signature, error.to_string()),
        Ok(signer) => {
            let trusted = keyring::signers();
            if trusted.is_empty() {
                findings.not_checked(format!("who signed it: {signer} did, and no signer is trusted (--signer FILE)"));
            } else if !trusted.contains(&signer) {
                findings.about(BackupFile::Signature, format!("{signer} signed it, which is not a trusted signer"));
            }
        }
    }
}

/// Reads the archive once, and compares each segment with the table. Returns the archive's SHA-1, and the number of
/// segments.
pub(crate) fn check_segments(
    archive: &Arc<dyn BlockRead>,
    table: Arc<dyn BlockRead>,
    read: &mut dyn FnMut(u64),
    cancel: &Cancel,
    findings: &mut Findings,
) -> Result<(Option<String>, u64), CheckError> {
    let mut reader = TableReader::new(table);
    let (mut sha1, mut is_read, mut number) = (Sha1::new(), true, 0_u64);
    let mut bytes = Vec::new();
    loop {
        if cancel.is_cancelled() {
            return Err(CheckError::Stopped);
        }
        let segment = match reader.next() {
            Ok(Some(segment)) => segment,
            Ok(None) => break,
            Err(error) => {
                findings.about(BackupFile::Segments, error.to_string());
                return Ok((None, number));
            }
        };
        let Segment { offset, length, sha256 } = segment;
        if length > MAX_SEGMENT_BYTES {
            findings.about(BackupFile::Segments, format!("segment {number} is longer than a segment can be"));
            return Ok((None, number));
        }
        // At most MAX_SEGMENT_BYTES.
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        let mut find = |what: String| {
            let (member, offset) = (Some(number), Some(offset));
            findings.add(Finding { file: BackupFile::Archive, member, offset, path: None, what });
        };
        if let Err(error) = archive.read_at(offset, &mut bytes) {
            is_read = false;
            find(format!("it cannot be read: {error}"));
        } else {
            sha1.update(&bytes);
            if <[u8; 32]>::from(Sha256::digest(&bytes)) != sha256 {
                find("its SHA-256 is not the one in the table of segments".to_owned());
            }
        }
        read(length);
        number += 1;
    }
    if reader.end() != archive.len_bytes() {
        let what = format!("it has {} bytes, and its segments {}", archive.len_bytes(), reader.end());
        findings.about(BackupFile::Archive, what);
        is_read = false;
    }
    Ok((is_read.then(|| hex(&sha1.finalize())), number))
}
