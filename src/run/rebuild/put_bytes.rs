//! Writes zeros, bytes from the manifest, and raw images to the target.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use crate::archive::index::EntryLine;
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::HeadKind;
use crate::archive::read::index_file::IndexReader;
use crate::archive::read::index_plan::IndexPlan;
use crate::archive::read::sparse::RunMap;
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan};
use crate::layout::lvm2::compose;
use crate::outside::zeros::is_zero;
use crate::outside::{BlockRead, Cancel};
use crate::run::check::content::contradiction;
use crate::run::restore::data::{Placed, Places};
use crate::shown;
use crate::store::Backup;
use crate::store::open::OpenError;
use crate::units::ByteRange;
use crate::units::Extent;

/// What is made zeros at once, where that needs no writing.
const STRETCH_BYTES: u64 = 1 << 30;
/// What is looked at in one piece to see whether it is zeros already.
const PIECE_BYTES: u64 = 1 << 20;
/// The start of a disk or of a raw image is written last, so that an incomplete one is not taken for a complete one, and so is the
/// end of a disk. What it is recognized by lies there: a partition table at both ends, the superblock of btrfs at 64 KiB, that of
/// md 1.2 at 4 KiB.
pub(in crate::run) const HELD_BACK_BYTES: u64 = 1 << 20;

/// Makes a range read as zeros, in the cheapest way that the target supports. What reads as zeros already is not written to where
/// that would take room, as on a thin volume.
pub(in crate::run) fn zero(file: &File, range: ByteRange, cancel: &Cancel) -> io::Result<()> {
    in_pieces(range, STRETCH_BYTES, cancel, |stretch| {
        // Afterwards both files and devices read as zeros. On a device, punching fails unless it can be done
        // without writing; fallocate(2) and the kernel's block/fops.c.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(file, flags, stretch.start, stretch.len) {
            Ok(()) => Ok(()),
            Err(_) => {
                in_pieces(stretch, PIECE_BYTES, cancel, |piece| overwrite(file, piece).map_err(at_byte(piece.start)))
            }
        }
    })
}

fn in_pieces(
    range: ByteRange,
    piece_bytes: u64,
    cancel: &Cancel,
    mut each: impl FnMut(ByteRange) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < range.len {
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = (range.len - done).min(piece_bytes);
        each(ByteRange::new(range.start + done, len))?;
        done += len;
    }
    Ok(())
}

/// Overwrites a piece that has other bytes than zeros.
fn overwrite(file: &File, piece: ByteRange) -> io::Result<()> {
    // At most PIECE_BYTES.
    let mut buffer = vec![0; usize::try_from(piece.len).unwrap_or(0)];
    // A sector that cannot be read may be mended by writing to it.
    if file.read_exact_at(&mut buffer, piece.start).is_ok() && is_zero(&buffer) {
        return Ok(());
    }
    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, flags, piece.start, piece.len).or_else(|_| {
        buffer.fill(0);
        file.write_all_at(&buffer, piece.start)
    })
}

/// Makes zeros of both ends of a target, by which what is on it is recognized, and syncs it: there is no disk on it any more, also
/// after a power failure.
pub(in crate::run) fn clear_ends(file: &File, target_bytes: u64, cancel: &Cancel) -> io::Result<()> {
    let len = target_bytes.min(HELD_BACK_BYTES);
    for start in [0, target_bytes - len] {
        zero(file, ByteRange::new(start, len), cancel)?;
    }
    file.sync_all()
}

/// Adds where it happened.
pub(in crate::run) fn at_byte(at: u64) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("at byte {at}: {error}"))
}

/// Why a raw image was not restored exactly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ImageError {
    /// The target cannot be written.
    #[error("cannot be written: {0}")]
    Write(io::Error),
    /// The archive cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The archive cannot be read on this host.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It was cancelled.
    #[error("stopped")]
    Stopped,
    /// The archive lacks this path.
    #[error("the archive has no {}", shown::text(.0))]
    Missing(String),
    /// The entry is no file of the region's length.
    #[error("the archive has {archive_bytes} bytes for it, and it has {region_bytes}")]
    Length {
        /// The entry's length.
        archive_bytes: u64,
        /// The region's length.
        region_bytes: u64,
    },
    /// The archive is damaged at the image's data.
    #[error("a part of it is lost in member {member}: {what}")]
    Lost {
        /// The archive's member, from 0.
        member: u64,
        /// The damage.
        what: String,
    },
    /// The map of holes cannot be read.
    #[error("its map of holes: {0}")]
    Map(io::Error),
    /// There is more data than the map of holes covers.
    #[error("its map of holes is too short")]
    MapTooShort,
    /// The entry, or part of it, does not match the index.
    #[error("{0}")]
    Damaged(String),
    /// The image is longer than the region.
    #[error("it is longer than its place")]
    TooLong,
}

/// A raw image in an archive.
pub(super) struct Image<'a> {
    /// The backup.
    pub(super) files: &'a Backup,
    /// Its index; without a valid one, the whole archive is read.
    pub(super) index: Option<&'a Arc<dyn BlockRead>>,
    /// The image's path in the archive.
    pub(super) path: &'a str,
}

