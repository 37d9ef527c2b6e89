//! Any bytes as a source: everything that `volbak inspect` does with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use volbak::layout::{detect, render_table};

fuzz_target!(|bytes: &[u8]| {
    let disk = bytes.to_vec();
    let layout = detect(&disk, "fuzzed", None).expect("memory can be read");
    let mut names = std::collections::HashSet::new();
    for region in &layout.regions {
        assert!(names.insert(&region.name));
        assert_eq!(region.size_bytes, region.extents.iter().map(|extent| extent.length).sum::<u64>());
        for extent in &region.extents {
            assert!(extent.source_offset.checked_add(extent.length).is_some_and(|end| end <= disk.len() as u64));
        }
    }
    assert!(render_table(&layout).chars().all(|character| character == '\n' || !character.is_control()));
});
