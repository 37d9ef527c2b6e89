//! The digest by which the index knows an entry's headers.

use sha2::{Digest, Sha256};

use super::pax::BLOCK;

/// So many first blocks are remembered.
const MAX_FIRSTS: usize = 16;

/// Makes digests of headers. Most entries have extended records, and the block that announces those says nothing but how
/// long they are: a few such blocks begin nearly all headers, and what SHA-256 makes of them is kept.
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

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::{HeadDigests, MAX_FIRSTS};

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
