//! mkfs.xfs(8).

use super::call::Arguments;
use super::names::has;
use crate::layout::MadeWith;

/// mkfs.xfs refuses anything smaller without being told that it is meant.
const XFS_SUPPORTED_BYTES: u64 = 300 << 20;

pub(super) fn xfs(made: &MadeWith, size_bytes: u64, uuid: &str, args: &mut Arguments) -> Result<(), String> {
    let on = |feature: &str| u8::from(has(made, feature));
    if made.features.is_empty() {
        args.pair("-m", format!("uuid={uuid}"));
    } else if has(made, "crc") {
        let flags = ["finobt", "rmapbt", "reflink", "inobtcount", "bigtime", "metadir"]
            .map(|feature| format!("{feature}={}", on(feature)))
            .join(",");
        args.pair("-m", format!("uuid={uuid},crc=1,{flags}"));
    } else {
        args.pair("-m", format!("uuid={uuid},crc=0,finobt=0"));
    }
    for (option, key, value) in [
        ("-b", "size", made.block_bytes),
        ("-s", "size", made.sector_bytes),
        ("-i", "size", made.inode_bytes),
        ("-n", "size", made.directory_block_bytes),
    ] {
        let Some(bytes) = value else { continue };
        if !bytes.is_power_of_two() {
            return Err(format!("its {key} of {bytes} bytes is impossible"));
        }
        let more = match option {
            "-i" if has(made, "crc") => {
                format!(",sparse={},nrext64={},exchange={}", on("sparse"), on("nrext64"), on("exchange"))
            }
            "-n" if has(made, "crc") => format!(",parent={}", on("parent")),
            "-n" if !made.features.is_empty() && !has(made, "crc") => format!(",ftype={}", on("ftype")),
            _ => String::new(),
        };
        args.pair(option, format!("{key}={bytes}{more}"));
    }
    if size_bytes < XFS_SUPPORTED_BYTES {
        args.flags(&["--unsupported"]);
    }
    Ok(())
}