/// Writes a raw image from the archive to `extents` of the target; holes become zeros. Returns problems that the
/// archive already records. An error says why the result is not exact.
pub(super) fn raw_image(
    image: &Image<'_>,
    extents: &[Extent],
    file: &File,
    threads: usize,
    cancel: &Cancel,
) -> Result<Vec<String>, ImageError> {
    let Image { files, index, path } = *image;
    let size = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
    for extent in extents {
        zero(file, ByteRange::new(extent.source_offset, extent.length), cancel).map_err(ImageError::Write)?;
    }
    let archive = files.open_archive()?;
    let wanted = path.as_bytes().to_vec();
    let index = index.and_then(|file| IndexReader::new(Arc::clone(file)).ok());
    let indexed = index.is_some();
    let plan = index.map_or(ReadPlan::Scan, |index| {
        let wanted = wanted.clone();
        let select = Box::new(move |line: &EntryLine| line.path == wanted);
        ReadPlan::Index(Box::new(IndexPlan::new(index, Some(select))))
    });
    let options = ReadOptions { threads, hash_archive: false, stop: vec![cancel.flag()] };
    let stream = MemberStream::new(archive, plan, &options).map_err(ImageError::Read)?;
    let mut reader = EntryReader::new(stream, true, indexed);
    loop {
        match reader.next_item() {
            None if cancel.is_cancelled() => return Err(ImageError::Stopped),
            None => return Err(ImageError::Missing(path.to_owned())),
            Some(Item::Entry(head, line)) if head.path == wanted => {
                if head.kind != HeadKind::File || head.size != size {
                    return Err(ImageError::Length { archive_bytes: head.size, region_bytes: size });
                }
                let damaged = line.as_ref().is_some_and(|line| line.damaged);
                let mut first = Vec::new();
                let map = head.runs.clone().unwrap_or_else(|| RunMap::whole(head.size));
                let mut places = Places::of(&map);
                loop {
                    let mut data = match reader.next_data() {
                        Ok(Some(data)) => data,
                        Ok(None) => break,
                        Err(lost) => {
                            let member = lost.place.member;
                            return Err(ImageError::Lost { member, what: lost.what });
                        }
                    };
                    while !data.is_empty() {
                        let next = places.next(data).map_err(ImageError::Map)?;
                        let Placed { at, now, later } = next.ok_or(ImageError::MapTooShort)?;
                        put(file, extents, at, now, &mut first)?;
                        data = later;
                    }
                }
                let content = reader.content_sha256();
                if let Some(what) = line.filter(|_| indexed).and_then(|line| contradiction(&head, &line, content)) {
                    return Err(ImageError::Damaged(what));
                }
                for (at, bytes) in first.into_iter().rev() {
                    place(file, extents, at, &bytes)?;
                }
                let mut remarks = head.problems.clone();
                if damaged {
                    remarks.push("was not read whole when it was backed up; it is as it is in the archive".to_owned());
                }
                return Ok(remarks);
            }
            Some(Item::Lost { what, .. }) if indexed => return Err(ImageError::Damaged(what)),
            Some(Item::Entry(..) | Item::Lost { .. }) => {}
        }
    }
}

/// Writes a piece, but holds back the first bytes.
fn put(
    file: &File,
    extents: &[Extent],
    at: u64,
    data: &[u8],
    first: &mut Vec<(u64, Vec<u8>)>,
) -> Result<(), ImageError> {
    let early = usize::try_from(HELD_BACK_BYTES.saturating_sub(at)).unwrap_or(usize::MAX).min(data.len());
    let (head, rest) = data.split_at(early);
    if !head.is_empty() {
        first.push((at, head.to_vec()));
    }
    place(file, extents, at + early as u64, rest)
}

fn place(file: &File, extents: &[Extent], at: u64, data: &[u8]) -> Result<(), ImageError> {
    let pieces = compose(extents, ByteRange::new(at, data.len() as u64)).ok_or(ImageError::TooLong)?;
    let mut rest = data;
    for piece in pieces {
        let (now, later) = rest.split_at(usize::try_from(piece.length).map_or(rest.len(), |len| len.min(rest.len())));
        file.write_all_at(now, piece.source_offset).map_err(ImageError::Write)?;
        rest = later;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::{Extent, place, zero};
    use crate::outside::Cancel;
    use crate::units::ByteRange;

    #[test]
    fn zeros_are_where_they_were_wanted_on_each_filesystem() {
        for directory in ["/dev/shm", "/var/tmp"] {
            let file = tempfile::tempfile_in(directory).unwrap();
            file.write_all_at(&vec![7; 3 << 20], 0).unwrap();
            zero(&file, ByteRange::new(512, (2 << 20) + 512), &Cancel::default()).unwrap();
            let mut bytes = vec![1; 3 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(
                bytes[..512].iter().all(|byte| *byte == 7) && bytes[(2 << 20) + 1024..].iter().all(|byte| *byte == 7)
            );
            assert!(bytes[512..(2 << 20) + 1024].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn data_goes_through_the_pieces() {
        let file = tempfile::tempfile().unwrap();
        let piece = |source_offset, length| Extent { source_offset, length };
        let extents = [piece(100, 4), piece(10, 6)];
        place(&file, &extents, 2, b"abcdef").unwrap();
        let mut bytes = [0; 104];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[102..], &bytes[10..14]), (&b"ab"[..], &b"cdef"[..]));
        assert!(place(&file, &extents, 5, b"abcdef").is_err());
    }
}
