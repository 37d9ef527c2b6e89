//! A file backup of a disk with NTFS: its image has what is used, is verified and restored, and has every used byte.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use volbak::{BackupOptions, Repository, RestoreOptions, Silent, Verdict, VerifyOptions};

use crate::support::{Work, assert_has_used, map_of, noise, not_whole, run, text};

#[test]
fn the_image_of_ntfs_has_what_is_used_and_restores() {
    let work = Work::new();
    let image = work.image("ntfs", 64 << 20);
    // What was deleted before: noise everywhere.
    fs::write(&image, noise(3, 64 << 20)).unwrap();
    run("mkfs.ntfs", &["-F", "-Q", "-q", text(&image)]);
    let file = work.path("file");
    fs::write(&file, noise(4, 2 << 20)).unwrap();
    run("ntfscp", &["-q", "-f", text(&image), text(&file), "/file"]);
    let map = not_whole(map_of(&image));
    let backups = work.path("backups");
    fs::create_dir(&backups).unwrap();
    let repository = Repository::open(&backups).unwrap();
    let backup = repository.back_up(&image, &BackupOptions::default(), Arc::new(Silent)).unwrap();
    let record = &backup.manifest().unwrap().regions[0];
    assert!(record.used_blocks_only);
    assert_eq!(record.used_bytes, Some(map.used_bytes()));
    let stored: u64 = fs::read_dir(&backups).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(stored < 8 << 20, "{stored}");
    assert_eq!(backup.verify(&VerifyOptions::default(), &Silent).unwrap().verdict, Verdict::Good);
    let target = work.path("target");
    let restored = backup.restore(&RestoreOptions::into_directory(&target), &Silent).unwrap();
    assert!(restored.is_complete());
    let restored = fs::read_dir(&target).unwrap().next().unwrap().unwrap().path();
    assert!(restored.metadata().unwrap().blocks() * 512 <= map.used_bytes() + (1 << 20));
    assert_has_used(&image, &restored);
    run("ntfsfix", &["-n", text(&restored)]);
}
