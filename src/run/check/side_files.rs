//! Manifest, checksum and index: complete, and consistent with each other and with the archive's length.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::CheckError;
use super::finding::{BackupFile, Findings};
use super::sealed;
use crate::archive::image::index::{ImageIndexError, ImageIndexReader};
use crate::archive::index::parse_hex;
use crate::archive::read::index_file::{IndexError, IndexReader};
use crate::error::with_causes;
use crate::manifest::{Manifest, ManifestError, UnsealError};
use crate::outside::digest::sha256_of;
use crate::outside::{BlockRead, Cancel};
use crate::report::CheckLevel;
use crate::shown;
use crate::shown::hex;
use crate::store::open::OpenError;
use crate::store::{Backup, ReadError};

/// The valid side files.
#[derive(Debug, Default)]
pub struct SideFiles {
    /// The open archive.
    pub archive: Option<Arc<dyn BlockRead>>,
    /// Its length.
    pub archive_bytes: u64,
    /// The valid manifest.
    pub manifest: Option<Box<Manifest>>,
    /// The index with consistent lines.
    pub index: Option<Arc<dyn BlockRead>>,
    /// The index does not match the manifest. Contradictions to the archive are attributed to it.
    pub index_changed: bool,
    /// There is an index but no manifest: a volbak backup that lost its manifest.
    pub manifest_lost: bool,
    /// The SHA-256 of the index, if the manifest has no SHA-1 of the archive: it tells the archive from others.
    pub index_sha256: Option<String>,
    /// The expected SHA-1 of the archive, hex; `None` if a store copied a part of it and it was not verified yet.
    pub expected_sha1: Option<String>,
    /// The checksum file's digest, if it differs from the manifest's.
    pub other_sha1: Option<String>,
    /// The manifest of an encrypted backup as it is signed.
    pub signed: Option<Box<Manifest>>,
    /// Why an encrypted backup cannot be decrypted here.
    pub locked: Option<String>,
    /// The table of segments, if it is the signed one.
    pub segments: Option<Arc<dyn BlockRead>>,
}

/// Opens and checks the side files of an archive.
pub fn check(
    files: &Backup,
    level: CheckLevel,
    cancel: &Cancel,
    findings: &mut Findings,
) -> Result<SideFiles, CheckError> {
    check_these(files, true, level, cancel, findings)
}

/// As [`check`], for reading some files by the index, which has their digests: the checksum of the whole archive is not read.
pub fn check_for_paths(files: &Backup, cancel: &Cancel, findings: &mut Findings) -> Result<SideFiles, CheckError> {
    check_these(files, false, CheckLevel::Full, cancel, findings)
}

fn check_these(
    files: &Backup,
    with_checksum: bool,
    level: CheckLevel,
    cancel: &Cancel,
    findings: &mut Findings,
) -> Result<SideFiles, CheckError> {
    let mut sides = SideFiles::default();
    match files.open_stored_archive() {
        Ok(archive) => {
            sides.archive_bytes = archive.len_bytes();
            sides.archive = Some(archive);
        }
        Err(error) => findings.about(BackupFile::Archive, with_causes(&error)),
    }
    let manifest_there = check_manifest(files, &mut sides, findings);
    // Without a manifest it has the only digest.
    if with_checksum || sides.manifest.is_none() {
        check_checksum(files, manifest_there, &mut sides, findings);
    }
    if let Some(signed) = &sides.signed
        && let Some(record) = &signed.encryption
    {
        sides.segments = sealed::check_signed(files, signed, record, cancel, findings)?;
    } else if files.kind().is_sealed() && !manifest_there {
        findings.not_checked("there is no manifest, so nothing says who signed the segments");
    }
    if let Some(why) = &sides.locked {
        findings.not_beyond(CheckLevel::Quick, format!("the names and the contents of files: {why}"));
        return Ok(sides);
    }
    match check_index(files, manifest_there, level, cancel, &mut sides, findings) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(CheckError::Stopped),
        Err(error) => findings.about(BackupFile::Index, format!("it cannot be read: {error}")),
        Ok(()) => {}
    }
    Ok(sides)
}

