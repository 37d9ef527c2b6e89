//! A large file that changed is read as a whole, and only what changed in it is compressed.
//!
//! Promises: members end at fixed places of the file, so that those with the same data are copied from the previous
//! archive; wherever a file was changed, and whatever happened to the previous archive, the new one is right; nothing is
//! copied whose data were not read and hashed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use volbak::archive::carry::Share;
use volbak::archive::index::{Line, MemberLine};
use volbak::events::Severity;
use volbak::store::Backup;

use crate::testkit::guest::backups::{assert_all_good, manifest, snapshot};
use crate::testkit::guest::{changed, extract_with_gnu_tar, make_image, quoted, restore_target, sh};
use crate::testkit::proof::{self, Random, Told, assert_right, back_up, back_up_from, copy, entries, lines};
use crate::testkit::tree::{Filesystem, assert_equal_trees, noise, text};

const TODAY_AGAIN: Share = Share { every_days: 7, parent_day: 20, today: 20 };
const KIB: u64 = 1 << 10;
/// The distance of borders in a `tar.gz`.
const PIECE: u64 = 256 * KIB;

/// Half of it compresses.
fn content(seed: u64, len: u64) -> Vec<u8> {
    let pages = (0..len.div_ceil(16 * KIB)).flat_map(|page| {
        let seed = seed * 100_000 + page;
        if page % 2 == 0 { noise(seed, 16 << 10) } else { text(seed, 16 << 10) }
    });
    pages.take(usize::try_from(len).unwrap()).collect()
}

/// The members with data between borders.
fn cut_members(files: &Backup) -> Vec<MemberLine> {
    let member = |line| match line {
        Line::Member(member) => member.data.is_some().then_some(member),
        _ => None,
    };
    lines(files).into_iter().filter_map(member).collect()
}

// --- A database on a disk, through the command line -------------------------------------------------------------------

