//! Writes a qcow2 image from its first byte to its last.
//!
//! The header says where the refcount table and the L1 table are, which are at the end: at the places that a disk without
//! clusters of zeros would give them. What such clusters leave free is a gap before the tables, zeros in a pipe. In a file
//! the tables follow the data when the gap would be large, and the header is written once more at the end. What is compressed
//! has no known length: then the header is written at the end alone, and a pipe is refused.

use std::io;

use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::image::ImageWriter;
use crate::image::format::Compression;
use crate::image::qcow2::compress::compressed;
use crate::image::qcow2::header::Written;
use crate::image::qcow2::layout::{Layout, clusters_per_block, refcounts_for};
use crate::image::qcow2::refcounts::Refcounts;
use crate::image::qcow2::{COMPRESSED, COPIED};
use crate::image::sink::Sink;
use crate::outside::zeros::is_zero;

/// Writes an image.
pub struct Qcow2Writer {
    layout: Layout,
    sink: Sink,
    cluster_bytes: u64,
    l1: Vec<u64>,
    /// The L2 table under way: its number, and its entries.
    group: Option<u64>,
    l2: Vec<u64>,
    l2_is_empty: bool,
    refcounts: Refcounts,
    pool: Option<ThreadPool>,
    data_clusters: u64,
}

