//! All the ways to make such a filesystem that people use, and those that are left to the kernel.

use std::path::Path;

use super::alike::{Case, Reader, assert_alike, at, back_up, features, is_dirty};
use super::small::make_small_tree;
use crate::testkit::guest::{both_outputs, quoted, sh, sh_output};
use crate::testkit::tree::text;

const DEFAULTS: &str = "-t ext4 -O ^orphan_file,^metadata_csum_seed";

/// What the filesystem is called here, the arguments of mke2fs, the size of its blocks.
type Format = (&'static str, &'static str, usize);

const OLD: &[Format] = &[
    ("ext2-1k", "-t ext2 -b 1024 -I 128", 1024),
    ("ext2-2k", "-t ext2 -b 2048 -I 256", 2048),
    ("ext2-4k", "-t ext2 -b 4096 -I 128", 4096),
    ("ext2-revision-0", "-t ext2 -b 1024 -r 0", 1024),
    ("ext2-bare", "-t ext2 -b 1024 -O none", 1024),
    ("ext3-1k", "-t ext3 -b 1024 -I 128", 1024),
    ("ext3-2k", "-t ext3 -b 2048 -I 512", 2048),
    ("ext3-4k", "-t ext3 -b 4096 -I 256", 4096),
    ("ext4-without-extents", "-t ext4 -b 1024 -O ^extent,^64bit", 1024),
    ("ext4-without-extents-4k", "-t ext4 -b 4096 -O ^extent,^64bit", 4096),
];

const NEW: &[Format] = &[
    ("1k-128", "-b 1024 -I 128", 1024),
    ("1k-256", "-b 1024 -I 256", 1024),
    ("1k-1024", "-b 1024 -I 1024", 1024),
    ("2k-512", "-b 2048 -I 512", 2048),
    ("4k-128", "-b 4096 -I 128", 4096),
    ("4k-256", "-b 4096 -I 256", 4096),
    ("4k-4096", "-b 4096 -I 4096 -N 1000", 4096),
    ("without-sums", "-b 1024 -O ^metadata_csum", 1024),
    ("sums-of-groups", "-b 1024 -O ^metadata_csum,uninit_bg", 1024),
    ("sums-of-groups-4k", "-b 4096 -O ^metadata_csum,uninit_bg,^64bit", 4096),
    ("32-bit", "-b 4096 -O ^64bit", 4096),
    ("32-bit-without-sums", "-b 1024 -O ^64bit,^metadata_csum", 1024),
    ("desc-size-128", "-b 1024 -E desc_size=128", 1024),
    ("clusters-of-16k", "-b 4096 -O bigalloc -C 16384", 4096),
    ("clusters-of-4k", "-b 1024 -O bigalloc -C 4096", 1024),
    ("without-types", "-b 1024 -O ^filetype", 1024),
    ("without-types-and-sums", "-b 4096 -O ^filetype,^metadata_csum", 4096),
    ("without-hashes", "-b 1024 -O ^dir_index", 1024),
    ("large-directories", "-b 1024 -O large_dir", 1024),
    ("without-flex-bg", "-b 1024 -O ^flex_bg -N 3000", 1024),
    ("small-groups", "-b 1024 -g 512 -N 3000", 1024),
    ("small-groups-without-flex-bg", "-b 4096 -g 512 -O ^flex_bg", 4096),
    ("small-flex-groups", "-b 1024 -g 1024 -G 4", 1024),
    ("without-a-journal", "-b 4096 -O ^has_journal", 4096),
    ("two-backups", "-b 1024 -O sparse_super2", 1024),
    ("all-backups", "-b 1024 -g 1024 -O ^sparse_super,^resize_inode", 1024),
    ("orphan-file", "-b 4096 -O orphan_file", 4096),
    ("mmp", "-b 4096 -O mmp", 4096),
    ("few-features", "-b 1024 -O ^large_file,^huge_file,^dir_nlink,^extra_isize,^ext_attr", 1024),
    ("lazy", "-b 1024 -E lazy_itable_init=1,lazy_journal_init=1", 1024),
    ("packed", "-b 1024 -g 1024 -E packed_meta_blocks=1,stride=16,stripe-width=64", 1024),
    ("stable-inodes", "-b 4096 -O stable_inodes", 4096),
    ("fast-commit-clean", "-b 4096 -O fast_commit", 4096),
];

