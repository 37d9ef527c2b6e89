//! What did not change is carried forward from the previous backup, and that costs nobody a byte.
//!
//! Promises: the archive of a night on which most was carried is what a night is on which all was read, attribute by
//! attribute; whatever happens to a tree between two nights, and to the previous backup, no file in the archive is
//! wrong; what changed without a trace is found within the days that it may take, and told; the archive needs no other.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::testkit::cases;
use crate::testkit::guest::backups::{
    archives, assert_all_good, beside, manifest, problems, run_expecting, snapshot, snapshot_expecting, volbak,
};
use crate::testkit::guest::{Mounted, changed, extract_with_gnu_tar, make_image, quoted, restore_target, sh};
use crate::testkit::proof::{
    Random, assert_right, back_up, back_up_from, back_up_sharing, copy, entries, lines, restore_options, restore_with,
    verify_level,
};
use crate::testkit::tree::{Filesystem, Tree, assert_equal_trees, fingerprint, make_hard_tree, noise, text};
use crate::testkit::{guest, proof};
use flate2::read::MultiGzDecoder;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestRunner};
use volbak::archive::carry::Share;
use volbak::archive::index::{EntryLine, IndexedKind, Line};
use volbak::archive::read::index_file::IndexReader;
use volbak::events::Severity;
use volbak::manifest::Manifest;
use volbak::run::check::{CheckLevel, Verdict};
use volbak::store::Backup;

/// Nothing is due.
const TODAY_AGAIN: Share = Share { every_days: 7, parent_day: 20, today: 20 };
/// All is due.
const ALL_DUE: Share = Share { every_days: 1, parent_day: 20, today: 21 };

/// Longer than a tick of the clock that change times are taken from.
fn let_the_clock_tick() {
    sleep(Duration::from_millis(25));
}

fn entry_of(line: &Line) -> Option<&EntryLine> {
    if let Line::Entry(entry) = line { Some(entry) } else { None }
}

/// How many members hold nothing.
fn padding(files: &Backup) -> usize {
    lines(files).iter().filter(|line| matches!(line, Line::Member(member) if member.is_padding())).count()
}

fn carried_entries(files: &Backup) -> u64 {
    proof::manifest(files).carried.map_or(0, |carried| carried.counts.entries)
}

// --- Random edits ---------------------------------------------------------------------------------------------------

/// Something that a guest does to its files: what, and to which of them.
#[derive(Clone, Debug)]
struct Edit {
    what: u8,
    which: usize,
    seed: u64,
}

const KINDS_OF_EDITS: u8 = 14;

fn edit() -> impl Strategy<Value = Edit> {
    (0..KINDS_OF_EDITS, any::<usize>(), any::<u64>()).prop_map(|(what, which, seed)| Edit { what, which, seed })
}

/// A tree with enough in it for several groups, large files, holes and links.
fn make_tree(root: &Path) {
    for directory in 0..12_u64 {
        let directory_path = root.join(format!("d{directory:02}/sub"));
        fs::create_dir_all(&directory_path).unwrap();
        for file in 0..25_u64 {
            let seed = directory * 100 + file;
            let length = usize::try_from(seed.pow(3) % 40_000).unwrap();
            let data = if file % 3 == 0 { noise(seed + 1, length) } else { text(seed + 1, length) };
            fs::write(directory_path.join(format!("f{file:03}")), data).unwrap();
        }
        fs::hard_link(directory_path.join("f001"), root.join(format!("d{directory:02}/link"))).unwrap();
        symlink("sub/f002", root.join(format!("d{directory:02}/symlink"))).unwrap();
    }
    fs::write(root.join("d03/large"), noise(77, 2_500_000)).unwrap();
    fs::write(root.join("d07/large"), noise(78, 700_000)).unwrap();
    let sparse = File::create(root.join("d05/sparse")).unwrap();
    sparse.write_all_at(&noise(79, 9000), 1 << 20).unwrap();
    sparse.write_all_at(b"end", 5 << 20).unwrap();
}

