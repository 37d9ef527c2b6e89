//! Backups of disk images, proven with what every kernel has: ext4, xfs and btrfs through loop devices.
//!
//! Promises: plain tar brings back every attribute of every entry; the image is never changed, not even when its
//! journal needs replay; whatever cannot be read is said, and the archive stays valid; a destination that is full,
//! read-only or in use costs no earlier backup.

use std::fs;
use std::path::{Path, PathBuf};

use crate::testkit::guest;
use crate::testkit::guest::backups::{
    archives, assert_all_good, beside, leftovers, manifest, problems, run, run_expecting, snapshot, snapshot_expecting,
    volbak,
};
use crate::testkit::guest::{
    Mounted, PARTITION_START, extract_with_gnu_tar, make_image, partition_bytes, quoted, restore_target, sh, sh_output,
};
use crate::testkit::tree::{Filesystem, Kind, Tree, assert_equal_trees, fingerprint, make_hard_tree, noise, text};
use crate::testkit::wait::assert_no_loop_device;
use tempfile::TempDir;

/// A guest's disk `guest.img` in a directory of its own.
struct Guest {
    scratch: TempDir,
    image: PathBuf,
    filesystem: Filesystem,
}

impl Guest {
    fn new(filesystem: Filesystem, size: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("guest.img");
        make_image(&image, size, filesystem);
        Self { scratch, image, filesystem }
    }

    /// One with some files, for tests that are not about files.
    fn small() -> Self {
        let guest = Self::new(Filesystem::Ext4, "64M");
        let mounted = guest.mount();
        fs::create_dir(mounted.point.join("etc")).unwrap();
        fs::write(mounted.point.join("etc/hostname"), "web-01\n").unwrap();
        fs::write(mounted.point.join("data"), noise(1, 3_000_000)).unwrap();
        fs::write(mounted.point.join("log"), text(1, 3_000_000)).unwrap();
        mounted.unmount();
        guest
    }

    fn mount(&self) -> Mounted {
        Mounted::partition(&self.image, &self.scratch.path().join("mounted"))
    }

    fn dest(&self) -> PathBuf {
        let dest = self.scratch.path().join("backups");
        fs::create_dir_all(&dest).unwrap();
        dest
    }

    fn sha1(&self) -> String {
        sh(&format!("sha1sum <{}", quoted(&self.image)))
    }

    /// What GNU tar makes of the archive, on a filesystem like the guest's own.
    fn restored(&self, archive: &Path) -> Tree {
        let target = restore_target(self.scratch.path(), self.filesystem);
        extract_with_gnu_tar(archive, &target.point.join("tree"))
    }
}

/// What a backup of the tree is expected to hold: all but sockets and the root's own lost+found.
fn expected_of(root: &Path) -> Tree {
    let mut tree = fingerprint(root);
    tree.retain(|path, attributes| {
        attributes.kind != Kind::Socket && path != b"lost+found" && !path.starts_with(b"lost+found/")
    });
    tree
}

fn the_hard_tree_comes_back_from(filesystem: Filesystem) {
    let guest = Guest::new(filesystem, "1G");
    let mounted = guest.mount();
    make_hard_tree(&mounted.point, filesystem);
    let expected = expected_of(&mounted.point);
    mounted.unmount();
    let sha1 = guest.sha1();

    let archive = snapshot(&guest.image, &guest.dest(), &[]);
    assert_equal_trees(&expected, &guest.restored(&archive));
    assert_eq!(guest.sha1(), sha1, "the image was changed");
    assert_all_good(&guest.dest());
    assert_eq!(manifest(&archive)["counts"]["sockets_left_out"], 1);

    // What is a hole in the guest costs nothing in the archive.
    let bytes = fs::metadata(&archive).unwrap().len();
    assert!(bytes < 24 << 20, "{bytes} bytes of archive");
}

#[test]
fn the_hard_tree_comes_back_from_ext4() {
    the_hard_tree_comes_back_from(Filesystem::Ext4);
}

#[test]
fn the_hard_tree_comes_back_from_xfs() {
    the_hard_tree_comes_back_from(Filesystem::Xfs);
}

#[test]
fn the_hard_tree_comes_back_from_btrfs() {
    the_hard_tree_comes_back_from(Filesystem::Btrfs);
}

