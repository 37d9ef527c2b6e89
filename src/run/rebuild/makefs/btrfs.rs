//! mkfs.btrfs(8).

use super::call::{Arguments, ToolCall};
use super::error::MakeError;
use super::made::Made;
use super::names::has;
use crate::field::is_uuid;
use crate::layout::MadeWith;
use crate::shown;

/// The features that have an option of mkfs.btrfs here.
const KNOWN_FEATURES: &[&str] =
    &["mixed-bg", "extref", "skinny-metadata", "no-holes", "block-group-tree", "free-space-tree"];
/// The profiles possible on a single device.
const PROFILES: &[&str] = &["single", "dup"];

pub(super) fn btrfs(made: &MadeWith, uuid: &str, args: &mut Arguments, more: &mut Made) -> Result<(), MakeError> {
    for feature in made.features.iter().filter(|name| !KNOWN_FEATURES.contains(&name.as_str())) {
        more.differs.push(format!("its feature {} is not made here: it is made without", shown::text(feature)));
    }
    let own = made.btrfs.as_deref();
    match own.and_then(|own| own.metadata_uuid.as_deref()).filter(|inside| *inside != uuid) {
        Some(inside) if !is_uuid(inside) => {
            return Err(MakeError::MetadataUuid(inside.to_owned()));
        }
        Some(inside) => {
            args.pair("-U", inside);
            let change = ["-f", "-M", uuid].map(Into::into).to_vec();
            more.after.push(ToolCall { program: "btrfstune", args: change });
        }
        None => args.pair("-U", uuid),
    }
    for (option, value) in [("-s", made.block_bytes), ("-n", made.inode_bytes)] {
        if let Some(bytes) = value {
            if !bytes.is_power_of_two() {
                return Err(MakeError::Blocks(bytes));
            }
            args.pair(option, bytes.to_string());
        }
    }
    match made.checksum.as_deref() {
        Some(name @ ("crc32c" | "xxhash" | "sha256" | "blake2")) => args.pair("--csum", name),
        Some(name) => return Err(MakeError::Checksum(name.to_owned())),
        None => {}
    }
    let is_mixed = has(made, "mixed-bg");
    if is_mixed {
        args.flags(&["--mixed"]);
    }
    if let Some(own) = own {
        // Mixed chunks hold both kinds.
        let data = if is_mixed { &own.metadata_profiles } else { &own.data_profiles };
        for (option, what, profiles) in [("-d", "data", data), ("-m", "metadata", &own.metadata_profiles)] {
            match profiles.as_slice() {
                [] => {}
                [one] if PROFILES.contains(&one.as_str()) => args.pair(option, one),
                several => {
                    let several: Vec<String> = several.iter().take(8).map(|name| shown::text(name)).collect();
                    more.differs
                        .push(format!("its {what} were {} and get mkfs.btrfs's profile", several.join(" and ")));
                }
            }
        }
    }
    if !made.features.is_empty() {
        let flag = |name: &str| if has(made, name) { name.to_owned() } else { format!("^{name}") };
        args.pair("-O", ["extref", "skinny-metadata", "no-holes", "block-group-tree"].map(flag).join(","));
        args.pair("-R", flag("free-space-tree"));
    }
    Ok(())
}
