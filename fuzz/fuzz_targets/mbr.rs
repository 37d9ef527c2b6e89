//! Any bytes as a disk with an MBR and its chains.
#![no_main]

use libfuzzer_sys::fuzz_target;
use volbak::layout::mbr::{self, BootRecord};

fuzz_target!(|bytes: &[u8]| {
    let disk = bytes.to_vec();
    let Some(record) = BootRecord::decode(&disk) else { return };
    for sector_size in [512, 4096] {
        let table = mbr::read_table(&disk, &record, sector_size);
        assert!(table.partitions.len() <= 4 + 4 * 1024);
        assert!(table.extended_boot_records.iter().all(|area| area.end().is_some_and(|end| end <= disk.len() as u64)));
    }
});
