//! mkfs.fat(8).

use super::call::Arguments;
use super::error::MakeError;
use crate::layout::MadeWith;

pub(super) fn fat_serial(text: &str) -> Result<String, MakeError> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let fits = text.len() == 9 && digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { Ok(digits) } else { Err(MakeError::Serial(text.to_owned())) }
}

pub(super) fn fat(made: &MadeWith, version: Option<&str>, args: &mut Arguments) -> Result<(), MakeError> {
    if let Some(bits) = version.and_then(|version| version.strip_prefix("FAT")) {
        if !["12", "16", "32"].contains(&bits) {
            return Err(MakeError::FatBits(bits.to_owned()));
        }
        args.pair("-F", bits);
    }
    if let (Some(sector), Some(cluster)) = (made.sector_bytes, made.block_bytes) {
        let sectors = cluster.checked_div(sector).filter(|sectors| sectors.is_power_of_two() && *sectors <= 128);
        let Some(sectors) = sectors else { return Err(MakeError::Clusters(cluster)) };
        args.pair("-S", sector.to_string());
        args.pair("-s", sectors.to_string());
    }
    Ok(())
}
