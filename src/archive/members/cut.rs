//! Makes the members of a piece of a large file or a raw image, between borders of the file or region: each is copied from
//! the previous archive if that has the same data, or compressed.
//!
//! A worker has the data at hand when it looks for the same ones. So they are compressed if there are none, or if the
//! member that has them is damaged: nothing is read twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checked_read::{MemberFault, Source, read_checked};
use crate::archive::carry::Share;
use crate::archive::carry::known_data::{KnownData, is_due};
use crate::archive::codec::{DecodeError, Encode};
use crate::archive::index::{MemberDigest, MemberLine};
use crate::encryption::LockedError;
use crate::outside::BlockRead;

/// After this many members that differ from the index, no more are looked for.
const MAX_FAULTS: usize = 100;

/// A member with data between two borders.
pub(super) struct CutMember {
    pub(super) len: usize,
    pub(super) data_len: usize,
    pub(super) digest: MemberDigest,
    pub(super) data_digest: [u8; 32],
    /// The level at which it was compressed; `None` if it was copied.
    pub(super) level: Option<i32>,
    /// Its offset in the previous archive, if both archives may share its blocks.
    pub(super) shared_at: Option<u64>,
}

/// The members of a piece.
#[derive(Default)]
pub(super) struct CutMembers {
    pub(super) members: Vec<CutMember>,
    /// Their bytes, one after the other.
    pub(super) bytes: Vec<u8>,
}

/// Finds members of the previous archive by the digest of their data. Shared by all workers.
pub(in crate::archive) struct KnownMembers {
    data: Arc<KnownData>,
    share: Share,
    source: Source,
    copied: Mutex<CopiedData>,
}

/// The counts of members that were copied by the digest of their data.
#[derive(Debug, Default)]
pub(in crate::archive) struct CopiedData {
    pub(in crate::archive) members: u64,
    /// Their bytes in the archive.
    pub(in crate::archive) bytes: u64,
    /// Damaged members of the previous archive, in no particular order.
    pub(in crate::archive) faults: Vec<(MemberLine, MemberFault)>,
}

/// The result of comparing a member with data.
enum Compared {
    /// Both are the same.
    Same,
    /// This host has no key to decrypt it.
    Sealed,
}

/// The data of a member, and the member of the previous archive that has the same.
struct Wanted<'a> {
    data: &'a [u8],
    digest: [u8; 32],
    known: Option<MemberLine>,
}

impl CutMembers {
    /// Makes the members of `data`, which end at `ends`, in place of the present ones. With `compares_all` those that are
    /// copied are all compared with the data. `member` is a buffer for the encoder.
    pub(super) fn make(
        &mut self,
        data: &[u8],
        ends: &[usize],
        (known, compares_all): (Option<&KnownMembers>, bool),
        encoder: &mut dyn Encode,
        member: &mut Vec<u8>,
    ) {
        self.clear();
        let (mut start, mut buffer) = (0, Vec::new());
        let wanted: Vec<Wanted<'_>> = ends
            .iter()
            .map(|end| {
                let data = &data[std::mem::replace(&mut start, *end)..*end];
                let digest = blake3::hash(data).into();
                let known = known.and_then(|known| known.find(&digest, data.len()));
                Wanted { data, digest, known }
            })
            .collect();
        for run in wanted.chunk_by(|one, next| one.known.as_ref().is_some_and(|one| one.is_before(next.known.as_ref())))
        {
            let copied = match known {
                Some(known) if run[0].known.is_some() => known.copy(run, compares_all, &mut buffer),
                _ => Vec::new(),
            };
            let mut at = 0;
            for (number, wanted) in run.iter().enumerate() {
                let len = wanted.known.as_ref().map_or(0, |line| usize::try_from(line.length).unwrap_or(0));
                let place = at..at + len;
                at += len;
                match copied.get(number).and_then(Option::as_ref) {
                    Some(copied) => {
                        self.bytes.extend_from_slice(&buffer[place]);
                        self.members.push(CutMember { ..*copied });
                    }
                    None => self.compress(wanted, encoder, member),
                }
            }
        }
    }

    fn compress(&mut self, wanted: &Wanted<'_>, encoder: &mut dyn Encode, member: &mut Vec<u8>) {
        let len = encoder.encode(wanted.data, member);
        let bytes = &member[..len];
        self.bytes.extend_from_slice(bytes);
        self.members.push(CutMember {
            len,
            data_len: wanted.data.len(),
            digest: MemberDigest::of(bytes),
            data_digest: wanted.digest,
            level: Some(encoder.level()),
            shared_at: None,
        });
    }

    pub(super) fn clear(&mut self) {
        self.members.clear();
        self.bytes.clear();
    }
}

