//! Inode tables with ends that no inode was ever in: an export leaves them out, and is the same filesystem to e2fsck, to the
//! kernel and to what they do with it afterwards. The disks have noise wherever mke2fs wrote nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disks::{Noise, run};
use crate::testkit::guest::{Mounted, sh};

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");
const DISK_BYTES: usize = 96 << 20;

/// Each option of mke2fs that says how descriptors are checked, whether tables are zeroed, or where they lie.
const MADE: [(&str, &str); 12] = [
    ("metadata_csum", "-O metadata_csum -E nodiscard,lazy_itable_init=1"),
    ("metadata_csum_zeroed", "-O metadata_csum -E nodiscard,lazy_itable_init=0"),
    ("gdt_csum", "-O ^metadata_csum,uninit_bg -E nodiscard,lazy_itable_init=1"),
    ("gdt_csum_zeroed", "-O ^metadata_csum,uninit_bg -E nodiscard,lazy_itable_init=0"),
    ("no_csum", "-O ^metadata_csum,^uninit_bg -E nodiscard"),
    ("no_flex_bg", "-O ^flex_bg -E nodiscard,lazy_itable_init=1"),
    ("flex_bg_4", "-G 4 -E nodiscard,lazy_itable_init=1"),
    ("32bit", "-O ^64bit -E nodiscard,lazy_itable_init=1"),
    ("gdt_csum_32bit", "-O ^metadata_csum,uninit_bg,^64bit -E nodiscard,lazy_itable_init=1"),
    ("1k", "-b 1024 -E nodiscard,lazy_itable_init=1"),
    ("bigalloc", "-O bigalloc -C 16384 -E nodiscard,lazy_itable_init=1"),
    ("meta_bg", "-O meta_bg,^resize_inode -E nodiscard,lazy_itable_init=1"),
];

struct Work {
    directory: tempfile::TempDir,
}