/// bsdtar restores all that GNU tar does, but for what libarchive 3.6 reads in a way of its own: times before 1970 with
/// a fraction, ids in ACLs above 2^31, keys of attributes with `=` and `%` (written as GNU tar does), and the time of
/// the directory that it extracts to.
#[test]
fn bsdtar_reads_the_archive_too() {
    let guest = Guest::new(Filesystem::Ext4, "1G");
    let mounted = guest.mount();
    make_hard_tree(&mounted.point, Filesystem::Ext4);
    let mut expected = expected_of(&mounted.point);
    mounted.unmount();
    let archive = snapshot(&guest.image, &guest.dest(), &[]);

    // One line each: bsdtar escapes newlines in names.
    let listed = sh(&format!("{{ bsdtar -tf {} || true; }} | wc -l", quoted(&archive)));
    assert_eq!(listed.trim().parse::<usize>().unwrap(), expected.len());
    let target = restore_target(guest.scratch.path(), Filesystem::Ext4);
    let root = target.point.join("tree");
    // In a UTF-8 locale it would compose what is decomposed in names; in this one its status is 1 for names that are
    // not ASCII, which it extracts all the same.
    let output = sh_output(&format!("bsdtar --numeric-owner -xpf {} -C {}", quoted(&archive), quoted(&root)));
    let mut found = fingerprint(&root);
    for (path, wanted) in &mut expected {
        let Some(found) = found.get_mut(path) else { continue };
        if path == b"." || (wanted.mtime.0 < 0 && wanted.mtime.1 != 0) {
            found.mtime = wanted.mtime;
        }
        for xattrs in [&mut wanted.xattrs, &mut found.xattrs] {
            xattrs.retain(|key, _| {
                !(key.starts_with(b"system.posix_acl_") || key.contains(&b'=') || key.contains(&b'%'))
            });
        }
    }
    eprintln!("{}", guest::both_outputs(&output));
    assert_equal_trees(&expected, &found);
}

/// busybox knows ustar headers without extensions: names up to 255 bytes, plain files.
#[test]
fn busybox_tar_reads_the_archive_too() {
    let guest = Guest::small();
    let archive = snapshot(&guest.image, &guest.dest(), &[]);
    let listed = sh(&format!("busybox tar tzf {} | sort", quoted(&archive)));
    assert_eq!(listed, "./\n./data\n./etc/\n./etc/hostname\n./log\n");
    let into = guest.scratch.path().join("busybox");
    fs::create_dir(&into).unwrap();
    sh(&format!("busybox tar xzf {} -C {}", quoted(&archive), quoted(&into)));
    assert!(fs::read(into.join("data")).unwrap() == noise(1, 3_000_000));
    assert!(fs::read(into.join("log")).unwrap() == text(1, 3_000_000));
    assert_eq!(fs::read(into.join("etc/hostname")).unwrap(), b"web-01\n");
}