impl MemberLine {
    /// Whether the other member follows this one directly.
    fn is_before(&self, next: Option<&Self>) -> bool {
        next.is_some_and(|next| self.offset.checked_add(self.length) == Some(next.offset))
    }
}

impl KnownMembers {
    pub(super) fn new(data: Arc<KnownData>, share: Share, source: Source) -> Self {
        Self { data, share, source, copied: Mutex::default() }
    }

    /// The previous archive.
    pub(super) fn archive(&self) -> &Arc<dyn BlockRead> {
        self.data.archive()
    }

    fn find(&self, digest: &[u8; 32], data_bytes: usize) -> Option<MemberLine> {
        self.data.find(digest, data_bytes as u64)
    }

    /// Reads members that are adjacent in the previous archive into the start of `buffer`. `None` for one that is
    /// damaged, or that has to be compared and cannot be.
    fn copy(&self, run: &[Wanted<'_>], compares_all: bool, buffer: &mut Vec<u8>) -> Vec<Option<CutMember>> {
        if self.copied().faults.len() >= MAX_FAULTS {
            return Vec::new();
        }
        let lines: Vec<MemberLine> = run.iter().filter_map(|wanted| wanted.known.clone()).collect();
        // Each line was checked when the index was read.
        let len: u64 = lines.iter().map(|line| line.length).sum();
        buffer.resize(usize::try_from(len).unwrap_or(0), 0);
        let checked = read_checked(&self.source, &lines, buffer);
        let mut start = 0;
        let mut members = Vec::with_capacity(run.len());
        for ((wanted, line), (end, fault)) in run.iter().zip(lines).zip(checked) {
            let bytes = buffer.get(std::mem::replace(&mut start, end)..end);
            let is_due = compares_all || is_due(&self.share, &wanted.digest);
            let compared = fault.and_then(|()| match bytes {
                Some(bytes) if is_due => self.compare(bytes, wanted.data),
                Some(_) => Ok(Compared::Same),
                None => Err(MemberFault::TooLong),
            });
            let mut copied = self.copied();
            match compared {
                Ok(Compared::Same) => {}
                Ok(Compared::Sealed) => {
                    members.push(None);
                    continue;
                }
                Err(fault) => {
                    copied.faults.push((line, fault));
                    members.push(None);
                    continue;
                }
            }
            copied.members += 1;
            copied.bytes += line.length;
            members.push(Some(CutMember {
                len: usize::try_from(line.length).unwrap_or(0),
                data_len: wanted.data.len(),
                digest: line.digest,
                data_digest: wanted.digest,
                level: None,
                // One that is due gets blocks of its own: a block that goes bad damages the backups of a few nights.
                shared_at: (!is_due).then_some(line.offset),
            }));
        }
        members
    }

    /// Compares what is in a member with the data. Their digest was computed before they were compressed: this finds
    /// what went wrong then.
    fn compare(&self, member: &[u8], data: &[u8]) -> Result<Compared, MemberFault> {
        let mut decoded = Vec::new();
        let mut decoder = self.source.codec.decoder().map_err(MemberFault::Read)?;
        match decoder.decode(member, data.len() as u64, &mut decoded) {
            Ok(()) if decoded == data => Ok(Compared::Same),
            Err(DecodeError::Sealed(LockedError::NoIdentity | LockedError::NotForThese)) => Ok(Compared::Sealed),
            _ => Err(MemberFault::Data),
        }
    }

    /// The counts since the last call.
    pub(in crate::archive) fn take_copied(&self) -> CopiedData {
        std::mem::take(&mut self.copied())
    }

    fn copied(&self) -> MutexGuard<'_, CopiedData> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Compared, KnownMembers, MemberFault, Source};
    use crate::archive::carry::Share;
    use crate::archive::carry::known_data::CollectingData;
    use crate::archive::codec;
    use crate::archive::index::IndexVersion;
    #[cfg(feature = "encryption")]
    use crate::archive::sealed;
    use crate::outside::BlockRead;

    /// A host that only writes has no identity: that is no damage.
    #[test]
    fn an_encrypted_member_that_cannot_be_compared_is_not_damaged() {
        let archive: Arc<dyn BlockRead> = Arc::new(Vec::<u8>::new());
        let known = |codec| {
            let index = Arc::new(Vec::<u8>::new());
            let data = CollectingData::default().finish(Arc::clone(&archive), index, IndexVersion::Four);
            let share = Share { every_days: 1, parent_day: 0, today: 1 };
            KnownMembers::new(Arc::new(data), share, Source::new(codec, Arc::clone(&archive), false))
        };
        #[cfg(feature = "encryption")]
        assert!(matches!(known(&sealed::READ_GZIP).compare(b"a segment", b"data"), Ok(Compared::Sealed)));
        assert!(matches!(known(codec::WRITTEN).compare(b"no member", b"data"), Err(MemberFault::Data)));
    }
}