fn all_files(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all_files(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}

/// Each night has a third of the files in which its edits begin, so that there is something left to carry.
fn apply(root: &Path, night: usize, edit: &Edit) {
    let mut files = Vec::new();
    all_files(root, &mut files);
    let third = files.len() / 3;
    let path = &files[(night * third / 2 + edit.which % third) % files.len()];
    let other = &files[usize::try_from(edit.seed >> 8).unwrap() % files.len()];
    let new = path.with_file_name(format!("new-{:x}", edit.seed));
    let open = || File::options().read(true).write(true).open(path).unwrap();
    let length = fs::metadata(path).unwrap().len();
    let small = usize::try_from(edit.seed % 5000).unwrap() + 1;
    match edit.what {
        0 => fs::write(new, noise(edit.seed | 1, small)).unwrap(),
        1 => fs::remove_file(path).unwrap(),
        2 => fs::rename(path, new).unwrap(),
        // In another directory, before or behind its old place, under the name that another one had.
        3 if path != other => fs::rename(path, other).unwrap(),
        4 => open().write_all_at(&noise(edit.seed | 1, small), length).unwrap(),
        5 => open().set_len(length / 2).unwrap(),
        6 => fs::set_permissions(path, fs::Permissions::from_mode(0o600 | (edit.seed & 0o77) as u32)).unwrap(),
        7 => fs::hard_link(path, new).unwrap(),
        8 if path != other => {
            fs::remove_file(path).unwrap();
            fs::hard_link(other, path).unwrap();
        }
        // Other data of the same length with the same modification time, in the same inode.
        9 => {
            let file = open();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(&noise(edit.seed | 1, usize::try_from(length).unwrap()), 0).unwrap();
            file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        }
        // The same, as another inode.
        10 => {
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            let mut file = File::create(&new).unwrap();
            file.write_all(&noise(edit.seed | 1, usize::try_from(length).unwrap())).unwrap();
            file.set_times(FileTimes::new().set_modified(modified)).unwrap();
            fs::rename(new, path).unwrap();
        }
        // A hole at the end, or a longer one.
        11 => open().set_len(length + 100_000).unwrap(),
        12 => {
            fs::create_dir_all(&new).unwrap();
            fs::rename(path, new.join("moved")).unwrap();
        }
        _ => {
            let directory = path.parent().unwrap();
            let when = SystemTime::UNIX_EPOCH + Duration::from_secs(edit.seed % 1_000_000_000);
            File::open(directory).unwrap().set_times(FileTimes::new().set_modified(when)).unwrap();
        }
    }
}

/// 5 trees, 5 nights each, 20 edits before each night.
#[test]
fn five_hundred_edits_never_give_a_wrong_file() {
    let config = Config {
        cases: u32::try_from(cases::count(5)).unwrap(),
        max_shrink_iters: 0,
        failure_persistence: None,
        ..Config::default()
    };
    let nights = proptest::collection::vec(proptest::collection::vec(edit(), 20), 5);
    TestRunner::new(config)
        .run(&nights, |nights| {
            let scratch = tempfile::tempdir().unwrap();
            let tree = scratch.path().join("tree");
            make_tree(&tree);
            let mut last = back_up(&tree, &scratch.path().join("night-0"));
            let (mut carried, mut padded) = (0, 0);
            for (night, edits) in nights.iter().enumerate() {
                let_the_clock_tick();
                for edit in edits {
                    apply(&tree, night, edit);
                }
                let directory = scratch.path().join(format!("night-{}", night + 1));
                let (files, told) = if night % 2 == 0 {
                    back_up_sharing(&tree, &directory, (&last, TODAY_AGAIN))
                } else {
                    back_up_from(&tree, &directory, Some((&last, TODAY_AGAIN)))
                };
                assert!(told.problems().is_empty(), "{:?}", told.problems());
                // It is complete without the one that it came from.
                fs::remove_dir_all(last.directory()).unwrap();
                assert_right(&files, &tree, scratch.path());
                carried += carried_entries(&files);
                padded += padding(&files);
                last = files;
            }
            assert!(carried > 200 && padded > 0, "only {carried} entries were carried, {padded} times behind padding");
            let found = extract_with_gnu_tar(&last.archive_path(), &scratch.path().join("restored"));
            assert_equal_trees(&fingerprint(&tree), &found);
            Ok(())
        })
        .unwrap();
}

// --- A damaged previous backup ---------------------------------------------------------------------------------------

/// Padding that lies inside a large file, and is damaged, costs no byte of it.
#[test]
fn damaged_padding_costs_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    // Archives have files in the order of their inodes, and other tests free some while this one takes two.
    let by_inode =
        ["one", "other"].map(|name| (File::create(tree.join(name)).unwrap().metadata().unwrap().ino(), name));
    fs::rename(tree.join(by_inode.iter().min().unwrap().1), tree.join("a-first")).unwrap();
    fs::rename(tree.join(by_inode.iter().max().unwrap().1), tree.join("large")).unwrap();
    fs::write(tree.join("a-first"), noise(1, 300_000)).unwrap();
    // Its first member is too short for padding, and the one behind it is not.
    fs::write(tree.join("large"), [vec![b'a'; 1 << 20], noise(2, 3 << 20)].concat()).unwrap();
    // Times are in the archive: with those of now, its members would lie alike without padding once in a while.
    let set_times = |of: &str| sh(&format!("cd {}; touch -d 2020-01-01 . {of}", quoted(&tree)));
    set_times("a-first large");
    let first = back_up(&tree, &scratch.path().join("first"));
    let_the_clock_tick();
    fs::write(tree.join("a-first"), noise(3, 310_011)).unwrap();
    set_times("a-first");
    let (second, told) = back_up_sharing(&tree, &scratch.path().join("second"), (&first, TODAY_AGAIN));
    assert!(told.problems().is_empty(), "{:?}", told.problems());
    let (mut inside, mut seen) = (None, 0);
    for line in lines(&second) {
        match line {
            Line::Member(member) if member.is_padding() => inside = Some((seen, member.offset)),
            Line::Member(_) => seen += 1,
            Line::Entry(_) if inside.is_some() => break,
            _ => {}
        }
    }
    let (members_before, offset) = inside.unwrap();
    assert!(members_before > 1 && inside.is_some(), "padding inside the large file");
    let archive = File::options().read(true).write(true).open(second.archive_path()).unwrap();
    // In its deflate blocks: it cannot be decompressed any more.
    archive.write_all_at(&[0xff], offset + 24).unwrap();
    let report = verify_level(&second, CheckLevel::Full);
    assert_eq!((report.verdict, report.findings.len()), (Verdict::Bad, 2), "{:?}", report.findings);
    let out = scratch.path().join("out");
    let (report, problems) = restore_with(&second, &restore_options(&out));
    assert_eq!(report.unwrap().failed, 0, "{problems:?}");
    assert_equal_trees(&fingerprint(&tree), &fingerprint(&out));
}

