//! Digests of headers in the index: of single entries, and of all entries of a member.

use sha2::{Digest, Sha256};

use super::pax::BLOCK;

/// The number of remembered first blocks.
const MAX_FIRSTS: usize = 16;

/// Computes header digests. Most entries have extended records, announced by a block that holds only their length.
/// A few such blocks start nearly all headers, so the SHA-256 state after them is cached.
#[derive(Default)]
pub(super) struct HeadDigests {
    firsts: Vec<([u8; BLOCK], Sha256)>,
}

impl HeadDigests {
    /// The first 16 bytes of the SHA-256 of an entry's headers.
    pub(super) fn of(&mut self, head: &[u8]) -> [u8; 16] {
        let digest: [u8; 32] = match head.split_first_chunk() {
            Some((first, rest)) if !rest.is_empty() => self.begun_with(first).chain_update(rest).finalize().into(),
            _ => Sha256::digest(head).into(),
        };
        digest.first_chunk().copied().unwrap_or_default()
    }

    fn begun_with(&mut self, first: &[u8; BLOCK]) -> Sha256 {
        if let Some((_, sha256)) = self.firsts.iter().find(|(known, _)| known == first) {
            return sha256.clone();
        }
        let sha256 = Sha256::new_with_prefix(first);
        if self.firsts.len() == MAX_FIRSTS {
            self.firsts.clear();
        }
        self.firsts.push((*first, sha256.clone()));
        sha256
    }
}

/// The number of header bytes hashed at once: BLAKE3 takes a quarter of SHA-256's time for long input, but more for
/// short input.
const PIECE_BYTES: usize = 64 << 10;

/// Computes the digest of the headers of a member's entries, added in order.
#[derive(Default)]
pub(super) struct MemberHeads {
    /// Bytes not hashed yet.
    rest: Vec<u8>,
    /// The state after earlier pieces, if there is more than one.
    hashed: Option<Box<blake3::Hasher>>,
}

impl MemberHeads {
    pub(super) fn add(&mut self, head: &[u8]) {
        if !self.rest.is_empty() && self.rest.len() + head.len() > PIECE_BYTES {
            self.hashed.get_or_insert_default().update(&self.rest);
            self.rest.clear();
        }
        self.rest.extend_from_slice(head);
    }

    /// The first 16 bytes of the BLAKE3 of all added headers; `None` without any. Resets it for the next member.
    pub(super) fn finish(&mut self) -> Option<[u8; 16]> {
        let digest = match self.hashed.take() {
            Some(mut hashed) => hashed.update(&self.rest).finalize(),
            None if self.rest.is_empty() => return None,
            None => blake3::hash(&self.rest),
        };
        self.clear();
        digest.as_bytes().first_chunk().copied()
    }

    /// Discards all added headers.
    pub(super) fn clear(&mut self) {
        self.rest.clear();
        // Release the memory of a single long header.
        self.rest.shrink_to(2 * PIECE_BYTES);
        self.hashed = None;
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::{HeadDigests, MAX_FIRSTS, MemberHeads, PIECE_BYTES};

    #[test]
    fn a_members_digest_is_that_of_all_heads_in_whatever_pieces() {
        let mut heads = MemberHeads::default();
        assert_eq!(heads.finish(), None);
        for lens in [vec![512], vec![1536; 200], vec![3 * PIECE_BYTES, 512, PIECE_BYTES], vec![PIECE_BYTES, 512]] {
            let mut all = Vec::new();
            for (number, len) in lens.into_iter().enumerate() {
                let head: Vec<u8> = (0..len).map(|at| u8::try_from((at * 7 + number) % 251).unwrap()).collect();
                heads.add(&head);
                all.extend_from_slice(&head);
            }
            assert_eq!(heads.finish().unwrap(), blake3::hash(&all).as_bytes()[..16]);
        }
        heads.add(b"another");
        heads.clear();
        assert_eq!(heads.finish(), None);
    }

    #[test]
    fn a_digest_is_that_of_all_blocks_whatever_is_remembered() {
        let mut digests = HeadDigests::default();
        for round in 0..3_u8 {
            for first in 0..=u8::try_from(2 * MAX_FIRSTS).unwrap() {
                for len in [0, 10, 512, 513, 1024, 1536] {
                    let head: Vec<u8> = (0..len).map(|at| if at < 512 { first } else { round }).collect();
                    assert_eq!(digests.of(&head), Sha256::digest(&head)[..16]);
                }
            }
        }
        assert!(digests.firsts.len() <= MAX_FIRSTS);
    }
}
