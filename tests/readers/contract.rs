//! What every filesystem keeps to. Each test runs one check on each implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use volbak::entry::{Entry, EntryKind, FileContent};
use volbak::events::{Problem, Severity};
use volbak::reader::ahead::ReadAhead;
use volbak::reader::exclude::Excludes;
use volbak::reader::filesystem::{Filesystem, NotOpened};
use volbak::reader::{Found, FsReader};

use crate::images::{IMPLEMENTATIONS, Image};
use crate::testkit::wait::assert_no_loop_device;

/// Runs `check` on an image of each kind that this host can read.
fn on_each(check: impl Fn(&Image)) {
    let mut checked = BTreeSet::new();
    for implementation in IMPLEMENTATIONS.iter().filter(|one| one.is_here()) {
        check(&implementation.image());
        checked.insert(implementation.reader);
    }
    assert!(checked.contains("ext4") && checked.contains("tar"), "{checked:?}");
}

fn usual() -> Excludes {
    Excludes::new::<&str>(&[]).unwrap()
}

/// All that a walk gives.
fn walked(mut walk: impl FsReader) -> (Vec<Entry>, Vec<Problem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    while let Some(found) = walk.next_found() {
        match found {
            Found::Entry(entry) => entries.push(entry),
            Found::Problem(problem) | Found::Sealed(problem) => problems.push(problem),
        }
    }
    for _ in 0..3 {
        assert!(walk.next_found().is_none(), "nothing comes after the end");
    }
    (entries, problems)
}

fn entries(filesystem: &dyn Filesystem, excludes: Excludes) -> Vec<Entry> {
    let (entries, problems) = walked(filesystem.walk(excludes).unwrap());
    assert_eq!(problems, [], "of a sound filesystem by {}", filesystem.reader());
    entries
}

fn paths(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.path.escape_ascii().to_string()).collect()
}

fn content(entry: &Entry) -> Option<&dyn FileContent> {
    if let EntryKind::File(content) = &entry.kind { Some(&**content) } else { None }
}

fn path_on_host(image: &Image, entry: &Entry) -> std::path::PathBuf {
    image.tree().join(Path::new(std::ffi::OsStr::from_bytes(&entry.path)))
}

#[test]
fn the_root_is_first_each_directory_before_what_lies_in_it_and_no_path_comes_twice() {
    on_each(|image| {
        let entries = entries(&*image.open(), usual());
        assert_eq!(entries[0].path, b"");
        let mut directories: BTreeSet<&[u8]> = BTreeSet::new();
        let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
        for entry in &entries {
            let path = entry.path.as_slice();
            assert!(seen.insert(path), "{} comes twice", path.escape_ascii());
            assert!(!path.starts_with(b"/") && !path.ends_with(b"/"));
            if !path.is_empty() {
                let outer = path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &path[..slash]);
                assert!(directories.contains(outer), "{} before its directory", path.escape_ascii());
            }
            if matches!(entry.kind, EntryKind::Directory) {
                directories.insert(path);
            }
        }
    });
}

#[test]
fn the_order_is_the_same_each_time() {
    on_each(|image| {
        let filesystem = image.open();
        let first = paths(&entries(&*filesystem, usual()));
        assert_eq!(paths(&entries(&*filesystem, usual())), first, "walked again");
        drop(filesystem);
        let filesystem = image.open();
        assert_eq!(paths(&entries(&*filesystem, usual())), first, "opened again");
        let ahead = ReadAhead::new(filesystem.walk(usual()).unwrap(), Arc::default()).unwrap();
        assert_eq!(paths(&walked(ahead).0), first, "in a thread of its own");
    });
}