/// One page in a hundred of a table space is written, and its times tell nothing but that.
fn most_of_a_database_is_copied(format: &str, page_bytes: u64, least_percent: u64) {
    const MIB: u64 = 1 << 20;
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = (scratch.path().join("guest.img"), scratch.path().join("backups"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "256M", Filesystem::Ext4);
    let change = |change: &dyn Fn(&Path)| changed(&image, &scratch.path().join("mounted"), change);
    change(&|root| {
        fs::write(root.join("table.ibd"), content(1, 64 * MIB)).unwrap();
        fs::write(root.join("small"), "a small file").unwrap();
    });
    snapshot(&image, &dest, &["--format", format]);
    let expected = change(&|root| {
        let table = File::options().write(true).open(root.join("table.ibd")).unwrap();
        let pages = 64 * MIB / page_bytes;
        let mut random = Random(7);
        for number in 0..pages / 100 {
            let page = u64::try_from(random.below(usize::try_from(pages).unwrap())).unwrap();
            table
                .write_all_at(&noise(900_000 + number, usize::try_from(page_bytes).unwrap()), page * page_bytes)
                .unwrap();
        }
    });
    let night = snapshot(&image, &dest, &["--format", format]);
    let facts = manifest(&night);
    let percent = |copied: &str, all: &str| {
        facts["carried"][copied].as_u64().unwrap() * 100 / facts["sizes"][all].as_u64().unwrap()
    };
    assert!(percent("members", "members") >= least_percent, "{} of {}", facts["carried"], facts["sizes"]);
    assert!(percent("bytes", "archive_bytes") >= least_percent, "{} of {}", facts["carried"], facts["sizes"]);
    assert_eq!(facts["carried"]["mismatches"].as_u64(), Some(0), "{}", facts["carried"]);
    assert_all_good(&dest);
    let directory = night.parent().unwrap();
    sh(&format!("cd {}; sha1sum --strict --quiet -c *.checksum", quoted(directory)));
    let target = restore_target(scratch.path(), Filesystem::Ext4);
    assert_equal_trees(&expected, &extract_with_gnu_tar(&night, &target.point.join("tree")));
}

#[test]
fn most_of_a_database_with_pages_of_16_kib_is_copied() {
    most_of_a_database_is_copied("tar.gz", 16 * KIB, 75);
}

#[test]
fn most_of_a_database_with_pages_of_8_kib_is_copied() {
    most_of_a_database_is_copied("tar.gz", 8 * KIB, 60);
}

#[test]
fn half_of_a_database_is_copied_in_zstandard_frames() {
    most_of_a_database_is_copied("tar.zst", 16 * KIB, 55);
}

// --- What can happen to a file ----------------------------------------------------------------------------------------

/// A tree with one large file, its backup, and one after a change.
struct Nights {
    scratch: tempfile::TempDir,
}

impl Nights {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let nights = Self { scratch: tempfile::tempdir().unwrap() };
        fs::create_dir(nights.tree()).unwrap();
        fill(&nights.tree());
        nights
    }

    fn tree(&self) -> std::path::PathBuf {
        self.scratch.path().join("tree")
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).open(self.tree().join("large")).unwrap()
    }

    fn first(&self) -> Backup {
        back_up(&self.tree(), &self.scratch.path().join("first"))
    }

    /// A later night, which is right: the backup, and what was told.
    fn later(&self, previous: &Backup, share: Share) -> (Backup, Told) {
        let (files, told) = back_up_from(&self.tree(), &self.scratch.path().join("later"), Some((previous, share)));
        assert_right(&files, &self.tree(), self.scratch.path());
        (files, told)
    }

    /// Changes the file, and gives how many of the members with data were compressed, and all of them.
    fn compressed_after(&self, change: impl FnOnce(&File)) -> (usize, usize) {
        let first = self.first();
        change(&self.file());
        let (later, told) = self.later(&first, TODAY_AGAIN);
        assert!(told.problems().is_empty(), "{:?}", told.problems());
        let before: Vec<_> = cut_members(&first).iter().map(|member| (member.digest, member.data)).collect();
        let after = cut_members(&later);
        let copied = after.iter().filter(|member| before.contains(&(member.digest, member.data))).count();
        // The root may be carried, too, and the headers of a file that is not read at all.
        let counts = proof::manifest(&later).carried.unwrap().counts;
        assert!((copied as u64..=copied as u64 + 2).contains(&counts.members), "{counts:?}, {copied}");
        // On the night after that, all of it is there.
        let (third, _) = back_up_from(&self.tree(), &self.scratch.path().join("third"), Some((&later, TODAY_AGAIN)));
        assert_eq!(proof::manifest(&third).carried.unwrap().counts.entries, entries(&third).len() as u64);
        (after.len() - copied, after.len())
    }
}

fn large(len: u64) -> Nights {
    Nights::new(|tree| fs::write(tree.join("large"), content(3, len)).unwrap())
}

#[test]
fn what_was_not_changed_is_copied_whatever_happens_to_a_file() {
    const LEN: u64 = 12 * PIECE + 5000;
    // Nothing, and its times alone.
    assert_eq!(large(LEN).compressed_after(|_| ()), (0, 13));
    assert_eq!(large(LEN).compressed_after(|file| file.set_modified(std::time::UNIX_EPOCH).unwrap()), (0, 13));
    // In one place, and across a border.
    assert_eq!(large(LEN).compressed_after(|file| file.write_all_at(b"changed", 3 * PIECE + 9).unwrap()), (1, 13));
    assert_eq!(large(LEN).compressed_after(|file| file.write_all_at(b"changed", 3 * PIECE - 3).unwrap()), (2, 13));
    // A log grows, a file is cut off, or gets a hole at its end.
    assert_eq!(large(LEN).compressed_after(|file| file.write_all_at(&content(4, 2 * PIECE), LEN).unwrap()), (3, 15));
    assert_eq!(large(LEN).compressed_after(|file| file.set_len(7 * PIECE + 100).unwrap()), (1, 8));
    assert_eq!(large(LEN).compressed_after(|file| file.set_len(7 * PIECE).unwrap()), (0, 7));
    // Cut off to what is no large file: all in one member.
    assert_eq!(large(LEN).compressed_after(|file| file.set_len(1000).unwrap()), (0, 0));
    // Inserted bytes: all of it is behind other borders.
    let shifted = |file: &File| file.write_all_at(&content(3, LEN), 512).unwrap();
    assert_eq!(large(LEN).compressed_after(shifted), (13, 13));
    // Of exactly so many pieces, and just not large.
    assert_eq!(large(8 * PIECE).compressed_after(|file| file.write_all_at(b"changed", 9).unwrap()), (1, 8));
    assert_eq!(large(4 * PIECE).compressed_after(|file| file.write_all_at(b"changed", 9).unwrap()), (1, 4));
    assert_eq!(large(4 * PIECE - 1).compressed_after(|file| file.write_all_at(b"changed", 9).unwrap()), (0, 0));
}

