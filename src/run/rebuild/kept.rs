//! The bytes that the manifest itself keeps: tables, boot code, gaps, boot blocks, LVM's metadata.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libdeflater::Decompressor;

use crate::error::with_causes;
use crate::layout::PreservedBytes;
use crate::outside::memory;
use crate::shown;

/// The most that one run may have, and all of them together: what a backup keeps is far below.
const RUN_BYTES_MAX: u64 = 32 << 20;
const ALL_BYTES_MAX: u64 = 128 << 20;

/// A run of bytes for the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// What it is.
    pub what: String,
    /// Its first byte on the disk.
    pub start: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why the bytes in a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeptError {
    /// There is no memory to unpack them.
    #[error("{}", with_causes(.0))]
    Memory(io::Error),
    /// One run of them is not what it says.
    #[error("{} in the manifest {fault}", shown::text(what))]
    Bad {
        /// The run.
        what: String,
        /// What is wrong with it.
        fault: KeptFault,
    },
}

/// What is wrong with a run of bytes in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeptFault {
    /// It is longer than a backup keeps.
    #[error("is longer than anything that is kept there")]
    TooLong,
    /// Another encoding than `gzip+base64`.
    #[error("is written in a way that is not known")]
    Encoding,
    /// It cannot be unpacked.
    #[error("is damaged")]
    Damaged,
    /// It is shorter than its length says.
    #[error("is shorter than it should be")]
    TooShort,
}

/// Unpacks them, in the manifest's order. An error names the first that is not what it says.
pub(super) fn unpack(outside: &[PreservedBytes]) -> Result<Vec<Kept>, KeptError> {
    let mut left = ALL_BYTES_MAX;
    // libdeflater panics when there is no memory.
    let mut decompressor = memory::made(64 << 10, Decompressor::new).map_err(KeptError::Memory)?;
    let mut all = Vec::with_capacity(outside.len());
    for kept in outside {
        let bad = |fault| KeptError::Bad { what: kept.what.clone(), fault };
        left = left
            .checked_sub(kept.size_bytes)
            .filter(|_| kept.size_bytes <= RUN_BYTES_MAX)
            .ok_or_else(|| bad(KeptFault::TooLong))?;
        if kept.encoding != "gzip+base64" {
            return Err(bad(KeptFault::Encoding));
        }
        let packed = STANDARD.decode(&kept.data).map_err(|_| bad(KeptFault::Damaged))?;
        // RUN_BYTES_MAX fits.
        let mut bytes = vec![0; usize::try_from(kept.size_bytes).unwrap_or(0)];
        let len = decompressor.gzip_decompress(&packed, &mut bytes).map_err(|_| bad(KeptFault::Damaged))?;
        if len != bytes.len() {
            return Err(bad(KeptFault::TooShort));
        }
        all.push(Kept { what: kept.what.clone(), start: kept.start_bytes, bytes });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::unpack;
    use crate::layout::PreservedBytes;

    #[test]
    fn lengths_that_are_not_true_are_refused() {
        let kept = |size_bytes, data: &str| PreservedBytes {
            what: "gap".to_owned(),
            start_bytes: 0,
            size_bytes,
            encoding: "gzip+base64".to_owned(),
            data: data.to_owned(),
        };
        // printf abc | gzip -n | base64
        let good = "H4sIAAAAAAAAA0tMSgYAwkEkNQMAAAA=";
        assert_eq!(unpack(&[kept(3, good)]).unwrap()[0].bytes, b"abc");
        for (size, data) in [(2, good), (4, good), (u64::MAX, good), (3, "H4sI"), (3, "?"), (64 << 20, good)] {
            assert!(unpack(&[kept(size, data)]).is_err(), "{size} {data}");
        }
    }
}
