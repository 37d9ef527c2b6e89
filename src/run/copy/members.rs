//! The index of an archive, as a list of its pieces: its members.

use std::sync::Arc;

use super::walker::{PieceList, Walker};
use crate::archive::index::{Line, MemberDigest, MemberLine};
use crate::archive::read::index_file::IndexReader;
use crate::outside::BlockRead;
use crate::shown::hex;

/// Compares an archive with its index, member by member.
pub(super) type Members = Walker<MemberIndex>;

/// The index, and the member that passes by.
pub(super) struct MemberIndex {
    reader: IndexReader,
    /// Kept until the member is complete: which digest it has depends on the volbak that wrote it. The index bounds its length.
    bytes: Vec<u8>,
}

impl PieceList for MemberIndex {
    type Piece = MemberLine;

    const NAME: &'static str = "its index";

    fn open(index: Arc<dyn BlockRead>) -> Result<Self, String> {
        let reader = IndexReader::hashing(index).map_err(|error| error.to_string())?;
        Ok(Self { reader, bytes: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<(MemberLine, u64)>, String> {
        loop {
            match self.reader.next_line().map_err(|error| error.to_string())? {
                Some(Line::Member(member)) => {
                    let length = member.length;
                    return Ok(Some((member, length)));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn judge(&mut self, member: &MemberLine) -> Result<(), String> {
        if !member.digest.is_of(&self.bytes) {
            return Err(format!("{} for {}", digest_of(&self.bytes), Self::place(member)));
        }
        self.bytes.clear();
        Ok(())
    }

    fn place(member: &MemberLine) -> String {
        format!("member {}", member.number)
    }

    fn sha256(self) -> Result<String, String> {
        self.reader.into_sha256().map(|digest| hex(&digest)).ok_or_else(|| "unknown".to_owned())
    }
}

fn digest_of(bytes: &[u8]) -> String {
    match MemberDigest::of(bytes) {
        MemberDigest::Sha256(digest) | MemberDigest::Blake3(digest) => hex(&digest),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Members;
    use crate::archive::index::{HEADER_LINE, MemberDigest, MemberLine, Totals};
    use crate::outside::digest::sha256_of;
    use crate::outside::{BlockRead, Cancel};
    use crate::shown::hex;

    #[test]
    fn every_changed_byte_is_found() {
        let (mut index, mut archive, mut totals) = (HEADER_LINE.as_bytes().to_vec(), Vec::new(), Totals::default());
        for number in 0..3_u64 {
            let bytes = [u8::try_from(number).unwrap(); 90];
            let line = MemberLine {
                number,
                offset: archive.len() as u64,
                length: bytes.len() as u64,
                tar_offset: number * 512,
                tar_length: 512,
                digest: MemberDigest::of(&bytes),
                heads: None,
                data: None,
            };
            line.add_to(&mut index);
            archive.extend_from_slice(&bytes);
            totals.members += 1;
        }
        (totals.archive_bytes, totals.tar_bytes) = (archive.len() as u64, 3 * 512);
        totals.write_to(&mut index).unwrap();
        let index: Arc<dyn BlockRead> = Arc::new(index);
        let right = hex(&sha256_of(&*index, index.len_bytes(), &Cancel::default()).unwrap());
        let found = |archive: &[u8], piece: usize| {
            let mut members = Members::new(Arc::clone(&index));
            archive.chunks(piece).for_each(|piece| members.update(piece));
            members.finish()
        };
        for piece in [1, 7, 4096] {
            assert_eq!(found(&archive, piece), right);
            assert_ne!(found(&archive[..archive.len() - 1], piece), right);
            assert_ne!(found(&[&archive[..], b"x"].concat(), piece), right);
        }
        for at in 0..archive.len() {
            let mut changed = archive.clone();
            changed[at] ^= 1;
            assert_ne!(found(&changed, 100), right, "byte {at}");
        }
    }
}