#[test]
fn a_flipped_byte_is_never_carried() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    make_tree(&tree);
    let good = back_up(&tree, &scratch.path().join("good"));
    let expected = entries(&good);
    let length = usize::try_from(fs::metadata(good.archive_path()).unwrap().len()).unwrap();
    let mut random = Random(20_261_120);
    for seed in cases::numbers(60) {
        let damaged = copy(&good, &scratch.path().join("damaged"));
        let archive = File::options().read(true).write(true).open(damaged.archive_path()).unwrap();
        // The last member has no entries, and is never copied.
        let at = u64::try_from(random.below(length - 100)).unwrap();
        if seed % 10 == 9 {
            archive.set_len(at).unwrap();
        } else {
            let mut byte = [0];
            archive.read_exact_at(&mut byte, at).unwrap();
            archive.write_all_at(&[byte[0] ^ (1 << random.below(8))], at).unwrap();
        }
        let new = scratch.path().join("new");
        let (files, told) = match seed % 2 {
            0 => back_up_from(&tree, &new, Some((&damaged, TODAY_AGAIN))),
            _ => back_up_sharing(&tree, &new, (&damaged, TODAY_AGAIN)),
        };
        assert!(entries(&files) == expected, "seed {seed}, byte {at}");
        let report = verify_level(&files, CheckLevel::Full);
        assert_eq!(report.verdict, Verdict::Good, "seed {seed}, byte {at}: {:?}", report.findings);
        let counts = proof::manifest(&files).carried.unwrap().counts;
        assert!(counts.mismatches > 0 && (seed % 10 == 9 || counts.mismatches == 1), "{counts:?}");
        assert_eq!(told.problems().len() as u64, counts.mismatches, "each is told: {:?}", told.problems());
        assert!(told.problems().iter().all(|problem| problem.severity == Severity::Warning));
        assert!(counts.members > 0 || seed % 10 == 9, "the others are carried: {counts:?}");
        for directory in ["damaged", "new"] {
            fs::remove_dir_all(scratch.path().join(directory)).unwrap();
        }
    }
}

/// Members that lie one behind the other are read and written together: what is before and behind the damage, too.
#[test]
fn around_a_damaged_member_in_the_middle_of_a_piece_all_is_carried() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..60 {
        fs::write(tree.join(format!("f{number:03}")), noise(number, 6000)).unwrap();
    }
    let good = back_up(&tree, &scratch.path().join("good"));
    let mut reader = IndexReader::new(good.open_index().unwrap()).unwrap();
    let mut members = Vec::new();
    while let Some(line) = reader.next_line().unwrap() {
        if let Line::Member(member) = line {
            members.push(member);
        }
    }
    assert!(members.len() > 8 && reader.totals().tar_bytes < 1 << 20, "several, in one piece");
    for damaged in [1, members.len() / 2, members.len() - 2] {
        let parent = copy(&good, &scratch.path().join("damaged"));
        let archive = File::options().write(true).open(parent.archive_path()).unwrap();
        archive.write_all_at(b"damage", members[damaged].offset + members[damaged].length / 2).unwrap();
        let (files, told) = back_up_from(&tree, &scratch.path().join("new"), Some((&parent, TODAY_AGAIN)));
        assert_right(&files, &tree, scratch.path());
        let counts = proof::manifest(&files).carried.unwrap().counts;
        assert_eq!((counts.mismatches, told.problems().len()), (1, 1));
        // All but this one, the last, which has no entries, and one that this one had to be completed with, maybe.
        let all = members.len() as u64;
        assert!(counts.members == all - 2 || counts.members == all - 3, "{damaged}: {counts:?} of {all}");
        for directory in ["damaged", "new"] {
            fs::remove_dir_all(scratch.path().join(directory)).unwrap();
        }
    }
}

