//! Promise: a whole disk comes back as an image or on a device, on the same size, a larger or a smaller one, under its
//! UUIDs and labels; what is on a target is safe until its name is given; what cannot be done is refused with figures
//! before anything is written; a run that is killed or has no room leaves nothing mounted or attached, and nothing that
//! looks like a disk. (More filesystems, logical partitions and volume groups: `tests/lab/restore_device.rs`.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::testkit::guest::backups::{beside, run_expecting, snapshot_expecting, volbak};
use crate::testkit::guest::{Mounted, WITHOUT_OTHER_MOUNTS, program, quoted, sh};
use crate::testkit::tree::{Filesystem, Kind, Tree, assert_equal_trees, fingerprint, make_hard_tree, noise};
use crate::testkit::wait::{Killed, assert_no_loop_device, met, wait_until};
use volbak::layout::{Handling, HoldsKind};
use volbak::manifest::Manifest;
use volbak::run::rebuild::make_plan;
use volbak::run::rebuild::plan::{DiskPlan, Step, Wish};

const MIB: u64 = 1 << 20;
const ROOT_START: u64 = 5 * MIB;

/// A disk with boot code, something unknown, an ext4 root and swap.
fn make_disk(disk: &Path, hard: bool) -> Tree {
    sh(&format!(
        "truncate -s 360M {0}
         sfdisk -q {0} <<'TABLE'
label: gpt
label-id: 0FC63DAF-8483-4772-8E79-3D69D8477DE4
size=4M, type=21686148-6449-6E6F-744E-656564454649, name=\"BIOS boot\"
size=300M, type=linux, name=\"root é\", attrs=\"RequiredPartition LegacyBIOSBootable GUID:59\"
size=50M, type=swap, uuid=11111111-2222-3333-4444-555555555555
TABLE
         head -c 440 /dev/urandom | dd of={0} conv=notrunc status=none
         head -c 30000 /dev/urandom | dd of={0} bs=512 seek=100 conv=notrunc status=none
         head -c 50000 /dev/urandom | dd of={0} bs=1M seek=1 conv=notrunc status=none
         part() {{ loop=$(losetup -f --show -o $(($1 << 20)) --sizelimit $(($2 << 20)) {0}); shift 2; \"$@\" $loop >/dev/null; losetup -d $loop; }}
         part 5 300 mkfs.ext4 -q -b 4096 -i 4096 -m 2 -L -O^x -O ^metadata_csum,^64bit
         part 305 50 mkswap -L swap0",
        quoted(disk)
    ));
    let point = disk.with_extension("m");
    let mounted = Mounted::with_options(disk, &point, &format!("loop,offset={ROOT_START},sizelimit={}", 300 * MIB));
    if hard {
        fs::create_dir(point.join("hard")).unwrap();
        make_hard_tree(&point.join("hard"), Filesystem::Ext4);
    } else {
        for number in 0..60 {
            fs::write(point.join(format!("file-{number}")), noise(number, 50_000)).unwrap();
        }
    }
    mounted.unmount();
    tree_of(disk, 300)
}

fn tree_of(disk: &Path, root_mib: u64) -> Tree {
    let options = format!("loop,ro,offset={ROOT_START},sizelimit={}", root_mib * MIB);
    let mounted = Mounted::with_options(disk, &disk.with_extension("m"), &options);
    let mut tree = fingerprint(&mounted.point);
    tree.retain(|path, attributes| attributes.kind != Kind::Socket && path != b"lost+found");
    mounted.unmount();
    tree
}

/// What the system's tools say of the disk; places left out, which are compared elsewhere.
fn ids(disk: &Path, root_mib: u64) -> String {
    sh(&format!(
        "sfdisk -J {0} | jq -r '.partitiontable | .label, .id, (.partitions[] | .type, .uuid, .name, .attrs)'
         blkid -p -o export -O {ROOT_START} -S {1} {0} | grep -E '^(LABEL|UUID|TYPE|VERSION)='
         blkid -p -o export -O {2} -S {3} {0} | grep -E '^(LABEL|UUID|TYPE|VERSION)='
         dumpe2fs -h {0}?offset={ROOT_START} 2>/dev/null | grep -E 'features|Block size|Inode size|Filesystem OS'
         head -c 440 {0} | sha1sum; dd if={0} bs=512 skip=100 count=100 status=none | sha1sum
         dd if={0} bs=1M skip=1 count=4 status=none | sha1sum",
        quoted(disk),
        root_mib * MIB,
        ROOT_START + root_mib * MIB,
        50 * MIB
    ))
}

fn places(disk: &Path) -> String {
    sh(&format!(
        "sfdisk -V {0} | grep -q 'No errors'; sfdisk -J {0} | jq -r '.partitiontable.partitions[] | \"\\(.start) \\(.size)\"'",
        quoted(disk)
    ))
}

struct Backup {
    dir: tempfile::TempDir,
    archive: PathBuf,
    disk: PathBuf,
    tree: Tree,
}

fn backup(hard: bool) -> Backup {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = dir.path().join("disk.img");
    let tree = make_disk(&disk, hard);
    let dest = dir.path().join("b");
    fs::create_dir(&dest).unwrap();
    let archive = snapshot_expecting(0, &disk, &dest, &[]);
    Backup { dir, archive, disk, tree }
}

impl Backup {
    fn to_image(&self, status: i32, name: &str, more: &[&str]) -> (PathBuf, String) {
        let image = self.dir.path().join(name);
        let mut arguments = vec!["restore", self.archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
        arguments.extend(more);
        let said = run_expecting(status, &arguments);
        (image, said)
    }

    fn manifest(&self) -> Manifest {
        Manifest::from_bytes(&fs::read(beside(&self.archive, "manifest.json")).unwrap()).unwrap()
    }

    /// No loop device is over anything in the test's directory.
    fn assert_nothing_attached(&self) {
        assert_no_loop_device(self.dir.path());
    }
}

#[test]
fn a_disk_comes_back_in_every_size() {
    let backup = backup(true);
    let before = ids(&backup.disk, 300);

    let (_, said) = backup.to_image(0, "same.img", &["--dry-run"]);
    assert!(said.contains("make:   p2 ext4, 300 MiB") && said.contains("label -O^x"), "{said}");
    assert!(!backup.dir.path().join("same.img").exists());
    let (same, said) = backup.to_image(0, "same.img", &[]);
    let opinion = "table read back by gpt (the primary copy, 3 partitions); gpt (the backup copy, 3 partitions); \
                   mbrman (the GPT's boot sector): as planned\n";
    assert!(said.contains(opinion) && !said.contains("not asked"), "{said}");
    assert_eq!(places(&same), places(&backup.disk));
    assert_eq!(ids(&same, 300), before);
    assert_equal_trees(&backup.tree, &tree_of(&same, 300));
    // The whole table, byte for byte.
    sh(&format!(
        "cd {}; cmp -n 20480 disk.img same.img; cmp -i 377470464 disk.img same.img",
        quoted(backup.dir.path())
    ));

    let (larger, said) = backup.to_image(0, "larger.img", &["--size", "500M"]);
    assert!(said.contains("140 MiB more at the end stay free") && said.contains(opinion), "{said}");
    assert_eq!((places(&larger), ids(&larger, 300)), (places(&backup.disk), before.clone()));
    fs::remove_file(larger).unwrap();

    let (smaller, said) = backup.to_image(0, "smaller.img", &["--size", "260M"]);
    assert!(said.contains("p2: is made smaller, from 300 MiB to 204 MiB") && said.contains(opinion), "{said}");
    assert_eq!(places(&smaller), "2048 8192\n10240 417792\n428032 102400\n");
    assert_eq!(ids(&smaller, 204), before);
    assert_equal_trees(&backup.tree, &tree_of(&smaller, 204));

    let (tiny, said) = backup.to_image(1, "tiny.img", &["--size", "100M"]);
    assert!(said.contains("too small") && said.contains("p2 has 300 MiB and needs"), "{said}");
    assert!(!tiny.exists());

    // A device with something on it: the image of before, on a loop device.
    let device = sh(&format!("losetup -f --show {}", quoted(&same)));
    let device = device.trim();
    let arguments = ["restore", backup.archive.to_str().unwrap(), "--to-device", device];
    let said = run_expecting(1, &arguments);
    let name = device.strip_prefix("/dev/").unwrap();
    assert!(said.contains("p2 holds ext4 -O^x") && said.contains(&format!("--yes-erase={name}")), "{said}");
    let dry = run_expecting(0, &[&arguments[..], &["--dry-run"]].concat());
    assert!(dry.contains("lost:   p2 holds ext4") && dry.contains(&format!("needs:  --yes-erase={name},")), "{dry}");
    let dry = run_expecting(0, &[&arguments[..], &["--dry-run", &format!("--yes-erase={name}")]].concat());
    assert!(!dry.contains("needs:"), "{dry}");
    run_expecting(1, &[&arguments[..], &["--yes-erase=sda"]].concat());
    let mounted = Mounted::with_options(
        Path::new(device),
        &backup.dir.path().join("used"),
        &format!("loop,ro,offset={ROOT_START},sizelimit={}", 300 * MIB),
    );
    let erase = format!("--yes-erase={name}");
    let said = run_expecting(1, &[&arguments[..], &[&erase]].concat());
    mounted.unmount();
    assert!(said.contains("it is in use: /dev/loop"), "{said}");
    // What only has it open, as an emulator has, is seen as well.
    let holder = fs::File::open(device).unwrap();
    let reader = Killed::holding(holder);
    let said = run_expecting(1, &[&arguments[..], &[&erase]].concat());
    drop(reader);
    assert!(said.contains("open in process"), "{said}");
    sh(&format!("sync; head -c 100000000 /dev/urandom | dd of={device} bs=1M status=none"));
    let said = run_expecting(0, &[&arguments[..], &[&erase, "--json"]].concat());
    assert!(!said.contains("partition table"), "{said}");
    assert!(
        said.contains("\"gpt (the backup copy, 3 partitions)\"") && said.contains("\"disagreements\": []"),
        "{said}"
    );
    sh(&format!("losetup -d {device}"));
    assert_eq!((places(&same), ids(&same, 300)), (places(&backup.disk), before));
    assert_equal_trees(&backup.tree, &tree_of(&same, 300));
    backup.assert_nothing_attached();
}

/// The name of a loop device is given to another process once nobody has the device open. A tool that was started with that
/// name, and has not opened it when volbak is killed, must not find another's disk there.
#[test]
fn a_tool_that_outlives_volbak_finds_its_own_device() {
    let backup = backup(false);
    let bin = backup.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let at = |name: &str| bin.join(name);
    for tool in ["mkfs.ext4", "mke2fs", "tune2fs", "e2fsck", "mkswap"] {
        // Each call for a loop device is counted, and one of them waits before the real tool starts.
        let script = format!(
            "for last; do :; done
            case $last in /dev/loop*)
                number=0; while [ -e {0}/call.$number ]; do number=$((number + 1)); done
                echo \"$last\" >{0}/new; mv {0}/new {0}/call.$number
                if [ $number = $(cat {0}/waits) ]; then while [ -e {0}/waits ] && ! [ -e {0}/go ]; do sleep 0.02; done; fi
            esac
            exec {1} \"$@\"",
            bin.display(),
            sh(&format!("command -v {tool}")).trim()
        );
        program(&at(tool), &script);
    }
    let image = backup.dir.path().join("image.img");
    let arguments = ["restore", backup.archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
    let mut calls = 0;
    loop {
        fs::write(at("waits"), calls.to_string()).unwrap();
        let called = at(&format!("call.{calls}"));
        let mut run = volbak(&arguments);
        run.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
        let mut run = Killed(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait_until("a tool is called, or volbak has ended", || called.exists() || run.0.try_wait().unwrap().is_some());
        if !called.exists() {
            assert!(run.0.wait().unwrap().success());
            break;
        }
        drop(run);
        let device = fs::read_to_string(&called).unwrap();
        let shown = sh(&format!("losetup -ln -O BACK-FILE {}", device.trim()));
        assert!(shown.starts_with(backup.dir.path().to_str().unwrap()), "call {calls}: {device} shows {shown:?}");
        fs::write(at("go"), "").unwrap();
        backup.assert_nothing_attached();
        sh(&format!("rm {0}/go {0}/call.*", bin.display()));
        calls += 1;
    }
    // A filesystem is made and checked, and swap is made.
    assert!(calls >= 3, "{calls}");
}

#[test]
fn a_second_opinion_says_what_it_is_not_of() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = dir.path().join("disk.img");
    // Made by hand: logical partitions whose chain goes back and forth.
    let mut bytes = vec![0; 4 << 20];
    let mut put = |lba: usize, slot: usize, os_type: u8, start: u32, size: u32| {
        let record = &mut bytes[lba * 512 + 0x1be + slot * 16..][..16];
        record[4] = os_type;
        record[8..12].copy_from_slice(&start.to_le_bytes());
        record[12..16].copy_from_slice(&size.to_le_bytes());
        bytes[lba * 512 + 0x1fe..lba * 512 + 0x200].copy_from_slice(&[0x55, 0xaa]);
    };
    put(0, 0, 0x83, 64, 1000);
    put(0, 1, 0x05, 2048, 6000);
    put(2048, 0, 0x83, 8, 100);
    put(2048, 1, 0x05, 4000, 500);
    put(6048, 0, 0x83, 8, 100);
    put(6048, 1, 0x05, 1000, 500);
    put(3048, 0, 0x83, 8, 100);
    fs::write(&disk, bytes).unwrap();
    let dest = dir.path().join("b");
    fs::create_dir(&dest).unwrap();
    let archive = snapshot_expecting(0, &disk, &dest, &[]);
    let image = dir.path().join("image");
    let said = run_expecting(0, &["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()]);
    let asked = "table read back by mbrman (2 primary partitions); mbrman (3 of 3 extended boot records, each by itself): as planned\n";
    assert!(said.contains(asked), "{said}");
    assert!(
        said.contains("not asked: mbrman about the order of the logical partitions: they are not in ascending order"),
        "{said}"
    );
    assert_eq!(fs::read(&image).unwrap(), fs::read(&disk).unwrap());
}

#[test]
fn a_disk_without_a_table_comes_back() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = dir.path().join("data.img");
    sh(&format!("truncate -s 200M {0}; mkfs.ext4 -q -b 4096 -L data {0}", quoted(&disk)));
    let point = dir.path().join("m");
    let mounted = Mounted::with_options(&disk, &point, "loop");
    sh(&format!("cd {}; cp -a /etc/passwd .; mkdir x; touch -d 2001-02-03 .", quoted(&point)));
    mounted.unmount();
    let tree = |disk: &Path| {
        let mounted = Mounted::with_options(disk, &point, "loop,ro");
        let mut tree = fingerprint(&mounted.point);
        tree.retain(|path, _| path != b"lost+found");
        mounted.unmount();
        tree
    };
    let expected = tree(&disk);
    fs::create_dir(dir.path().join("b")).unwrap();
    let archive = snapshot_expecting(0, &disk, &dir.path().join("b"), &[]);
    let restore = |name: &str, more: &[&str]| {
        let image = dir.path().join(name);
        let arguments = ["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
        run_expecting(0, &[&arguments[..], more].concat());
        image
    };
    let facts = |disk: &Path| {
        sh(&format!(
            "blkid -p -o export {0} | grep -E '^(LABEL|UUID|TYPE)='; dumpe2fs -h {0} 2>&1 | grep -E 'Block count|features'",
            quoted(disk)
        ))
    };
    let same = restore("same.img", &[]);
    assert_eq!(facts(&same), facts(&disk));
    assert_equal_trees(&expected, &tree(&same));
    // The filesystem stays as large as it was, or becomes as small as it has to.
    assert_eq!(facts(&restore("larger.img", &["--size", "300M"])), facts(&disk));
    let smaller = restore("smaller.img", &["--size", "120M"]);
    assert!(facts(&smaller).contains("Block count:              30720"), "{}", facts(&smaller));
    assert_equal_trees(&expected, &tree(&smaller));

    // Something that no reader knows, on the whole disk.
    let raw = dir.path().join("raw.img");
    fs::write(&raw, noise(7, 3_000_320)).unwrap();
    let archive = snapshot_expecting(3, &raw, &dir.path().join("b"), &[]);
    let image = dir.path().join("raw2.img");
    run_expecting(0, &["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()]);
    assert!(fs::read(&raw).unwrap() == fs::read(&image).unwrap());
    let arguments = ["restore", archive.to_str().unwrap(), "--size", "1M", "--to-image"];
    let said = run_expecting(1, &[&arguments[..], &[dir.path().join("raw3.img").to_str().unwrap()]].concat());
    assert!(said.contains("too small"), "{said}");
}

#[test]
fn what_is_there_stays_until_its_name_is_given() {
    let backup = backup(false);
    let image = backup.dir.path().join("there.img");
    fs::write(&image, "mine").unwrap();
    let (_, said) = backup.to_image(1, "there.img", &[]);
    assert!(said.contains("--yes-erase=there.img"), "{said}");
    backup.to_image(1, "there.img", &["--yes-erase=other.img"]);
    assert_eq!(fs::read(&image).unwrap(), b"mine");
    for (target, expected) in [("/dev/null", "character device"), ("/", "directory"), ("/no/such", "no such")] {
        let said = run_expecting(1, &["restore", backup.archive.to_str().unwrap(), "--to-device", target]);
        assert!(said.contains(expected), "{said}");
    }
    let (_, said) = backup.to_image(1, "odd.img", &["--size", "1000"]);
    assert!(said.contains("whole number of sectors"), "{said}");
    let said = run_expecting(1, &["restore", backup.archive.to_str().unwrap(), "--to-device", image.to_str().unwrap()]);
    assert!(said.contains("--to-image"), "{said}");

    // Killed at any moment: nothing stays attached, and what was there is there.
    let expected = fs::read(&image).unwrap();
    for milliseconds in [20, 60, 120, 200, 320] {
        let arguments = ["restore", backup.archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
        let mut child = volbak(&[&arguments[..], &["--yes-erase=there.img"]].concat());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            eprintln!("done within {milliseconds} ms");
            break;
        }
        assert!(fs::read(&image).unwrap() == expected, "killed after {milliseconds} ms");
        // A tool that it had started ends by itself, and its loop device with it.
        backup.assert_nothing_attached();
    }
    // On a device there is no table until the end.
    sh(&format!("cp --sparse=always {} {}", quoted(&backup.disk), quoted(&image)));
    let device = sh(&format!("losetup -f --show {}", quoted(&image)));
    let device = device.trim();
    let erase = format!("--yes-erase={}", device.strip_prefix("/dev/").unwrap());
    let starts_with_zeros = || {
        let mut sector = [1; 512];
        // Of the file behind it: whoever has the device open is in the way.
        fs::File::open(&image).unwrap().read_exact_at(&mut sector, 0).unwrap();
        sector == [0; 512]
    };
    met("a kill of a restore that has taken the table away", || {
        let mut child = volbak(&["restore", backup.archive.to_str().unwrap(), "--to-device", device, &erase]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !starts_with_zeros() && child.try_wait().unwrap().is_none() {}
        std::thread::sleep(Duration::from_millis(30));
        child.kill().unwrap();
        (!child.wait().unwrap().success()).then_some(())
    });
    assert!(starts_with_zeros());
    let said = sh(&format!("sfdisk -d {device} 2>&1 || true; blkid -p {device} || true"));
    assert!(!said.contains("label") && !said.contains("PTTYPE"), "{said}");
    // A tool that it had started ends by itself, and its loop device over this one with it.
    assert_no_loop_device(Path::new(device));
    run_expecting(0, &["restore", backup.archive.to_str().unwrap(), "--to-device", device, &erase]);
    sh(&format!("losetup -d {device}"));
    assert_eq!(places(&image), places(&backup.disk));
    backup.assert_nothing_attached();
}

#[test]
fn no_room_for_the_image_is_an_error_that_leaves_nothing() {
    let backup = backup(false);
    let small = backup.dir.path().join("small.ext4");
    sh(&format!("truncate -s 64M {0}; mkfs.ext4 -q {0}", quoted(&small)));
    let mounted = Mounted::with_options(&small, &backup.dir.path().join("small"), "loop");
    let image = mounted.point.join("disk.img");
    let arguments = ["restore", backup.archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
    // Seen beforehand, with figures.
    sh(&format!("fallocate -l 50M {}/taken || true", quoted(&mounted.point)));
    let said = run_expecting(1, &arguments);
    assert!(said.contains(" left, and about"), "{said}");
    // Not seen beforehand: somebody takes the room meanwhile.
    sh(&format!("rm {}/taken", quoted(&mounted.point)));
    let mut child = volbak(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sh(&format!(
        "until ls -A {0} | grep -q volbak-tmp; do :; done; fallocate -l 60M {0}/taken || fallocate -l 40M {0}/taken || true; dd if=/dev/zero of={0}/rest bs=64k status=none || true",
        quoted(&mounted.point)
    ));
    let status = child.wait().unwrap();
    let left = sh(&format!("ls -A {}", quoted(&mounted.point)));
    mounted.unmount();
    assert!(!status.success());
    assert!(!left.contains("disk.img"), "{left}");
    backup.assert_nothing_attached();
}

#[test]
fn a_damaged_archive_is_told_and_the_rest_restored() {
    let backup = backup(false);
    let mut bytes = fs::read(&backup.archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&backup.archive, bytes).unwrap();
    let (image, said) = backup.to_image(3, "damaged.img", &[]);
    assert!(said.contains("error"), "{said}");
    let restored = tree_of(&image, 300);
    assert!(restored.len() < backup.tree.len() && restored.len() > backup.tree.len() / 2);

    // What was there before may be the better one.
    fs::write(&image, "mine").unwrap();
    let (_, said) = backup.to_image(3, "damaged.img", &["--yes-erase=damaged.img"]);
    assert_eq!(fs::read(&image).unwrap(), b"mine");
    let kept = sh(&format!("ls {}/.volbak-tmp.damaged.img.*", quoted(backup.dir.path())));
    let kept = Path::new(kept.trim());
    assert!(said.contains("the existing image is kept") && said.contains(kept.to_str().unwrap()), "{said}");
    assert!(tree_of(kept, 300) == restored);
    let (_, said) = backup.to_image(0, "damaged.img", &["--dry-run"]);
    assert!(said.contains("an earlier restore left .volbak-tmp.damaged.img."), "{said}");

    // An archive that was cut off is not begun with.
    let length = fs::metadata(&backup.archive).unwrap().len();
    fs::OpenOptions::new().write(true).open(&backup.archive).unwrap().set_len(length - 1).unwrap();
    let (cut, said) = backup.to_image(1, "cut.img", &[]);
    assert!(said.contains("nothing was written") && said.contains("the manifest says") && !cut.exists(), "{said}");
}

/// A disk without a table and without anything that is known, and its backup: what is refused needs no more.
fn backup_of_noise(dir: &Path) -> PathBuf {
    let raw = dir.join("raw.img");
    fs::write(&raw, noise(7, 3_000_320)).unwrap();
    fs::create_dir(dir.join("b")).unwrap();
    snapshot_expecting(3, &raw, &dir.join("b"), &[])
}

#[test]
fn what_shares_bytes_with_something_in_use_stays() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let archive = backup_of_noise(dir.path());
    let disk = dir.path().join("live.img");
    let device = sh(&format!(
        "truncate -s 40M {0}; printf 'label: dos\nsize=16M\nsize=16M\n' | sfdisk -q {0}
         loop=$(losetup -f --show {0}); partx -a $loop >&2; mkfs.ext4 -q ${{loop}}p1; echo $loop",
        quoted(&disk)
    ));
    let device = device.trim();
    let (first, second) = (format!("{device}p1"), format!("{device}p2"));
    let refused = |target: &str, with: &str| {
        let erase = format!("--yes-erase={}", target.strip_prefix("/dev/").unwrap());
        let said = run_expecting(1, &["restore", archive.to_str().unwrap(), "--to-device", target, &erase]);
        assert!(said.contains(with), "{target}: {said}");
    };
    let open_meanwhile = |held: &str, target: &str| {
        let holder = fs::File::open(held).unwrap();
        let _reader = Killed::holding(holder);
        refused(target, "open in process");
    };
    open_meanwhile(&first, device);
    open_meanwhile(device, &first);
    let mounted = Mounted::with_options(Path::new(&first), &dir.path().join("used"), "loop,ro");
    refused(device, "it is in use: /dev/loop");
    refused(&first, "it is in use: /dev/loop");
    // Another partition of the same disk is none of its business; that it is not empty is found out later.
    sh(&format!("mkswap {second} >/dev/null"));
    let said = run_expecting(1, &["restore", archive.to_str().unwrap(), "--to-device", &second]);
    assert!(said.contains("not empty"), "{said}");
    mounted.unmount();
    let unchanged =
        sh(&format!("e2fsck -fn {first} >/dev/null 2>&1 && echo clean; partx -d {device}; losetup -d {device}"));
    assert_eq!(unchanged, "clean\n");
}

#[test]
fn a_whole_disk_image_with_a_table_is_not_made_smaller() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = dir.path().join("shadow.img");
    sh(&format!(
        "truncate -s 64M {0}; mkfs.ext4 -q {0}; printf 'label: dos\nstart=2048, size=8M\nsize=8M\n' | sfdisk -q --wipe never {0}",
        quoted(&disk)
    ));
    fs::create_dir(dir.path().join("b")).unwrap();
    let archive = snapshot_expecting(3, &disk, &dir.path().join("b"), &[]);
    let image = dir.path().join("back.img");
    fs::write(&image, "mine").unwrap();
    let arguments =
        ["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap(), "--yes-erase=back.img"];
    let said = run_expecting(1, &[&arguments[..], &["--size", "48M"]].concat());
    assert!(said.contains("too small: it has 48 MiB, and all 64 MiB"), "{said}");
    assert_eq!(fs::read(&image).unwrap(), b"mine");
    sh(&format!("chown 12:34 {0}; chmod 640 {0}", quoted(&image)));
    run_expecting(0, &arguments);
    assert!(fs::read(&image).unwrap() == fs::read(&disk).unwrap());
    assert_eq!(sh(&format!("stat -c '%u:%g %a' {}", quoted(&image))), "12:34 640\n");

    // An index that somebody changed is not believed, and not needed.
    let index = beside(&archive, "index");
    let mut bytes = fs::read(&index).unwrap();
    // The first entry's place in the tar stream: `E`, its kind, the place.
    let entry = bytes.windows(3).position(|part| part == b"\nE\t").unwrap() + 3;
    let at = entry + bytes[entry..].iter().position(|byte| *byte == b'\t').unwrap() + 1;
    bytes[at] ^= 1;
    fs::write(&index, bytes).unwrap();
    let said = run_expecting(0, &arguments);
    assert!(said.contains("it does not match the manifest"), "{said}");
    assert!(fs::read(&image).unwrap() == fs::read(&disk).unwrap());
}

#[test]
fn files_that_shared_or_compressed_their_data_fit_or_are_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    let make = |status: i32, name: &str, size: &str, mkfs: &str, options: &str, fill: &str| {
        let disk = dir.path().join(name);
        sh(&format!("truncate -s {size} {0}; {mkfs} {0} >/dev/null", quoted(&disk)));
        let mounted = Mounted::with_options(&disk, &dir.path().join("m"), options);
        sh(&format!("cd {}; {fill}", quoted(&mounted.point)));
        mounted.unmount();
        snapshot_expecting(status, &disk, &dir.path().join("b"), &[])
    };
    // What is more than the disk without its shared blocks is kept, and comes back, as the image that it was.
    let archive = make(
        3,
        "xfs.img",
        "64M",
        "mkfs.xfs -q --unsupported -m reflink=1",
        "loop",
        "head -c 20M /dev/zero | tr '\\0' y >0; for copy in 1 2 3 4; do cp --reflink=always 0 $copy; done",
    );
    let image = dir.path().join("back.img");
    let restore = ["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
    run_expecting(0, &restore);
    assert!(fs::read(&image).unwrap() == fs::read(dir.path().join("xfs.img")).unwrap());
    fs::remove_file(&image).unwrap();

    let fill = "head -c 180M /dev/zero | tr '\\0' y >a";
    let archive = make(0, "btrfs.img", "128M", "mkfs.btrfs -q", "loop,compress=zstd", fill);
    let restore = ["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
    // With its twin in sight, the kernel might write to that.
    let twin = sh(&format!("losetup -f --show {}", quoted(&dir.path().join("btrfs.img"))));
    let said = run_expecting(1, &restore);
    // It is gone when its last user is, which may be a moment later.
    sh(&format!(
        "twin={}; losetup -d $twin; for _ in $(seq 100); do losetup $twin >/dev/null 2>&1 || break; sleep 0.1; done",
        twin.trim()
    ));
    assert!(said.contains(twin.trim()) && said.contains("a btrfs of the same UUID"), "{said}");
    // Gone, the kernel still knows it by its device, which is taken by something else now.
    let taken = sh(&format!("losetup -f --show {}", quoted(&dir.path().join("xfs.img"))));
    let said = run_expecting(0, &restore);
    sh(&format!("losetup -d {taken}"));
    assert!(said.contains("written with compress=zstd"), "{said}");
    let mounted = Mounted::with_options(&image, &dir.path().join("m"), "loop,ro");
    let read =
        sh(&format!("cd {}; head -c 180M /dev/zero | tr '\\0' y | cmp a - && echo same", quoted(&mounted.point)));
    mounted.unmount();
    assert_eq!(read, "same\n");
}

#[test]
fn swap_and_ext_without_a_uuid_come_back() {
    let backup = backup(false);
    let mut manifest = backup.manifest();
    let size = manifest.layout.source.size_bytes;
    manifest.layout.regions.iter_mut().for_each(|region| region.holds.uuid = None);
    let plan = plan_for(&manifest, size).unwrap();
    let remarks = plan.remarks.join("\n");
    assert_eq!(remarks.matches("it had no UUID, and gets none").count(), 2, "{remarks}");
    // A filesystem with sectors smaller than the target's cannot be mounted there.
    let made = manifest.layout.regions[1].holds.made_with.as_mut().unwrap();
    made.block_bytes = Some(1024);
    manifest.layout.source.sector_size = 4096;
    let (names, groups, stored) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    let wish = Wish {
        target_bytes: size,
        target_sector_bytes: Some(4096),
        group_names: &names,
        plain_md: false,
        active_groups: &groups,
        stored: &stored,
        has_program: &|_| true,
        can_mount: &|_| true,
    };
    let why = make_plan(&manifest, &wish).unwrap_err().join("\n");
    assert!(why.contains("counts in 1024 bytes"), "{why}");
    // A group that is not on the disk cannot get another name.
    let names = BTreeMap::from([("vg9".to_owned(), "new".to_owned())]);
    let why = make_plan(&backup.manifest(), &Wish { group_names: &names, target_sector_bytes: None, ..wish });
    assert!(why.unwrap_err()[0].contains("no volume group vg9"));
}

fn plan_for(manifest: &Manifest, target_bytes: u64) -> Result<DiskPlan, Vec<String>> {
    make_plan(
        manifest,
        &Wish {
            target_bytes,
            target_sector_bytes: None,
            group_names: &BTreeMap::new(),
            plain_md: false,
            active_groups: &BTreeSet::new(),
            stored: &BTreeMap::new(),
            has_program: &|_| true,
            can_mount: &|_| true,
        },
    )
}

/// A change to a manifest, and what it is called.
type Change = (&'static str, fn(&mut Manifest));

/// What every plan must be, whatever the manifest says: on the target, and nothing made anew over something else.
fn assert_sound(plan: &DiskPlan, target_bytes: u64) {
    let mut made: Vec<(u64, u64)> = Vec::new();
    for step in &plan.steps {
        let ranges: Vec<(u64, u64)> = match step {
            Step::Zero { ranges } => ranges.iter().map(|range| (range.source_offset, range.length)).collect(),
            Step::RawImage { extents, .. } => {
                extents.iter().map(|extent| (extent.source_offset, extent.length)).collect()
            }
            Step::Make(made) => made.extents.iter().map(|extent| (extent.source_offset, extent.length)).collect(),
            Step::Write { start_bytes, size_bytes, bytes, .. } => {
                assert_eq!(*size_bytes, bytes.len() as u64);
                vec![(*start_bytes, *size_bytes)]
            }
        };
        for (start, len) in &ranges {
            assert!(start.checked_add(*len).is_some_and(|end| end <= target_bytes), "{step:?}");
        }
        if let Step::Make(made_anew) = step {
            assert!(made_anew.make.args.iter().all(|arg| !arg.as_encoded_bytes().contains(&0)));
            made.extend(ranges);
        }
    }
    made.sort_unstable();
    assert!(made.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{made:?}");
}

#[test]
fn hostile_manifests_are_refused_or_harmless() {
    let backup = backup(false);
    let good = backup.manifest();
    let size = good.layout.source.size_bytes;
    assert_sound(&plan_for(&good, size).unwrap(), size);
    let refused: [Change; 13] = [
        ("past the end", |m| m.layout.regions[1].extents[0].length = u64::MAX - 4096),
        ("far away", |m| m.layout.regions[1].extents[0].source_offset = u64::MAX - 511),
        ("wraps", |m| {
            let region = &mut m.layout.regions[1];
            region.extents = vec![region.extents[0], region.extents[0]];
            region.extents[1].length = u64::MAX;
        }),
        ("overlaps", |m| {
            m.layout.regions[2].extents[0].source_offset = 6 << 20;
            m.layout.regions[2].start_bytes = 6 << 20;
        }),
        ("over the table", |m| {
            m.layout.regions[1].extents[0].source_offset = 0;
            m.layout.regions[1].start_bytes = 0;
        }),
        ("one name twice", |m| m.layout.regions[1].name = m.layout.regions[0].name.clone()),
        ("no records", |m| m.regions.clear()),
        ("path outward", |m| m.regions[1].archive_path = Some("./../etc".to_owned())),
        ("uuid", |m| m.layout.regions[1].holds.uuid = Some("-O\nx".to_owned())),
        ("filesystem", |m| m.layout.regions[1].holds.fs = Some("ext4 -n; reboot".to_owned())),
        ("sector", |m| m.layout.source.sector_size = 0),
        ("kept bytes", |m| m.layout.outside[0].size_bytes = u64::MAX),
        ("no table", |m| m.layout.outside.retain(|kept| kept.what != "boot sector")),
    ];
    for (what, change) in refused {
        let mut manifest = good.clone();
        change(&mut manifest);
        let why = plan_for(&manifest, size).expect_err(what);
        assert!(!why.is_empty() && why.iter().all(|line| !line.contains('\n')), "{what}: {why:?}");
        // No size makes it panic or sound.
        for target in [0, 1, 512, MIB, size - 512, size + 512, 1 << 62, u64::MAX] {
            if let Ok(plan) = plan_for(&manifest, target) {
                assert_sound(&plan, target);
            }
        }
    }
    let harmless: [Change; 6] = [
        ("name", |m| {
            m.layout.regions[1].name = "../p2\n".to_owned();
            m.regions[1].name = "../p2\n".to_owned();
        }),
        ("label", |m| m.layout.regions[1].holds.label = Some("x".repeat(128))),
        ("zero byte", |m| m.layout.regions[1].holds.label = Some("\0\n\u{1b}[2J".to_owned())),
        ("features", |m| {
            let made = m.layout.regions[1].holds.made_with.as_mut().unwrap();
            made.features = vec!["-n".to_owned(), "a,b".to_owned(), "\0".to_owned()];
        }),
        ("superblock", |m| {
            use base64::Engine as _;
            let mut sb = [0xff; 1024];
            sb[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
            let made = m.layout.regions[1].holds.made_with.as_mut().unwrap();
            made.features.extend(["shared_blocks", "sparse_super2", "fast_commit", "mmp"].map(str::to_owned));
            (made.journal_blocks, made.fast_commit_blocks) = (Some(u64::MAX), Some(u64::MAX - 1));
            made.superblock = Some(base64::engine::general_purpose::STANDARD.encode(sb));
        }),
        ("older", |m| m.layout.regions.iter_mut().for_each(|region| region.holds.made_with = None)),
    ];
    for (what, change) in harmless {
        let mut manifest = good.clone();
        change(&mut manifest);
        let plan = plan_for(&manifest, size).unwrap_or_else(|why| panic!("{what}: {why:?}"));
        assert_sound(&plan, size);
        let text = volbak::run::rebuild::plan_as_text(&plan, "t", &[]);
        assert!(text.lines().all(|line| !line.chars().any(char::is_control)), "{what}: {text}");
        let others = text.matches("\n  other:").count();
        assert_eq!(text.lines().count(), 1 + plan.steps.len() + plan.remarks.len() + others);
    }
    // Every number in the layout, changed to odd ones.
    for number in [0, 1, 511, size - 1, size, 1 << 32, 1 << 63, u64::MAX] {
        for field in 0..8 {
            for index in 0..good.layout.regions.len() {
                let mut manifest = good.clone();
                let outside = index % manifest.layout.outside.len();
                let region = &mut manifest.layout.regions[index];
                match field {
                    0 => region.start_bytes = number,
                    1 => region.size_bytes = number,
                    2 => region.extents[0].source_offset = number,
                    3 => region.extents[0].length = number,
                    4 => region.holds.size_bytes = Some(number),
                    5 => manifest.layout.outside[outside].start_bytes = number,
                    6 => manifest.layout.source.size_bytes = number,
                    _ => manifest.regions[index].used_bytes = Some(number),
                }
                for target in [size, size - 50 * MIB, 2 * size] {
                    if let Ok(plan) = plan_for(&manifest, target) {
                        assert_sound(&plan, target);
                    }
                }
            }
        }
    }
    // What the machine lacks is named.
    let lacks = |has_program: &dyn Fn(&str) -> bool, can_mount: &dyn Fn(&str) -> bool| {
        let (group_names, active_groups, stored) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let wish = Wish {
            target_bytes: size,
            target_sector_bytes: Some(4096),
            group_names: &group_names,
            plain_md: false,
            active_groups: &active_groups,
            stored: &stored,
            has_program,
            can_mount,
        };
        let sector = make_plan(&good, &wish).unwrap_err().join("\n");
        assert!(sector.contains("sectors of 4096"), "{sector}");
        make_plan(&good, &Wish { target_sector_bytes: Some(512), ..wish }).unwrap_err().join("\n")
    };
    assert!(lacks(&|name| name != "mkfs.ext4", &|_| true).contains("the package e2fsprogs"));
    assert!(lacks(&|_| true, &|_| false).contains("kernel does not know ext4"));
    // Without its superblock a mirror's member is not made again; the option that helps is named.
    let mut mirror = good.clone();
    mirror.layout.regions[1].holds.kind = HoldsKind::Mdraid;
    mirror.layout.regions[1].handling = Handling::Container;
    mirror.regions[1].handling = Handling::Container;
    assert!(plan_for(&mirror, size).unwrap_err()[0].contains("--plain-md"));
}

/// What dumpe2fs says of a filesystem that its maker or its owner decided.
fn ext_settings(image: &Path) -> String {
    sh(&format!(
        "dumpe2fs -h {} 2>/dev/null | grep -vE '^(Filesystem state|Free |Last (mount|write|check)|Next check|Mount count|Lifetime|\
         Checksum: |Journal (sequence|start|checksum|features|inode)|Directories|Orphan file inode|Overhead| *mmp_)'",
        quoted(image)
    ))
}

#[test]
fn what_mke2fs_and_tune2fs_set_comes_back() {
    let variants = [
        (
            "-t ext4",
            "tune2fs -e panic -o ^acl,nodelalloc -c 33 -i 30d -u 65534 -g 100 -r 9000 -M /srv/x -E mount_opts=commit=5",
        ),
        ("-t ext4 -b 4096 -J size=5 -g 4096 -N 3000", "tune2fs -E stride=16,stripe_width=64,hash_alg=tea,test_fs"),
        ("-t ext4 -O metadata_csum_seed", "tune2fs -U random"),
        ("-t ext4 -O bigalloc,quota -C 65536", "true"),
        ("-t ext4 -O project,quota -E quotatype=usrquota:prjquota", "true"),
        ("-t ext4 -O project,fast_commit,large_dir,ea_inode", "tune2fs -O read-only"),
        ("-t ext4 -O fast_commit -J size=5,fast_commit_size=300", "true"),
        ("-t ext3 -O fast_commit -b 1024 -J size=2,fast_commit_size=777", "true"),
        ("-t ext4 -O mmp -E mmp_update_interval=1", "true"),
        ("-t ext4 -O mmp", "tune2fs -E mmp_update_interval=7"),
        ("-t ext4 -O sparse_super2,^resize_inode,^has_journal -E num_backup_sb=1", "tune2fs -E mount_opts=discard"),
        ("-t ext4 -O ^64bit,uninit_bg,^metadata_csum -b 2048 -G 4", "debugfs -w -R \"set_super_value flags 2\""),
        ("-t ext2 -b 1024 -I 128", "debugfs -w -R \"set_super_value mkfs_time 19990101000000\""),
        ("-r 0", "true"),
        ("-O none", "tune2fs -e remount-ro"),
    ];
    std::thread::scope(|scope| {
        let variant = |(make, tune): (&'static str, &'static str)| {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let image = dir.path().join("t.img");
            sh(&format!(
                "truncate -s 64M {0}; mke2fs -q {make} {0} 2>/dev/null; {tune} {0} >/dev/null 2>&1",
                quoted(&image)
            ));
            fs::create_dir(dir.path().join("b")).unwrap();
            let archive = snapshot_expecting(0, &image, &dir.path().join("b"), &[]);
            let new = dir.path().join("new.img");
            let said = run_expecting(0, &["restore", archive.to_str().unwrap(), "--to-image", new.to_str().unwrap()]);
            assert!(said.contains("0 other problems"), "{make}: {said}");
            assert_eq!(ext_settings(&new), ext_settings(&image), "{make}");
            sh(&format!("e2fsck -fn {}", quoted(&new)));
        };
        let halves = variants.split_at(variants.len() / 2);
        scope.spawn(move || halves.1.iter().copied().for_each(variant));
        halves.0.iter().copied().for_each(variant);
    });
}

#[test]
fn reserved_blocks_keep_their_share_and_an_older_backup_says_what_it_lacks() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let image = dir.path().join("t.img");
    sh(&format!("truncate -s 200M {0}; mke2fs -q -t ext4 -b 4096 {0}; tune2fs -r 5120 {0} >/dev/null", quoted(&image)));
    fs::create_dir(dir.path().join("b")).unwrap();
    let archive = snapshot_expecting(0, &image, &dir.path().join("b"), &[]);
    let new = dir.path().join("new.img");
    let arguments = ["restore", archive.to_str().unwrap(), "--to-image", new.to_str().unwrap(), "--size", "100M"];
    run_expecting(0, &arguments);
    assert!(ext_settings(&new).contains("Reserved block count:     2560\n"), "{}", ext_settings(&new));
    // As 0fec752 wrote it.
    let path = beside(&archive, "manifest.json");
    let mut manifest = Manifest::from_bytes(&fs::read(&path).unwrap()).unwrap();
    let made = manifest.layout.regions[0].holds.made_with.as_mut().unwrap();
    (made.superblock, made.journal_blocks) = (None, None);
    fs::write(&path, manifest.to_bytes().unwrap()).unwrap();
    fs::remove_file(&new).unwrap();
    let said = run_expecting(0, &arguments[..4]);
    assert!(said.contains("this older backup does not have its settings"), "{said}");
}

#[test]
fn an_image_of_odd_length_comes_back_with_all_its_bytes() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let dest = dir.path().join("b");
    fs::create_dir(&dest).unwrap();
    // Nothing known; an ext4 cut off behind its end; a partition up to the odd end.
    let raw = dir.path().join("raw.img");
    fs::write(&raw, noise(3, 3_000_001)).unwrap();
    let ext = dir.path().join("ext.img");
    sh(&format!("truncate -s 20M {0}; mke2fs -q -t ext4 {0}; printf abc >>{0}", quoted(&ext)));
    let disk = dir.path().join("disk.img");
    sh(&format!(
        "truncate -s 9M {0}; printf 'label: dos\nstart=2048, size=8192, type=83\n' | sfdisk -q {0}
         head -c 4M /dev/urandom | dd of={0} bs=1M seek=1 conv=notrunc status=none; printf odd >>{0}",
        quoted(&disk)
    ));
    for image in [&raw, &ext, &disk] {
        let output = volbak(&["snapshot", image.to_str().unwrap(), "--to", dest.to_str().unwrap()]).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
        let name = image.file_stem().unwrap();
        let archive = sh(&format!("ls {}/*.tar.gz", quoted(&dest.join(name))));
        let new = dir.path().join("new.img");
        let arguments = ["restore", archive.trim(), "--to-image", new.to_str().unwrap()];
        run_expecting(0, &arguments);
        assert_eq!(fs::metadata(&new).unwrap().len(), fs::metadata(image).unwrap().len());
        if image == &ext {
            sh(&format!("e2fsck -fn {0}; tail -c 3 {0} | grep -q abc", quoted(&new)));
        } else {
            assert!(fs::read(&new).unwrap() == fs::read(image).unwrap(), "{}", image.display());
        }
        // And on a device, which has whole sectors.
        let target = dir.path().join("target.img");
        sh(&format!("truncate -s 24M {}", quoted(&target)));
        let device = sh(&format!("losetup -f --show {}", quoted(&target)));
        let output = volbak(&["restore", archive.trim(), "--to-device", device.trim()]).output().unwrap();
        sh(&format!("losetup -d {device}"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        if image == &raw {
            assert!(fs::read(&target).unwrap().starts_with(&fs::read(image).unwrap()));
        }
        fs::remove_file(&new).unwrap();
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_target_that_is_used_by_another_way_is_refused_by_name() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let dest = dir.path().join("b");
    fs::create_dir(&dest).unwrap();
    let small = dir.path().join("v.img");
    sh(&format!("truncate -s 8M {0}; mke2fs -q -t ext4 {0}", quoted(&small)));
    let archive = snapshot_expecting(0, &small, &dest, &[]);
    let used = dir.path().join("used.img");
    sh(&format!(
        "truncate -s 40M {0}; printf 'size=16M\nsize=16M\n' | sfdisk -q {0}; mke2fs -q -t ext4 -E offset=1048576 {0} 16M 2>&1",
        quoted(&used)
    ));
    let attach = |more: &str, what: &str| sh(&format!("losetup -f --show {more} {what}")).trim().to_owned();
    let refused = |device: &str, expected: &str| {
        let erase = format!("--yes-erase={}", device.rsplit('/').next().unwrap());
        let target = if device.starts_with("/dev/loop") { "--to-device" } else { "--to-image" };
        let said = run_expecting(1, &["restore", archive.to_str().unwrap(), target, device, &erase]);
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    };
    let file = quoted(&used);
    let one = attach("", &file);
    let other = attach("-o 1048576 --sizelimit 16777216", &file);
    refused(&one, &format!("is also attached to {other}"));
    let mounted = Mounted::with_options(Path::new(&other), &dir.path().join("m"), "ro");
    refused(&one, &format!("is also attached to {other}, which is mounted on"));
    refused(used.to_str().unwrap(), "shows it");
    mounted.unmount();
    sh(&format!("losetup -d {other}"));
    // A loop device over a loop device, whose disk is used below it.
    let above = attach("", &one);
    refused(&one, &format!("{above} shows it"));
    let second = attach("", &file);
    refused(&above, &format!("is also attached to {second}"));
    sh(&format!("losetup -d {above}; losetup -d {second}"));
    // In another mount namespace, whose process says so.
    let point = dir.path().join("ns");
    fs::create_dir(&point).unwrap();
    let script = format!(
        "{WITHOUT_OTHER_MOUNTS}mount -o ro {small} {point} && echo ready && exec sleep infinity",
        small = one,
        point = quoted(&point)
    );
    sh(&format!("mke2fs -q -t ext4 -F {one}"));
    let mut process = std::process::Command::new("unshare");
    process.args(["-m", "--propagation", "private", "sh", "-c", &script]).stdout(Stdio::piped());
    let mut process = Killed(process.spawn().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(process.0.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    refused(&one, "in the mount namespace of process");
    drop(process);
    // As swap space, where this kernel has it.
    sh(&format!("mkswap -q -f {one} >/dev/null 2>&1 || mkswap -f {one} >/dev/null"));
    if std::process::Command::new("swapon").arg(&one).stderr(Stdio::null()).status().unwrap().success() {
        refused(&one, "used as swap space");
        sh(&format!("swapoff {one}"));
    }
    sh(&format!("losetup -d {one}"));
}

/// On XFS one call shows all of them, and on btrfs another one.
#[test]
fn inode_flags_of_xfs_and_btrfs_come_back() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (image, point, dest) = (dir.path().join("v.img"), dir.path().join("m"), dir.path().join("b"));
    fs::create_dir(&dest).unwrap();
    for (make, letters, with_project) in [
        ("mkfs.xfs -q -f", &["A", "S", "d", "i", "a", "P", "x"][..], true),
        ("mkfs.btrfs -q -f", &["A", "S", "d", "i", "a", "c", "C", "D", "m"], false),
    ] {
        sh(&format!("rm -f {0}; truncate -s 320M {0}; {make} {0}", quoted(&image)));
        let mounted = Mounted::with_options(&image, &point, "loop");
        let mut set = 0;
        for letter in letters {
            // What this kernel's filesystem does not know is no part of the test.
            let known = sh(&format!(
                "cd {}; mkdir d{letter}; touch f{letter}; chattr +{letter} f{letter} 2>/dev/null && echo f || rm f{letter}
                 chattr +{letter} d{letter} 2>/dev/null && echo d || rmdir d{letter}",
                quoted(&point)
            ));
            set += known.lines().count();
        }
        assert!(set >= 10, "{make}: {set}");
        if with_project {
            sh(&format!(
                "cd {}; touch p; chattr -p 4294967294 p; mkdir q; chattr -p 77 q; chattr +P q; touch q/inner",
                quoted(&point)
            ));
        }
        let flags = |point: &Path| {
            sh(&format!("cd {}; lsattr -{1}R . | sort", quoted(point), if with_project { "pa" } else { "a" }))
        };
        let expected = flags(&point);
        assert!(!with_project || expected.contains("4294967294"), "{expected}");
        mounted.unmount();
        let archive = snapshot_expecting(0, &image, &dest, &["--full"]);
        let new = dir.path().join("new.img");
        let _ = fs::remove_file(&new);
        let output =
            volbak(&["restore", archive.to_str().unwrap(), "--to-image", new.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let mounted = Mounted::with_options(&new, &point, "loop");
        assert_eq!(flags(&point), expected);
        sh(&format!("chattr -R -ia {}", quoted(&point)));
        mounted.unmount();
    }
}

#[test]
fn inode_flags_come_back_and_the_locks_come_last() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (image, point) = (dir.path().join("v.img"), dir.path().join("m"));
    sh(&format!("truncate -s 64M {0}; mke2fs -q -t ext4 {0}", quoted(&image)));
    let mounted = Mounted::with_options(&image, &point, "loop");
    sh(&format!(
        "cd {}; mkdir -p locked/sub log other; echo x >keep; echo y >locked/sub/file; echo z >log/append; touch plain
         for f in A S c d s t u; do echo $f >file-$f; chattr +$f file-$f; done; chattr +D other; chattr +T other
         ln keep other/link; chattr +i keep locked/sub/file; chattr +a log/append; chattr +i locked/sub locked; chattr +a log .",
        quoted(&point)
    ));
    let flags = |point: &Path| {
        let listed = sh(&format!("cd {}; lsattr -d .; lsattr -aR . 2>/dev/null | sort", quoted(point)));
        listed.lines().filter(|line| !line.contains("lost+found")).collect::<Vec<_>>().join("\n")
    };
    let expected = flags(&point);
    mounted.unmount();
    // This kernel may have no projects: the reader needs none.
    sh(&format!(
        "tune2fs -O project {0} >/dev/null; debugfs -w -R 'sif plain projid 77' {0} 2>/dev/null",
        quoted(&image)
    ));
    let dest = dir.path().join("b");
    fs::create_dir(&dest).unwrap();
    let archive = snapshot_expecting(0, &image, &dest, &[]);
    let new = dir.path().join("new.img");
    let output = volbak(&["restore", archive.to_str().unwrap(), "--to-image", new.to_str().unwrap()]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let project =
        sh(&format!("debugfs -R 'stat plain' {} 2>/dev/null | grep -o 'Project: *[0-9]*' || true", quoted(&new)));
    match output.status.code() {
        Some(0) => assert!(project.contains("77"), "{project}; {said}"),
        code => assert!(code == Some(3) && said.contains("project ids could not be set"), "{said}"),
    }
    sh(&format!("tune2fs -O ^project {} >/dev/null 2>&1 || true", quoted(&new)));
    let mounted = Mounted::with_options(&new, &point, "loop,ro");
    assert_eq!(flags(&point), expected);
    let names = sh(&format!("ls -A {}", quoted(&point)));
    assert!(!names.contains(".volbak"), "{names}");
    mounted.unmount();
    // GNU tar and bsdtar take it, and bsdtar sets what nearly all filesystems have.
    let (gnu, bsd) = (dir.path().join("gnu"), dir.path().join("bsd"));
    sh(&format!(
        "mkdir {1} {2}; tar --xattrs --xattrs-include='*' --acls --numeric-owner --warning=no-unknown-keyword -xpzf {0} -C {1} 2>{3}
         ! test -s {3}; cat {1}/locked/sub/file; bsdtar -xpf {0} -C {2}",
        quoted(&archive),
        quoted(&gnu),
        quoted(&bsd),
        quoted(&dir.path().join("said"))
    ));
    // Into a directory: set there, too, where its filesystem can, and said where it cannot.
    let to = dir.path().join("to");
    let said = run_expecting(3, &["restore", archive.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    assert!(said.contains("inode flags (chattr +") || said.contains("project ids"), "{said}");
    sh(&format!("cd {}; cat other/link; chattr -R -ia . {} 2>/dev/null || true", quoted(&to), quoted(&bsd)));
}

#[test]
fn quota_limits_are_kept_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("q.img");
    let fill = "import struct, sys
image = open(sys.argv[1], 'r+b'); data = image.read()
entry = struct.pack('<IIQQQ', 1234, 0, 0, 0, 1)
first = data.find(entry); second = data.find(entry, first + 1)
assert first > 0 and second > 0
for at in (first, second):
    image.seek(at + 8); image.write(struct.pack('<QQ', 40, 30))
    image.seek(at + 32); image.write(struct.pack('<QQ', 2000, 1000))
users = data.find(struct.pack('<I', 0xd9c01f11))
image.seek(users + 8); image.write(struct.pack('<II', 86400, 3600))";
    sh(&format!(
        "cd {}; mkdir root; echo x >root/f; chown 1234:1234 root/f; truncate -s 32M q.img
         mke2fs -q -F -t ext4 -d root q.img; tune2fs -Q usrquota,grpquota q.img >/dev/null; python3 -c {} q.img",
        quoted(dir.path()),
        quoted(Path::new(fill))
    ));
    let destination = dir.path().join("b");
    fs::create_dir(&destination).unwrap();
    let archive = snapshot_expecting(0, &image, &destination, &[]);
    let text = fs::read_to_string(beside(&archive, "manifest.json")).unwrap();
    for limit in ["\"-u 1234 1000 2000 30 40\"", "\"-g 1234 1000 2000 30 40\"", "\"-t -u 86400 3600\""] {
        assert!(text.contains(limit), "{limit}: {text}");
    }
    let new = dir.path().join("new.img");
    let said = run_expecting(3, &["restore", archive.to_str().unwrap(), "--to-image", new.to_str().unwrap()]);
    // In the plan and in the result.
    assert_eq!(said.matches("its 2 quota limits are not set").count(), 2, "{said}");
    assert_eq!(said.matches("nor are their grace times").count(), 2, "{said}");
    assert_eq!(text.matches("\"-t ").count(), 1, "groups have the usual grace: {text}");
}
