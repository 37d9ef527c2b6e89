//! What holds for the layout of every disk, sound or not.

use std::time::Duration;

use volbak::layout::{Layout, render_table};

/// Panics, naming the case, when anything of this does not hold.
pub fn check(name: &str, layout: &Layout, len: u64) {
    let mut names = std::collections::HashSet::new();
    for region in &layout.regions {
        assert!(names.insert(&region.name), "{name}: {} twice", region.name);
        assert!(!region.name.is_empty() && region.name.len() <= 220 && !region.name.starts_with('.'));
        assert!(region.name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'), "{name}: {}", region.name);
        assert_eq!(region.size_bytes, region.extents.iter().map(|extent| extent.length).sum::<u64>(), "{name}");
        for extent in &region.extents {
            assert!(extent.source_offset.checked_add(extent.length).is_some_and(|end| end <= len), "{name}");
        }
        if let Some(parent) = &region.parent {
            assert!(layout.regions.iter().any(|other| other.name == *parent), "{name}: no {parent}");
        }
    }
    let json = serde_json::to_string(layout).expect("serialises");
    assert_eq!(*layout, serde_json::from_str::<Layout>(&json).expect("comes back"), "{name}");
    let table = render_table(layout);
    assert!(table.chars().all(|character| character == '\n' || !character.is_control()), "{name}");
}

/// The processor time of this thread: a limit on it holds on a busy machine, too.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().expect("not negative"), time.tv_nsec.try_into().expect("below a second"))
}

/// The most memory that this process, with all cases in it, ever had.
pub fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
