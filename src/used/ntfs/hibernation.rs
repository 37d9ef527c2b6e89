//! Whether Windows is hibernated on the volume: `hiberfil.sys` in the root directory then begins with `hibr`, as ntfs-3g's
//! `ntfs_volume_check_hiberfile` has it. Its memory, which has allocations and data that are not on the volume, comes back with the
//! next start.

use super::boot::Boot;
use super::record::DATA;
use super::table::Table;
use crate::outside::BlockRead;
use crate::used::map::Whole;

/// An error if the file with this record says that Windows is hibernated.
pub(super) fn check(table: &Table<'_>, blocks: &dyn BlockRead, boot: &Boot, number: u64) -> Result<(), Whole> {
    let record = table.record(number)?;
    if record.attributes().any(|attribute| attribute.kind == DATA && !attribute.has_name() && attribute.is_resident()) {
        return Ok(());
    }
    let data = table.runs_of(number, DATA)?;
    let mut magic = [0; 4];
    if data.initialised_bytes >= magic.len() as u64 {
        data.read(blocks, boot, 0, &mut magic)?;
    }
    if magic.eq_ignore_ascii_case(b"hibr") {
        return Err(Whole::out_of_date(
            "Windows is hibernated on it, and has allocations in its memory that the map lacks",
        ));
    }
    Ok(())
}
