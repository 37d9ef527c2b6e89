//! Brings the files of one backup into the target: staged, compared with their digests, published.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::Local;
use sha1::Sha1;
use sha2::{Digest, Sha256};

mod hash;

use super::failure::TransferError;
use super::members::Members;
use super::named::Named;
use super::segments::Segments;
use super::signed::signer_for;
use crate::encryption::EncryptionOptions;
use crate::events::{Event, Observer};
use crate::manifest::Manifest;
use crate::outside::{BlockRead, Cancel};
use crate::store::api::{Content, StoreFile};
use crate::store::arrival::Arrival;
use crate::store::names::{CHECKSUM, MANIFEST, SEGMENTS, SIGNATURE, index_suffix};
use crate::store::open::OpenError;
use crate::store::{Backup, Destination, ReadError, begin_lock, of_copy};

use hash::Hash;

const PIECE_BYTES: usize = 1 << 20;

/// One backup on its way.
pub(super) struct Transfer<'a> {
    pub(super) files: &'a Backup,
    pub(super) manifest: &'a Manifest,
    /// Known to be bad: copied as it is, with the record that says so.
    pub(super) is_bad: bool,
    pub(super) to: &'a Destination,
    /// How this host encrypts, with the key that signs a copy.
    pub(super) encryption: Option<&'a EncryptionOptions>,
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
}

/// The result of a transfer.
#[derive(Debug)]
pub(super) struct Transferred {
    pub(super) archive: PathBuf,
    /// Bytes read from the source.
    pub(super) copied_bytes: u64,
    /// Bytes that an interrupted copy had left in the target.
    pub(super) kept_bytes: u64,
}

/// One file on its way.
struct Part {
    suffix: &'static str,
    path: PathBuf,
    bytes: Arc<dyn BlockRead>,
    hash: Hash,
    /// `None` for a bad backup.
    expected: Option<String>,
    content: Content,
}

