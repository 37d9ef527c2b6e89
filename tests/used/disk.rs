//! Whole disks: partition tables, gaps, and regions beside each other.

use std::fs;
use std::os::unix::fs::FileExt as _;

use volbak::events::Severity;
use volbak::layout::detect;
use volbak::outside::Cancel;
use volbak::units::ByteRange;
use volbak::used::used_map_of_disk;

use crate::support::{Work, blocks, map_of, run, text, tree};

#[test]
fn a_disk_has_its_tables_gaps_and_what_its_regions_use() {
    let work = Work::new();
    let disk = work.image("disk", 128 << 20);
    let ext = work.image("ext", 64 << 20);
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", text(&tree(&work)), text(&ext)]);
    let table = "label: gpt\nstart=2048, size=131072\nstart=139264, size=32768\n";
    fs::write(work.path("table"), table).unwrap();
    run("sh", &["-c", &format!("sfdisk -q {} <{}", text(&disk), text(&work.path("table")))]);
    let file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.write_all_at(&fs::read(&ext).unwrap(), 1 << 20).unwrap();
    file.write_all_at(&vec![0x55; 70_000], (68 << 20) + 5000).unwrap();
    let map = map_of(&ext);

    let bytes = fs::read(&disk).unwrap();
    let layout = detect(&bytes, "disk", None).unwrap();
    let memory: std::sync::Arc<dyn volbak::outside::BlockRead> = std::sync::Arc::new(bytes);
    let of_disk = used_map_of_disk(&layout, &memory, &Cancel::default()).unwrap();
    let outside = (128 << 20) - (64 << 20);
    assert_eq!(of_disk.map.used_bytes(), map.used_bytes() + outside);
    for run in map.runs() {
        assert!(of_disk.map.covers(ByteRange::new(run.start + (1 << 20), run.len)), "{run:?}");
    }
    assert!(of_disk.map.covers(ByteRange::new(0, 34 * 512)));
    assert!(of_disk.map.covers(ByteRange::new(65 << 20, 63 << 20)));
    let [problem] = of_disk.problems.as_slice() else { panic!("{:?}", of_disk.problems) };
    assert_eq!((problem.severity, problem.location.as_str()), (Severity::Notice, "p2"));

    // The same with the image's holes: what nobody wrote is not used.
    let sparse = used_map_of_disk(&layout, &blocks(&disk), &Cancel::default()).unwrap();
    assert!(sparse.map.used_bytes() < of_disk.map.used_bytes() / 4);
    assert!(sparse.map.covers(ByteRange::new((68 << 20) + 5000, 70_000)));
}

#[test]
fn regions_that_share_bytes_are_whole() {
    let work = Work::new();
    let ext = work.image("ext", 64 << 20);
    run("mke2fs", &["-q", "-F", "-t", "ext4", text(&ext)]);
    let bytes = fs::read(&ext).unwrap();
    let mut layout = detect(&bytes, "disk", None).unwrap();
    let memory: std::sync::Arc<dyn volbak::outside::BlockRead> = std::sync::Arc::new(bytes);
    let alone = used_map_of_disk(&layout, &memory, &Cancel::default()).unwrap();
    assert!(alone.map.used_bytes() < 32 << 20 && alone.problems.is_empty());
    let mut other = layout.regions[0].clone();
    other.name = "other".to_owned();
    other.extents[0].source_offset = 40 << 20;
    other.extents[0].length = 24 << 20;
    layout.regions.push(other);
    let shared = used_map_of_disk(&layout, &memory, &Cancel::default()).unwrap();
    assert_eq!((shared.map.used_bytes(), shared.problems.len()), (64 << 20, 2));
}