/// A log that is rotated has its data under another name.
#[test]
fn data_are_found_under_another_name() {
    let nights = large(10 * PIECE);
    let compressed = nights.compressed_after(|_| {
        fs::rename(nights.tree().join("large"), nights.tree().join("large.1")).unwrap();
        fs::write(nights.tree().join("large"), content(5, 6 * PIECE)).unwrap();
    });
    assert_eq!(compressed, (6, 16));
}

#[test]
fn the_map_of_a_sparse_file_moves_no_border() {
    // Of each 192 KiB, 64 are no hole: borders are twice as far apart.
    const RUN: u64 = 64 * KIB;
    let make = || {
        Nights::new(|tree| {
            let file = File::create(tree.join("large")).unwrap();
            file.set_len(24 * PIECE).unwrap();
            for run in 0..8 * PIECE / RUN {
                file.write_all_at(&content(10 + run, RUN), 3 * run * RUN).unwrap();
            }
        })
    };
    assert_eq!(make().compressed_after(|file| file.write_all_at(b"changed", 0).unwrap()), (1, 12));
    // A hole is filled, and the map has other numbers: three blocks more in one piece.
    assert_eq!(make().compressed_after(|file| file.write_all_at(&[7; 12_000], 34 * RUN).unwrap()), (1, 12));
    // Its end is cut off, and then it has a hole at its end.
    assert_eq!(make().compressed_after(|file| file.set_len(20 * PIECE - RUN).unwrap()), (0, 10));
    // Preallocated space, which is a hole at the end.
    assert_eq!(make().compressed_after(|file| file.set_len(25 * PIECE).unwrap()), (0, 12));
}

#[test]
fn a_file_of_few_data_far_apart_has_no_members_for_each_of_them() {
    let nights = Nights::new(|tree| {
        let file = File::create(tree.join("large")).unwrap();
        file.set_len(1 << 40).unwrap();
        for run in 0..400 {
            file.write_all_at(&noise(run, 4096), run * (1 << 31)).unwrap();
        }
    });
    let (compressed, all) = nights.compressed_after(|file| file.write_all_at(b"changed", 200 << 31).unwrap());
    assert!((2..=16).contains(&all) && compressed == 1, "{compressed} of {all}");
}

// --- What can happen to the previous backup ---------------------------------------------------------------------------

