//! Reads a qcow2 image as the disk that it holds.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::image::qcow2::compress::decompress;
use crate::image::qcow2::error::{Qcow2Error, unreadable};
use crate::image::qcow2::open::Header;
use crate::image::qcow2::tables::{Place, Tables};
use crate::outside::BlockRead;
use crate::shown::counted;

/// Clusters that were decompressed are kept up to this size together, and one at the least.
const KEPT_BYTES: usize = 4 << 20;

/// The disk in a qcow2 image: its active layer. Nothing of the image is trusted.
pub struct Qcow2 {
    blocks: Arc<dyn BlockRead>,
    tables: Tables,
    /// Decompressed clusters, by their number on the disk.
    kept: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

impl Qcow2 {
    /// Opens an image, and looks through all its tables.
    ///
    /// Fails if it is no qcow2 image, is inconsistent, or needs a backing file, a key or a data file.
    pub fn open(blocks: Arc<dyn BlockRead>) -> Result<Self, Qcow2Error> {
        let header = Header::read(&*blocks)?;
        let tables = Tables::read(&*blocks, header)?;
        Ok(Self { blocks, tables, kept: Mutex::default() })
    }

    /// Remarks about the image, one line each.
    pub fn remarks(&self) -> Vec<String> {
        let header = &self.tables.header;
        let mut remarks = Vec::new();
        if header.is_dirty {
            remarks.push(
                "the image was not closed properly; its disk is read as it is (`qemu-img check -r all` mends it)"
                    .to_owned(),
            );
        }
        if header.snapshots > 0 {
            remarks.push(format!(
                "the image holds {} left out",
                counted(header.snapshots.into(), "internal snapshot, which is", "internal snapshots, which are")
            ));
        }
        remarks
    }

    /// The size of its clusters, in bytes.
    pub fn cluster_bytes(&self) -> u64 {
        self.tables.header.cluster.bytes()
    }

    fn read_cluster(&self, guest: u64, place: Place, buf: &mut [u8]) -> Result<(), Qcow2Error> {
        let cluster_bytes = self.cluster_bytes();
        match place {
            Place::Zero => buf.fill(0),
            Place::Plain(offset) => {
                let at = offset + guest % cluster_bytes;
                self.blocks.read_at(at, buf).map_err(unreadable(at))?;
            }
            Place::Compressed(offset, bytes) => {
                let cluster = self.decompressed(guest / cluster_bytes, offset, bytes)?;
                let from = within(guest % cluster_bytes);
                buf.copy_from_slice(&cluster[from..from + buf.len()]);
            }
        }
        Ok(())
    }

    fn decompressed(&self, number: u64, offset: u64, bytes: u64) -> Result<Arc<Vec<u8>>, Qcow2Error> {
        let find = |kept: &VecDeque<(u64, Arc<Vec<u8>>)>| {
            kept.iter().find(|(other, _)| *other == number).map(|(_, cluster)| Arc::clone(cluster))
        };
        if let Some(cluster) = find(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(cluster);
        }
        // At most one sector more than a cluster.
        let mut packed = vec![0; within(bytes)];
        self.blocks.read_at(offset, &mut packed).map_err(unreadable(offset))?;
        let mut cluster = vec![0; self.tables.header.cluster.len()];
        decompress(self.tables.header.compression, &packed, &mut cluster).map_err(|what| {
            let place = format!("the compressed cluster of the disk's byte {}", number * self.cluster_bytes());
            Qcow2Error::damaged(place, format!("it cannot be decompressed ({what})"))
        })?;
        let cluster = Arc::new(cluster);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() > KEPT_BYTES / cluster.len() {
            kept.pop_front();
        }
        kept.push_back((number, Arc::clone(&cluster)));
        Ok(cluster)
    }
}

impl BlockRead for Qcow2 {
    fn len_bytes(&self) -> u64 {
        self.tables.header.disk_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len_bytes()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let cluster_bytes = self.cluster_bytes();
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let place = self.tables.find(&*self.blocks, at).map_err(io::Error::other)?;
            let mut len = cluster_bytes - at % cluster_bytes;
            // Clusters that follow each other in the file, too, are read at once.
            while let Place::Plain(start) = place
                && len < rest.len() as u64
                && let Place::Plain(next) = self.tables.find(&*self.blocks, at + len).map_err(io::Error::other)?
                && next == start + at % cluster_bytes + len
            {
                len += cluster_bytes;
            }
            let now = usize::try_from(len).unwrap_or(rest.len()).min(rest.len());
            let (this, later) = rest.split_at_mut(now);
            self.read_cluster(at, place, this).map_err(io::Error::other)?;
            at += now as u64;
            rest = later;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        if offset >= self.len_bytes() {
            return Ok(None);
        }
        let found = self.tables.next(&*self.blocks, offset, false).map_err(io::Error::other)?;
        Ok((found < self.len_bytes()).then_some(found))
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        let found = self.tables.next(&*self.blocks, offset, true).map_err(io::Error::other)?;
        // It is asked for from data on; else the rest is taken for data.
        Ok(if found > offset { found.min(self.len_bytes()) } else { self.len_bytes() })
    }
}

/// A place in a cluster, or its length.
#[expect(clippy::cast_possible_truncation, reason = "a cluster is at most 2 MiB long")]
fn within(number: u64) -> usize {
    number as usize
}
