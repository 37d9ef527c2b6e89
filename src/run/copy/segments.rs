//! The digests of all segments of an encrypted archive, as its bytes pass by: the proof of one whose SHA-1 is not known.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::encryption::table::{Segment, TableReader, TableWriter};
use crate::outside::BlockRead;
use crate::shown::hex;

/// Compares an archive with its table, segment by segment, without a key.
pub(super) struct Segments {
    table: Arc<dyn BlockRead>,
    /// `None` before the first byte.
    reader: Option<TableReader>,
    /// The table as it was read, for its digest.
    read: TableWriter<io::Sink>,
    current: Option<Current>,
    /// What is wrong first.
    mistake: Option<String>,
}

/// The segment that passes by.
struct Current {
    segment: Segment,
    left: u64,
    hash: Sha256,
}

/// At the beginning, whatever has passed by.
impl Clone for Segments {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.table))
    }
}

impl Segments {
    pub(super) fn new(table: Arc<dyn BlockRead>) -> Self {
        Self { table, reader: None, read: TableWriter::new(io::sink()), current: None, mistake: None }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.mistake.is_none() {
            let Some(mut current) = self.current.take().or_else(|| self.next()) else {
                self.mistake.get_or_insert_with(|| "more bytes than its table of segments says".to_owned());
                return;
            };
            let len = usize::try_from(current.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, later) = bytes.split_at(len);
            current.hash.update(now);
            current.left -= len as u64;
            bytes = later;
            if current.left > 0 {
                self.current = Some(current);
            } else if <[u8; 32]>::from(current.hash.finalize()) != current.segment.sha256 {
                self.mistake = Some(format!("different from it at byte {}", current.segment.offset));
            }
        }
    }

    /// Takes the next segment of the table; `None` at its end, and after a mistake.
    fn next(&mut self) -> Option<Current> {
        let reader = self.reader.get_or_insert_with(|| TableReader::new(Arc::clone(&self.table)));
        let next = reader.next().map_err(|error| error.to_string()).and_then(|segment| {
            let Some(segment) = segment else { return Ok(None) };
            self.read.add_known(segment.length, &segment.sha256).map_err(|error| error.to_string())?;
            Ok(Some(segment))
        });
        match next {
            Ok(segment) => segment.map(|segment| Current { segment, left: segment.length, hash: Sha256::new() }),
            Err(mistake) => {
                self.mistake = Some(mistake);
                None
            }
        }
    }

    /// The SHA-256 of the table if all segments have the digests in it, or what is wrong.
    pub(super) fn finish(mut self) -> String {
        if self.mistake.is_none() && self.current.take().or_else(|| self.next()).is_some() {
            self.mistake = Some("cut off".to_owned());
        }
        match self.mistake {
            Some(mistake) => mistake,
            None => self.read.finish().map_or_else(|error| error.to_string(), |table| hex(&table.sha256)),
        }
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
