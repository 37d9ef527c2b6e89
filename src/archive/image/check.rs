//! Reads an image archive from its first to its last byte, and compares every byte with the index.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use sha1::{Digest, Sha1};

use super::index::{Holds, ImageIndexReader, ImageMember, ImageTotals};
use super::zeros::zero_member;
use crate::archive::codec::{self, Decode, DecodeError};
use crate::archive::workers::Workers;
use crate::encryption::open;
use crate::encryption::segment::GZIP_SIGNATURE;
use crate::error::with_causes;
use crate::outside::{BlockRead, Cancel};

/// Members on their way, in addition to two for each thread.
const SPARE: usize = 2;
/// What is read at once of an archive without an index.
const PIECE_BYTES: usize = 1 << 20;

/// What is wrong with a member.
pub(super) struct Faulty(pub(super) String);

impl From<DecodeError> for Faulty {
    fn from(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// Decompresses members and checks them.
pub(super) struct MemberDecoder {
    decoder: Box<dyn Decode>,
    /// The member in a segment.
    opened: Vec<u8>,
}

impl MemberDecoder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { decoder: codec::WRITTEN.decoder()?, opened: Vec::new() })
    }

    /// Checks that `bytes` are the member of this line, and fills `data` with its content; none for zeros. What is
    /// decompressed is never more than the index says, and not more than a border.
    pub(super) fn check(&mut self, member: &ImageMember, bytes: &[u8], data: &mut Vec<u8>) -> Result<(), Faulty> {
        let faulty = |what: &str| Err(Faulty(what.to_owned()));
        if <[u8; 32]>::from(blake3::hash(bytes)) != member.digest {
            return faulty("its digest is not the one in the index");
        }
        let Holds::Data(content) = member.holds else {
            data.clear();
            let is_zeros = unsealed(bytes, &mut self.opened)? == zero_member(member.volume_length);
            return if is_zeros { Ok(()) } else { faulty("it is not the member of so many zeros") };
        };
        if !codec::of_image_member(bytes)
            .frame(bytes)
            .is_some_and(|frame| frame.is(member.length, member.volume_length))
        {
            return faulty("the lengths in its header differ from those in the index");
        }
        let Self { decoder, opened } = self;
        decoder.decode(unsealed(bytes, opened)?, member.volume_length, data)?;
        if <[u8; 32]>::from(blake3::hash(data)) != content {
            return faulty("the digest of its content is not the one in the index");
        }
        Ok(())
    }
}

