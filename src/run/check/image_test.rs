//! The restore test of an image backup: the volume is restored into a file, as a restore does it, and compared with what
//! flate2, which shares no code with the reader, decompresses from the archive.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::error::CheckError;
use super::finding::{BackupFile, Findings};
use crate::archive::image::blocks::ImageBlocks;
use crate::archive::read::unsealed::Unsealed;
use crate::error::with_causes;
use crate::events::{Event, Observer};
use crate::outside::zeros::is_zero;
use crate::outside::{BlockCursor, BlockRead, Cancel, let_go_of_pages};
use crate::report::CheckLevel;
use crate::run::temporary::{TemporaryDirectory, Use};
use crate::store::Backup;

const PIECE_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = 4096;
/// Progress is reported for so much.
const REPORT_BYTES: u64 = 64 << 20;

/// Makes the test in a file in `scratch`. If it cannot be made here, `findings.not_checked` says so.
pub fn check(
    files: &Backup,
    scratch: &Path,
    cancel: &Cancel,
    observer: &dyn Observer,
    findings: &mut Findings,
) -> Result<(), CheckError> {
    let (archive, index) = match (files.open_archive(), files.open_index()) {
        (Ok(archive), Ok(index)) => (archive, index),
        (Err(error), _) | (_, Err(error)) => {
            findings.not_restored(with_causes(&error));
            return Ok(());
        }
    };
    let blocks = match ImageBlocks::open(Arc::clone(&archive), index) {
        Ok(blocks) => blocks,
        Err(error) => {
            findings.about(BackupFile::Index, with_causes(&error));
            return Ok(());
        }
    };
    let restored = match Restored::create(scratch, files.stem(), blocks.len_bytes(), observer) {
        Ok(restored) => restored,
        Err(error) => {
            findings.not_restored(format_args!("{}: {error}", scratch.display()));
            return Ok(());
        }
    };
    observer.on_event(&Event::ExpectedBytes { bytes: blocks.len_bytes() });
    match restored.write(&blocks, cancel) {
        Ok(()) => {}
        Err(Failed::Stopped) => return Err(CheckError::Stopped),
        Err(Failed::Read(error)) => {
            findings.about(BackupFile::Archive, format!("restored for a test, it cannot be read: {error}"));
            return Ok(());
        }
        Err(Failed::Write(error)) => {
            findings.not_restored(format_args!("{}: {error}", scratch.display()));
            return Ok(());
        }
    }
    let archive: Arc<dyn BlockRead> = if files.kind().is_sealed() {
        match Unsealed::new(archive) {
            Ok(unsealed) => Arc::new(unsealed),
            Err(error) => {
                findings.about(BackupFile::Archive, error.to_string());
                return Ok(());
            }
        }
    } else {
        archive
    };
    match restored.compare(&archive, blocks.len_bytes(), cancel, observer) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => {
            findings.about(BackupFile::Archive, format!("restored for a test: {what}"));
            Ok(())
        }
        Err(Failed::Stopped) => Err(CheckError::Stopped),
        Err(Failed::Read(error) | Failed::Write(error)) => {
            findings.not_beyond(CheckLevel::Full, format!("what was restored for a test cannot be read back: {error}"));
            Ok(())
        }
    }
}

enum Failed {
    Stopped,
    Read(io::Error),
    Write(io::Error),
}

/// The volume in a file of a temporary directory.
struct Restored {
    _directory: TemporaryDirectory,
    file: File,
}

impl Restored {
    fn create(scratch: &Path, stem: &str, bytes: u64, observer: &dyn Observer) -> io::Result<Self> {
        let directory = TemporaryDirectory::new(scratch, stem, Use::Test, observer)?;
        let path = directory.path().join("volume");
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(bytes)?;
        Ok(Self { _directory: directory, file })
    }

    fn write(&self, blocks: &ImageBlocks, cancel: &Cancel) -> Result<(), Failed> {
        let mut buf = vec![0; PIECE_BYTES];
        let mut at = 0;
        while let Some(start) = blocks.next_data(at).map_err(Failed::Read)? {
            if cancel.is_cancelled() {
                return Err(Failed::Stopped);
            }
            let left = blocks.next_hole(start).map_err(Failed::Read)? - start;
            let len = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            blocks.read_at(start, &mut buf[..len]).map_err(Failed::Read)?;
            for (number, block) in buf[..len].chunks(BLOCK_BYTES).enumerate() {
                if !is_zero(block) {
                    let at = start + (number * BLOCK_BYTES) as u64;
                    self.file.write_all_at(block, at).map_err(Failed::Write)?;
                }
            }
            at = start + len as u64;
        }
        self.file.sync_all().map_err(Failed::Write)?;
        let_go_of_pages(&self.file, 0, None);
        Ok(())
    }

    /// Compares the file with the archive; gives the first difference.
    fn compare(
        &self,
        archive: &Arc<dyn BlockRead>,
        bytes: u64,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Option<String>, Failed> {
        let mut input = MultiGzDecoder::new(BlockCursor::new(Arc::clone(archive)));
        let (mut said, mut found) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        let (mut at, mut untold) = (0_u64, 0);
        loop {
            if cancel.is_cancelled() {
                return Err(Failed::Stopped);
            }
            let len = match input.read(&mut said) {
                Ok(0) if at == bytes => return Ok(None),
                Ok(0) => return Ok(Some(format!("flate2 decompresses {at} bytes, and the volume has {bytes}"))),
                Ok(len) if len as u64 > bytes - at => {
                    return Ok(Some(format!("flate2 decompresses more than the {bytes} bytes of the volume")));
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(format!("flate2 cannot decompress it after byte {at}: {error}"))),
            };
            self.file.read_exact_at(&mut found[..len], at).map_err(Failed::Read)?;
            if said[..len] != found[..len] {
                let first = said.iter().zip(&found).take_while(|(said, found)| said == found).count() as u64;
                return Ok(Some(format!("byte {} of the volume is not what flate2 decompresses", at + first)));
            }
            at += len as u64;
            untold += len as u64;
            if untold >= REPORT_BYTES {
                observer.on_event(&Event::Read { bytes: untold });
                untold = 0;
            }
        }
    }
}