#[test]
fn all_that_was_put_in_comes_out() {
    on_each(|image| {
        let entries = entries(&*image.open(), usual());
        let mut left = 0_usize;
        let mut directories = vec![image.tree()];
        while let Some(directory) = directories.pop() {
            for child in fs::read_dir(directory).unwrap() {
                let child = child.unwrap();
                left += 1;
                if child.file_type().unwrap().is_dir() {
                    directories.push(child.path());
                }
            }
        }
        assert_eq!(entries.len(), left + 1);
        for entry in entries.iter().filter(|entry| !entry.path.is_empty()) {
            let path = path_on_host(image, entry);
            let facts = fs::symlink_metadata(&path).unwrap();
            let shown = format!("{} by {}", path.display(), image.of.reader);
            let found = &entry.metadata;
            let is_right = match &entry.kind {
                EntryKind::Directory => facts.is_dir(),
                EntryKind::File(_) => facts.is_file() && found.size == facts.len(),
                EntryKind::Symlink(target) => {
                    facts.is_symlink() && fs::read_link(&path).unwrap().as_os_str().as_bytes() == target
                }
                EntryKind::Fifo => facts.file_type().is_fifo(),
                _ => false,
            };
            assert!(is_right, "{shown} is of another kind, size or target");
            if !facts.is_symlink() {
                assert_eq!(found.mode, facts.mode() & 0o7777, "{shown}");
            }
            assert_eq!((found.uid, found.gid), (facts.uid(), facts.gid()), "{shown}");
            // mke2fs -d takes over the times of files alone.
            if facts.is_file() {
                assert_eq!(found.mtime.sec, facts.mtime(), "{shown}");
                assert_eq!(u64::from(found.nlink), facts.nlink(), "{shown}");
            }
        }
    });
}

#[test]
fn names_of_one_file_share_device_and_inode_and_those_of_two_do_not() {
    on_each(|image| {
        let entries = entries(&*image.open(), usual());
        let mut inodes: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
        let mut on_host: BTreeMap<u64, BTreeSet<(u64, u64)>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.path.is_empty()) {
            let (there, here) = (
                (entry.metadata.dev, entry.metadata.ino),
                fs::symlink_metadata(path_on_host(image, entry)).unwrap().ino(),
            );
            inodes.entry(there).or_default().insert(here);
            on_host.entry(here).or_default().insert(there);
        }
        assert!(inodes.values().all(|files| files.len() == 1), "two files have one inode");
        assert!(on_host.values().all(|numbers| numbers.len() == 1), "one file has two inodes");
    });
}

#[test]
fn reads_and_holes_agree_and_give_the_bytes_that_were_put_in() {
    on_each(|image| {
        let entries = entries(&*image.open(), usual());
        assert!(entries.iter().filter_map(content).count() > 300);
        for (entry, content) in entries.iter().filter_map(|entry| Some((entry, content(entry)?))) {
            let size = entry.metadata.size;
            let shown = format!("{} by {}", entry.path.escape_ascii(), image.of.reader);
            content.prefetch().unwrap();
            let expected = fs::read(path_on_host(image, entry)).unwrap();
            // In pieces that are no multiple of any block.
            let (mut read, mut buf) = (Vec::new(), vec![0; 70_001]);
            loop {
                let len = content.read_at(read.len() as u64, &mut buf).unwrap();
                if len == 0 {
                    break;
                }
                read.extend_from_slice(&buf[..len]);
            }
            assert!(read == expected, "{shown} has other bytes");
            assert_eq!(content.read_at(size + 1, &mut buf).unwrap(), 0, "{shown} goes on behind its end");
            assert!(!content.is_longer_than(size) && (size == 0 || content.is_longer_than(size - 1)), "{shown}");
            let mut from = 0;
            while let Some(run) = content.next_data(from).unwrap() {
                assert!(run.len > 0 && run.start >= from, "{shown}: {run:?} from {from}");
                let end = run.start + run.len;
                assert!(end <= size, "{shown}: {run:?} of {size}");
                let hole = &expected[usize::try_from(from).unwrap()..usize::try_from(run.start).unwrap()];
                assert!(hole.iter().all(|byte| *byte == 0), "{shown} has data in a hole before {run:?}");
                let middle = run.start + run.len / 2;
                let in_run = content.next_data(middle).unwrap().unwrap();
                assert_eq!(in_run.start, middle, "{shown}: what lies in a run is data");
                from = end;
            }
            assert!(expected[usize::try_from(from).unwrap()..].iter().all(|byte| *byte == 0), "{shown}");
            assert!(content.next_data(size).unwrap().is_none(), "{shown}");
            content.close();
            let again = content.read_at(0, &mut buf).unwrap();
            assert!(buf[..again] == expected[..again], "{shown} after it was closed");
        }
        if image.of.reader != "tar" {
            let hole = entries.iter().find(|entry| entry.path == b"d/only-a-hole").unwrap();
            assert!(content(hole).unwrap().next_data(0).unwrap().is_none(), "by {}", image.of.reader);
        }
    });
}