/// A copy of a disk whose filesystem is in use, as a snapshot of a running guest is: its journal needs replay. The
/// state that its own system would show after a restart is what has to be in the archive, and the image stays as it is.
fn a_dirty_image_is_replayed_and_never_written(filesystem: Filesystem) {
    let guest = Guest::new(filesystem, "512M");
    let mounted = guest.mount();
    for number in 0..50 {
        fs::write(mounted.point.join(format!("old-{number}")), text(number, 10_000)).unwrap();
    }
    sh(&format!("sync -f {}", quoted(&mounted.point)));
    for number in 0..400 {
        fs::write(mounted.point.join(format!("new-{number}")), text(number, 3000)).unwrap();
    }
    sh(&format!("rm {0}/old-1*; mv {0}/old-2 {0}/moved; chmod 4711 {0}/old-3", quoted(&mounted.point)));
    // Into the journal, and not from there into its place.
    sh(&format!("sync {}/new-*", quoted(&mounted.point)));
    let dirty = guest.scratch.path().join("dirty.img");
    sh(&format!("cp --sparse=always {} {}", quoted(&guest.image), quoted(&dirty)));
    mounted.unmount();

    let replayed = guest.scratch.path().join("replayed.img");
    sh(&format!("cp --sparse=always {} {}", quoted(&dirty), quoted(&replayed)));
    let mounted = Mounted::partition(&replayed, &guest.scratch.path().join("replayed"));
    let expected = expected_of(&mounted.point);
    assert!(expected.contains_key(b"new-399".as_slice()), "the journal holds the new files");
    mounted.unmount();
    let changed = sh_output(&format!("cmp -s {} {}", quoted(&dirty), quoted(&replayed)));
    assert!(!changed.status.success(), "replaying changes something, or this test shows nothing");

    let sha1 = sh(&format!("sha1sum <{}", quoted(&dirty)));
    let scratch = guest.scratch.path().join("volbak-scratch");
    fs::create_dir(&scratch).unwrap();
    let by_kernel = ["--reader", "kernel", "--scratch", scratch.to_str().unwrap()];
    let archive = snapshot(&dirty, &guest.dest(), &by_kernel);
    assert_equal_trees(&expected, &guest.restored(&archive));
    assert_eq!(sh(&format!("sha1sum <{}", quoted(&dirty))), sha1, "the image was changed");
    assert_eq!(manifest(&archive)["regions"][0]["journal_replayed_in_copy"], true);
    // And again: the kernel remembers what it saw of a btrfs, and volbak does not let that disturb the next night.
    snapshot(&dirty, &guest.dest(), &by_kernel);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "the temporary copy is gone");
    assert_no_loop_device(&dirty);
}

#[test]
fn a_dirty_ext4_image_is_replayed_and_never_written() {
    a_dirty_image_is_replayed_and_never_written(Filesystem::Ext4);
}

#[test]
fn a_dirty_xfs_image_is_replayed_and_never_written() {
    a_dirty_image_is_replayed_and_never_written(Filesystem::Xfs);
}

#[test]
fn a_dirty_btrfs_image_is_replayed_and_never_written() {
    a_dirty_image_is_replayed_and_never_written(Filesystem::Btrfs);
}

/// btrfs checks its data, so a damaged block is an I/O error in the middle of a file.
#[test]
fn a_block_that_cannot_be_read_is_reported_and_the_rest_is_kept() {
    let guest = Guest::new(Filesystem::Btrfs, "256M");
    let mounted = guest.mount();
    let content = noise(42, 2_000_000);
    fs::write(mounted.point.join("damaged"), &content).unwrap();
    fs::write(mounted.point.join("sound"), text(1, 2_000_000)).unwrap();
    sh(&format!("sync -f {}", quoted(&mounted.point)));
    let mut expected = expected_of(&mounted.point);
    mounted.unmount();
    let at = find_in(&guest.image, &content[1_048_576..1_048_576 + 64]);
    sh(&format!("printf damage | dd of={} bs=1 seek={at} conv=notrunc status=none", quoted(&guest.image)));

    let archive = snapshot_expecting(3, &guest.image, &guest.dest(), &[]);
    let problems = problems(&archive);
    // Besides, what the kernel logs and what btrfs counts.
    let (errors, warnings): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| problem.starts_with("error "));
    assert!(errors.len() == 1 && errors[0].contains("damaged"), "{problems:?}");
    assert!(warnings.iter().any(|warning| warning.contains("errors were counted") && warning.contains("by btrfs")));
    let mut found = guest.restored(&archive);
    let (wanted, damaged) =
        (expected.remove(b"damaged".as_slice()).unwrap(), found.remove(b"damaged".as_slice()).unwrap());
    assert_equal_trees(&expected, &found);
    assert!(matches!(damaged.kind, Kind::File { size: 2_000_000, .. }) && damaged.mtime == wanted.mtime);
    assert!(damaged.kind != wanted.kind);
    let restored = guest.scratch.path().join("damaged");
    sh(&format!("tar xzOf {} ./damaged >{}", quoted(&archive), quoted(&restored)));
    let restored = fs::read(&restored).unwrap();
    let damage = (1_048_576, 1_048_576 + 4096);
    assert!(restored[..damage.0] == content[..damage.0], "all before the damage is there");
    assert!(restored[damage.0..damage.1].iter().all(|&byte| byte == 0), "what cannot be read is zeros");
    assert!(restored[damage.1..] == content[damage.1..], "all behind the damage is there");
    assert_all_good(&guest.dest());
}

