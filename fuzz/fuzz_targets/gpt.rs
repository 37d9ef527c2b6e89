//! Any bytes as a disk with a GPT, in sectors of both sizes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use volbak::layout::gpt;
use volbak::units::Lba;

fuzz_target!(|bytes: &[u8]| {
    let disk = bytes.to_vec();
    let len = disk.len() as u64;
    for sector_size in [512, 4096] {
        for end in [None, Some(Lba(len / 2 / u64::from(sector_size)))] {
            let Some(table) = gpt::read_table(&disk, sector_size, end) else { continue };
            for (what, area) in table.areas {
                assert!(area.end().is_some_and(|end| end <= len), "{what} is outside the disk");
            }
        }
    }
});
