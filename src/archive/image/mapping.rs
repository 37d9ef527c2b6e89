//! What a thin pool says about a volume, border by border: the next backup need not read a member of which it says the same.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::BORDER_BYTES;
use crate::outside::unnamed::unnamed_file;

/// A digest and a time.
const RECORD_BYTES: usize = 24;
/// How many records are written at once.
const BATCH_BYTES: usize = 64 << 10;
/// The length of a digest.
pub(super) const DIGEST_BYTES: usize = 16;

/// The BLAKE3, truncated, of what a member is made from, besides the bytes themselves.
pub(super) type MappingDigest = [u8; DIGEST_BYTES];

/// Chunks of a volume that follow each other, in data blocks of its pool that do as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRun {
    /// The first chunk of the volume.
    pub first_chunk: u64,
    /// The number of chunks.
    pub chunks: u64,
    /// The data block of the first one.
    pub data_block: u64,
    /// When the pool allocated them, in its own count.
    pub time: u64,
}

/// The mapping of a volume. It is in a file without a name, since there is a record for each MiB.
#[derive(Debug)]
pub struct VolumeMapping {
    file: File,
}

/// The mapping of the chunks that touch a piece of the volume between two borders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BorderMapping {
    digest: MappingDigest,
    /// The newest time; `None` if no chunk is mapped.
    newest: Option<u64>,
}

/// Collects a mapping from its runs, which must ascend.
pub struct MappingBuilder {
    file: File,
    chunk_bytes: u64,
    /// The borders of the volume.
    borders: u64,
    /// The border that the last chunk touched.
    open: Option<Open>,
    /// Records that were not written yet, and the border of the first.
    batch: Vec<u8>,
    batch_begins: u64,
}

struct Open {
    border: u64,
    hash: blake3::Hasher,
    newest: u64,
}

impl MappingBuilder {
    /// For a volume of this length. Fails if there is no room for a temporary file.
    pub fn new(volume_bytes: u64, chunk_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            file: unnamed_file()?,
            chunk_bytes: chunk_bytes.max(1),
            borders: volume_bytes.div_ceil(BORDER_BYTES),
            open: None,
            batch: Vec::new(),
            batch_begins: 0,
        })
    }

    /// Adds chunks. Those behind the end of the volume are left out.
    pub fn push(&mut self, run: ChunkRun) -> io::Result<()> {
        for at in 0..run.chunks {
            let chunk = run.first_chunk.saturating_add(at);
            let first = chunk.saturating_mul(self.chunk_bytes) / BORDER_BYTES;
            let last = (chunk.saturating_add(1).saturating_mul(self.chunk_bytes) - 1) / BORDER_BYTES;
            if first >= self.borders {
                return Ok(());
            }
            for border in first..=last.min(self.borders - 1) {
                self.add(border, chunk, run.data_block.saturating_add(at), run.time)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, border: u64, chunk: u64, data_block: u64, time: u64) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|open| open.border != border) {
            self.close()?;
        }
        let fresh = || Open { border, hash: blake3::Hasher::new(), newest: 0 };
        let open = self.open.get_or_insert_with(fresh);
        let mut facts = [0; 24];
        for (place, number) in facts.chunks_exact_mut(8).zip([chunk, data_block, time]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        open.hash.update(&facts);
        open.newest = open.newest.max(time);
        Ok(())
    }

    /// Adds the record of the border that is open.
    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let ends = self.batch_begins + (self.batch.len() / RECORD_BYTES) as u64;
        if open.border != ends || self.batch.len() >= BATCH_BYTES {
            self.write_batch()?;
            self.batch_begins = open.border;
        }
        self.batch.extend_from_slice(&open.hash.finalize().as_bytes()[..DIGEST_BYTES]);
        // 0 is what a hole of the file says: no chunk is mapped.
        self.batch.extend_from_slice(&open.newest.saturating_add(1).to_le_bytes());
        Ok(())
    }

    fn write_batch(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.batch, self.batch_begins * RECORD_BYTES as u64)?;
        self.batch.clear();
        Ok(())
    }

    /// The whole mapping.
    pub fn finish(mut self) -> io::Result<VolumeMapping> {
        self.close()?;
        self.write_batch()?;
        self.file.set_len(self.borders * RECORD_BYTES as u64)?;
        Ok(VolumeMapping { file: self.file })
    }
}

impl VolumeMapping {
    /// The mapping of what follows this border.
    pub(super) fn at(&self, border: u64) -> io::Result<BorderMapping> {
        let mut record = [0; RECORD_BYTES];
        self.file.read_exact_at(&mut record, border.saturating_mul(RECORD_BYTES as u64))?;
        let (digest, newest) = record.split_at(DIGEST_BYTES);
        let (mut of_mapping, mut number) = ([0; DIGEST_BYTES], [0; 8]);
        of_mapping.copy_from_slice(digest);
        number.copy_from_slice(newest);
        Ok(BorderMapping { digest: of_mapping, newest: u64::from_le_bytes(number).checked_sub(1) })
    }
}