impl Work {
    fn new() -> Self {
        let work = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(work.path("noise"), Noise::new(7).bytes(DISK_BYTES)).unwrap();
        work
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An ext4 in some groups on a disk of noise.
    fn make(&self, options: &str) -> PathBuf {
        let disk = self.path("disk.img");
        fs::copy(self.path("noise"), &disk).unwrap();
        let groups = if options.contains("bigalloc") { "-b 4096 -i 16384" } else { "-b 4096 -g 4096" };
        let groups = if options.contains("-b 1024") { "" } else { groups };
        sh(&format!("mke2fs -q -F -t ext4 -i 4096 -J size=4 {groups} {options} {} >/dev/null 2>&1", text(&disk)));
        disk
    }

    /// Mounts the disk as its guest would, but without the thread that zeroes tables, and lets `with` write to it.
    fn mounted(&self, disk: &Path, with: impl FnOnce(&Path)) {
        let mounted = Mounted::with_options(disk, &self.path("mounted"), "loop,noinit_itable");
        with(&mounted.point);
        mounted.unmount();
    }

    /// Exports the disk, and compares the image with it and with e2image's.
    fn export(&self, disk: &Path, what: &str, is_filled: bool) {
        let [image, small, raw, peer, peer_raw] =
            ["a.qcow2", "small.qcow2", "a.raw", "peer.qcow2", "peer.raw"].map(|name| self.path(name));
        run(VOLBAK, &["-q", "export", text(disk), "--to", text(&image), "--overwrite"]);
        let block = if what.contains("1k") { "1K" } else { "4K" };
        run(
            VOLBAK,
            &["-q", "export", text(disk), "--to", text(&small), "--overwrite", "--cluster-size", block, "--verify"],
        );
        run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text(&image), text(&raw)]);
        run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", text(&small), text(&raw)]);
        run("/sbin/e2image", &["-Qa", text(disk), text(&peer)]);
        let _ = fs::remove_file(&peer_raw);
        run("/sbin/e2image", &["-ra", text(disk), text(&peer_raw)]);
        // e2image leaves out what it does not count as used, and zeros.
        let (own, other) = (fs::read(&raw).unwrap(), fs::read(&peer_raw).unwrap());
        let of_both = own.chunks_exact(1024).zip(other.chunks_exact(1024));
        let wrong = of_both.enumerate().find(|(at, (own, other))| {
            // With bigalloc e2image takes the rest of a cluster with the last used block of a table.
            let is_rest = what.contains("bigalloc") && at % 16 >= 4 && own.iter().all(|byte| *byte == 0);
            !is_rest && other.iter().any(|byte| *byte != 0) && own != other
        });
        assert_eq!(wrong.map(|(kib, _)| kib), None, "{what}: a KiB that e2image counts as used differs");
        run("/sbin/e2fsck", &["-fn", text(&raw)]);
        let lengths = [&image, &small, &peer].map(|path| fs::metadata(path).unwrap().len());
        println!("{what}: {} bytes, {} in small clusters, {} by e2image -Qa", lengths[0], lengths[1], lengths[2]);
        // e2image leaves out backups of superblocks and descriptors, and bitmaps that were never written.
        assert!(lengths[1] * 100 <= (lengths[2] + (64 << 10)) * 105, "{what}: {lengths:?}");
        if is_filled {
            assert!(lengths[0] * 100 <= lengths[2] * 105, "{what}: {lengths:?}");
        }
    }

    /// The kernel finds the same files in the image, fills it, and e2fsck finds nothing in what it made of it.
    fn is_the_same_to_the_kernel(&self, disk: &Path) {
        let raw = self.path("a.raw");
        let source = Mounted::with_options(disk, &self.path("source"), "loop,ro");
        // With the thread that zeroes tables.
        let copy = Mounted::with_options(&raw, &self.path("copy"), "loop,init_itable=0");
        sh(&format!("diff -r --no-dereference {} {}", text(&source.point), text(&copy.point)));
        fill(&copy.point, "later", 60);
        copy.unmount();
        source.unmount();
        run("/sbin/e2fsck", &["-fn", text(&raw)]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Directories all over the disk, with many small files in each.
fn fill(at: &Path, name: &str, files: usize) {
    let content = Noise::new(3).bytes(20_000);
    for directory in 0..12 {
        let directory = at.join(format!("{name}-{directory}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..files {
            fs::write(directory.join(file.to_string()), &content[..file * 37 % 20_000]).unwrap();
        }
    }
}

#[test]
fn an_export_without_the_unused_ends_of_inode_tables_is_the_same_filesystem() {
    the_same_filesystem(&MADE[..MADE.len() / 2]);
}

#[test]
fn an_export_without_the_unused_ends_is_the_same_filesystem_of_the_other_kinds() {
    the_same_filesystem(&MADE[MADE.len() / 2..]);
}

fn the_same_filesystem(kinds: &[(&str, &str)]) {
    let work = Work::new();
    for (name, options) in kinds {
        let disk = work.make(options);
        work.export(&disk, &format!("{name}, fresh"), false);
        work.mounted(&disk, |at| {
            fill(at, "first", 80);
            fs::write(at.join("large"), Noise::new(4).bytes(25 << 20)).unwrap();
        });
        work.export(&disk, &format!("{name}, filled"), true);
        work.is_the_same_to_the_kernel(&disk);
        work.mounted(&disk, |at| {
            (0..12).for_each(|directory| fs::remove_dir_all(at.join(format!("first-{directory}"))).unwrap());
            fs::remove_file(at.join("large")).unwrap();
        });
        work.export(&disk, &format!("{name}, emptied"), false);
        work.is_the_same_to_the_kernel(&disk);
    }
}

/// A descriptor that says that inodes in use are unused, with a right checksum, is a contradiction: all is exported.
#[test]
fn inodes_in_use_behind_the_end_of_a_table_make_all_of_it_used() {
    let work = Work::new();
    for options in ["-O metadata_csum -E nodiscard", "-O ^metadata_csum,uninit_bg -E nodiscard"] {
        let disk = work.make(options);
        work.mounted(&disk, |at| fill(at, "first", 20));
        let exported = || {
            let image = work.path("a.raw");
            let output = Command::new(VOLBAK)
                .args(["-q", "export", text(&disk), "--to", text(&image), "--overwrite", "--json"])
                .output()
                .unwrap();
            assert!(output.status.code().is_some_and(|code| code == 0 || code == 3), "{output:?}");
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            (said["read_bytes"].as_u64().unwrap(), String::from_utf8(output.stderr).unwrap())
        };
        let (read, _) = exported();
        assert!(read < DISK_BYTES as u64 / 2, "{read}");
        let good = fs::read(&disk).unwrap();
        let some_group = inodes_in_use(&disk);
        for (change, because) in [
            (format!("set_bg {some_group} itable_unused 4090"), "has inodes in use where"),
            (format!("set_bg {some_group} itable_unused 60000"), "has more unused inodes than inodes"),
            (format!("set_bg {some_group} free_inodes_count 77"), "another number of free inodes"),
            (format!("set_bg {some_group} flags 1"), "some that are not free"),
        ] {
            fs::write(&disk, &good).unwrap();
            sh(&format!("printf '{change}\nset_bg {some_group} checksum calc\n' | debugfs -w -f - {}", text(&disk)));
            let (read, told) = exported();
            assert_eq!(read, DISK_BYTES as u64, "{change}: {told}");
            assert!(told.contains(because), "{change}: {told}");
        }
    }
}

/// A group behind the first one that has inodes in use.
fn inodes_in_use(disk: &Path) -> usize {
    let groups = sh(&format!("dumpe2fs {} 2>/dev/null | grep -o '[0-9]* directories'", text(disk)));
    groups.lines().skip(1).position(|line| !line.starts_with("0 ")).unwrap() + 1
}

/// The inodes that only the journal has: the descriptors on the disk have their table as unused.
#[test]
fn inodes_that_are_in_the_journal_alone_are_exported() {
    let work = Work::new();
    let disk = work.make("-O metadata_csum -E nodiscard");
    let before = fs::read(&disk).unwrap();
    work.mounted(&disk, |at| fill(at, "first", 2));
    let after = fs::read(&disk).unwrap();
    // The state before, with data, and with all changed metadata in its journal.
    let journal = sh(&format!("debugfs -R 'blocks <8>' {} 2>/dev/null", text(&disk)));
    let journal: Vec<usize> = journal.split_whitespace().map(|block| block.parse().unwrap()).collect();
    let changed: Vec<usize> = (1..DISK_BYTES / 4096)
        .filter(|block| !journal.contains(block) && block_of(&before, *block) != block_of(&after, *block))
        .collect();
    fs::write(&disk, &before).unwrap();
    let content: Vec<u8> = changed.iter().flat_map(|block| block_of(&after, *block)).copied().collect();
    fs::write(work.path("content"), content).unwrap();
    let list: Vec<String> = changed.iter().map(ToString::to_string).collect();
    let said = sh(&format!(
        "printf 'jo -c -v 3\njw -b {} {}\njc\n' | debugfs -w -f - {} 2>&1",
        list.join(","),
        text(&work.path("content")),
        text(&disk)
    ));
    assert!(sh(&format!("dumpe2fs -h {} 2>/dev/null", text(&disk))).contains("needs_recovery"), "{said}");
    let raw = work.path("a.raw");
    run(VOLBAK, &["-q", "export", text(&disk), "--to", text(&raw)]);
    assert!(fs::metadata(&raw).unwrap().blocks() * 512 < DISK_BYTES as u64 / 2);
    for image in [&disk, &raw] {
        sh(&format!("e2fsck -fy {} >/dev/null 2>&1 || [ $? = 1 ]; e2fsck -fn {}", text(image), text(image)));
    }
    work.is_the_same_to_the_kernel(&disk);
}

fn block_of(disk: &[u8], block: usize) -> &[u8] {
    &disk[block * 4096..][..4096]
}