#[test]
fn what_is_excluded_does_not_come_nor_what_lies_in_it() {
    on_each(|image| {
        let filesystem = image.open();
        let all = paths(&entries(&*filesystem, usual()));
        let excludes = Excludes::new(&["/d/e", "file-1*", "!file-12"]).unwrap();
        let left: Vec<String> = all
            .into_iter()
            .filter(|path| !(path == "d/e" || path.starts_with("d/e/")))
            .filter(|path| !path.starts_with("wide/file-1") || path == "wide/file-12")
            .collect();
        assert_eq!(paths(&entries(&*filesystem, excludes)), left);
    });
}

#[test]
fn the_names_of_the_root_are_those_of_the_walk() {
    on_each(|image| {
        let filesystem = image.open();
        let entries = entries(&*filesystem, Excludes::nothing());
        let at_top =
            entries.iter().map(|entry| entry.path.clone()).filter(|path| !path.is_empty() && !path.contains(&b'/'));
        let mut names = BTreeSet::new();
        filesystem.for_each_root_name(&mut |name| assert!(names.insert(name.to_vec())));
        names.retain(|name| name != b"." && name != b"..");
        assert_eq!(names, at_top.collect());
        assert!(filesystem.used_bytes().unwrap() >= 300_000 + 5_000);
        assert_eq!(filesystem.met(), [], "by {}", image.of.reader);
        assert!(!filesystem.has_no_end());
        filesystem.finish().unwrap();
    });
}

#[test]
fn damage_is_told() {
    on_each(|image| {
        let before = paths(&entries(&*image.open(), usual()));
        image.damage();
        let (found, told) = match image.try_open() {
            // Not opened at all, and why: that is said, too.
            Err(NotOpened::Passed(_) | NotOpened::Refused(_)) => return,
            Err(other) => panic!("by {}: {other}", image.of.reader),
            Ok(filesystem) => walked(filesystem.walk(usual()).unwrap()),
        };
        let found = paths(&found);
        assert!(found.len() < before.len(), "by {}", image.of.reader);
        let errors = told.iter().filter(|problem| problem.severity == Severity::Error).count();
        assert!(errors > 0, "by {}: {told:?}", image.of.reader);
        // What lies elsewhere is still there, where the rest can be reached.
        if image.of.reader != "tar" {
            assert!(found.iter().any(|path| path == "wide/file-300"), "by {}", image.of.reader);
            assert!(told.iter().any(|problem| problem.location.ends_with("d/e/f")), "{told:?}");
        }
    });
}

#[test]
fn half_way_through_all_is_released() {
    on_each(|image| {
        for walk_first in [false, true] {
            let filesystem = image.open();
            let mut walk = filesystem.walk(usual()).unwrap();
            let kept: Vec<Found> = (0..20).map(|_| walk.next_found().unwrap()).collect();
            let entries =
                kept.iter().filter_map(|found| if let Found::Entry(entry) = found { Some(entry) } else { None });
            entries.filter_map(content).for_each(|content| content.prefetch().unwrap());
            if walk_first {
                drop(walk);
                drop(filesystem);
            } else {
                drop(filesystem);
                drop(walk);
            }
            drop(kept);
            assert_no_loop_device(&image.path);
        }
    });
}

#[test]
fn the_image_is_not_written() {
    on_each(|image| {
        let digest = || {
            let file = fs::File::open(&image.path).unwrap();
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            crc32fast::hash(&bytes)
        };
        let before = digest();
        let filesystem = image.open();
        for entry in entries(&*filesystem, usual()) {
            content(&entry).map(|content| content.read_at(0, &mut [0; 100]).unwrap());
        }
        filesystem.finish().unwrap();
        assert_eq!(digest(), before, "by {}", image.of.reader);
    });
}

#[test]
fn without_a_reader_that_knows_it_a_filesystem_is_not_opened_and_the_reason_is_said() {
    let tar = IMPLEMENTATIONS.iter().find(|one| one.reader == "tar").unwrap();
    let image = tar.image();
    let why = image.open_by(&volbak::reader::open::readers(false)).map(|_| ()).unwrap_err();
    assert!(matches!(why, NotOpened::Refused(_)) && why.to_string().contains("tar"), "{why}");
    let why = image.open_by(&[]).map(|_| ()).unwrap_err();
    assert!(matches!(why, NotOpened::Passed(_)), "{why}");
}
