//! Image backups and their restores that are killed at many moments.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::backup::{Place, gunzip};
use crate::disks::Noise;
use crate::proof::kill_after;
use crate::testkit::cases;
use crate::testkit::guest::sh;
use crate::testkit::wait::met;

/// At how many moments each verb is killed.
fn kills() -> u32 {
    u32::try_from(cases::count(30)).unwrap()
}

/// The names in a directory, sorted; none if it is missing.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The length of all files of a directory.
pub(crate) fn length(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|facts| facts.len()).sum()
}

/// Runs volbak until so much is in `directory`, and kills it; true if it ended before.
pub(crate) fn run_until(args: &[&str], directory: &Path, bytes: u64) -> bool {
    kill_when(args, || length(directory) >= bytes)
}

/// Runs volbak until it is so, and kills it; true if it ended before.
fn kill_when(args: &[&str], is_so: impl Fn() -> bool) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_volbak"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() && !is_so() {
        assert!(Instant::now() < limit);
        std::thread::yield_now();
    }
    let ended = child.try_wait().unwrap().is_some();
    let _ = child.kill();
    let _ = child.wait();
    ended
}

#[test]
fn a_backup_that_is_killed_leaves_no_name_that_is_not_complete() {
    let place = Place::new();
    let disk = place.path("disk.img");
    fs::write(&disk, Noise::new(4).bytes(12 << 20)).unwrap();
    let directory = place.path("to/disk");
    let to = place.to();
    for moment in 0..u64::from(kills()) {
        let before = length(&directory);
        let args = ["snapshot", disk.to_str().unwrap(), "--image", "--full", "--to", &to, "-q"];
        // From its first byte up to its publication, whose names change the length no more.
        run_until(&args, &directory, before + moment * (13 << 20) / u64::from(kills()) + 1);
        let left = names(&directory);
        for archive in left.iter().filter(|name| name.ends_with(".img.gz") && !name.starts_with('.')) {
            let stem = archive.strip_suffix(".img.gz").unwrap();
            if left.contains(&format!("{stem}.manifest.json")) {
                place.well(&["verify", directory.join(archive).to_str().unwrap()]);
                continue;
            }
            // Published in part: its own manifest says so, and nothing lists it.
            assert!(left.contains(&format!(".volbak-tmp.{stem}.manifest.json")), "{moment}: {left:?}");
        }
        let listed = place.well(&["list", "disk"]);
        assert!(!listed.contains("DAMAGED") && !listed.contains("no manifest"), "{moment}: {listed}");
    }
    let last = place.back_up(&disk, &[]);
    assert!(gunzip(&last) == fs::read(&disk).unwrap());
    let left = names(&directory);
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    place.well(&["verify", last.to_str().unwrap()]);
}

#[test]
fn a_restore_that_is_killed_makes_no_image() {
    let place = Place::new();
    let disk = place.path("disk.img");
    fs::write(&disk, Noise::new(4).bytes(24 << 20)).unwrap();
    let was = fs::read(&disk).unwrap();
    place.back_up(&disk, &[]);
    let out = place.path("out");
    fs::create_dir(&out).unwrap();
    let target = out.join("disk.img");
    let args = ["restore", "disk", "--to-image", target.to_str().unwrap(), "--from", &place.to(), "-q"];
    let began = Instant::now();
    run_until(&args, &out, u64::MAX);
    let took = began.elapsed();
    assert!(fs::read(&target).unwrap() == was);
    let left_something = || {
        assert!(!target.exists() || fs::read(&target).unwrap() == was);
        let left: Vec<String> = names(&out).into_iter().filter(|name| name != "disk.img").collect();
        assert!(left.iter().all(|name| name.starts_with(".volbak-tmp.")), "{left:?}");
        let _ = fs::remove_file(&target);
        !left.is_empty()
    };
    let _ = fs::remove_file(&target);
    for moment in 0..kills() {
        kill_after(&args, took.mul_f64(f64::from(moment) / f64::from(kills())));
        left_something();
    }
    met("a kill of a restore that writes", || {
        run_until(&args, &out, 1);
        left_something().then_some(())
    });
    // A restore that found damage leaves such a file on purpose: what is there is told, and not removed.
    let said = place.well(&["restore", "disk", "--to-image", target.to_str().unwrap()]);
    assert!(said.contains("an earlier restore left .volbak-tmp.disk.img."), "{said}");
    assert!(fs::read(&target).unwrap() == was);
}

