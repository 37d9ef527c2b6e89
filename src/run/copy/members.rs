//! The digests of all members of an archive, as its bytes pass by: the proof of an archive whose SHA-1 is not known.

use std::sync::Arc;

use crate::archive::index::{Line, MemberDigest, MemberLine};
use crate::archive::read::index_file::{IndexReader, MAX_MEMBER_BYTES};
use crate::outside::BlockRead;
use crate::shown::hex;

/// Compares an archive with its index, member by member.
pub(super) struct Members {
    index: Arc<dyn BlockRead>,
    /// `None` before the first byte, and after a mistake.
    reader: Option<IndexReader>,
    /// The member that passes by, and its bytes so far.
    current: Option<MemberLine>,
    bytes: Vec<u8>,
    is_begun: bool,
    /// What is wrong first.
    mistake: Option<String>,
}

/// At the beginning, whatever has passed by.
impl Clone for Members {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.index))
    }
}

impl Members {
    pub(super) fn new(index: Arc<dyn BlockRead>) -> Self {
        Self { index, reader: None, current: None, bytes: Vec::new(), is_begun: false, mistake: None }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        if !self.is_begun {
            self.is_begun = true;
            match IndexReader::hashing(Arc::clone(&self.index)) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => self.mistake = Some(error.to_string()),
            }
            self.next();
        }
        while let Some(member) = self.current.take_if(|_| !bytes.is_empty()) {
            let left = usize::try_from(member.length.min(MAX_MEMBER_BYTES)).unwrap_or(0) - self.bytes.len();
            let (now, later) = bytes.split_at(bytes.len().min(left));
            self.bytes.extend_from_slice(now);
            bytes = later;
            if now.len() < left {
                self.current = Some(member);
            } else if member.digest.is_of(&self.bytes) {
                self.bytes.clear();
                self.next();
            } else {
                self.mistake = Some(format!("{} for member {}", digest_of(&self.bytes), member.number));
            }
        }
        if !bytes.is_empty() && self.mistake.is_none() {
            self.mistake = Some("more bytes than its index says".to_owned());
        }
    }

    /// Takes the next member of the index.
    fn next(&mut self) {
        while let Some(reader) = &mut self.reader {
            match reader.next_line() {
                Ok(Some(Line::Member(member))) => {
                    self.current = Some(member);
                    return;
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    self.mistake = Some(error.to_string());
                    self.reader = None;
                }
            }
        }
    }

    /// The SHA-256 of the index if all members have the digests in it, or what is wrong.
    pub(super) fn finish(self) -> String {
        match (self.mistake, self.current, self.reader) {
            (Some(mistake), ..) => mistake,
            (None, Some(member), _) => format!("cut off in member {}", member.number),
            (None, None, reader) => {
                reader.and_then(IndexReader::into_sha256).map_or_else(|| "unknown".to_owned(), |digest| hex(&digest))
            }
        }
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