/// The member in a segment, decrypted into `opened`; bytes that are no segment are a member themselves.
fn unsealed<'a>(bytes: &'a [u8], opened: &'a mut Vec<u8>) -> Result<&'a [u8], DecodeError> {
    if !bytes.starts_with(GZIP_SIGNATURE) {
        return Ok(bytes);
    }
    open(bytes, bytes.len() as u64, opened).map_err(DecodeError::Sealed)?;
    Ok(opened)
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFault {
    /// The member; `None` for what concerns the file as a whole.
    pub member: Option<ImageMember>,
    /// Whether the index is wrong, and not the archive.
    pub in_index: bool,
    /// What is wrong, one line.
    pub what: String,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct ImageSeen {
    /// The SHA-1 of the archive; `None` if not all of it could be read.
    pub archive_sha1: Option<[u8; 20]>,
    /// The totals of the index.
    pub totals: ImageTotals,
    /// Bytes of the volume in members of data.
    pub data_bytes: u64,
    /// Whether it was cancelled.
    pub is_stopped: bool,
}

/// Checks every byte of `archive`; each thing that is wrong goes to `fault`, in order. `read` gets the bytes of the volume
/// that were checked. Fails only for lack of memory or threads.
pub fn check_archive(
    archive: &dyn BlockRead,
    index: Option<Arc<dyn BlockRead>>,
    (threads, cancel): (usize, &Cancel),
    read: &mut dyn FnMut(u64),
    fault: &mut dyn FnMut(ImageFault),
) -> io::Result<ImageSeen> {
    let threads = threads.max(1);
    let decoders = (0..threads).map(|_| MemberDecoder::new()).collect::<io::Result<Vec<_>>>()?;
    let decoders = Arc::new(Mutex::new(decoders));
    let workers = Workers::new(threads, "check", || {})?;
    let mut under_way: VecDeque<(ImageMember, Receiver<Result<(), Faulty>>)> = VecDeque::new();
    let mut seen = ImageSeen::default();
    let mut hash = Some(Sha1::new());
    let mut at = 0;
    let mut take = |(member, checked): (ImageMember, Receiver<Result<(), Faulty>>), read: &mut dyn FnMut(u64)| {
        // A member without a result is not a good one, although no thread ends before it has given one.
        let checked = checked.recv().unwrap_or_else(|_| Err(Faulty("it was not checked".to_owned())));
        if let Err(Faulty(what)) = checked {
            fault(ImageFault { member: Some(member), in_index: false, what });
        }
        read(member.volume_length);
    };
    let whole = |in_index, what: String| ImageFault { member: None, in_index, what };
    let mut at_end = Vec::new();
    let mut reader = index.map(ImageIndexReader::new).transpose().unwrap_or_else(|error| {
        at_end.push(whole(true, with_causes(&error)));
        None
    });
    while let Some(members) = &mut reader {
        if cancel.is_cancelled() {
            seen.is_stopped = true;
            return Ok(seen);
        }
        let member = match members.next_member() {
            Ok(Some(member)) => member,
            Ok(None) => {
                seen.totals = members.seen();
                break;
            }
            Err(error) => {
                at_end.push(whole(true, with_causes(&error)));
                seen.totals = members.seen();
                break;
            }
        };
        // At most the longest member: the index was checked.
        let mut bytes = vec![0; usize::try_from(member.length).unwrap_or(0)];
        if let Err(error) = archive.read_at(member.offset, &mut bytes) {
            let what = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the archive ends before its end".to_owned(),
                _ => format!("it cannot be read: {error}"),
            };
            let (give, checked) = sync_channel(1);
            // There is room for one.
            let _ = give.send(Err(Faulty(what)));
            under_way.push_back((member, checked));
            hash = None;
            // The rest of a file that was cut off is not there either.
            if error.kind() == io::ErrorKind::UnexpectedEof {
                seen.totals = members.seen();
                break;
            }
        } else {
            if let Some(hash) = &mut hash {
                hash.update(&bytes);
            }
            if matches!(member.holds, Holds::Data(_)) {
                seen.data_bytes += member.volume_length;
            }
            let (give, checked) = sync_channel(1);
            let decoders = Arc::clone(&decoders);
            workers.give(move || {
                let lock = || decoders.lock().unwrap_or_else(PoisonError::into_inner);
                // There are as many decoders as threads.
                let Some(mut decoder) = lock().pop() else { return };
                let mut data = Vec::new();
                let result = decoder.check(&member, &bytes, &mut data);
                lock().push(decoder);
                // It is waited for, unless the check was cancelled.
                let _ = give.send(result);
            });
            under_way.push_back((member, checked));
        }
        at = member.offset + member.length;
        if under_way.len() > 2 * threads + SPARE
            && let Some(first) = under_way.pop_front()
        {
            take(first, read);
        }
    }
    for member in under_way {
        take(member, read);
    }
    let has_whole_index = reader.is_some() && at_end.is_empty();
    if has_whole_index && at < archive.len_bytes() && hash.is_some() {
        at_end.push(whole(false, format!("{} bytes follow its last member", archive.len_bytes() - at)));
    }
    // What no member was found for is part of the digest.
    let mut buf = vec![0; PIECE_BYTES];
    while hash.is_some() && at < archive.len_bytes() {
        if cancel.is_cancelled() {
            seen.is_stopped = true;
            return Ok(seen);
        }
        match archive.read_some(at, &mut buf) {
            Ok(0) => break,
            Ok(len) => {
                if let Some(hash) = &mut hash {
                    hash.update(&buf[..len]);
                }
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                at_end.push(whole(false, format!("it cannot be read at byte {at}: {error}")));
                hash = None;
            }
        }
    }
    at_end.into_iter().for_each(&mut *fault);
    seen.archive_sha1 = hash.map(|hash| hash.finalize().into());
    Ok(seen)
}