/// Only a part of it was carried when the damage was found, and what comes from the source does not fit to that.
#[test]
fn a_large_file_that_changed_behind_a_damaged_member_is_marked() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), noise(5, 4_000_000)).unwrap();
    let good = back_up(&tree, &scratch.path().join("good"));
    // A previous backup with other data and the same times: its index says what the source's inode says now.
    fs::write(scratch.path().join("other"), noise(6, 4_000_000)).unwrap();
    let counts = |files: &Backup| proof::manifest(files).carried.unwrap().counts;
    let (same, _) = back_up_from(&tree, &scratch.path().join("same"), Some((&good, TODAY_AGAIN)));
    assert_eq!(counts(&same).members, 18, "root, and header and sixteen pieces of the file");

    let archive = File::options().write(true).open(good.archive_path()).unwrap();
    archive.write_all_at(b"damage", 3_000_000).unwrap();
    let (files, told) = back_up_from(&tree, &scratch.path().join("new"), Some((&good, TODAY_AGAIN)));
    assert_right(&files, &tree, scratch.path());
    assert_eq!((counts(&files).mismatches, told.problems().len()), (1, 1));
    assert!(counts(&files).members > 1, "what came before the damage is carried");

    // On tmpfs or any other filesystem, data changes without its times through nothing but the medium: here the entry's
    // digest in the index is what is changed, with all that vouches for it.
    let index = fs::read_to_string(good.index_path()).unwrap();
    let line = index.lines().find(|line| line.ends_with("./large")).unwrap();
    let digest = line.split('\t').nth(8).unwrap();
    let changed = index.replace(digest, &"0".repeat(64));
    fs::write(good.index_path(), &changed).unwrap();
    let mut manifest = proof::manifest(&good);
    manifest.digests.index_sha256 = sh(&format!("sha256sum <{} | head -c 64", quoted(&good.index_path())));
    fs::write(good.manifest_path(), manifest.to_bytes().unwrap()).unwrap();
    let (files, told) = back_up_from(&tree, &scratch.path().join("mixed"), Some((&good, TODAY_AGAIN)));
    let large = entries(&files).pop().unwrap();
    assert!(large.damaged && large.path == b"./large");
    assert_eq!(told.errors().len(), 1, "{:?}", told.problems());
}

#[test]
fn an_index_that_is_not_the_manifests_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    make_tree(&tree);
    let good = back_up(&tree, &scratch.path().join("good"));
    let manifest = proof::manifest(&good);
    let index = fs::read(good.index_path()).unwrap();
    let mut random = Random(7);
    for seed in 0..200 {
        let mut damaged = index.clone();
        let at = random.below(damaged.len());
        match seed % 4 {
            0 => damaged.truncate(at),
            1 => {
                damaged.splice(at..at, *b"0");
            }
            _ => damaged[at] ^= 1 << random.below(8),
        }
        let archive = good.open_archive().unwrap();
        let opened = volbak::archive::carry::parent::Parent::open(&*archive, Arc::new(damaged), &manifest.as_parent());
        assert!(opened.is_err(), "seed {seed}, byte {at}");
    }
}

// --- Disks, with the program itself ----------------------------------------------------------------------------------

/// An image of an ext4 without a partition table, whose files are older than what its clock shows.
struct Disk {
    scratch: tempfile::TempDir,
}

impl Disk {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let disk = Self { scratch: tempfile::tempdir().unwrap() };
        sh(&format!("truncate -s 200M {0} && mkfs.ext4 -q -b 4096 {0}", quoted(&disk.image())));
        fs::create_dir(disk.dest()).unwrap();
        disk.change(|root| {
            fill(root);
            // What was changed last is not trusted; here that is to be this one alone.
            sleep(Duration::from_millis(2100));
            fs::write(root.join("clock"), "later").unwrap();
        });
        disk
    }

    fn image(&self) -> PathBuf {
        self.scratch.path().join("disk.img")
    }

    fn dest(&self) -> PathBuf {
        self.scratch.path().join("backups")
    }

    fn change(&self, change: impl FnOnce(&Path)) -> Tree {
        let mounted = Mounted::with_options(&self.image(), &self.scratch.path().join("mounted"), "loop");
        change(&mounted.point);
        let mut tree = fingerprint(&mounted.point);
        tree.retain(|path, _| !path.starts_with(b"lost+found"));
        mounted.unmount();
        tree
    }

    /// Writes over the first block of a file behind the filesystem's back.
    fn rot(&self, path: &str) {
        sh(&format!("debugfs -w -R 'zap_block -f {path} -p 0x58 0' {} 2>/dev/null", quoted(&self.image())));
    }

    fn snapshot(&self, more: &[&str]) -> PathBuf {
        snapshot(&self.image(), &self.dest(), more)
    }

    /// Runs commands of debugfs(8), one a line, on the filesystem, which is not mounted.
    fn debugfs(&self, commands: &str) {
        sh(&format!("debugfs -w -f - {} >/dev/null 2>&1 <<'COMMANDS'\n{commands}\nCOMMANDS", quoted(&self.image())));
    }

    /// Sets the change time of all that is in the filesystem.
    fn set_change_times(&self, seconds: i64) {
        let mut inodes = BTreeSet::from([11]);
        self.change(|root| {
            let listed = sh(&format!("find {} -xdev -printf '%i\\n'", quoted(root)));
            inodes.extend(listed.lines().map(|line| line.parse::<u64>().unwrap()));
        });
        let commands: Vec<String> =
            inodes.iter().map(|inode| format!("set_inode_field <{inode}> ctime @{seconds}")).collect();
        self.debugfs(&commands.join("\n"));
    }
}

