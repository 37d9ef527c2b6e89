//! Copies of filesystems in use: what their own system would show after a restart is in the archive, though nothing is
//! written and no room for a copy is there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::alike::{Case, Reader, assert_alike, assert_alike_if_sound, at, debugfs, is_dirty};
use super::churn::Churn;
use super::random::{Random, rounds};
use super::small::make_small_tree;
use crate::testkit::guest::{quoted, sh};
use crate::testkit::tree::{noise, text};

/// What the log of a copy holds.
#[derive(Default)]
struct Log {
    revokes: usize,
    escaped: usize,
    wraps: usize,
    /// The journal's blocks that end a transaction.
    commits: Vec<u64>,
    /// Those that hold another block's content.
    data: Vec<u64>,
}

impl Log {
    /// Reads what `debugfs logdump` says: what each block of the journal is, in the order in which they count.
    fn of(image: &Path) -> Self {
        let mut log = Self::default();
        let mut last = 0;
        for line in debugfs(image, "logdump -a").lines() {
            let number = |after: &str| {
                let rest = line.split_once(after)?.1;
                rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
            };
            if let (Some(kind), Some(block)) = (number(", type "), number(" at block ")) {
                log.wraps += usize::from(block < last);
                last = block;
                log.revokes += usize::from(kind == 5);
                if kind == 2 {
                    log.commits.push(block);
                }
            }
            if let Some(block) = number("logged at journal block ") {
                log.wraps += usize::from(block < last);
                last = block;
                log.data.push(block);
                let flags = line.split_once("flags 0x").map_or("0", |(_, rest)| rest.trim_end_matches(')'));
                log.escaped += usize::from(u32::from_str_radix(flags, 16).unwrap() & 1 != 0);
            }
        }
        log
    }

    fn add(&mut self, other: Self) {
        self.revokes += other.revokes;
        self.escaped += other.escaped;
        self.wraps += other.wraps;
        self.commits.extend(other.commits);
        self.data.extend(other.data);
    }
}

/// Fills a block of the journal with something.
fn overwrite_journal_block(image: &Path, block: u64, with: &str) {
    let place = debugfs(image, &format!("bmap <8> {block}"));
    let place: u64 = place.lines().last().unwrap().trim().parse().unwrap();
    let block_bytes = at(image, "dumpe2fs -h $IMG 2>/dev/null | awk '/^Block size/ { print $3 }'");
    let block_bytes = block_bytes.trim();
    at(image, &format!("dd if={with} of=$IMG bs={block_bytes} seek={place} count=1 conv=notrunc status=none"));
}

/// Runs a filesystem for a while, and looks at copies of it. `commit=3600` has nothing but the test commit, so that
/// nothing changes while a copy is made.
fn copies_are_alike(name: &str, mke2fs: &str, options: &str, rounds: u64) -> Log {
    copies_are_read_by(Reader::Own, name, mke2fs, options, rounds)
}