#[test]
fn a_damaged_member_is_told_once_and_not_copied() {
    for changes in [false, true] {
        let nights = large(20 * PIECE);
        let first = nights.first();
        if changes {
            nights.file().write_all_at(b"changed", 0).unwrap();
        }
        let members = cut_members(&first);
        for damaged in [3, 11, 19] {
            let member = &members[damaged];
            let previous = copy(&first, &nights.scratch.path().join("damaged"));
            let archive = File::options().read(true).write(true).open(previous.archive_path()).unwrap();
            let (at, mut byte) = (member.offset + member.length / 2, [0]);
            archive.read_exact_at(&mut byte, at).unwrap();
            archive.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let (later, told) = nights.later(&previous, TODAY_AGAIN);
            let problems = told.problems();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].severity, Severity::Warning);
            assert!(problems[0].what.contains(&format!("member {} of", member.number)), "{problems:?}");
            let counts = proof::manifest(&later).carried.unwrap().counts;
            assert!(counts.mismatches == 1 && counts.members >= 18, "the others are copied: {counts:?}");
            fs::remove_dir_all(nights.scratch.path().join("damaged")).unwrap();
        }
        // Cut off in the middle: what is before that is copied.
        let previous = copy(&first, &nights.scratch.path().join("cut-off"));
        File::options().write(true).open(previous.archive_path()).unwrap().set_len(members[10].offset + 5).unwrap();
        let (later, _) = nights.later(&previous, TODAY_AGAIN);
        assert!(proof::manifest(&later).carried.unwrap().counts.members >= 9);
    }
}

/// Changes the index of a backup, and what vouches for it.
fn rewrite_index(files: &Backup, change: impl FnOnce(String) -> String) {
    let index = change(fs::read_to_string(files.index_path()).unwrap());
    fs::write(files.index_path(), &index).unwrap();
    let mut manifest = proof::manifest(files);
    manifest.digests.index_sha256 = sh(&format!("sha256sum <{} | head -c 64", quoted(&files.index_path())));
    manifest.sizes.index_bytes = index.len() as u64;
    fs::write(files.manifest_path(), manifest.to_bytes().unwrap()).unwrap();
}

/// Earlier versions had no digests of the data of files.
#[test]
fn from_a_backup_of_an_earlier_version_unchanged_files_are_carried_and_others_read() {
    let nights = large(10 * PIECE);
    let first = nights.first();
    rewrite_index(&first, |index| {
        let line = |line: &str| match line.strip_prefix("M\t") {
            Some(_) => format!("{}\t-\n", line.rsplit_once('\t').unwrap().0),
            None => format!("{line}\n"),
        };
        index.lines().map(line).collect()
    });
    assert!(cut_members(&first).is_empty());
    let (same, _) = nights.later(&first, TODAY_AGAIN);
    assert_eq!(proof::manifest(&same).carried.unwrap().counts.entries, 2);
    nights.file().write_all_at(b"changed", 0).unwrap();
    let (later, told) = nights.later(&first, TODAY_AGAIN);
    assert!(proof::manifest(&later).carried.unwrap().counts.members <= 1 && told.problems().is_empty());
    assert_eq!(cut_members(&later).len(), 10, "from now on, it is copied");
}

/// A digest that was computed from other data than were compressed is found on the day on which the file is due, although
/// on all other days it is carried without being read.
#[test]
fn on_its_day_all_of_a_file_is_compared() {
    let is_due = |digest: &[u8]| u64::from_be_bytes(*digest.first_chunk().unwrap()) % 7 == 0;
    let due_name =
        (0..1000).map(|number| format!("large-{number}")).find(|name| is_due(&Sha256::digest(format!("./{name}"))));
    let nights = Nights::new(|tree| fs::write(tree.join(due_name.unwrap()), content(3, 8 * PIECE)).unwrap());
    let first = nights.first();
    // Two whose own day is another one.
    let not_due: Vec<MemberLine> =
        cut_members(&first).into_iter().filter(|member| !is_due(&member.data.unwrap())).take(2).collect();
    let [one, two] = [0, 1].map(|at| blake3::Hash::from(not_due[at].data.unwrap()).to_hex().to_string());
    rewrite_index(&first, |index| index.replace(&one, "other").replace(&two, &one).replace("other", &two));
    let (later, told) = nights.later(&first, Share { every_days: 7, parent_day: 20, today: 21 });
    let problems = told.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems.iter().all(|problem| problem.what.contains("the digest of its data is not the one in the index")),
        "{problems:?}"
    );
    let counts = proof::manifest(&later).carried.unwrap().counts;
    assert!(counts.groups_reread >= 1 && counts.members >= 6, "the others are copied after that: {counts:?}");
}