fn file_in(archive: &Path, path: &str) -> Vec<u8> {
    let output = Command::new("tar").arg("-xOzf").arg(archive).arg(path).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn carried_of(archive: &Path) -> u64 {
    manifest(archive)["carried"]["entries"].as_u64().unwrap_or(0)
}

#[test]
fn a_carried_night_restores_as_one_that_was_read() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = (scratch.path().join("guest.img"), scratch.path().join("backups"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "1G", Filesystem::Ext4);
    let change = |change: &dyn Fn(&Path)| changed(&image, &scratch.path().join("mounted"), change);
    change(&|root| {
        make_hard_tree(root, Filesystem::Ext4);
        make_tree(&root.join("more"));
        sleep(Duration::from_millis(2100));
        fs::write(root.join("clock"), "later").unwrap();
    });
    snapshot(&image, &dest, &[]);
    let expected = change(&|root| {
        fs::write(root.join("more/d01/sub/f003"), "changed").unwrap();
        fs::rename(root.join("more/d02/link"), root.join("more/d11/link-from-02")).unwrap();
        fs::remove_file(root.join("more/d04/sub/f001")).unwrap();
        fs::hard_link(root.join("more/d09/sub/f005"), root.join("more/d00/link-to-09")).unwrap();
        File::options().write(true).open(root.join("more/d05/sparse")).unwrap().write_all_at(b"x", 3 << 20).unwrap();
    });
    let carried = snapshot(&image, &dest, &[]);
    let full = snapshot(&image, &dest, &["--full"]);
    assert!(carried_of(&carried) > 500, "{}", manifest(&carried)["carried"]);
    assert_eq!(manifest(&full)["carried"], serde_json::Value::Null);
    assert_eq!(manifest(&carried)["counts"], manifest(&full)["counts"]);
    assert_eq!(problems(&carried), problems(&full), "what has to be told of an entry is told every night");
    assert_all_good(&dest);
    // The archive that it came from is not needed.
    fs::remove_file(&guest::backups::archives(&dest)[0]).unwrap();
    for archive in [carried, full] {
        let target = restore_target(scratch.path(), Filesystem::Ext4);
        assert_equal_trees(&expected, &extract_with_gnu_tar(&archive, &target.point.join("tree")));
    }
}

#[test]
fn what_changed_without_a_trace_is_found_on_its_day() {
    let disk = Disk::new(|root| {
        for file in 0..30 {
            fs::write(root.join(format!("old-{file}")), noise(file + 1, 60_000)).unwrap();
        }
    });
    // Written in the tick of the last change: not trusted, and nothing to complain of.
    disk.snapshot(&[]);
    disk.rot("/clock");
    disk.rot("/old-7");
    let young = disk.snapshot(&[]);
    assert_eq!(problems(&young), Vec::<String>::new());
    assert!(file_in(&young, "./clock").starts_with(b"XXXX"));
    assert!(carried_of(&young) > 20);
    assert!(!file_in(&young, "./old-7").starts_with(b"XXXX"), "its times say that it did not change");

    // Within so many days all of it is read again; for a night, the last backup becomes yesterday's.
    let path = beside(&young, "manifest.json");
    let mut of_yesterday = Manifest::from_bytes(&fs::read(&path).unwrap()).unwrap();
    of_yesterday.local_date = "2026-01-01".to_owned();
    fs::write(&path, of_yesterday.to_bytes().unwrap()).unwrap();
    let read = snapshot_expecting(3, &disk.image(), &disk.dest(), &[]);
    assert!(file_in(&read, "./old-7").starts_with(b"XXXX"));
    let told = problems(&read);
    assert_eq!(told.len(), 1, "{told:?}");
    let stem = of_yesterday.stem;
    assert!(
        told[0].starts_with(&format!("warning ./old-7: its content changed since {stem} though its times did not"))
    );
    assert_eq!(manifest(&read)["carried"]["changed_unseen"], 1);
}

/// Inode, change time and length are as they were; what is in the headers is not.
#[test]
fn other_attributes_are_seen_whatever_the_times_say() {
    let disk = Disk::new(make_tree);
    let first = disk.snapshot(&[]);
    // A file in the middle of a group, and one that has several members.
    for path in ["/d05/sub/f013", "/d03/large"] {
        sh(&format!("debugfs -w -R 'set_inode_field {path} mode 0100751' {} 2>/dev/null", quoted(&disk.image())));
    }
    let carried = disk.snapshot(&[]);
    let full = disk.snapshot(&["--full"]);
    let listed = |archive: &Path| sh(&format!("tar -tvzf {}", quoted(archive)));
    assert_eq!(listed(&carried).matches("-rwxr-x--x").count(), 2);
    assert_eq!(listed(&carried), listed(&full));
    let all = manifest(&first)["sizes"]["entries"].as_u64().unwrap();
    assert!(carried_of(&carried) > all / 2 && carried_of(&carried) < all - 1, "{} of {all}", carried_of(&carried));
    assert_all_good(&disk.dest());
}

/// The data of what was written last may come to the disk after the times that say so. All times are set here, so that it does
/// not matter how long a step takes.
#[test]
fn what_was_new_while_its_filesystem_was_in_use_is_read_again() {
    let disk = Disk::new(make_tree);
    let now = chrono::Utc::now().timestamp();
    // A minute lies between the newest change and all others.
    disk.set_change_times(now - 660);
    disk.debugfs(&format!("set_inode_field /clock ctime @{}", now - 600));
    let unmounted = disk.snapshot(&[]);
    assert_eq!(manifest(&unmounted)["regions"][0]["in_use"], false);
    let again = disk.snapshot(&[]);
    assert!(carried_of(&again) > 300, "all but the newest are two seconds older: {}", manifest(&again)["carried"]);

    // As the superblock of a running guest has it.
    disk.debugfs("set_super_value state 0");
    let first = disk.snapshot(&["--full"]);
    assert_eq!(manifest(&first)["regions"][0]["in_use"], true);
    let second = disk.snapshot(&[]);
    assert_eq!(carried_of(&second), 0, "all of it is within two minutes of the newest");
    assert_eq!(manifest(&second)["carried"]["parent"], manifest(&first)["stem"]);
    disk.set_change_times(now - 730);
    disk.debugfs(&format!("set_inode_field /clock ctime @{}", now - 600));
    disk.snapshot(&["--full"]);
    let later = disk.snapshot(&[]);
    assert!(carried_of(&later) > 300, "all but the newest are older than two minutes: {}", manifest(&later)["carried"]);

    // A guest that runs: what it has in its journal alone.
    let running = disk.scratch.path().join("running.img");
    disk.change(|root| {
        fs::write(root.join("clock"), "still later").unwrap();
        sh(&format!("sync -f {} && cp --sparse=always {} {}", quoted(root), quoted(&disk.image()), quoted(&running)));
    });
    assert_eq!(manifest(&snapshot(&running, &disk.dest(), &[]))["regions"][0]["in_use"], true);

    // XFS does not say it, so it always counts as used.
    let xfs = disk.scratch.path().join("xfs.img");
    make_image(&xfs, "330M", Filesystem::Xfs);
    assert_eq!(manifest(&snapshot(&xfs, &disk.dest(), &[]))["regions"][0]["in_use"], true);
}

/// What has no data and yet several members, by its attributes, was carried up to the damaged one and then written from its
/// beginning: all that followed was out of its place.
#[test]
fn long_attributes_behind_a_damaged_member_come_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, tree) = (scratch.path().join("image"), scratch.path().join("tree"));
    fs::create_dir(&tree).unwrap();
    sh(&format!(
        "truncate -s 64M {0}; mkfs.ext4 -q -O ea_inode,^has_journal {0}; mount -o loop {0} {1}",
        quoted(&image),
        quoted(&tree)
    ));
    let mounted = Mounted { point: tree.clone() };
    fs::create_dir(tree.join("big")).unwrap();
    for number in 0..24_u64 {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(tree.join("big"), format!("user.a{number:02}"), &noise(number, 60_000), flags).unwrap();
        fs::write(tree.join(format!("after{number}")), noise(100 + number, 9000)).unwrap();
    }
    let first = back_up(&tree, &scratch.path().join("first"));
    let mut last_member = None;
    for line in lines(&first) {
        match line {
            Line::Member(member) => last_member = Some(member.offset),
            Line::Entry(entry) if entry.path == b"./big" => break,
            _ => {}
        }
    }
    let archive = File::options().write(true).open(first.archive_path()).unwrap();
    archive.write_all_at(b"damage", last_member.unwrap() + 500).unwrap();
    let (second, told) = back_up_from(&tree, &scratch.path().join("second"), Some((&first, TODAY_AGAIN)));
    assert!(carried_entries(&second) > 0, "{:?}", told.problems());
    assert_right(&second, &tree, scratch.path());
    mounted.unmount();
}

