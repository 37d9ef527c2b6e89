//! The data of large files and raw images in the previous archive: where the members are that hold them, by the digest of
//! the data.
//!
//! An image has no files whose times tell what changed, and the times of a large file do not tell where it changed. All of
//! it is read, and a member is carried forward if its data are the same, wherever they were. Headers and the map of
//! holes, which change from night to night, are in members of their own.

use std::sync::Arc;

use super::Share;
use super::group::LinesCheck;
use crate::archive::index::{IndexVersion, MemberLine, RawLine};
use crate::outside::BlockRead;

/// A member's line in the previous index.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first 8 bytes of the digest of its data.
    key: u64,
    /// The offset of the line in the index file.
    at: u64,
    /// The check of the line, to detect a change between the first and second reading.
    check: u64,
}

/// Collects the lines of members, in any order.
#[derive(Debug, Default)]
pub(in crate::archive) struct CollectingData(Vec<Place>);

impl CollectingData {
    /// The number of lines.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Drops the line that was added last; false without any.
    pub(super) fn drop_last(&mut self) -> bool {
        self.0.pop().is_some()
    }

    /// Adds the line of a member with data between borders, which has these bytes and this offset.
    pub(super) fn add(&mut self, digest: &[u8; 32], line: &[u8], at: u64) {
        let mut check = LinesCheck::default();
        check.add(line);
        self.0.push(Place { key: key_of(digest), at, check: check.finish() });
    }

    /// The finished table for the archive of `index`.
    pub(in crate::archive) fn finish(
        mut self,
        archive: Arc<dyn BlockRead>,
        index: Arc<dyn BlockRead>,
        version: IndexVersion,
    ) -> KnownData {
        // Of members with the same data, the one that was written first comes first.
        self.0.sort_unstable_by_key(|place| (place.key, place.at));
        self.0.dedup_by_key(|place| place.key);
        self.0.shrink_to_fit();
        KnownData { archive, index, version, places: self.0 }
    }
}

/// The members of the previous archive that hold data of large files and raw images.
#[derive(Debug)]
pub(crate) struct KnownData {
    archive: Arc<dyn BlockRead>,
    index: Arc<dyn BlockRead>,
    version: IndexVersion,
    /// Sorted by key, one for each.
    places: Vec<Place>,
}

impl KnownData {
    /// The archive that has the members.
    pub(crate) fn archive(&self) -> &Arc<dyn BlockRead> {
        &self.archive
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The member whose data have this digest and this length. `None` also if its line can no longer be read.
    pub(crate) fn find(&self, digest: &[u8; 32], data_bytes: u64) -> Option<MemberLine> {
        let key = key_of(digest);
        let place = self.places.get(self.places.binary_search_by_key(&key, |place| place.key).ok()?)?;
        let mut line = vec![0; LinesCheck::len_of(place.check)];
        self.index.read_at(place.at, &mut line).ok()?;
        line.pop();
        let mut check = LinesCheck::default();
        check.add(&line);
        if check.finish() != place.check {
            return None;
        }
        match RawLine::parse(&line, self.version).ok()? {
            RawLine::Member(member) => Some(member),
            _ => None,
        }
        .filter(|member| member.data.as_ref() == Some(digest) && member.tar_length == data_bytes)
    }
}

/// Whether data with this digest are compared with the member's own today, and not only by their digest.
pub(crate) fn is_due(share: &Share, digest: &[u8; 32]) -> bool {
    share.is_due(key_of(digest))
}

fn key_of(digest: &[u8; 32]) -> u64 {
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::CollectingData;
    use crate::archive::index::{IndexVersion, MemberDigest, MemberLine};
    use crate::outside::BlockRead;

    /// An index that can change.
    #[derive(Debug)]
    struct Changing(Mutex<Vec<u8>>);

    impl BlockRead for Changing {
        fn len_bytes(&self) -> u64 {
            self.0.lock().unwrap().len() as u64
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
            self.0.lock().unwrap().read_at(offset, buf)
        }
    }

    #[test]
    fn a_member_is_found_by_all_of_its_digest_and_its_length() {
        let (mut index, mut collecting) = (Vec::new(), CollectingData::default());
        let digest = |number: u8| {
            let mut digest = [number; 32];
            digest[31] = 0xff;
            digest
        };
        for number in 0..40_u8 {
            let line = MemberLine {
                number: number.into(),
                offset: u64::from(number) * 100,
                length: 100,
                tar_offset: u64::from(number) << 12,
                tar_length: 4096,
                digest: MemberDigest::Blake3([9; 32]),
                heads: None,
                data: Some(digest(number % 39)),
            };
            let (at, mut text) = (index.len() as u64, Vec::new());
            line.add_to(&mut text);
            index.extend_from_slice(&text);
            text.pop();
            collecting.add(&digest(number % 39), &text, at);
        }
        let index = Arc::new(Changing(Mutex::new(index)));
        let archive = Arc::new(Vec::new());
        let known = collecting.finish(archive, Arc::clone(&index) as Arc<dyn BlockRead>, IndexVersion::Four);
        let number_of = |digest: &[u8; 32], len| known.find(digest, len).map(|line| line.number);
        for number in 0..39 {
            assert_eq!(number_of(&digest(number), 4096), Some(number.into()), "the first of two with the same data");
            assert_eq!(number_of(&digest(number), 8192), None);
            // The same key, another digest.
            assert_eq!(number_of(&[number; 32], 4096), None);
        }
        assert_eq!(number_of(&digest(77), 4096), None);
        index.0.lock().unwrap()[10] ^= 1;
        assert_eq!((number_of(&digest(0), 4096), number_of(&digest(1), 4096)), (None, Some(1)));
        index.0.lock().unwrap().truncate(200);
        assert_eq!(number_of(&digest(38), 4096), None);
    }
}
