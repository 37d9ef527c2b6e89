//! Whether all clusters of all files and directories are used: the bitmap has no checksum, and a file whose clusters follow each
//! other is in no chain ("exFAT file system specification", "Directory Structure").

use std::collections::HashSet;

use super::{ENTRY_BYTES, Exfat};
use crate::field::{le16, le32, le64};
use crate::outside::Cancel;
use crate::used::map::{UsedMap, Whole};

/// `EntryType` of a file or directory, and of what says where its content is.
const FILE: u8 = 0x85;
const STREAM: u8 = 0xC0;
/// `FileAttributes`: a directory.
const DIRECTORY: u16 = 0x10;
/// `GeneralSecondaryFlags`: its clusters follow each other.
const NO_CHAIN: u8 = 0x2;
/// The specification's limit of a directory is 256 MiB.
const DIRECTORY_BYTES_MAX: u64 = 256 << 20;

/// A directory: its first cluster, how many there are at most, and whether they follow each other.
struct Directory {
    first: u64,
    clusters: u64,
    is_run: bool,
}

pub(super) fn check(exfat: &Exfat<'_>, root: u64, map: &UsedMap, cancel: &Cancel) -> Result<(), Whole> {
    let most = DIRECTORY_BYTES_MAX.div_ceil(exfat.clusters.bytes);
    let mut walk = Walk {
        exfat,
        map,
        cancel,
        left: 3 * exfat.clusters.count + 16,
        seen: HashSet::from([root]),
        waiting: Vec::new(),
    };
    walk.waiting.push(Directory { first: root, clusters: most, is_run: false });
    while let Some(directory) = walk.waiting.pop() {
        let mut cluster = directory.first;
        // An entry's content is said by the one behind it, which may lie in the next cluster.
        let mut is_directory = false;
        'directory: for _ in 0..directory.clusters.min(most) {
            walk.used(cluster, 1)?;
            for entry in exfat.read(cluster)?.chunks_exact(ENTRY_BYTES) {
                match entry[0] {
                    0 => break 'directory,
                    FILE => is_directory = le16(entry, 4).is_some_and(|attributes| attributes & DIRECTORY != 0),
                    STREAM => {
                        walk.stream(entry, is_directory)?;
                        is_directory = false;
                    }
                    _ => {}
                }
            }
            let next = if directory.is_run { cluster + 1 } else { exfat.next(cluster)? };
            if next < 2 || next >= exfat.clusters.count + 2 {
                break;
            }
            cluster = next;
        }
    }
    Ok(())
}

struct Walk<'a> {
    exfat: &'a Exfat<'a>,
    map: &'a UsedMap,
    cancel: &'a Cancel,
    /// Steps. No cluster belongs to two files, and those of directories are met twice: by their entry, and when they are read.
    left: u64,
    seen: HashSet<u64>,
    waiting: Vec<Directory>,
}

impl Walk<'_> {
    fn stream(&mut self, entry: &[u8], is_directory: bool) -> Result<(), Whole> {
        let (Some(first), Some(bytes)) = (le32(entry, 20).map(u64::from), le64(entry, 24)) else { return Ok(()) };
        let clusters = bytes.div_ceil(self.exfat.clusters.bytes);
        if first == 0 && clusters == 0 {
            return Ok(());
        }
        let is_run = entry[1] & NO_CHAIN != 0;
        if is_run {
            self.used(first, clusters.max(1))?;
        } else {
            let mut cluster = first;
            for done in 0..clusters.max(1) {
                if done > 0 {
                    cluster = self.exfat.next(cluster)?;
                    if cluster == u64::from(u32::MAX) {
                        break;
                    }
                }
                self.used(cluster, 1)?;
            }
        }
        if is_directory && self.seen.insert(first) {
            self.waiting.push(Directory { first, clusters: clusters.max(1), is_run });
        }
        Ok(())
    }

    /// These clusters must be used.
    fn used(&mut self, first: u64, count: u64) -> Result<(), Whole> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let clusters = self.exfat.clusters;
        let is_inside = first >= 2 && first.checked_add(count).is_some_and(|end| end <= clusters.count + 2);
        if !is_inside || !self.map.covers(clusters.range(first - 2, count)) {
            return Err(Whole::in_doubt(format!("cluster {first} is in use and free in its allocation bitmap")));
        }
        let too_many = || Whole::in_doubt("its files have more clusters than it has");
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }
}
