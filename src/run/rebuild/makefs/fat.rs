//! mkfs.fat(8).

use super::call::Arguments;
use crate::layout::MadeWith;
use crate::shown;

pub(super) fn fat_serial(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let fits = text.len() == 9 && digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { Ok(digits) } else { Err(format!("its serial number {} is none", shown::text(text))) }
}

pub(super) fn fat(made: &MadeWith, version: Option<&str>, args: &mut Arguments) -> Result<(), String> {
    if let Some(bits) = version.and_then(|version| version.strip_prefix("FAT")) {
        if !["12", "16", "32"].contains(&bits) {
            return Err(format!("FAT{} is not known", shown::text(bits)));
        }
        args.pair("-F", bits);
    }
    if let (Some(sector), Some(cluster)) = (made.sector_bytes, made.block_bytes) {
        let sectors = cluster.checked_div(sector).filter(|sectors| sectors.is_power_of_two() && *sectors <= 128);
        let Some(sectors) = sectors else { return Err(format!("its clusters of {cluster} bytes are impossible")) };
        args.pair("-S", sector.to_string());
        args.pair("-s", sectors.to_string());
    }
    Ok(())
}
