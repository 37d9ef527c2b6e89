//! mkfs.btrfs(8).

use super::call::Arguments;
use super::names::has;
use crate::layout::MadeWith;
use crate::shown;

pub(super) fn btrfs(made: &MadeWith, args: &mut Arguments) -> Result<(), String> {
    for (option, value) in [("-s", made.block_bytes), ("-n", made.inode_bytes)] {
        if let Some(bytes) = value {
            if !bytes.is_power_of_two() {
                return Err(format!("its blocks of {bytes} bytes are impossible"));
            }
            args.pair(option, bytes.to_string());
        }
    }
    match made.checksum.as_deref() {
        Some(name @ ("crc32c" | "xxhash" | "sha256" | "blake2")) => args.pair("--csum", name),
        Some(name) => return Err(format!("its checksum {} is not known", shown::text(name))),
        None => {}
    }
    if has(made, "mixed-bg") {
        args.flags(&["--mixed"]);
    }
    if !made.features.is_empty() {
        let flag = |name: &str| if has(made, name) { name.to_owned() } else { format!("^{name}") };
        args.pair("-O", ["extref", "skinny-metadata", "no-holes", "block-group-tree"].map(flag).join(","));
        args.pair("-R", flag("free-space-tree"));
    }
    Ok(())
}
