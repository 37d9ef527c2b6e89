//! One region of a backup goes into a device, an image or a directory of its own, and nothing beside it is touched.

use std::fs;
use std::path::{Path, PathBuf};

use crate::testkit::guest::backups::{run_expecting, snapshot_expecting};
use crate::testkit::guest::{Mounted, sh};
use crate::testkit::tree::{Tree, assert_equal_trees, fingerprint, noise};

/// A disk with something unknown, an ext4, swap, and a second filesystem.
struct Disk {
    dir: tempfile::TempDir,
    source: PathBuf,
    archive: String,
    ext4: Tree,
}

impl Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn restore(&self, status: i32, more: &[&str]) -> String {
        let mut arguments = vec!["restore", &self.archive];
        arguments.extend(more);
        run_expecting(status, &arguments)
    }
}

/// The second filesystem cannot be mounted unless `is_second_good`, and is an image in the backup then.
fn disk(is_second_good: bool) -> Disk {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = dir.path().join("disk.img");
    let damage = if is_second_good { "true" } else { "debugfs -w -R 'clri <2>' ${loop}p4" };
    sh(&format!(
        "truncate -s 240M {0}
         sfdisk -q {0} <<'TABLE'
label: gpt
size=4M, type=21686148-6449-6E6F-744E-656564454649
size=120M, type=linux
size=20M, type=swap
size=60M, type=linux
TABLE
         head -c 50000 /dev/urandom | dd of={0} bs=1M seek=1 conv=notrunc status=none
         loop=$(losetup -f --show {0}); partx -a $loop >&2
         mkfs.ext4 -q -L root -m 3 ${{loop}}p2; mkswap -L swap0 ${{loop}}p3; mkfs.ext2 -q -L second ${{loop}}p4; {damage} 2>/dev/null
         partx -d $loop; losetup -d $loop",
        disk.display()
    ));
    let at = |start: u64, mib: u64| format!("loop,offset={},sizelimit={}", start << 20, mib << 20);
    let point = dir.path().join("m");
    let mounted = Mounted::with_options(&disk, &point, &at(5, 120));
    fs::create_dir_all(point.join("etc/ssh")).unwrap();
    fs::create_dir(point.join("p2")).unwrap();
    for number in 0..40 {
        fs::write(point.join(format!("etc/ssh/key-{number}")), noise(number, 50_000)).unwrap();
    }
    fs::hard_link(point.join("etc/ssh/key-1"), point.join("p2/link")).unwrap();
    fs::write(point.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    mounted.unmount();
    let ext4 = tree_of(&disk, &point, &at(5, 120));
    fs::create_dir(dir.path().join("b")).unwrap();
    let archive = snapshot_expecting(if is_second_good { 0 } else { 3 }, &disk, &dir.path().join("b"), &[]);
    let archive = archive.to_str().unwrap().to_owned();
    Disk { dir, source: disk, archive, ext4 }
}

fn tree_of(source: &Path, point: &Path, options: &str) -> Tree {
    let mounted = Mounted::with_options(source, point, &format!("ro,{options}"));
    let mut tree = fingerprint(&mounted.point);
    tree.remove(b"lost+found".as_slice());
    mounted.unmount();
    tree
}

fn facts(device: &Path, offset_mib: u64, mib: u64) -> String {
    sh(&format!(
        "blkid -p -o export -O {} -S {} {} | grep -E '^(LABEL|UUID|TYPE)='",
        offset_mib << 20,
        mib << 20,
        device.display()
    ))
}

#[test]
fn a_filesystem_goes_into_an_image_of_any_size() {
    let disk = disk(true);
    let was = facts(&disk.source, 5, 120);
    for (name, size, mib) in [("same", None, 120), ("larger", Some("200M"), 200), ("smaller", Some("90M"), 90)] {
        let image = disk.path(name);
        let mut arguments = vec!["--region", "p2", "--to-image", image.to_str().unwrap()];
        if let Some(size) = size {
            arguments.extend(["--size", size]);
        }
        let said = disk.restore(0, &arguments);
        assert!(said.contains("1 filesystem checked and clean; 0 other problems"), "{said}");
        assert_eq!(fs::metadata(&image).unwrap().len(), mib << 20);
        assert_eq!(facts(&image, 0, mib), was);
        assert_equal_trees(&disk.ext4, &tree_of(&image, &disk.path("m"), "loop"));
    }
    let raw = disk.path("raw");
    disk.restore(0, &["--region", "p1", "--to-image", raw.to_str().unwrap()]);
    sh(&format!("cmp -i 1048576:0 -n 4194304 {} {}", disk.source.display(), raw.display()));
    let swap = disk.path("swap");
    disk.restore(0, &["--region", "p3", "--to-image", swap.to_str().unwrap()]);
    assert_eq!(facts(&swap, 0, 20), facts(&disk.source, 125, 20));
    let second = disk.path("second");
    disk.restore(0, &["--region", "p4", "--to-image", second.to_str().unwrap()]);
    assert_eq!(facts(&second, 0, 60), facts(&disk.source, 145, 60));
    sh(&format!("e2fsck -fn {}", second.display()));
}

#[test]
fn a_region_goes_into_a_partition_and_its_neighbours_stay() {
    let disk = disk(true);
    let other = disk.path("other.img");
    // Of the same name as its source, so that what is on it has to be named.
    let device = sh(&format!(
        "truncate -s 200M {0}; printf 'size=30M\\nsize=130M\\nsize=20M\\n' | sfdisk -q --label gpt {0}
         loop=$(losetup -f --show {0}); partx -a $loop >&2; head -c 31457280 /dev/urandom >${{loop}}p1
         head -c 20971520 /dev/urandom >${{loop}}p3; mkfs.xfs -q -f ${{loop}}p2 2>/dev/null || mkfs.ext4 -q ${{loop}}p2; echo $loop",
        other.display()
    ));
    let device = device.trim();
    let target = format!("{device}p2");
    let around = || sh(&format!("sha256sum <{device}p1; sha256sum <{device}p3; sfdisk -d {device}"));
    let before = around();
    let said = disk.restore(1, &["--region", "p2", "--to-device", &target]);
    let name = target.trim_start_matches("/dev/");
    assert!(said.contains(&format!("--yes-erase={name}")), "{said}");
    let said = disk.restore(0, &["--region", "p2", "--to-device", &target, &format!("--yes-erase={name}")]);
    assert!(said.contains("0 failed; 1 filesystem checked and clean; 0 other problems"), "{said}");
    assert_eq!(around(), before);
    assert_equal_trees(&disk.ext4, &tree_of(Path::new(&target), &disk.path("m"), "noload"));
    // One that is too small is refused, and keeps what it has.
    let said =
        disk.restore(1, &["--region", "p2", "--to-device", &format!("{device}p3"), &format!("--yes-erase={name}")]);
    assert!(said.contains("too small") && said.contains("nothing was written"), "{said}");
    assert_eq!(around(), before);
    sh(&format!("partx -d {device}; losetup -d {device}"));
}

#[test]
fn a_region_s_files_go_into_a_directory() {
    let disk = disk(true);
    let to = disk.path("to");
    let to_text = to.to_str().unwrap();
    disk.restore(0, &["--region", "p2", "--to", to_text, "--top", "--keep-setid"]);
    let mut found = fingerprint(&to);
    found.remove(b"lost+found".as_slice());
    assert_equal_trees(&disk.ext4, &found);
    let one = disk.path("one");
    disk.restore(0, &["--region", "p2", "--to", one.to_str().unwrap(), "--path", "etc/hosts", "--path", "p2"]);
    assert_eq!(sh(&format!("cd {}; find . -type f | sort", one.display())), "./etc/hosts\n./p2/link\n");
    let said = disk.restore(0, &["--region", "p2", "--to", one.to_str().unwrap(), "--path", "etc/hosts", "--dry-run"]);
    assert!(said.contains("3 entries"), "{said}");
    let said = disk.restore(1, &["--region", "p1", "--to", one.to_str().unwrap()]);
    assert!(said.contains("p1 has no files") && said.contains("--path ./p1.img"), "{said}");
    for to in [["--to", one.to_str().unwrap()], ["--to-image", to_text]] {
        let said = disk.restore(1, &["--region", "p9", to[0], to[1]]);
        assert!(said.contains("no region p9; its regions are: p1, p2, p3, p4"), "{said}");
    }
    // With two filesystems a path needs the region's name.
    let said = disk.restore(1, &["--to", disk.path("none").to_str().unwrap(), "--path", "etc/hosts"]);
    assert!(said.contains("nothing that matches etc/hosts"), "{said}");
}

#[test]
fn paths_start_in_the_only_filesystem() {
    let disk = disk(false);
    let to = disk.path("to");
    disk.restore(
        0,
        &["--to", to.to_str().unwrap(), "--path", "etc/hosts", "--path", "etc/ssh/key-1*", "--path", "p1.img"],
    );
    let files = sh(&format!("cd {}; find . -type f | wc -l; test -e p1.img; cat p2/etc/hosts", to.display()));
    assert_eq!(files, "13\n127.0.0.1 localhost\n");
    assert_eq!(run_expecting(0, &["cat", &format!("{}:etc/hosts", disk.archive)]), "127.0.0.1 localhost\n");
    assert_eq!(run_expecting(0, &["cat", &format!("{}:p2/etc/hosts", disk.archive)]), "127.0.0.1 localhost\n");
    let listed = run_expecting(0, &["browse", &disk.archive, "etc"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(run_expecting(0, &["browse", &disk.archive]).contains("p1.img"));
    // The filesystem's own directory of the region's name is reached through the region.
    assert!(run_expecting(0, &["browse", &disk.archive, "p2/p2"]).contains("p2/p2/link"));
}