fn all_alike(formats: &[Format], defaults: &str) {
    for (name, arguments, block) in formats {
        let case = Case::new(name, "48M", &format!("{defaults} {arguments}"));
        let case = case.filled(|root| make_small_tree(root, *block));
        let backup = case.assert_alike(Reader::Own);
        assert!(backup.listed().len() > 400, "{name}: {} entries", backup.listed().len());
    }
}

#[test]
fn ext2_ext3_and_indirect_blocks() {
    all_alike(OLD, "");
}

#[test]
fn ext4_made_in_many_ways() {
    all_alike(&NEW[..NEW.len() / 2], DEFAULTS);
}

#[test]
fn ext4_made_in_many_more_ways() {
    all_alike(&NEW[NEW.len() / 2..], DEFAULTS);
}

#[test]
fn filesystems_in_a_partition() {
    for (name, arguments, block) in [("ext2-1k", "-t ext2 -b 1024", 1024), ("ext4-4k", "-t ext4 -b 4096", 4096)] {
        let case = Case::partitioned(&format!("partitioned-{name}"), 48, arguments);
        case.filled(|root| make_small_tree(root, block)).assert_alike(Reader::Own);
    }
}

/// The seed of all checksums is the UUID, or is kept apart so that the UUID can be changed.
#[test]
fn a_uuid_that_was_changed() {
    for (name, feature) in [("seed", "metadata_csum_seed"), ("no-seed", "^metadata_csum_seed")] {
        let case = Case::new(name, "32M", &format!("-t ext4 -b 1024 -O ^orphan_file,{feature}"));
        let case = case.filled(|root| make_small_tree(root, 1024));
        case.at_image(
            "e2fsck -fy $IMG >/dev/null 2>&1 || true; tune2fs -U 12345678-9abc-def0-1234-56789abcdef0 $IMG 2>&1",
        );
        assert!(case.at_image("blkid -p -s UUID -o value $IMG").contains("12345678-9abc-def0-1234-56789abcdef0"));
        assert_eq!(features(&case.image).contains("metadata_csum_seed"), !feature.starts_with('^'));
        case.assert_alike(Reader::Own);
    }
}

/// What was made small and became larger, or the other way round, has its parts in unusual places.
#[test]
fn filesystems_that_were_resized_and_converted() {
    let grown = Case::new("grown", "32M", "-t ext4 -b 1024 -g 1024 -E resize=210000");
    let grown = grown.filled(|root| make_small_tree(root, 1024));
    grown.at_image("truncate -s 200M $IMG; e2fsck -fy $IMG >/dev/null 2>&1 || true; resize2fs $IMG 2>&1");
    grown
        .filled(|root| {
            std::fs::create_dir(root.join("more")).unwrap();
            make_small_tree(&root.join("more"), 1024);
        })
        .assert_alike(Reader::Own);

    let shrunk = Case::new("shrunk", "128M", "-t ext4 -b 1024").filled(|root| make_small_tree(root, 1024));
    shrunk.at_image("e2fsck -fy $IMG >/dev/null 2>&1 || true; resize2fs -M $IMG 2>&1");
    shrunk.assert_alike(Reader::Own);

    // Without quotas of its own a kernel mounts it read-only alone.
    let quota = Case::new("quota", "48M", "-t ext4 -b 4096 -I 256").filled(|root| make_small_tree(root, 4096));
    quota.at_image(
        "e2fsck -fy $IMG >/dev/null 2>&1 || true; tune2fs -O quota,project -Q usrquota,grpquota,prjquota $IMG 2>&1",
    );
    assert!(["quota", "project"].iter().all(|feature| features(&quota.image).contains(feature)));
    quota.assert_alike(Reader::Own);

    // Both kinds of maps side by side.
    let converted = Case::new("converted", "64M", "-t ext3 -b 1024 -I 256").filled(|root| make_small_tree(root, 1024));
    converted.at_image(
        "tune2fs -O extents,uninit_bg,dir_index,flex_bg,huge_file,dir_nlink,extra_isize $IMG 2>&1
        e2fsck -fy $IMG >/dev/null 2>&1 || true",
    );
    converted
        .filled(|root| {
            std::fs::create_dir(root.join("more")).unwrap();
            make_small_tree(&root.join("more"), 1024);
        })
        .assert_alike(Reader::Own);
}

