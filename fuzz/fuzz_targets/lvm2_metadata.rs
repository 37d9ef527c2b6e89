//! Any bytes as the text metadata of a volume group.
#![no_main]

use libfuzzer_sys::fuzz_target;
use volbak::layout::lvm2::VolumeGroup;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(group) = VolumeGroup::parse(bytes) {
        assert!(group.extent_size_sectors > 0);
        assert!(group.cow_stores().count() <= bytes.len());
    }
});
