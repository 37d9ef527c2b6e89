//! mke2fs(8).

use super::call::Arguments;
use super::names::is_word;
use crate::layout::{Holds, MadeWith};

pub(super) fn ext(made: &MadeWith, size_bytes: u64, entries: u64, shrunk: bool, holds: &Holds, args: &mut Arguments) {
    let block = made.block_bytes.filter(|bytes| bytes.is_power_of_two());
    if let Some(bytes) = block {
        args.pair("-b", bytes.to_string());
    }
    if let Some(bytes) = made.inode_bytes {
        args.pair("-I", bytes.to_string());
    }
    if let Some(bytes) = made.cluster_bytes {
        args.pair("-C", bytes.to_string());
    }
    if let Some(inodes) = made.inodes {
        let inodes = match holds.size_bytes {
            // As many to the byte as there were, and room for what is in the archive.
            Some(was) if shrunk && was > 0 => {
                let scaled = u128::from(inodes) * u128::from(size_bytes) / u128::from(was);
                u64::try_from(scaled).unwrap_or(inodes).max(entries + entries / 16 + 1024)
            }
            _ => inodes,
        };
        args.pair("-N", inodes.to_string());
    }
    if let (Some(reserved), Some(block), Some(was)) = (made.reserved_blocks, block, holds.size_bytes) {
        let blocks = was / u64::from(block);
        if let Some(hundredths) = reserved.checked_mul(10_000).and_then(|part| part.checked_div(blocks)) {
            let hundredths = hundredths.min(5_000);
            args.pair("-m", format!("{}.{:02}", hundredths / 100, hundredths % 100));
        }
    }
    let features: Vec<&str> = made.features.iter().map(String::as_str).filter(|name| is_word(name)).collect();
    if !features.is_empty() {
        args.pair("-O", format!("none,{}", features.join(",")));
    }
}