fn copies_are_read_by(reader: Reader, name: &str, mke2fs: &str, options: &str, rounds: u64) -> Log {
    let case = Case::new(name, "24M", mke2fs);
    let mounted = case.mount_with(&format!("commit=3600,{options}"));
    let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) ^ u64::from(byte));
    let mut random = Random::new(seed);
    let mut churn = Churn::new(&mounted.point, seed, 60_000);
    let mut all = Log::default();
    for round in 0..rounds {
        churn.go_on(20 + random.below(150));
        churn.commit();
        if random.below(3) == 0 {
            // What is behind the last commit counts for nothing.
            churn.go_on(10);
        }
        let copy = case.copy(&format!("{name}-{round}"));
        assert!(is_dirty(&copy), "{name}-{round} has nothing to be replayed");
        let log = Log::of(&copy);
        assert_alike(&copy, reader);

        // Where somebody has all filesystems of this machine synced meanwhile, nothing is left in the log.
        // A transaction whose end never came to the disk: the last one, and another one, without which those behind
        // it are worth nothing, and what is in its place already may be newer.
        let cut = case.scratch.path().join(format!("{name}-{round}-cut.img"));
        let last = log.commits.last().copied();
        for commit in last.into_iter().chain((log.commits.len() > 1).then(|| *random.one_of(&log.commits))) {
            sh(&format!("cp --sparse=always {} {}", quoted(&copy), quoted(&cut)));
            overwrite_journal_block(&cut, commit, "/dev/zero");
            if Some(commit) == last {
                assert_alike(&cut, reader);
            } else {
                assert_alike_if_sound(&cut, reader);
            }
        }
        // The same, and of what was logged only a part came to the disk, as nothing has it written in any order.
        if let Some(last) = last {
            let begin = log.commits.iter().rev().nth(1).copied().unwrap_or(0);
            let part: Vec<u64> = log.data.iter().copied().filter(|block| (begin..last).contains(block)).collect();
            if !part.is_empty() {
                sh(&format!("cp --sparse=always {} {}", quoted(&copy), quoted(&cut)));
                overwrite_journal_block(&cut, last, "/dev/zero");
                overwrite_journal_block(&cut, *random.one_of(&part), "/dev/urandom");
                assert_alike(&cut, reader);
            }
        }
        sh(&format!("rm -f {} {}", quoted(&copy), quoted(&cut)));
        all.add(log);
    }
    drop(churn);
    mounted.unmount();
    case.assert_alike(Reader::Own);
    assert!(!all.data.is_empty(), "{name}: each log was empty");
    eprintln!(
        "{name}: {} transactions, {} blocks, {} revokes, {} escaped, {} wraps",
        all.commits.len(),
        all.data.len(),
        all.revokes,
        all.escaped,
        all.wraps
    );
    all
}

#[test]
fn journals_of_the_usual_kind() {
    let log = copies_are_alike("ordered-4k", "-t ext4 -b 4096", "defaults", rounds(2));
    assert!(log.data.len() > 20);
    copies_are_alike("1k", "-t ext4 -b 1024 -O ^orphan_file", "defaults", rounds(1));
    copies_are_alike("orphan-file", "-t ext4 -b 1024 -O orphan_file", "nodelalloc", rounds(1));
    copies_are_alike("32-bit", "-t ext4 -b 2048 -O ^64bit", "data=writeback", rounds(1));
    copies_are_alike("clusters", "-t ext4 -b 1024 -O bigalloc -C 4096", "nodelalloc", rounds(1));
}

#[test]
fn journals_with_data_in_them() {
    for (name, mke2fs) in [
        ("data-4k", "-t ext4 -b 4096"),
        ("data-1k", "-t ext4 -b 1024 -J size=4"),
        ("data-1k-without-sums", "-t ext4 -b 1024 -O ^metadata_csum,^64bit -J size=4"),
        ("data-ext3", "-t ext3 -b 1024 -J size=4"),
    ] {
        let log = copies_are_alike(name, mke2fs, "data=journal", rounds(1));
        assert!(log.escaped > 0, "{name}: no block begins as the journal's own");
    }
}

#[test]
fn journals_without_checksums_and_with_old_ones() {
    let without = "-O ^metadata_csum";
    copies_are_alike("without-sums", &format!("-t ext4 -b 1024 {without}"), "defaults", rounds(1));
    copies_are_alike("without-sums-32", &format!("-t ext4 -b 4096 {without},^64bit"), "defaults", rounds(1));
    copies_are_alike("ext3", "-t ext3 -b 1024 -I 128", "defaults", rounds(1));
    for (name, options) in
        [("v1", "journal_checksum"), ("v1-async", "journal_checksum,journal_async_commit,data=writeback")]
    {
        let mke2fs = format!("-t ext4 -b 1024 {without}");
        copies_are_read_by(Reader::Kernel, name, &mke2fs, options, rounds(1));
    }
    copies_are_read_by(Reader::Kernel, "v3-async", "-t ext4 -b 1024", "journal_async_commit,data=writeback", rounds(1));
}