#[test]
fn lists_of_excludes_names_and_levels_may_change() {
    let disk = Disk::new(make_tree);
    let first = disk.snapshot(&[]);
    let excluded = disk.snapshot(&["--exclude", "/d03"]);
    assert!(carried_of(&excluded) > 200);
    let listed = sh(&format!("tar -tzf {}", quoted(&excluded)));
    assert!(!listed.contains("d03") && listed.contains("./d04/sub/f003"));
    let again = disk.snapshot(&[]);
    assert!(carried_of(&again) > 200);
    assert_eq!(manifest(&again)["counts"], manifest(&first)["counts"]);

    // The same image, named from another directory.
    let image = disk.image();
    let mut from_there = volbak(&["snapshot", image.file_name().unwrap().to_str().unwrap(), "--to"]);
    let ended = from_there.arg(disk.dest()).current_dir(image.parent().unwrap()).output().unwrap();
    let newest =
        archives(&disk.dest()).into_iter().max_by_key(|archive| fs::metadata(archive).unwrap().modified().unwrap());
    assert!(ended.status.success() && carried_of(&newest.unwrap()) > 200, "{ended:?}");

    let told = |archive: &Path| problems(archive).join("\n");
    let level = disk.snapshot(&["--level", "1"]);
    assert!(carried_of(&level) == 0 && told(&level).contains("compressed at level 6"), "{}", told(&level));

    // Under another name there is no previous backup, until it is named.
    let renamed = disk.scratch.path().join("renamed.img");
    sh(&format!("cp --sparse=always {} {}", quoted(&disk.image()), quoted(&renamed)));
    let parent = format!("disk@{}", manifest(&level)["stem"].as_str().unwrap().trim_start_matches("disk_"));
    let archive = snapshot(&renamed, &disk.dest(), &["--parent", again.to_str().unwrap()]);
    assert!(carried_of(&archive) > 200);
    let archive = snapshot(&renamed, &disk.dest(), &["--parent", &parent, "--level", "1"]);
    assert!(carried_of(&archive) > 200, "the one that is named has this level");
    let archive = snapshot(&renamed, &disk.dest(), &["--parent", "nothing"]);
    assert!(carried_of(&archive) == 0 && told(&archive).contains("nothing is carried forward"));
}

