//! The bytes kept in the manifest: tables, boot code, gaps, boot blocks, LVM's metadata.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libdeflater::Decompressor;

use crate::error::with_causes;
use crate::layout::PreservedBytes;
use crate::outside::memory;
use crate::shown;

/// The maximum length of one run, and of all together. A backup keeps far less.
const RUN_BYTES_MAX: u64 = 32 << 20;
const ALL_BYTES_MAX: u64 = 128 << 20;

/// A run of bytes for the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::run) struct Kept {
    /// A description.
    pub what: String,
    /// Its offset on the disk.
    pub start: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why the bytes in a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeptError {
    /// Not enough memory to unpack them.
    #[error("{}", with_causes(.0))]
    Memory(io::Error),
    /// A run is invalid.
    #[error("{} in the manifest {fault}", shown::text(what))]
    Bad {
        /// The run.
        what: String,
        /// The fault.
        fault: KeptFault,
    },
}

/// The fault of a run of bytes in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeptFault {
    /// It is longer than any that a backup keeps.
    #[error("is longer than a manifest allows")]
    TooLong,
    /// An encoding other than `gzip+base64`.
    #[error("has an unknown form")]
    Encoding,
    /// It cannot be unpacked.
    #[error("is damaged")]
    Damaged,
    /// It is shorter than its stated length.
    #[error("is shorter than it should be")]
    TooShort,
}

/// Unpacks the runs, in the manifest's order. An error names the first invalid one.
pub(in crate::run) fn unpack(outside: &[PreservedBytes]) -> Result<Vec<Kept>, KeptError> {
    let mut left = ALL_BYTES_MAX;
    // libdeflater panics when an allocation fails.
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
        // At most RUN_BYTES_MAX, which fits.
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