/// The log comes to its end and goes on at its beginning, and what it held before lies behind it.
#[test]
fn small_journals_that_wrapped() {
    let mut wraps = 0;
    // What other tests have synced meanwhile is in no log any more: tried again then.
    for _ in 0..4 {
        for (name, mke2fs, options) in [
            ("small", "-t ext4 -b 1024 -J size=1", "defaults"),
            ("small-without-sums", "-t ext4 -b 1024 -J size=1 -O ^metadata_csum,^64bit", "data=journal"),
            ("small-4k", "-t ext4 -b 4096 -J size=4", "data=journal"),
            ("small-ext3", "-t ext3 -b 1024 -J size=1", "data=journal"),
        ] {
            wraps += copies_are_alike(name, mke2fs, options, rounds(2)).wraps;
        }
        if wraps >= 3 {
            break;
        }
    }
    assert!(wraps >= 3, "{wraps} of the copies have a log that goes over the journal's end");
}

/// Blocks of directories that were removed hold files now: nothing of the log may be written over them.
#[test]
fn revoked_blocks_stay_as_they_are() {
    for (name, mke2fs) in [
        ("revoked", "-t ext4 -b 1024"),
        ("revoked-without-sums", "-t ext4 -b 1024 -O ^metadata_csum,^64bit"),
        ("revoked-ext3", "-t ext3 -b 1024"),
        ("revoked-4k", "-t ext4 -b 4096"),
    ] {
        // When somebody has all filesystems of this machine synced meanwhile, what was revoked may be in no log any more.
        let made = (0..3).map(|_| removed_and_taken_again(name, mke2fs)).find(|(_, copy)| Log::of(copy).revokes > 0);
        let (_case, copy) = made.unwrap_or_else(|| panic!("{name}: nothing is revoked"));
        assert!(is_dirty(&copy));
        assert_alike(&copy, Reader::Own);
    }
}

fn removed_and_taken_again(name: &str, mke2fs: &str) -> (Case, PathBuf) {
    let case = Case::new(name, "16M", &format!("{mke2fs} -N 4000"));
    let mounted = case.mount_with("commit=3600");
    let root = &mounted.point;
    let commit = || File::open(root).unwrap().sync_all().unwrap();
    for number in 0..20 {
        let directory = root.join(format!("directory-{number}"));
        fs::create_dir(&directory).unwrap();
        for entry in 0..40 {
            fs::write(directory.join(format!("{entry}{}", "n".repeat(200))), "").unwrap();
        }
    }
    commit();
    for number in 0..18 {
        fs::remove_dir_all(root.join(format!("directory-{number}"))).unwrap();
    }
    commit();
    // All the room there is, so that the directories' blocks are taken again.
    let mut full = File::create(root.join("full")).unwrap();
    let mut written = 0_u64;
    while let Ok(len) = full.write(&noise(written, 16 << 10)) {
        written += len as u64;
    }
    full.sync_all().unwrap();
    drop(full);
    // One of them is taken back.
    fs::remove_file(root.join("directory-19").join(format!("3{}", "n".repeat(200)))).unwrap();
    commit();
    let copy = case.copy(&format!("{name}-copy"));
    mounted.unmount();
    (case, copy)
}

#[test]
fn files_that_are_deleted_and_open_are_not_there() {
    for (name, feature) in [("orphans", "^orphan_file"), ("orphans-in-a-file", "orphan_file")] {
        let case = Case::new(name, "24M", &format!("-t ext4 -b 1024 -O {feature}"));
        let mounted = case.mount_with("commit=3600");
        let mut open = Vec::new();
        for number in 0..40 {
            let path = mounted.point.join(format!("orphan-{number}"));
            fs::write(&path, noise(number, 20_000)).unwrap();
            let file = File::open(&path).unwrap();
            file.sync_all().unwrap();
            open.push(file);
            fs::remove_file(&path).unwrap();
        }
        fs::write(mounted.point.join("kept"), text(1, 10_000)).unwrap();
        sh(&format!("cd {}; sync kept .", quoted(&mounted.point)));
        let copy = case.copy(&format!("{name}-copy"));
        drop(open);
        mounted.unmount();
        assert!(is_dirty(&copy));
        let listed = assert_alike(&copy, Reader::Own).listed();
        assert_eq!(listed, ["./", "./kept"]);

        // Replayed, and the orphans are still to be done with.
        at(&copy, "e2fsck -y -E journal_only $IMG >/dev/null 2>&1 || true");
        assert!(!is_dirty(&copy));
        assert_alike(&copy, Reader::Own);
    }
}