#[test]
fn a_previous_backup_that_cannot_be_used_costs_time_alone() {
    let disk = Disk::new(make_tree);
    let first = disk.snapshot(&[]);
    // What is damaged is a warning.
    let all_is_read = |status: i32, what: &str| {
        let parent = ["--parent", first.to_str().unwrap()];
        let archive = snapshot_expecting(status, &disk.image(), &disk.dest(), &parent);
        let told = problems(&archive).join("\n");
        assert!(carried_of(&archive) == 0 && told.contains(what), "{what}: {told}");
        assert_eq!(manifest(&archive)["counts"], manifest(&first)["counts"]);
    };
    let index = beside(&first, "index");
    let kept = disk.scratch.path().join("kept");
    let with = |script: &str, what: &str| {
        sh(&format!("mv {0} {1} && {script}", quoted(&index), quoted(&kept)));
        all_is_read(3, what);
        sh(&format!("rm -rf {0} && mv {1} {0}", quoted(&index), quoted(&kept)));
    };
    with("true", "is missing");
    with(&format!("mkfifo {}", quoted(&index)), "is a fifo");
    with(&format!("head -c 5000 {} >{}", quoted(&kept), quoted(&index)), "its index is damaged");
    with(&format!("sed 's/f003/f004/' {} >{}", quoted(&kept), quoted(&index)), "its index");

    let manifest_file = beside(&first, "manifest.json");
    let bytes = fs::read(&manifest_file).unwrap();
    let mut older = Manifest::from_bytes(&bytes).unwrap();
    older.format = 0;
    fs::write(&manifest_file, older.to_bytes().unwrap()).unwrap();
    all_is_read(0, "the format 0");
    fs::write(&manifest_file, bytes).unwrap();

    let archive = File::options().write(true).open(&first).unwrap();
    archive.write_all_at(b"damage", 3_000_000).unwrap();
    let damaged = snapshot_expecting(3, &disk.image(), &disk.dest(), &["--parent", first.to_str().unwrap()]);
    assert_eq!(manifest(&damaged)["carried"]["mismatches"], 1);
    run_expecting(1, &["verify", first.to_str().unwrap()]);
    all_is_read(3, "a verification found");
}

/// The backup was made by volbak at commit 01a907c.
#[test]
fn a_backup_with_an_index_of_version_1_is_verified_and_not_carried_from() {
    assert_verified_and_not_carried_from("index-1");
}

/// The backup was made by volbak at commit 3b3c07b.
#[test]
fn a_backup_with_an_index_of_version_2_is_verified_and_not_carried_from() {
    assert_verified_and_not_carried_from("index-2");
}