/// Where the kernel's own knowledge is needed.
#[test]
fn what_is_left_to_the_kernel() {
    let fill = |root: &Path| make_small_tree(root, 4096);
    for (name, feature, reader) in [
        ("encrypt", "encrypt", Reader::Own),
        ("inline-data", "inline_data", Reader::Kernel),
        ("ea-inode", "ea_inode", Reader::Kernel),
        ("meta-bg", "meta_bg,^resize_inode", Reader::Kernel),
        ("verity", "verity", Reader::KernelIfItCan),
    ] {
        let case = Case::new(name, "48M", &format!("{DEFAULTS} -b 4096 -O {feature}"));
        case.filled(|root| {
            fill(root);
            super::small::set_xattr(&root.join("sizes/noise-1"), "user.of-20k", &text(1, 20_000));
        })
        .assert_alike(reader);
    }

    // A kernel without Unicode does not mount it.
    let folded = Case::new("casefold", "16M", &format!("{DEFAULTS} -b 4096 -O casefold"));
    folded.at_image("echo x >$DIR/file; debugfs -w -R \"write $DIR/file file\" $IMG 2>&1");
    folded.assert_alike(Reader::KernelIfItCan);
}

#[test]
fn a_journal_elsewhere_is_not_followed() {
    let case = Case::new("external", "16M", &format!("{DEFAULTS} -b 4096"));
    let journal = case.scratch.path().join("journal");
    let loop_device = sh(&format!(
        "truncate -s 8M {0}; mke2fs -q -F -O journal_dev -b 4096 {0}; losetup -f --show {0}",
        quoted(&journal)
    ));
    let made =
        sh_output(&format!("mke2fs -q -F -t ext4 -b 4096 -J device={} {}", loop_device.trim(), quoted(&case.image)));
    sh(&format!("losetup -d {}", loop_device.trim()));
    assert!(made.status.success(), "{}", both_outputs(&made));
    // Nothing of it is needed for a clean filesystem, which the kernel would not mount without it.
    let files = back_up(&case.image, "auto", case.scratch.path());
    assert_eq!((files.reader.as_str(), files.status), ("ext4", 0), "{:?}", files.problems);
    case.at_image("debugfs -w -R 'feature needs_recovery' $IMG 2>&1");
    assert!(is_dirty(&case.image));
    assert_eq!(case.assert_alike(Reader::KernelIfItCan).handling, "raw_image");
}

#[test]
fn fast_commits_are_left_to_the_kernel() {
    let case = Case::new("fast-commit", "32M", &format!("{DEFAULTS} -b 4096 -O fast_commit"));
    let mounted = case.mount_with("commit=3600");
    sh(&format!("cd {}; mkdir directory; sync directory", quoted(&mounted.point)));
    for number in 0..3 {
        let file = mounted.point.join(format!("fast-{number}"));
        std::fs::write(&file, text(number, 500)).unwrap();
        sh(&format!("sync {}", quoted(&file)));
    }
    let dirty = case.copy("fast-commit-dirty");
    mounted.unmount();
    assert!(is_dirty(&dirty));
    let journal = at(&dirty, "dumpe2fs -h $IMG 2>/dev/null | grep 'Journal features'");
    assert!(journal.contains("fast_commit") || journal.contains("FEATURE_I5"), "{journal}");
    // Linux 6.18 replays no fast commits for a mount that is read-only; then it is kept as a raw image.
    let backup = assert_alike(&dirty, Reader::KernelIfItCan);
    if backup.handling == "files" {
        assert!(backup.listed().iter().any(|line| line == "./fast-2"), "the fast commits count");
    }
}