impl Transfer<'_> {
    pub(super) fn run(&self) -> Result<Transferred, TransferError> {
        // Open before anything is copied: retention of the source may remove the names meanwhile.
        let archive = self.files.open_stored_archive()?;
        let index = self.files.open_stored_index()?;
        let small = |path: PathBuf| move |source: ReadError| TransferError::Small { path, source };
        let manifest_path = self.files.manifest_path();
        let manifest = self.files.read_manifest_bytes().map_err(small(manifest_path.clone()))?;
        let read = Manifest::from_bytes(&manifest)?;
        if read.self_sha256 != self.manifest.self_sha256 {
            return Err(TransferError::Changed(manifest_path));
        }
        let checksum = match self.files.read_checksum() {
            Ok(bytes) => Some(bytes),
            // The config may switch it off.
            Err(ReadError::Open(OpenError::Missing(_))) => None,
            Err(source) => return Err(small(self.files.checksum_path())(source)),
        };
        let folder = self.to.volume_directory(&self.files.volume())?;
        let began = read.started_at.with_timezone(&Local).naive_local();
        let stem = of_copy(&*folder, &self.files.volume(), self.files.stem(), began)?;
        let signer = if self.manifest.encryption.is_some() && stem != self.files.stem() {
            Some(signer_for(self.files, &manifest, self.encryption, folder.path())?)
        } else {
            None
        };
        let lock = begin_lock(&*folder, &self.files.volume(), &stem, began.date(), MANIFEST)?;
        let named = Named::of(read, manifest, checksum, &stem, self.files.kind(), lock, signer.as_ref())?;
        let arrival = Arrival::begin(Arc::clone(&folder), &stem, self.files.kind())?;
        let digests = &self.manifest.digests;
        // A checksum that a verification added has no digest in the manifest.
        let expected = |digest: &str| (!self.is_bad && !digest.is_empty()).then(|| digest.to_owned());
        let part = |suffix, path, bytes, digest: &str, content| Part {
            suffix,
            path,
            bytes,
            hash: Hash::Sha256(Sha256::new()),
            expected: expected(digest),
            content,
        };
        // What proves an archive whose SHA-1 is not known: the index, or the table of segments, which needs no key.
        let mut proof = (Hash::Members(Box::new(Members::new(Arc::clone(&index)))), digests.identity());
        let suffix = index_suffix(self.files.kind());
        let mut parts = vec![part(suffix, self.files.index_path(), index, &digests.index_sha256, Content::Index)];
        // The signature of the manifest has no digest in it.
        if let Some(record) = &self.manifest.encryption {
            let (table, path) = (self.files.open_segments()?, self.files.segments_path());
            proof = (Hash::Segments(Box::new(Segments::new(Arc::clone(&table)))), &record.segments_sha256);
            parts.push(part(SEGMENTS, path, table, &record.segments_sha256, Content::Index));
            if signer.is_none() {
                let path = self.files.signature_path();
                let signature = self.files.read_signature().map_err(small(path.clone()))?;
                let of_signature = part(SIGNATURE, path, Arc::new(signature), &digests.index_sha256, Content::Index);
                parts.push(Part { expected: None, ..of_signature });
            }
        }
        if let Some(bytes) = named.checksum.clone() {
            let path = self.files.checksum_path();
            parts.push(part(CHECKSUM, path, Arc::new(bytes), &named.checksum_sha256, Content::Index));
        }
        let (suffix, path) = (self.files.kind().suffix(), self.files.archive_path());
        let content = Content::Archive { share_blocks: false };
        if let Some(sha1) = digests.archive_sha1() {
            proof = (Hash::Sha1(Sha1::new()), sha1);
        }
        let of_archive = part(suffix, path, archive, proof.1, content);
        parts.push(Part { hash: proof.0, ..of_archive });
        let mut done = Transferred { archive: folder.path().to_owned(), copied_bytes: 0, kept_bytes: 0 };
        let copied = parts.iter().try_for_each(|part| self.bring(&arrival, part, &mut done)).and_then(|()| {
            if self.is_bad {
                self.bring_record(&folder, &stem)?;
            }
            self.check_target()
        });
        if let Err(error) = copied {
            if error.spoils() {
                // Reported is why it was not copied; the next copy removes what stays.
                let _ = arrival.give_up();
            }
            return Err(error);
        }
        done.archive = folder.path().join(format!("{stem}{}", self.files.kind().suffix()));
        arrival.publish(&named.manifest, named.checksum.is_some(), signer.as_ref())?;
        Ok(done)
    }

    fn stopped(&self) -> TransferError {
        TransferError::Stopped { continues: self.to.is_local() }
    }

    /// Before anything is published: the path of an unmounted target leads to the host's own disk.
    fn check_target(&self) -> Result<(), TransferError> {
        match self.to.is_still_there() {
            Ok(true) => Ok(()),
            _ => Err(TransferError::TargetGone(self.to.root().to_owned())),
        }
    }

    /// Copies the record that says that the backup is bad. Before the manifest: it must never look good.
    fn bring_record(&self, folder: &crate::store::Folder, stem: &str) -> Result<(), TransferError> {
        let path = self.files.record_path();
        let record = self.files.read_record().map_err(|source| TransferError::Small { path, source })?;
        let copy = Backup::new(Arc::clone(folder), stem.to_owned(), self.files.kind());
        Ok(copy.write_record(&record)?)
    }

    /// Brings one file: keeps what an interrupted copy left, if the digest of the whole file is right in the end.
    fn bring(&self, arrival: &Arrival, part: &Part, done: &mut Transferred) -> Result<(), TransferError> {
        if let Some((mut hash, kept)) = self.kept(arrival, part)? {
            let len = part.bytes.len_bytes();
            let is_right = |hash: Hash| Some(hash.finish().1) == part.expected;
            if let Some(file) = arrival.resume(part.suffix)? {
                self.observer.on_event(&Event::Carried { bytes: kept });
                self.write(arrival, part, &*file, kept, &mut hash)?;
                done.copied_bytes += len - kept;
                if is_right(hash) {
                    done.kept_bytes += kept;
                    return Ok(file.settle(len)?);
                }
                // A power cut tore what was left: the whole file is copied again.
            }
        }
        let file = arrival.create(part.suffix)?;
        let mut hash = part.hash.clone();
        self.write(arrival, part, &*file, 0, &mut hash)?;
        done.copied_bytes += part.bytes.len_bytes();
        let (digest, found) = hash.finish();
        match &part.expected {
            Some(expected) if *expected != found => {
                let (path, expected) = (part.path.clone(), expected.clone());
                Err(TransferError::Digest { path, digest, found, expected })
            }
            _ => Ok(file.settle(part.bytes.len_bytes())?),
        }
    }

    /// The digest of what an interrupted copy left of this file, and its length; `None` if it is of no use.
    fn kept(&self, arrival: &Arrival, part: &Part) -> Result<Option<(Hash, u64)>, TransferError> {
        let Some(left) = arrival.left(part.suffix).filter(|_| part.expected.is_some()) else { return Ok(None) };
        let (len, mut hash) = (left.len_bytes(), part.hash.clone());
        if len == 0 || len > part.bytes.len_bytes() {
            return Ok(None);
        }
        let read = self.pieces(&*left, 0, |piece| {
            hash.update(piece);
            Ok(())
        });
        match read {
            Ok(()) => Ok(Some((hash, len))),
            Err(PieceError::Stopped) => Err(self.stopped()),
            // It is copied again.
            Err(PieceError::Read(..) | PieceError::Write(_)) => Ok(None),
        }
    }

    /// Writes the source from byte `from` to the end of the staged file, and hashes it as it is read.
    fn write(
        &self,
        arrival: &Arrival,
        part: &Part,
        file: &dyn StoreFile,
        from: u64,
        hash: &mut Hash,
    ) -> Result<(), TransferError> {
        let failed = |source| TransferError::Write { path: arrival.path().to_owned(), source };
        let mut writer = file.writer(part.content).map_err(failed)?;
        let written = self.pieces(&*part.bytes, from, |piece| {
            hash.update(piece);
            writer.write_all(piece)?;
            self.observer.on_event(&Event::Read { bytes: piece.len() as u64 });
            Ok(())
        });
        match written {
            Ok(()) => writer.flush().map_err(failed),
            Err(PieceError::Stopped) => Err(self.stopped()),
            Err(PieceError::Read(offset, source)) => {
                Err(TransferError::Read { path: part.path.clone(), offset, source })
            }
            Err(PieceError::Write(source)) => Err(failed(source)),
        }
    }

    /// Passes the bytes from `from` on to `each`, piece by piece.
    fn pieces(
        &self,
        bytes: &dyn BlockRead,
        from: u64,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), PieceError> {
        let (mut at, len) = (from, bytes.len_bytes());
        let mut piece = vec![0; PIECE_BYTES];
        while at < len {
            if self.cancel.is_cancelled() {
                return Err(PieceError::Stopped);
            }
            match bytes.read_some(at, &mut piece) {
                Ok(0) => return Err(PieceError::Read(at, io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    each(&piece[..read]).map_err(PieceError::Write)?;
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PieceError::Read(at, error)),
            }
        }
        Ok(())
    }
}

enum PieceError {
    Stopped,
    Read(u64, io::Error),
    Write(io::Error),
}