fn find_in(file: &Path, pattern: &[u8]) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.chunks(4096).position(|block| block.starts_with(pattern)).expect("the file's block is in the image") * 4096
}

/// What no reader takes is kept byte for byte, without its zeros, and said.
#[test]
fn an_unreadable_partition_is_kept_as_a_sparse_image() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("mixed.img");
    let dest = scratch.path().join("backups");
    fs::create_dir(&dest).unwrap();
    let secret = scratch.path().join("secret");
    fs::write(&secret, noise(7, 1_000_000)).unwrap();
    sh(&format!(
        "cd {}
        truncate -s 300M mixed.img
        printf 'label: gpt\\nstart=2048, size=131072\\nstart=133120, size=131072\\nstart=264192, size=131072\\n
            start=395264, size=65536, type=swap\\nstart=460800, size=65536\\n' | sfdisk -q mixed.img
        mkdir one two; echo first >one/file; echo second >two/file
        mkfs.ext4 -q -d one -E offset=$((2048 * 512)) mixed.img 64M
        dd if=secret of=mixed.img bs=512 seek=$((133120 + 2000)) conv=notrunc status=none
        mkfs.ext4 -q -d two -E offset=$((264192 * 512)) mixed.img 64M
        truncate -s 32M swap; mkswap -q swap; dd if=swap of=mixed.img bs=512 seek=395264 conv=notrunc status=none",
        quoted(scratch.path())
    ));
    let archive = snapshot_expecting(3, &image, &dest, &[]);
    let listed = sh(&format!("tar tzf {}", quoted(&archive)));
    for line in ["./p1/file", "./p2.img", "./p3/file"] {
        assert!(listed.lines().any(|listed| listed == line), "{line} is not in\n{listed}");
    }
    assert!(problems(&archive).iter().any(|problem| problem.contains("p2")), "{:?}", problems(&archive));
    let handling: Vec<_> =
        manifest(&archive)["regions"].as_array().unwrap().iter().map(|r| r["handling"].clone()).collect();
    assert_eq!(handling, ["files", "raw_image", "files", "metadata_only", "metadata_only"]);

    let into = scratch.path().join("into");
    fs::create_dir(&into).unwrap();
    sh(&format!("tar xzf {} -C {}", quoted(&archive), quoted(&into)));
    sh(&format!(
        "cmp {}/p2.img <(tail -c +{} {} | head -c {})",
        into.display(),
        133_120 * 512 + 1,
        image.display(),
        64 << 20
    ));
    let occupied = sh(&format!("stat -c %b {}/p2.img", into.display())).trim().parse::<u64>().unwrap() * 512;
    assert!(occupied < 2 << 20, "{occupied} bytes");
    assert_eq!(fs::read(into.join("p3/file")).unwrap(), b"second\n");
    assert_all_good(&dest);
}

#[test]
fn excluded_paths_are_left_out_and_nothing_else() {
    let guest = Guest::new(Filesystem::Ext4, "64M");
    let mounted = guest.mount();
    sh(&format!(
        "cd {}; mkdir -p var/cache/apt var/tmp home/cache tmp a/tmp
        touch var/cache/apt/x var/tmp/y home/cache/z tmp/t a/tmp/u a/one.log two.log",
        quoted(&mounted.point)
    ));
    mounted.unmount();
    let archive = snapshot(
        &guest.image,
        &guest.dest(),
        &["--exclude", "/var/cache", "--exclude", "/tmp/*", "--exclude", "*.log"],
    );
    let listed = sh(&format!("tar tzf {} | sort", quoted(&archive)));
    assert_eq!(
        listed,
        "./\n./a/\n./a/tmp/\n./a/tmp/u\n./home/\n./home/cache/\n./home/cache/z\n./tmp/\n./var/\n./var/tmp/\n./var/tmp/y\n"
    );
    assert_eq!(manifest(&archive)["options"]["exclude"].as_array().unwrap().len(), 3);
}