/// Reads the manifest. True if there is one, valid or not.
fn check_manifest(files: &Backup, sides: &mut SideFiles, findings: &mut Findings) -> bool {
    let bad = |findings: &mut Findings, what: String| findings.about(BackupFile::Manifest, what);
    let manifest = match files.read_public_manifest() {
        Ok(manifest) => manifest,
        Err(ReadError::Open(OpenError::Missing(_))) => {
            findings.not_checked("there is no manifest, so nothing says that the other files belong together");
            return false;
        }
        Err(ReadError::Manifest(error @ ManifestError::TooNew(_))) => {
            findings.not_checked(error.to_string());
            return true;
        }
        Err(error) => {
            bad(findings, with_causes(&error));
            return true;
        }
    };
    if manifest.stem != files.stem() {
        bad(findings, format!("it is the manifest of {}", shown::text(&manifest.stem)));
        return true;
    }
    if sides.archive.is_some() && manifest.sizes.archive_bytes != sides.archive_bytes {
        let said = manifest.sizes.archive_bytes;
        findings
            .about(BackupFile::Archive, format!("it has {} bytes, and the manifest says {said}", sides.archive_bytes));
    }
    if parse_hex::<20>(&manifest.digests.archive_sha1).is_some() {
        sides.expected_sha1 = Some(manifest.digests.archive_sha1.clone());
    } else if manifest.has_current_format() && manifest.digests.archive_sha1().is_none() {
        // The digests of all members are in the index, and the index's in the manifest.
        sides.index_sha256 = Some(manifest.digests.index_sha256.clone());
    } else {
        bad(findings, "its SHA-1 of the archive is invalid".to_owned());
    }
    // Without a key, the facts that are not encrypted remain.
    sides.signed = manifest.encryption.is_some().then(|| Box::new(manifest.clone()));
    let manifest = match manifest.clone().unsealed() {
        Ok(unsealed) => unsealed,
        Err(UnsealError::Damaged) => {
            bad(findings, UnsealError::Damaged.to_string());
            manifest
        }
        Err(locked) => {
            sides.locked = Some(locked.to_string());
            manifest
        }
    };
    sides.manifest = Some(Box::new(manifest));
    true
}

/// Whether the backup was made without a checksum file: its SHA-1 is in the manifest alone.
fn is_without_checksum(manifest: &Manifest) -> bool {
    manifest.digests.checksum_sha256.is_empty()
}

fn check_checksum(files: &Backup, manifest_there: bool, sides: &mut SideFiles, findings: &mut Findings) {
    let bad = |findings: &mut Findings, what: String| findings.about(BackupFile::Checksum, what);
    let bytes = match files.read_checksum() {
        Ok(bytes) => bytes,
        Err(ReadError::Open(OpenError::Missing(_))) if !manifest_there => {
            return findings.not_checked("there is no checksum, so nothing says what the archive's SHA-1 should be");
        }
        Err(ReadError::Open(OpenError::Missing(_))) if sides.manifest.as_deref().is_some_and(is_without_checksum) => {
            return;
        }
        Err(error) => return bad(findings, with_causes(&error)),
    };
    if let Some(manifest) = &sides.manifest
        && !is_without_checksum(manifest)
        && hex(&Sha256::digest(&bytes)) != manifest.digests.checksum_sha256
    {
        bad(findings, "it does not match the manifest: its SHA-256 differs".to_owned());
    }
    let Some((digest, name)) = parse_checksum(&bytes) else {
        return bad(findings, "it is not a line as sha1sum writes it".to_owned());
    };
    let archive_name = format!("{}{}", files.stem(), files.kind().suffix());
    // The documented script wrote the full path.
    let last_part = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    if last_part != archive_name.as_bytes() {
        bad(findings, format!("it is the checksum of {}", name.escape_ascii()));
    }
    match &sides.expected_sha1 {
        Some(expected) if *expected != digest => {
            bad(findings, format!("it says {digest}, and the manifest says {expected}"));
            sides.other_sha1 = Some(digest);
        }
        Some(_) => {}
        None => sides.expected_sha1 = Some(digest),
    }
}

/// What tells the archive from others: its SHA-1 from the manifest or the index's SHA-256 (without a manifest, the SHA-1 from
/// the checksum), and the archive's actual length; `None` without an archive. The same as [`check`] finds, without reading
/// a long file.
pub fn expected(files: &Backup) -> Option<(Option<String>, u64)> {
    let archive_bytes = files.open_stored_archive().ok()?.len_bytes();
    let of_manifest = files.manifest().map(|manifest| manifest.identity().to_owned());
    let of_checksum = || parse_checksum(&files.read_checksum().ok()?).map(|(digest, _)| digest);
    let is_one = |digest: &String| parse_hex::<20>(digest).is_some() || parse_hex::<32>(digest).is_some();
    Some((of_manifest.filter(is_one).or_else(of_checksum), archive_bytes))
}

