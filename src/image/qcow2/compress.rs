//! Compressed clusters.

use std::io;

use flate2::{Compress, FlushCompress, Status};
use libdeflater::Decompressor;

use crate::image::format::Compression;

/// "Deflate": QEMU inflates with a window of 4 KiB.
const WINDOW_BITS: u8 = 12;
/// zlib's default level, which qemu-img uses.
const ZLIB_LEVEL: u32 = 6;
/// Zstandard's default level, which qemu-img uses.
const ZSTD_LEVEL: i32 = 3;

/// The cluster compressed, or `None` when that does not make it smaller.
pub(super) fn compressed(how: Compression, cluster: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match how {
        Compression::Zlib => deflated(cluster),
        Compression::Zstd => {
            let packed = zstd::bulk::compress(cluster, ZSTD_LEVEL)?;
            Ok((packed.len() < cluster.len()).then_some(packed))
        }
    }
}

fn deflated(cluster: &[u8]) -> io::Result<Option<Vec<u8>>> {
    thread_local! {
        static DEFLATE: std::cell::RefCell<Compress> =
            std::cell::RefCell::new(Compress::new_with_window_bits(flate2::Compression::new(ZLIB_LEVEL), false, WINDOW_BITS));
    }
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        // zlib-rs 0.6.8 panics when noise fills its output up. A literal takes at most nine bits.
        let mut out = vec![0; cluster.len() + cluster.len() / 4 + 4096];
        let status = deflate.compress(cluster, &mut out, FlushCompress::Finish).map_err(io::Error::other)?;
        let len = usize::try_from(deflate.total_out()).unwrap_or(usize::MAX);
        if status != Status::StreamEnd || len >= cluster.len() {
            return Ok(None);
        }
        out.truncate(len);
        Ok(Some(out))
    })
}

/// Fills `cluster` from `packed`, which may have other bytes after its end.
pub(super) fn decompress(how: Compression, packed: &[u8], cluster: &mut [u8]) -> Result<(), String> {
    let len = match how {
        Compression::Zlib => {
            Decompressor::new().deflate_decompress(packed, cluster).map_err(|error| error.to_string())?
        }
        Compression::Zstd => {
            // One frame; what follows it in its last sector belongs to others.
            let mut frame = zstd::stream::raw::Decoder::new().map_err(|error| error.to_string())?;
            let mut input = zstd::stream::raw::InBuffer::around(packed);
            let mut output = zstd::stream::raw::OutBuffer::around(cluster);
            loop {
                let before = (input.pos(), output.pos());
                let hint = zstd::stream::raw::Operation::run(&mut frame, &mut input, &mut output)
                    .map_err(|error| error.to_string())?;
                if hint == 0 || before == (input.pos(), output.pos()) {
                    break output.pos();
                }
            }
        }
    };
    if len == cluster.len() { Ok(()) } else { Err(format!("it holds {len} bytes in place of {}", cluster.len())) }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "bytes that look random")]
mod tests {
    use super::{compressed, decompress};
    use crate::image::format::Compression;

    #[test]
    fn clusters_come_back_with_other_bytes_after_them() {
        for how in [Compression::Zlib, Compression::Zstd] {
            for size in [512, 4096, 65536, 2 << 20] {
                let cluster: Vec<u8> = (0..size).map(|at: usize| (at / 7 % 251) as u8).collect();
                let mut packed = compressed(how, &cluster).unwrap().unwrap();
                let half = packed[..packed.len() / 2].to_vec();
                assert!(packed.len() < size);
                packed.extend([0xa5; 511]);
                let mut again = vec![1; size];
                decompress(how, &packed, &mut again).unwrap();
                assert!(again == cluster, "{how} {size}");
                assert!(decompress(how, &half, &mut again).is_err());
                assert!(decompress(how, &packed, &mut vec![0; 2 * size]).is_err());
            }
            for size in [512, 1024, 4096, 16384, 65536, 1 << 18, 1 << 20, 2 << 20] {
                let mut cluster = vec![0; size];
                blake3::Hasher::new().finalize_xof().fill(&mut cluster);
                assert!(compressed(how, &cluster).unwrap().is_none(), "{how}: noise does not become smaller");
                cluster[..size / 3].fill(b'x');
                let packed = compressed(how, &cluster).unwrap().unwrap();
                let mut again = vec![1; size];
                decompress(how, &packed, &mut again).unwrap();
                assert!(again == cluster, "{how} {size}");
            }
        }
    }

    /// Noise, text and zeros in pieces of all lengths: no library panics, and all comes back.
    #[test]
    fn whatever_is_in_a_cluster_it_comes_back() {
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut number = || {
            let mut bytes = [0; 4];
            noise.fill(&mut bytes);
            u32::from_le_bytes(bytes) as usize
        };
        for round in 0..600 {
            let size = 512 << (round % 8);
            let mut cluster = Vec::with_capacity(size);
            while cluster.len() < size {
                let len = (number() % (1 + size / (1 + number() % 9))).min(size - cluster.len());
                match number() % 4 {
                    0 => cluster.extend((0..len).map(|_| number() as u8)),
                    1 => cluster.extend(std::iter::repeat_n(number() as u8, len)),
                    2 => cluster.extend((0..len).map(|_| number() as u8 % 3)),
                    _ => cluster.extend_from_within(..len.min(cluster.len())),
                }
            }
            for how in [Compression::Zlib, Compression::Zstd] {
                let Some(packed) = compressed(how, &cluster).unwrap() else { continue };
                let mut again = vec![1; size];
                decompress(how, &packed, &mut again).unwrap();
                assert!(again == cluster, "{how} {round}");
            }
        }
    }
}