#[test]
fn a_second_backup_of_the_day_gets_its_time_into_its_name() {
    let guest = Guest::small();
    let day = sh("date +%d_%m_%Y");
    let first = snapshot(&guest.image, &guest.dest(), &[]);
    let first_sha1 = sh(&format!("sha1sum <{}", quoted(&first)));
    let second = snapshot(&guest.image, &guest.dest(), &[]);
    if day == sh("date +%d_%m_%Y") {
        let name = |archive: &Path| archive.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(&first), format!("guest_{}.tar.gz", day.trim()));
        let time = name(&second).replace(&format!("guest_{}_", day.trim()), "").replace(".tar.gz", "");
        assert!(time.len() == 6 && time.bytes().all(|byte| byte.is_ascii_digit()), "{}", name(&second));
    }
    assert_eq!(sh(&format!("sha1sum <{}", quoted(&first))), first_sha1, "the first is as it was");
    assert_all_good(&guest.dest());

    let listed = run_expecting(0, &["list", guest.dest().to_str().unwrap()]);
    for archive in [&first, &second] {
        let stem = archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
        assert!(listed.contains(stem), "{stem} is not in\n{listed}");
    }
    let output = run(&["list", guest.dest().to_str().unwrap(), "--json"]);
    assert!(output.status.success());
    serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("list --json prints JSON");
}

/// The same tree gives the same bytes: what the next night carries forward rests on it.
#[test]
fn an_unchanged_disk_gives_the_same_archive() {
    let guest = Guest::small();
    let archives = [0, 1].map(|_| snapshot(&guest.image, &guest.dest(), &[]));
    assert!(fs::read(&archives[0]).unwrap() == fs::read(&archives[1]).unwrap());
}

#[test]
fn the_volumes_directory_can_be_checked_wherever_it_was_copied_to() {
    let guest = Guest::small();
    let archive = snapshot(&guest.image, &guest.dest(), &[]);
    let checksum = beside(&archive, "checksum");
    let elsewhere = guest.scratch.path().join("else where");
    fs::create_dir(&elsewhere).unwrap();
    sh(&format!("cp -r {} {}", quoted(archive.parent().unwrap()), quoted(&elsewhere)));
    sh(&format!(
        "cd {}/guest; sha1sum --strict -c {}",
        quoted(&elsewhere),
        checksum.file_name().unwrap().to_str().unwrap()
    ));
}