/// A device has its first sector last: it is no disk before all else is there.
#[test]
fn a_restore_to_a_device_that_is_killed_makes_no_disk() {
    let place = Place::new();
    let (disk, backing) = (place.path("disk.img"), place.path("device.img"));
    fs::write(&disk, Noise::new(4).bytes(24 << 20)).unwrap();
    let was = fs::read(&disk).unwrap();
    place.back_up(&disk, &[]);
    fs::File::create(&backing).unwrap().set_len(24 << 20).unwrap();
    let device = Loop::new(&backing);
    let erase = format!("--yes-erase={}", device.0.rsplit('/').next().unwrap());
    let args = ["restore", "disk", "--to-device", &device.0, "--from", &place.to(), "-q", &erase];
    let began = Instant::now();
    run_until(&args, &place.path("tmp"), u64::MAX);
    let took = began.elapsed();
    assert!(fs::read(&device.0).unwrap() == was);
    let clear = || fs::write(&device.0, vec![0x5a; 24 << 20]).unwrap();
    let has_no_start = || {
        let mut sector = [1; 512];
        // Of the file behind it: whoever has the device open is in the way.
        fs::File::open(&backing).unwrap().read_exact_at(&mut sector, 0).unwrap();
        sector == [0; 512]
    };
    for moment in 0..kills() {
        clear();
        kill_after(&args, took.mul_f64(f64::from(moment) / f64::from(kills())));
        let now = fs::read(&device.0).unwrap();
        let is_untouched = now.iter().all(|byte| *byte == 0x5a);
        assert!(is_untouched || has_no_start() || now == was, "moment {moment}");
    }
    met("a kill of a restore that writes", || {
        clear();
        kill_when(&args, has_no_start);
        has_no_start().then_some(())
    });
    place.well(&["restore", "disk", "--to-device", &device.0, "-q", &erase]);
    assert!(fs::read(&device.0).unwrap() == was);
}

/// A loop device on a file.
pub(crate) struct Loop(pub(crate) String);

impl Loop {
    pub(crate) fn new(backing: &Path) -> Self {
        Self(sh(&format!("losetup -f --show {}", backing.display())).trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        sh(&format!("losetup -d {}", self.0));
    }
}

/// What each verb unpacks of an image, or of a backup, is removed by the next run of any of them in the same place.
#[test]
fn what_was_unpacked_by_a_run_that_was_killed_is_removed_by_the_next() {
    let place = Place::new();
    let disk = place.path("disk.img");
    fs::write(&disk, Noise::new(4).bytes(64 << 20)).unwrap();
    let tree = place.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("big"), Noise::new(5).bytes(24 << 20)).unwrap();
    let (tree, image) = (tree.to_str().unwrap(), disk.to_str().unwrap());
    crate::disks::run("/sbin/mke2fs", &["-q", "-F", "-t", "ext4", "-d", tree, image]);
    let archive = place.back_up(&disk, &[]);
    place.well(&["snapshot", image, "-q"]);
    let files = names(&place.path("to/disk")).into_iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    let files = place.path("to/disk").join(files);
    let of = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let (archive, files, to, tmp) = (archive.to_str().unwrap(), files.to_str().unwrap(), of("out/tree"), of("tmp"));
    fs::create_dir(place.path("out")).unwrap();
    for (word, args, scratch) in [
        ("files", vec!["cat", &format!("{archive}:big")], "tmp"),
        ("files", vec!["restore", archive, "--to", &to], "out"),
        ("test", vec!["verify", archive, "--restore-test", "--scratch", &tmp], "tmp"),
        ("rebuilt", vec!["export", files, "--to", &of("out/a.qcow2")], "out"),
    ] {
        let scratch = place.path(scratch);
        let left = || {
            let is_left = |name: &String| name.starts_with(".volbak-tmp.") && name.contains(&format!(".{word}."));
            names(&scratch).into_iter().find(is_left)
        };
        met("a kill while something is unpacked", || {
            let _ = fs::remove_dir_all(&to);
            let _ = fs::remove_file(place.path("out/a.qcow2"));
            let mut child = Command::new(env!("CARGO_BIN_EXE_volbak"))
                .args(&args)
                .env("TMPDIR", &tmp)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Something beside the lock is in it.
            while left().is_none_or(|name| names(&scratch.join(name)).len() < 2) && child.try_wait().unwrap().is_none()
            {
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            left()
        });
        let _ = fs::remove_dir_all(&to);
        let output = place.volbak(&args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(left(), None, "{args:?}");
    }
    assert_eq!(names(&place.path("tmp")), Vec::<String>::new());
    assert_eq!(names(&place.path("out")), ["a.qcow2"]);
}