fn assert_verified_and_not_carried_from(fixture: &str) {
    let disk = Disk::new(make_tree);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).join("old");
    let copy = disk.dest().join("old");
    sh(&format!("cp -r {} {}", quoted(&fixture), quoted(&copy)));
    let old = copy.join("old_27_11_2026.tar.gz");
    run_expecting(0, &["verify", "--second-opinion", old.to_str().unwrap()]);
    let archive = disk.snapshot(&["--parent", old.to_str().unwrap()]);
    let told = problems(&archive).join("\n");
    assert!(carried_of(&archive) == 0 && told.contains("was written by an older volbak"), "{told}");

    // A byte of the first member's header that nothing but its digest covers.
    File::options().write(true).open(&old).unwrap().write_all_at(b"\x01", 4).unwrap();
    let said = run_expecting(1, &["verify", old.to_str().unwrap()]);
    assert!(said.contains("its digest is not the one in the index"), "{said}");
}

/// What is carried can be carried again, and what the index says of the headers is true.
#[test]
fn nights_without_a_change_carry_all_from_each_other() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    make_tree(&tree);
    let mut last = back_up(&tree, &scratch.path().join("night-0"));
    let all = entries(&last);
    for night in 1..4 {
        let directory = scratch.path().join(format!("night-{night}"));
        let (files, _) = back_up_from(&tree, &directory, Some((&last, TODAY_AGAIN)));
        assert_eq!(carried_entries(&files), all.len() as u64, "night {night}");
        assert!(entries(&files) == all);
        last = files;
    }

    let mut stream = Vec::new();
    MultiGzDecoder::new(File::open(last.archive_path()).unwrap()).read_to_end(&mut stream).unwrap();
    let lines = lines(&last);
    let mut members = 0;
    for (at, line) in lines.iter().enumerate() {
        let Line::Member(member) = line else { continue };
        let own: Vec<&EntryLine> = lines[at + 1..].iter().map_while(entry_of).collect();
        if own.iter().any(|entry| entry.kind == IndexedKind::SparseFile) {
            // How long its map is stands in no line.
            continue;
        }
        let mut heads = blake3::Hasher::new();
        for entry in &own {
            let data_bytes = if entry.kind == IndexedKind::File { entry.size.next_multiple_of(512) } else { 0 };
            let head_bytes = usize::try_from(entry.tar_length - data_bytes).unwrap();
            heads.update(&stream[usize::try_from(entry.tar_offset).unwrap()..][..head_bytes]);
        }
        let expected = (!own.is_empty()).then(|| *heads.finalize().as_bytes().first_chunk().unwrap());
        assert_eq!(member.heads, expected, "member {}", member.number);
        members += usize::from(!own.is_empty());
    }
    assert!(members > 20);
}

#[test]
fn flags_that_a_walk_does_not_see_are_carried_and_kept() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let image = scratch.path().join("t.img");
    sh(&format!("truncate -s 128M {0}; mke2fs -q -t ext4 {0}", quoted(&image)));
    let mounted = Mounted::with_options(&image, &scratch.path().join("m"), "loop");
    let tree = mounted.point.join("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree);
    // Of a file in a directory without any, in one with, on one with a whole second, on a large one, on a directory.
    sh(&format!(
        "cd {}; chattr +A d00/sub/f003; chattr +AS d01/sub; touch d01/sub/new; chattr +Ad d01/sub/new
         touch -d 2020-01-01 d02/sub/f004; chattr +S d02/sub/f004; chattr +i d02/sub/f005
         head -c 3M /dev/urandom >large; chattr +A large; ln large other",
        quoted(&tree)
    ));
    let mut last = back_up(&tree, &scratch.path().join("night-0"));
    let all = entries(&last);
    for night in 1..3 {
        let (files, _) =
            back_up_from(&tree, &scratch.path().join(format!("night-{night}")), Some((&last, TODAY_AGAIN)));
        assert_eq!(carried_entries(&files), all.len() as u64, "night {night}");
        assert!(entries(&files) == all);
        last = files;
    }
    // Taken away without another time.
    sh(&format!("cd {}; chattr -i d02/sub/f005; chattr -A large", quoted(&tree)));
    let (files, _) = back_up_from(&tree, &scratch.path().join("night-3"), Some((&last, TODAY_AGAIN)));
    assert_right(&files, &tree, scratch.path());
    mounted.unmount();
}

#[test]
fn all_is_due_in_turn() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    make_tree(&tree);
    let good = back_up(&tree, &scratch.path().join("good"));
    let total = entries(&good).len() as u64;
    let read_on = |today: i64| {
        let share = Share { every_days: 7, parent_day: today - 1, today };
        let directory = scratch.path().join(format!("day-{today}"));
        let (files, _) = back_up_from(&tree, &directory, Some((&good, share)));
        assert!(entries(&files) == entries(&good));
        total - carried_entries(&files)
    };
    let read: Vec<u64> = (100..107).map(read_on).collect();
    assert_eq!(read.iter().sum::<u64>(), total, "{read:?}: each once, and none twice");
    let (files, _) = back_up_from(&tree, &scratch.path().join("due"), Some((&good, ALL_DUE)));
    assert_eq!(carried_entries(&files), 0);
}