/// The size is the new one already, and what lay behind it is not freed yet.
#[test]
fn a_truncation_that_was_not_finished() {
    let case = Case::new("truncated", "24M", "-t ext4 -b 1024 -O ^orphan_file");
    let case = case.filled(|root| {
        make_small_tree(root, 1024);
        fs::write(root.join("truncated"), noise(1, 300_000)).unwrap();
    });
    let number =
        case.at_image("debugfs -R 'stat truncated' $IMG 2>/dev/null | sed -n 's/^Inode: \\([0-9]*\\).*/\\1/p'");
    let number = number.trim();
    case.at_image(&format!(
        "printf 'sif truncated size 1500\\nssv last_orphan {number}\\n' | debugfs -w -f - $IMG 2>&1"
    ));
    case.assert_alike(Reader::Own);
    // The same in a filesystem that is to be replayed.
    let mounted = case.mount_with("commit=3600");
    fs::write(mounted.point.join("more"), "more").unwrap();
    File::open(&mounted.point).unwrap().sync_all().unwrap();
    let copy = case.copy("truncated-dirty");
    mounted.unmount();
    assert!(is_dirty(&copy));
    assert_alike(&copy, Reader::Own);
}

/// Logs that debugfs writes: the second kind of checksum, which the kernel has not written for long.
#[test]
fn journals_that_debugfs_wrote() {
    for (name, mke2fs, open) in [
        ("v1", "-O ^metadata_csum,^64bit", "jo -c"),
        ("v2", "-O metadata_csum,^64bit", "jo -c -v 2"),
        ("v2-64", "-O metadata_csum,64bit", "jo -c -v 2"),
        ("v3", "-O metadata_csum,64bit", "jo -c -v 3"),
        ("v3-32", "-O metadata_csum,^64bit", "jo -c -v 3"),
        ("none", "-O ^metadata_csum,^64bit", "jo"),
        ("none-64", "-O ^metadata_csum,64bit", "jo"),
    ] {
        let case = Case::new(&format!("debugfs-{name}"), "24M", &format!("-t ext4 -b 1024 {mke2fs}"));
        let case = case.filled(|root| {
            make_small_tree(root, 1024);
            fs::write(root.join("file"), noise(1, 50_000)).unwrap();
        });
        let blocks = case.debugfs("blocks /file");
        let blocks: Vec<&str> = blocks.lines().last().unwrap().split_whitespace().collect();
        assert!(blocks.len() >= 49, "{blocks:?}");
        let (first, second) = (blocks[..9].join(","), blocks[5..20].join(","));
        let revoked = [blocks[0], blocks[7], blocks[19], blocks[30]].join(",");
        fs::write(case.scratch.path().join("first"), text(2, 9 * 1024)).unwrap();
        let mut escaped = noise(3, 15 * 1024);
        for block in escaped.chunks_exact_mut(2048) {
            block[..4].copy_from_slice(&[0xC0, 0x3B, 0x39, 0x98]);
        }
        fs::write(case.scratch.path().join("second"), escaped).unwrap();
        case.at_image(&format!(
            "cd $DIR
             printf '{open}\\njw -b {first} first\\njw -b {second} -r {revoked} second\\njw -b {first} first\\n\
             jw -b {} -c first\\njc\\n' | debugfs -w -f - $IMG 2>&1",
            blocks[20..29].join(",")
        ));
        assert!(is_dirty(&case.image), "{}", case.debugfs("logdump -a"));
        let sums = case.at_image("dumpe2fs -h $IMG 2>/dev/null | grep '^Journal features'");
        let wanted = match &name[..2] {
            "v1" => "journal_checksum ",
            "v2" => "journal_checksum_v2",
            "v3" => "journal_checksum_v3",
            _ => "",
        };
        assert!(format!("{} ", sums.trim()).contains(wanted), "{name}: {sums}");
        // The first and the second kind are left to the kernel.
        case.assert_alike(if ["v1", "v2"].contains(&&name[..2]) { Reader::Kernel } else { Reader::Own });
    }
}
