//! The table of the segments of an encrypted archive, as a list of its pieces: no key is needed.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::walker::{PieceList, Walker};
use crate::encryption::table::{Segment, TableReader, TableWriter};
use crate::outside::BlockRead;
use crate::shown::hex;

/// Compares an archive with its table of segments.
pub(super) type Segments = Walker<SegmentTable>;

/// The table, and the segment that passes by.
pub(super) struct SegmentTable {
    reader: TableReader,
    /// The table as it was read, for its digest.
    read: TableWriter<io::Sink>,
    hash: Sha256,
}

impl PieceList for SegmentTable {
    type Piece = Segment;

    const NAME: &'static str = "its table of segments";

    fn open(table: Arc<dyn BlockRead>) -> Result<Self, String> {
        Ok(Self { reader: TableReader::new(table), read: TableWriter::new(io::sink()), hash: Sha256::new() })
    }

    fn next(&mut self) -> Result<Option<(Segment, u64)>, String> {
        let Some(segment) = self.reader.next().map_err(|error| error.to_string())? else { return Ok(None) };
        self.read.add_known(segment.length, &segment.sha256).map_err(|error| error.to_string())?;
        Ok(Some((segment, segment.length)))
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    fn judge(&mut self, segment: &Segment) -> Result<(), String> {
        if <[u8; 32]>::from(self.hash.finalize_reset()) == segment.sha256 {
            Ok(())
        } else {
            Err(format!("different from it at byte {}", segment.offset))
        }
    }

    fn place(segment: &Segment) -> String {
        format!("the segment at byte {}", segment.offset)
    }

    fn sha256(self) -> Result<String, String> {
        self.read.finish().map(|table| hex(&table.sha256)).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Segments;
    use crate::encryption::table::TableWriter;
    use crate::outside::BlockRead;
    use crate::shown::hex;

    #[test]
    fn every_changed_byte_is_found() {
        let (mut archive, mut text) = (Vec::new(), Vec::new());
        let mut writer = TableWriter::new(&mut text);
        for number in 1..4_u8 {
            let segment = vec![number; 30 * usize::from(number)];
            writer.add(&segment).unwrap();
            archive.extend(segment);
        }
        let right = hex(&writer.finish().unwrap().sha256);
        let table: Arc<dyn BlockRead> = Arc::new(text.clone());
        let found_by = |table: &Arc<dyn BlockRead>, archive: &[u8], piece: usize| {
            let mut segments = Segments::new(Arc::clone(table));
            archive.chunks(piece).for_each(|piece| segments.update(piece));
            segments.finish()
        };
        let found = |archive: &[u8], piece: usize| found_by(&table, archive, piece);
        for piece in [1, 7, 4096] {
            assert_eq!(found(&archive, piece), right);
            assert_ne!(found(&archive[..archive.len() - 1], piece), right);
            assert_ne!(found(&archive[..30], piece), right);
            assert_ne!(found(&[], piece), right);
            assert_ne!(found(&[&archive[..], b"x"].concat(), piece), right);
        }
        for at in 0..archive.len() {
            let mut changed = archive.clone();
            changed[at] ^= 1;
            assert_ne!(found(&changed, 100), right, "byte {at}");
        }
        // A table that is another one, and what is none.
        for wrong in [text[..text.len() / 2].to_vec(), b"0 5 x\n".to_vec(), b"0 18446744073709551615 ".to_vec()] {
            assert_ne!(found_by(&(Arc::new(wrong) as Arc<dyn BlockRead>), &archive, 50), right);
        }
    }
}
