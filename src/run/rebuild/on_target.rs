//! Finds existing content on a target.

use std::io;

use crate::layout::{HoldsKind, TableKind, detect_within};
use crate::outside::BlockRead;
use crate::shown;
use crate::shown::counted;
use crate::units::ByteLen;

/// The content of a device in words, and remarks. A device counts as empty if no probe recognises anything, and its
/// first and last MiB and at least `scan_bytes` more (or the whole device) are zeros.
pub(super) fn what_is_on(
    blocks: &dyn BlockRead,
    sector_bytes: u32,
    scan_bytes: u64,
) -> io::Result<(Vec<String>, Vec<String>)> {
    let (layout, not_looked_at) =
        detect_within(blocks, "target", Some(sector_bytes), scan_bytes).map_err(io::Error::other)?;
    let mut found = Vec::new();
    if layout.table.kind != TableKind::None {
        let kind = if layout.table.kind == TableKind::Gpt { "a GPT" } else { "an MBR" };
        found.push(format!(
            "it has {kind} with {}",
            counted(layout.regions.len() as u64, "partition or volume", "partitions and volumes")
        ));
    }
    let mut is_guessed = false;
    for region in &layout.regions {
        let holds = match (region.holds.kind, region.holds.fs.as_deref()) {
            (HoldsKind::Empty, _) => continue,
            (_, Some(fs)) => fs,
            (_, None) if not_looked_at.contains(&region.name) => {
                is_guessed = true;
                continue;
            }
            (_, None) => "something unknown",
        };
        let label = region
            .holds
            .label
            .as_deref()
            .map_or_else(String::new, |label| format!(" {}", shown::path(label.as_bytes())));
        found.push(format!("{} holds {holds}{label}", shown::path(region.name.as_bytes())));
        if found.len() > 8 {
            found.push("and more".to_owned());
            break;
        }
    }
    let size_bytes = blocks.len_bytes();
    let mut buf = vec![0; 1 << 20];
    for start in [0, size_bytes.saturating_sub(buf.len() as u64)] {
        let len = buf.len().min(usize::try_from(size_bytes).unwrap_or(usize::MAX));
        blocks.read_at(start, &mut buf[..len]).map_err(|error| {
            let what =
                "its first or last MiB cannot be read, so that it is no target for a disk; choose another device";
            io::Error::new(error.kind(), format!("{what}: {error}"))
        })?;
        if found.is_empty() && buf[..len].iter().any(|byte| *byte != 0) {
            found.push("its first or last MiB is not zero".to_owned());
        }
    }
    let mut remarks = Vec::new();
    if is_guessed && found.is_empty() {
        let looked_at = ByteLen(scan_bytes);
        remarks.push(format!("nothing was found on it: its first {looked_at} are zeros, the rest was not looked at"));
    }
    Ok((found, remarks))
}

#[cfg(test)]
mod tests {
    use super::what_is_on;

    const MIB: usize = 1 << 20;

    #[test]
    fn zeros_that_were_not_looked_at_are_nothing_and_data_are_something() {
        let seen = |disk: &Vec<u8>, scan_bytes| what_is_on(disk, 512, scan_bytes).unwrap();
        let mut disk = vec![0; 8 * MIB];
        assert_eq!(seen(&disk, 8 << 20), (Vec::new(), Vec::new()));
        let (found, remarks) = seen(&disk, 2 << 20);
        assert!(found.is_empty() && remarks[0].contains("its first 2 MiB are zeros, the rest was not"), "{remarks:?}");
        disk[3 * MIB] = 1;
        assert_eq!(seen(&disk, 2 << 20).0, Vec::<String>::new());
        assert_eq!(seen(&disk, 4 << 20).0, ["disk holds something unknown"]);
        // At both ends every byte counts.
        disk[8 * MIB - 1] = 1;
        assert_eq!(seen(&disk, 2 << 20).0, ["its first or last MiB is not zero"]);
        // A signature where nothing else was scanned: btrfs's superblock at 64 KiB.
        disk[8 * MIB - 1] = 0;
        disk[65_600..65_608].copy_from_slice(b"_BHRfS_M");
        assert!(!seen(&disk, 2 << 20).0.is_empty());
    }
}