impl Qcow2Writer {
    /// Begins an image. `threads` compress, where that is asked for.
    ///
    /// Fails with `NotSeekable` for a compressed image in a pipe.
    pub fn new(layout: Layout, sink: Sink, threads: usize) -> io::Result<Self> {
        let options = layout.options;
        let pool = match options.compression {
            None => None,
            Some(_) if !sink.is_file() => {
                let what =
                    "a compressed qcow2 image cannot go into a pipe: the place of its tables is known only at its end";
                return Err(io::Error::new(io::ErrorKind::NotSeekable, what));
            }
            Some(_) => {
                let named = |number| format!("compress-{number}");
                let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).thread_name(named);
                Some(builder.build().map_err(io::Error::other)?)
            }
        };
        let mut writer = Self {
            layout,
            sink,
            cluster_bytes: options.cluster.bytes(),
            l1: vec![0; layout.l1_entries as usize],
            group: None,
            l2: vec![0; options.cluster.len() / 8],
            l2_is_empty: true,
            refcounts: Refcounts::new(clusters_per_block(options)),
            pool,
            data_clusters: 0,
        };
        writer.refcounts.count(0, 0);
        if writer.pool.is_none() {
            let header = writer.header(layout.tables_at(), layout.refcount_table_clusters);
            writer.sink.write(&header)?;
        }
        writer.sink.skip_to(writer.cluster_bytes)?;
        Ok(writer)
    }

    /// How many bytes a chunk should have so that this number of threads have something to compress.
    pub fn chunk_bytes(layout: &Layout, threads: usize) -> usize {
        const MAX: usize = 4 << 20;
        let per_thread = layout.options.cluster.len();
        if layout.options.compression.is_some() { (per_thread * threads).clamp(1 << 20, MAX) } else { 1 << 20 }
    }

    fn header(&self, tables_at: u64, refcount_table_clusters: u32) -> Vec<u8> {
        let refcount_table_offset = tables_at * self.cluster_bytes;
        Written {
            options: self.layout.options,
            disk_bytes: self.layout.disk_bytes,
            l1_entries: self.layout.l1_entries,
            l1_offset: refcount_table_offset + u64::from(refcount_table_clusters) * self.cluster_bytes,
            refcount_table_offset,
            refcount_table_clusters,
        }
        .to_bytes()
    }

    /// The number of the next cluster of the file that is free as a whole, and goes there.
    fn align(&mut self) -> io::Result<u64> {
        let position = self.sink.position().next_multiple_of(self.cluster_bytes);
        self.sink.skip_to(position)?;
        Ok(position / self.cluster_bytes)
    }

    /// Writes the refcount blocks that nothing more is counted in. More than one is only complete in the smallest clusters.
    fn write_complete_refcounts(&mut self) -> io::Result<()> {
        while let Some(block) = self.refcounts.complete(self.sink.position() / self.cluster_bytes) {
            self.write_refcounts(&block)?;
        }
        Ok(())
    }

    fn write_refcounts(&mut self, block: &[u8]) -> io::Result<()> {
        let cluster = self.align()?;
        self.refcounts.count(cluster, cluster);
        self.refcounts.placed(cluster * self.cluster_bytes);
        self.sink.write(block)
    }

    /// Writes the L2 table under way.
    fn end_group(&mut self) -> io::Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        if self.l2_is_empty {
            return Ok(());
        }
        let cluster = self.align()?;
        self.refcounts.count(cluster, cluster);
        let mut l2 = std::mem::take(&mut self.l2);
        let written = self.write_entries(&l2);
        l2.fill(0);
        self.l2 = l2;
        written?;
        self.l2_is_empty = true;
        self.l1[index(group)] = (cluster * self.cluster_bytes) | COPIED;
        self.write_complete_refcounts()
    }

    /// Sets the entry of a cluster of the disk, whose group is under way from then on.
    fn map(&mut self, guest_cluster: u64, entry: u64) -> io::Result<()> {
        let entries = self.l2.len() as u64;
        debug_assert_eq!(self.group, Some(guest_cluster / entries));
        self.data_clusters += 1;
        if self.data_clusters > self.layout.data_clusters {
            return Err(io::Error::other(
                "the source has more data than it said at first: it changed while it was read",
            ));
        }
        self.l2[index(guest_cluster % entries)] = entry;
        self.l2_is_empty = false;
        Ok(())
    }

    /// Goes on to the group that a cluster of the disk is in.
    fn begin(&mut self, guest_cluster: u64) -> io::Result<()> {
        let group = guest_cluster / self.l2.len() as u64;
        if self.group != Some(group) {
            self.end_group()?;
            self.group = Some(group);
        }
        Ok(())
    }

    /// Writes clusters that follow each other on the disk, in one group, as they are.
    fn write_plain(&mut self, guest_cluster: u64, bytes: &[u8]) -> io::Result<()> {
        self.begin(guest_cluster)?;
        let mut next = guest_cluster;
        let mut rest = bytes;
        while !rest.is_empty() {
            let cluster = self.align()?;
            // Up to where a refcount block is complete, and has to come next.
            let per_block = clusters_per_block(self.layout.options);
            let room = (self.refcounts.first() + 1).max(cluster / per_block + 1) * per_block - cluster;
            let count = (rest.len() as u64 / self.cluster_bytes).min(room);
            self.refcounts.count(cluster, cluster + count - 1);
            for number in 0..count {
                self.map(next + number, ((cluster + number) * self.cluster_bytes) | COPIED)?;
            }
            let (now, later) = rest.split_at(index(count * self.cluster_bytes));
            self.sink.write(now)?;
            self.write_complete_refcounts()?;
            (next, rest) = (next + count, later);
        }
        Ok(())
    }

    fn write_compressed(&mut self, guest_cluster: u64, packed: &[u8]) -> io::Result<()> {
        self.begin(guest_cluster)?;
        let start = self.sink.position();
        let end = start + packed.len() as u64;
        // "Compressed Clusters Descriptor": the offset in the lower bits, then the further sectors that it reaches into.
        let sectors = (end - 1) / 512 - start / 512;
        let shift = 62 - (self.layout.options.cluster.bits() - 8);
        if start >> shift != 0 {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.refcounts.count(start / self.cluster_bytes, (end - 1) / self.cluster_bytes);
        self.map(guest_cluster, COMPRESSED | (sectors << shift) | start)?;
        self.sink.write(packed)?;
        self.write_complete_refcounts()
    }

    fn compress_chunk(&mut self, how: Compression, first: u64, bytes: &[u8]) -> io::Result<()> {
        let cluster_len = self.layout.options.cluster.len();
        let clusters: Vec<(u64, &[u8])> =
            (first..).zip(bytes.chunks(cluster_len)).filter(|(_, cluster)| !is_zero(cluster)).collect();
        let work = || -> Vec<_> {
            clusters.into_par_iter().map(|(number, bytes)| (number, bytes, compressed(how, bytes))).collect()
        };
        let done = match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        };
        for (number, bytes, packed) in done {
            match packed? {
                Some(packed) => self.write_compressed(number, &packed)?,
                None => self.write_plain(number, bytes)?,
            }
        }
        Ok(())
    }

    /// Refcount blocks for the rest, with the tables at cluster `tables_at`, or where they fit when there is none; gives where they
    /// are, and the size of the refcount table.
    fn end_refcounts(&mut self, tables_at: Option<(u64, u32)>) -> io::Result<(u64, u32)> {
        let end = self.align()?;
        let per_block = clusters_per_block(self.layout.options);
        // Blocks that are written make those before them complete.
        let (tables_at, table_clusters) = if let Some(fixed) = tables_at {
            fixed
        } else {
            let written = self.refcounts.first();
            let (blocks, table) = refcounts_for(self.layout.options, end - written + self.layout.l1_clusters);
            let table = u32::try_from(table).map_err(io::Error::other)?;
            (end + (blocks - written), table)
        };
        let total = tables_at + u64::from(table_clusters) + self.layout.l1_clusters;
        // All that the tables take is counted first, and each block counts itself and those after it.
        let blocks: Vec<u64> = (self.refcounts.first()..total.div_ceil(per_block)).collect();
        let counts_something = |ends_at: u64, block: u64| {
            let (from, until) = (block * per_block, (block + 1) * per_block);
            from < ends_at || until > tables_at
        };
        let mut count = 0;
        loop {
            let needed = blocks.iter().filter(|block| counts_something(end + count, **block)).count() as u64;
            if needed == count {
                break;
            }
            count = needed;
        }
        let ends_at = end + count;
        if ends_at > tables_at {
            return Err(io::Error::other("the image has more clusters than were planned"));
        }
        if count > 0 {
            self.refcounts.count(end, ends_at - 1);
        }
        self.refcounts.count(tables_at, total - 1);
        let mut next = end;
        for block in blocks {
            let bytes = self.refcounts.take();
            if counts_something(ends_at, block) {
                self.refcounts.placed(next * self.cluster_bytes);
                self.sink.write(&bytes)?;
                next += 1;
            } else {
                self.refcounts.placed(0);
            }
        }
        Ok((tables_at, table_clusters))
    }

    /// Whether clusters of zeros leave more than a 64th of a file free.
    fn has_large_gap(&self) -> bool {
        let max = self.layout.image_bytes_max();
        let gap = self.layout.data_clusters.saturating_sub(self.data_clusters) * self.cluster_bytes;
        self.sink.is_file() && gap > (max / 64).max(256 << 10)
    }

    fn write_entries(&mut self, entries: &[u64]) -> io::Result<()> {
        for entries in entries.chunks(8192) {
            let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            self.sink.write(&bytes)?;
        }
        self.align().map(drop)
    }
}