#[test]
fn every_level_makes_a_valid_archive_and_only_levels_that_exist_are_taken() {
    let guest = Guest::small();
    let mut sizes = Vec::new();
    for level in ["1", "6", "12"] {
        let archive = snapshot(&guest.image, &guest.dest(), &["--level", level]);
        sizes.push(fs::metadata(&archive).unwrap().len());
    }
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    let archive = snapshot(&guest.image, &guest.dest(), &["--level", "auto:2-4"]);
    let manifest = manifest(&archive);
    let chosen = &manifest["options"]["auto_level"];
    assert_eq!((chosen["lowest"].as_i64(), chosen["highest"].as_i64()), (Some(2), Some(4)), "{manifest}");
    let members: u64 = chosen["members"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    // The data of a large file are those of the last backup, whatever its level was.
    let carried = manifest["carried"]["members"].as_u64().unwrap();
    assert!(members > 0 && Some(members + carried) == manifest["sizes"]["members"].as_u64(), "{manifest}");
    assert_all_good(&guest.dest());
    for level in ["0", "13", "fast", "auto:4-2"] {
        run_expecting(2, &["snapshot", guest.image.to_str().unwrap(), "--to", "/nonexistent", "--level", level]);
    }
}

#[test]
fn a_backup_without_a_checksum_is_good_and_one_that_lost_it_is_bad() {
    let guest = Guest::small();
    let config = guest.scratch.path().join("volbak.toml");
    let to = guest.dest().display().to_string();
    fs::write(&config, format!("backup_destination = \"{to}\"\nenable_checksum = false\n")).unwrap();
    let without = snapshot(&guest.image, &guest.dest(), &["--config", config.to_str().unwrap()]);
    assert!(!beside(&without, "checksum").exists());
    run_expecting(0, &["verify", without.to_str().unwrap()]);
    let with = snapshot(&guest.image, &guest.dest(), &[]);
    fs::remove_file(beside(&with, "checksum")).unwrap();
    run_expecting(1, &["verify", with.to_str().unwrap()]);
}

#[test]
fn a_full_destination_costs_no_earlier_backup() {
    let guest = Guest::small();
    let small = guest.scratch.path().join("small.img");
    sh(&format!("truncate -s 6M {0}; mkfs.ext4 -q -m 0 {0}", quoted(&small)));
    let mounted = Mounted::with_options(&small, &guest.scratch.path().join("small"), "loop");
    let dest = mounted.point.join("backups");
    fs::create_dir(&dest).unwrap();
    let earlier = snapshot(&guest.image, &dest, &["--exclude", "/log"]);
    let sha1 = sh(&format!("sha1sum <{}", quoted(&earlier)));

    let arguments = ["snapshot", guest.image.to_str().unwrap(), "--to", dest.to_str().unwrap()];
    let said = run_expecting(1, &arguments);
    assert!(said.to_lowercase().contains("space"), "{said}");
    assert_eq!(archives(&dest), std::slice::from_ref(&earlier), "{said}");
    assert_eq!(sh(&format!("sha1sum <{}", quoted(&earlier))), sha1);
    assert_all_good(&dest);
}

#[test]
fn a_read_only_destination_is_a_clear_error() {
    let guest = Guest::small();
    let small = guest.scratch.path().join("small.img");
    sh(&format!("truncate -s 20M {0}; mkfs.ext4 -q -m 0 {0}", quoted(&small)));
    let point = guest.scratch.path().join("small");
    let mounted = Mounted::with_options(&small, &point, "loop");
    fs::create_dir(point.join("backups")).unwrap();
    let earlier = snapshot(&guest.image, &point.join("backups"), &[]);
    sh(&format!("mount -o remount,ro {}", quoted(&mounted.point)));
    let said =
        run_expecting(1, &["snapshot", guest.image.to_str().unwrap(), "--to", point.join("backups").to_str().unwrap()]);
    assert!(said.to_lowercase().contains("read-only"), "{said}");
    assert_eq!(archives(&point.join("backups")), [earlier]);
    assert_all_good(&point.join("backups"));
}

#[test]
fn a_second_run_waits_for_nobody_and_says_who_is_there() {
    let guest = Guest::small();
    let mounted = guest.mount();
    // Enough to be busy with while the second one comes.
    fs::write(mounted.point.join("more"), text(5, 20_000_000)).unwrap();
    mounted.unmount();
    let dest = guest.dest();
    let arguments = ["snapshot", guest.image.to_str().unwrap(), "--to", dest.to_str().unwrap(), "--level", "12"];
    let mut first = volbak(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let first_id = first.id().to_string();
    let mut second = run(&arguments);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while second.status.code() != Some(4) && first.try_wait().unwrap().is_none() && std::time::Instant::now() < deadline
    {
        second = run(&arguments);
    }
    let said = guest::both_outputs(&second);
    let first = first.wait().unwrap();
    // Whichever of them came first, it was well, and the other one was turned away.
    assert!(first.success() || first.code() == Some(4), "{first}");
    if first.success() {
        assert_eq!(second.status.code(), Some(4), "{said}");
        assert!(said.contains(&first_id), "the holder is process {first_id}:\n{said}");
    }
    assert_all_good(&dest);
}

#[test]
fn wrong_usage_and_missing_sources_are_told_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let dest = scratch.path().to_str().unwrap();
    run_expecting(2, &["snapshot"]);
    run_expecting(2, &["snapshot", "x.img"]);
    run_expecting(2, &["no-such-verb"]);
    let said = run_expecting(1, &["snapshot", "/nonexistent/disk.img", "--to", dest]);
    assert!(said.contains("/nonexistent/disk.img"), "{said}");
    let said = run_expecting(1, &["inspect", "/nonexistent/disk.img"]);
    assert!(said.contains("/nonexistent/disk.img"), "{said}");
    assert!(run_expecting(0, &["--version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(run_expecting(0, &["completions", "bash"]).contains("volbak"));
}

/// One volume that fails does not keep the others from being backed up.
#[test]
fn one_failing_source_leaves_the_others_alone() {
    let guest = Guest::small();
    let dest = guest.dest();
    let image = guest.image.to_str().unwrap();
    run_expecting(1, &["snapshot", "/nonexistent/disk.img", image, "--to", dest.to_str().unwrap()]);
    assert_eq!(archives(&dest).len(), 1);
    assert_all_good(&dest);
}

#[test]
fn a_mounted_device_is_refused() {
    let guest = Guest::small();
    let mounted = guest.mount();
    let device = sh(&format!("findmnt -no SOURCE {}", quoted(&mounted.point)));
    let said = run_expecting(1, &["snapshot", device.trim(), "--to", guest.dest().to_str().unwrap()]);
    assert!(said.contains("mounted"), "{said}");
    assert!(archives(&guest.dest()).is_empty());
}

#[test]
fn inspect_agrees_with_sfdisk_and_blkid() {
    let guest = Guest::small();
    let output = run(&["inspect", guest.image.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", guest::both_outputs(&output));
    let layout: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let table: serde_json::Value = serde_json::from_str(&sh(&format!("sfdisk -J {}", quoted(&guest.image)))).unwrap();
    let (table, partition) = (&table["partitiontable"], &table["partitiontable"]["partitions"][0]);
    let lower = |value: &serde_json::Value| value.as_str().unwrap().to_lowercase();
    assert_eq!(layout["table"]["kind"], "gpt");
    assert_eq!(lower(&layout["table"]["uuid"]), lower(&table["id"]));
    let region = &layout["regions"][0];
    assert_eq!(region["start_bytes"], PARTITION_START);
    assert_eq!(region["size_bytes"], partition_bytes(&guest.image));
    assert_eq!(lower(&region["partition_uuid"]), lower(&partition["uuid"]));
    assert_eq!(lower(&region["type"]), lower(&partition["type"]));
    assert_eq!(region["partition_name"], "root");
    let blkid = |tag: &str| sh(&format!("blkid -p -O {PARTITION_START} -s {tag} -o value {}", quoted(&guest.image)));
    assert_eq!(region["holds"]["fs"], blkid("TYPE").trim());
    assert_eq!(region["holds"]["uuid"], blkid("UUID").trim());
    assert_eq!(region["holds"]["label"], blkid("LABEL").trim());
    assert_eq!(region["handling"], "files");
}

/// A tenant can nest directories deeper than any path may be long: all of it is archived, and tar's limit is said.
#[test]
fn paths_longer_than_path_max_are_archived_and_reported() {
    let guest = Guest::new(Filesystem::Ext4, "64M");
    let mounted = guest.mount();
    sh(&format!(
        "cd {}; for i in $(seq 30); do mkdir {name}; cd -P {name} 2>/dev/null || cd {name}; done; echo deep >bottom",
        quoted(&mounted.point),
        name = "d".repeat(250)
    ));
    mounted.unmount();
    let archive = snapshot_expecting(3, &guest.image, &guest.dest(), &[]);
    let listed = sh(&format!("tar tzf {}", quoted(&archive)));
    assert_eq!(
        listed.lines().filter(|line| line.ends_with("/bottom")).map(str::len).collect::<Vec<_>>(),
        [30 * 251 + 8]
    );
    assert!(!problems(&archive).is_empty());
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let guest = Guest::small();
    let mounted = guest.mount();
    fs::write(mounted.point.join("more"), text(5, 30_000_000)).unwrap();
    mounted.unmount();
    let dest = guest.dest();
    for (signal, reader) in [("INT", "auto"), ("TERM", "kernel")] {
        let (image, to) = (guest.image.to_str().unwrap(), dest.to_str().unwrap());
        let mut child = volbak(&["snapshot", image, "--to", to, "--level", "12", "--reader", reader])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_until_it_writes(&mut child, &dest);
        let device = sh(&format!("losetup -ln -O NAME -j {}", quoted(&guest.image)));
        assert_eq!(device.is_empty(), reader == "auto", "the kernel needs a loop device, and volbak needs none");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let is_seen = |line: &str| !device.is_empty() && line.split(' ').next() == Some(device.trim());
        assert!(!mounts.lines().any(is_seen), "nobody sees its mount");
        sh(&format!("kill -{signal} {}", child.id()));
        let status = child.wait().unwrap();
        assert!(!status.success(), "{status}");
        assert!(archives(&dest).is_empty());
        assert_eq!(leftovers(&dest), "");
        assert_no_loop_device(&guest.image);
    }
}

/// The kernel itself undoes what a process that was killed had set up.
#[test]
fn a_killed_run_leaves_no_loop_device_and_the_next_one_removes_its_files() {
    let guest = Guest::small();
    let mounted = guest.mount();
    fs::write(mounted.point.join("more"), text(5, 30_000_000)).unwrap();
    mounted.unmount();
    let dest = guest.dest();
    for (number, reader) in ["auto", "kernel"].into_iter().enumerate() {
        let (image, to) = (guest.image.to_str().unwrap(), dest.to_str().unwrap());
        let mut child = volbak(&["snapshot", image, "--to", to, "--full", "--level", "12", "--reader", reader])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_until_it_writes(&mut child, &dest);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(leftovers(&dest).contains(".volbak-tmp."), "there is something to remove");
        assert_eq!(archives(&dest).len(), number);
        snapshot(&guest.image, &dest, &["--reader", reader]);
        assert_all_good(&dest);
        assert_no_loop_device(&guest.image);
    }
}

fn wait_until_it_writes(child: &mut std::process::Child, dest: &Path) {
    let has_bytes = |entry: &fs::DirEntry| {
        let is_temporary = entry.file_name().to_str().unwrap().starts_with(".volbak-tmp.");
        is_temporary && entry.metadata().is_ok_and(|facts| facts.len() > 0)
    };
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().collect::<Vec<_>>();
    // Without a process for each look: by the time that one has come and gone on a busy machine, the run may have ended.
    while !entries(dest).iter().any(|folder| entries(&folder.path()).iter().any(has_bytes)) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began to write");
    }
}

/// Memory does not grow with the volume: 64 MiB, and 8 MiB for each thread that compresses.
#[test]
fn memory_stays_within_its_bound() {
    let guest = Guest::new(Filesystem::Ext4, "1G");
    let mounted = guest.mount();
    for number in 0..20 {
        fs::write(mounted.point.join(format!("text-{number}")), text(number, 10_000_000)).unwrap();
    }
    fs::write(mounted.point.join("noise"), noise(1, 50_000_000)).unwrap();
    mounted.unmount();
    let dest = guest.dest();
    let mut child = volbak(&["snapshot", guest.image.to_str().unwrap(), "--to", dest.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(peak_kib);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    eprintln!("peak: {peak_kib} KiB with {threads} threads");
    assert!(peak_kib > 0 && peak_kib <= (64 + 8 * threads) * 1024, "{peak_kib} KiB");
}

/// An image with an ext4 on it is read without anything that only root may do.
#[test]
fn an_ext4_image_needs_no_root() {
    let guest = Guest::small();
    let (home, binary) = (guest.scratch.path().join("home"), env!("CARGO_BIN_EXE_volbak"));
    sh(&format!(
        "chmod 755 {scratch}; install -d -o nobody {home}; install -m 755 {binary} {home}/volbak
         install -o nobody -m 400 {image} {home}/disk.img
         setpriv --reuid nobody --clear-groups -- {home}/volbak snapshot {home}/disk.img --to {home}",
        scratch = quoted(guest.scratch.path()),
        home = quoted(&home),
        image = quoted(&guest.image),
    ));
    let archive = archives(&home).pop().unwrap();
    let by_root = snapshot(&guest.image, &guest.dest(), &["--reader", "kernel"]);
    let stream = |archive: &Path| sh(&format!("zcat {} | sha1sum", quoted(archive)));
    assert_eq!(stream(&archive), stream(&by_root));
}

/// What was written is not kept in the host's memory.
#[test]
fn an_archive_does_not_stay_in_the_page_cache() {
    let guest = Guest::new(Filesystem::Ext4, "256M");
    let mounted = guest.mount();
    fs::write(mounted.point.join("noise"), noise(3, 100_000_000)).unwrap();
    mounted.unmount();
    let kind = sh(&format!("stat -f -c %T {}", quoted(guest.scratch.path())));
    let archive = snapshot(&guest.image, &guest.dest(), &[]);
    let cached: u64 = sh(&format!("fincore -nb -o RES {}", quoted(&archive))).trim().parse().unwrap();
    // A tmpfs has nowhere else to keep it.
    let limit = if kind.trim() == "tmpfs" { u64::MAX } else { 1 << 20 };
    assert!(cached < limit, "{cached} bytes of 100 MB are in memory");
}
