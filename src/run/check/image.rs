//! Reads an image archive once and compares every byte with the side files.

use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::content::{Reading, Seen, check_sha1};
use super::error::CheckError;
use super::finding::{BackupFile, Finding, Findings};
use super::side_files::SideFiles;
use crate::archive::image::check::{ImageFault, ImageSeen, check_archive};
use crate::events::Event;
use crate::outside::{BlockCursor, BlockRead, Cancel};
use crate::shown::hex;

/// What is decompressed at once of an archive without an index.
const PIECE_BYTES: usize = 256 << 10;
/// Progress is reported for so much.
const REPORT_BYTES: u64 = 64 << 20;

/// Reads all of the archive.
pub fn check(reading: &Reading<'_>, findings: &mut Findings) -> Result<Seen, CheckError> {
    let Reading { archive, sides, threads, cancel, observer } = *reading;
    if let Some(manifest) = &sides.manifest {
        observer.on_event(&Event::ExpectedBytes { bytes: manifest.sizes.tar_bytes });
    }
    let mut own = Findings::default();
    let mut untold = 0;
    let mut read = |bytes: u64| {
        untold += bytes;
        if untold >= REPORT_BYTES {
            observer.on_event(&Event::Read { bytes: untold });
            untold = 0;
        }
    };
    let mut fault = |fault: ImageFault| {
        own.add(Finding {
            file: if fault.in_index { BackupFile::Index } else { BackupFile::Archive },
            member: fault.member.map(|member| member.number),
            offset: fault.member.filter(|_| !fault.in_index).map(|member| member.offset),
            path: None,
            what: fault.what,
        });
    };
    let index = sides.index.clone();
    let is_indexed = index.is_some();
    let seen = check_archive(&**archive, index, (threads, cancel), &mut read, &mut fault).map_err(CheckError::Here)?;
    if seen.is_stopped {
        return Err(CheckError::Stopped);
    }
    let archive_sha1 = seen.archive_sha1.as_ref().map(|sha1| hex(sha1));
    let is_right = check_sha1(archive_sha1.as_deref(), sides, findings);
    // The segments of an encrypted one were compared with their table.
    if !is_indexed && sides.segments.is_none() {
        check_as_gzip(archive, cancel, &mut own)?;
    }
    let hidden = own.total - own.first.len() as u64;
    for mut finding in own.first {
        // The archive is known to be right, and the index is not.
        if sides.index_changed && is_right && finding.file == BackupFile::Archive {
            finding.file = BackupFile::Index;
            finding.offset = None;
        }
        findings.add(finding);
    }
    findings.total += hidden;
    own.not_checked.into_iter().for_each(|what| findings.not_checked(what));
    if is_indexed {
        check_counts(&seen, sides, findings);
    }
    Ok(Seen { archive_sha1, members: seen.totals.members, entries: 0, marked_entries: 0 })
}

fn check_counts(seen: &ImageSeen, sides: &SideFiles, findings: &mut Findings) {
    let Some(manifest) = &sides.manifest else { return };
    if findings.total > 0 {
        // Missing parts were already reported.
        return;
    }
    let image = manifest.image.clone().unwrap_or_default();
    for (what, said, found) in [
        ("bytes of the volume", manifest.source.size_bytes, seen.totals.volume_bytes),
        ("bytes in the decompressed archive", manifest.sizes.tar_bytes, seen.totals.volume_bytes),
        ("members", manifest.sizes.members, seen.totals.members),
        ("bytes in members of data", image.data_bytes, seen.data_bytes),
    ] {
        if said != found {
            findings.about(BackupFile::Manifest, format!("it says {said} {what}, and there are {found}"));
        }
    }
}

/// Decompresses an archive that has no index, to check its CRC.
fn check_as_gzip(archive: &Arc<dyn BlockRead>, cancel: &Cancel, findings: &mut Findings) -> Result<(), CheckError> {
    findings.not_checked("there is no index: the archive is checked as one gzip stream, by its CRC");
    let mut input = MultiGzDecoder::new(BlockCursor::new(Arc::clone(archive)));
    let mut buf = vec![0; PIECE_BYTES];
    let mut total = 0_u64;
    loop {
        if cancel.is_cancelled() {
            return Err(CheckError::Stopped);
        }
        match input.read(&mut buf) {
            Ok(0) if total == 0 => {
                findings.about(BackupFile::Archive, "nothing is in it");
                return Ok(());
            }
            Ok(0) => return Ok(()),
            Ok(len) => total += len as u64,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                findings.about(BackupFile::Archive, format!("it cannot be decompressed: {error}"));
                return Ok(());
            }
        }
    }
}