impl ImageWriter for Qcow2Writer {
    fn granule_bytes(&self) -> usize {
        self.layout.options.cluster.len()
    }

    fn write_chunk(&mut self, start: u64, bytes: &[u8]) -> io::Result<()> {
        let cluster_len = self.layout.options.cluster.len();
        let first = start / self.cluster_bytes;
        // What is past the end of the disk is the rest of a granule.
        let disk_clusters = self.layout.disk_bytes.div_ceil(self.cluster_bytes);
        let bytes = &bytes[..bytes.len().min(index(disk_clusters.saturating_sub(first) * self.cluster_bytes))];
        if let Some(how) = self.layout.options.compression {
            return self.compress_chunk(how, first, bytes);
        }
        let entries = self.l2.len() as u64;
        let mut run: Option<(u64, usize)> = None;
        for (number, at) in (first..).zip((0..bytes.len()).step_by(cluster_len)) {
            let is_data = !is_zero(&bytes[at..at + cluster_len]);
            if let Some((begun, from)) = run
                && (!is_data || number / entries != begun / entries)
            {
                self.write_plain(begun, &bytes[from..at])?;
                run = None;
            }
            if is_data && run.is_none() {
                run = Some((number, at));
            }
        }
        match run {
            Some((begun, from)) => self.write_plain(begun, &bytes[from..]),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<u64> {
        self.end_group()?;
        let is_dense = self.pool.is_some() || self.has_large_gap();
        let fixed = (!is_dense).then(|| (self.layout.tables_at(), self.layout.refcount_table_clusters));
        let (tables_at, table_clusters) = self.end_refcounts(fixed)?;
        self.sink.skip_to(tables_at * self.cluster_bytes)?;
        let table = self.refcounts.table().to_vec();
        self.write_entries(&table)?;
        let l1_at = (tables_at + u64::from(table_clusters)) * self.cluster_bytes;
        self.sink.skip_to(l1_at)?;
        let l1 = std::mem::take(&mut self.l1);
        self.write_entries(&l1)?;
        self.sink.finish()?;
        if is_dense {
            let header = self.header(tables_at, table_clusters);
            self.sink.write_first(&header)?;
        }
        Ok(self.sink.position())
    }
}

/// An index into what is in memory.
#[expect(clippy::cast_possible_truncation, reason = "tables and chunks in memory have fewer entries")]
fn index(number: u64) -> usize {
    number as usize
}