impl BorderMapping {
    /// The digest for the index. The used ranges count, too: a block that is in use since, and was not written since, is zeros
    /// in the last archive.
    pub(super) fn digest(&self, used: impl Iterator<Item = (u64, u64)>) -> MappingDigest {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.digest).update(&[u8::from(self.newest.is_some())]);
        for (from, to) in used {
            hash.update(&from.to_le_bytes()).update(&to.to_le_bytes());
        }
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&hash.finalize().as_bytes()[..DIGEST_BYTES]);
        digest
    }

    /// Whether all its chunks were allocated before this time.
    pub(super) fn is_older_than(&self, time: u64) -> bool {
        self.newest.is_none_or(|newest| newest < time)
    }
}

#[cfg(test)]
mod tests {
    use std::iter::empty;

    use super::{BORDER_BYTES, ChunkRun, MappingBuilder, VolumeMapping};

    const CHUNK: u64 = 64 << 10;

    fn mapping(volume_bytes: u64, chunk_bytes: u64, runs: &[(u64, u64, u64, u64)]) -> VolumeMapping {
        let mut builder = MappingBuilder::new(volume_bytes, chunk_bytes).unwrap();
        for &(first_chunk, chunks, data_block, time) in runs {
            builder.push(ChunkRun { first_chunk, chunks, data_block, time }).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn each_border_has_the_chunks_that_touch_it() {
        // The borders whose digests differ.
        let differing = |a: &VolumeMapping, b: &VolumeMapping| -> Vec<u64> {
            (0..10).filter(|at| a.at(*at).unwrap().digest != b.at(*at).unwrap().digest).collect()
        };
        let volume = 10 * BORDER_BYTES;
        let base = mapping(volume, CHUNK, &[(0, 40, 0, 1), (100, 1, 50, 3)]);
        // The same chunks in other runs.
        let split = mapping(volume, CHUNK, &[(0, 7, 0, 1), (7, 33, 7, 1), (100, 1, 50, 3)]);
        assert!(differing(&base, &split).is_empty());
        let newest: Vec<_> = (0..10).map(|at| base.at(at).unwrap().newest).collect();
        let (one, none) = (Some(1), None);
        assert_eq!(newest, [one, one, one, none, none, none, Some(3), none, none, none]);
        assert!(base.at(6).unwrap().is_older_than(4) && !base.at(6).unwrap().is_older_than(3));
        assert!(base.at(3).unwrap().is_older_than(0));
        assert!(base.at(10).is_err());
        let other = |runs: &[(u64, u64, u64, u64)]| differing(&base, &mapping(volume, CHUNK, runs));
        assert_eq!(other(&[(0, 40, 0, 1), (100, 1, 50, 4)]), [6], "another time");
        assert_eq!(other(&[(0, 40, 0, 1), (100, 1, 51, 3)]), [6], "another data block");
        assert_eq!(other(&[(0, 40, 0, 1), (101, 1, 50, 3)]), [6], "another chunk");
        assert_eq!(other(&[(0, 16, 0, 1), (17, 23, 17, 1), (100, 1, 50, 3)]), [1], "one is no longer mapped");
        assert_eq!(other(&[(0, 40, 0, 1)]), [6]);

        // A chunk of 3 MiB touches three borders, one of 192 KiB up to two.
        let large = mapping(volume, 3 << 20, &[(1, 1, 9, 2)]);
        assert_eq!(differing(&large, &mapping(volume, 3 << 20, &[])), [3, 4, 5]);
        let uneven = mapping(volume, 192 << 10, &[(5, 1, 9, 2)]);
        assert_eq!(differing(&uneven, &mapping(volume, 192 << 10, &[])), [0, 1]);
        // Behind the end.
        let behind = mapping(volume, CHUNK, &[(159, 100, 0, 0), (1 << 47, 1 << 47, 0, 0)]);
        assert_eq!(differing(&behind, &mapping(volume, CHUNK, &[])), [9]);
    }

    #[test]
    fn what_is_used_counts() {
        let mapping = mapping(BORDER_BYTES, CHUNK, &[(0, 16, 0, 0)]);
        let digest = |used: &[(u64, u64)]| mapping.at(0).unwrap().digest(used.iter().copied());
        assert_eq!(digest(&[(0, 4096)]), digest(&[(0, 4096)]));
        assert_ne!(digest(&[(0, 4096)]), digest(&[(0, 8192)]));
        assert_ne!(digest(&[(0, 4096)]), digest(&[(0, 4096), (8192, 12_288)]));
        assert_ne!(digest(&[]), super::BorderMapping { digest: [0; 16], newest: None }.digest(empty()));
    }

    #[test]
    fn many_borders_are_kept_outside_memory() {
        let borders = 10_000;
        let runs: Vec<_> = (0..borders).filter(|at| at % 3 > 0).map(|at| (at * 16, 1, at, at)).collect();
        let mapping = mapping(borders * BORDER_BYTES, CHUNK, &runs);
        for at in 0..borders {
            assert_eq!(mapping.at(at).unwrap().newest, (at % 3 > 0).then_some(at), "{at}");
        }
    }
}