/// `DIGEST  NAME` or `DIGEST *NAME`, one line.
fn parse_checksum(bytes: &[u8]) -> Option<(String, &[u8])> {
    let line = bytes.strip_suffix(b"\n")?;
    let (digest, name) = line.split_at_checked(40)?;
    let digest = std::str::from_utf8(digest).ok().filter(|digest| parse_hex::<20>(digest).is_some())?;
    let name = name.strip_prefix(b"  ").or_else(|| name.strip_prefix(b" *"))?;
    (!name.is_empty() && !name.contains(&b'\n')).then(|| (digest.to_owned(), name))
}

/// Checks the index. Lengths are compared before digests, so that a file that is too long need not be read.
fn check_index(
    files: &Backup,
    manifest_there: bool,
    level: CheckLevel,
    cancel: &Cancel,
    sides: &mut SideFiles,
    findings: &mut Findings,
) -> io::Result<()> {
    let bad = |findings: &mut Findings, what: String| findings.about(BackupFile::Index, what);
    let file = match files.open_index() {
        Ok(file) => file,
        Err(OpenError::Missing(_)) if !manifest_there => {
            findings.not_checked("there is no index, so nothing says what each file's SHA-256 should be");
            return Ok(());
        }
        Err(error) => {
            bad(findings, with_causes(&error));
            return Ok(());
        }
    };
    if !manifest_there {
        sides.manifest_lost = true;
    }
    if let Some(manifest) = &sides.manifest {
        let (len, said) = (file.len_bytes(), manifest.sizes.index_bytes);
        if len != said {
            bad(findings, format!("it has {len} bytes, and the manifest says {said}"));
            sides.index_changed = true;
        } else if hex(&sha256_of(&*file, len, cancel)?) != manifest.digests.index_sha256 {
            bad(findings, "it does not match the manifest: its SHA-256 differs".to_owned());
            sides.index_changed = true;
        }
    }
    // An index that matches the manifest was checked line by line when it was written, and is checked again when
    // used.
    if sides.index_changed || sides.manifest.is_none() {
        let read = if files.kind().is_image() {
            read_through_image(&file, cancel).map_err(Unreadable::from)
        } else {
            read_through(&file, cancel).map_err(Unreadable::from)
        };
        match read {
            Ok(()) => {}
            Err(Unreadable::Files(IndexError::Io(error)) | Unreadable::Image(ImageIndexError::Io(error))) => {
                return Err(error);
            }
            Err(error) => {
                bad(findings, with_causes(&error));
                return Ok(());
            }
        }
    }
    if level >= CheckLevel::Full {
        sides.index = Some(file);
    }
    Ok(())
}

fn read_through(file: &Arc<dyn BlockRead>, cancel: &Cancel) -> Result<(), IndexError> {
    let mut reader = IndexReader::new(Arc::clone(file))?;
    while reader.next_line()?.is_some() {
        stop_if(cancel)?;
    }
    Ok(())
}

fn read_through_image(file: &Arc<dyn BlockRead>, cancel: &Cancel) -> Result<(), ImageIndexError> {
    let mut reader = ImageIndexReader::new(Arc::clone(file))?;
    while reader.next_member()?.is_some() {
        stop_if(cancel)?;
    }
    Ok(())
}

/// Why an index of either kind is wrong.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Files(#[from] IndexError),
    #[error(transparent)]
    Image(#[from] ImageIndexError),
}

fn stop_if(cancel: &Cancel) -> io::Result<()> {
    if cancel.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::parse_checksum;

    #[test]
    fn a_checksum_is_one_line_of_sha1sum() {
        let digest = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        let line = |text: &str| parse_checksum(text.as_bytes()).map(|(digest, name)| (digest, name.to_vec()));
        let name = b"/b/v_01_01_2011.tar.gz".to_vec();
        assert_eq!(line(&format!("{digest}  /b/v_01_01_2011.tar.gz\n")), Some((digest.to_owned(), name.clone())));
        assert_eq!(line(&format!("{digest} */b/v_01_01_2011.tar.gz\n")), Some((digest.to_owned(), name)));
        for wrong in ["", "\n", "abc  x\n", &format!("{digest} x\n"), &format!("{digest}  x"), &format!("{digest}  \n")]
        {
            assert_eq!(line(wrong), None, "{wrong}");
        }
        assert_eq!(line(&format!("{digest}  x\n{digest}  y\n")), None);
    }
}
