//! Image backups and their restores that are killed at many moments.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::backup::{Place, gunzip};
use crate::disks::Noise;

/// The names in a directory, sorted; none if it is missing.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The length of all files of a directory.
fn length(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|facts| facts.len()).sum()
}

/// Runs volbak until so much is in `directory`, and kills it; true if it ended before.
fn run_until(args: &[&str], directory: &Path, bytes: u64) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_volbak"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() && length(directory) < bytes {
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
    let mut complete = 0;
    for moment in 0..26_u64 {
        let before = length(&directory);
        let args = ["snapshot", disk.to_str().unwrap(), "--image", "--full", "--to", &to, "-q"];
        // From its first byte up to its publication, whose names change the length no more.
        run_until(&args, &directory, before + moment * 502_000 + 1);
        let left = names(&directory);
        for archive in left.iter().filter(|name| name.ends_with(".img.gz") && !name.starts_with('.')) {
            let stem = archive.strip_suffix(".img.gz").unwrap();
            if left.contains(&format!("{stem}.manifest.json")) {
                continue;
            }
            // Published in part: its own manifest says so, and nothing lists it.
            assert!(left.contains(&format!(".volbak-tmp.{stem}.manifest.json")), "{moment}: {left:?}");
        }
        let listed = place.well(&["list", "disk"]);
        assert!(!listed.contains("DAMAGED") && !listed.contains("no manifest"), "{moment}: {listed}");
        complete = complete.max(listed.matches(" whole ").count());
    }
    let last = place.back_up(&disk, &[]);
    assert!(gunzip(&last) == fs::read(&disk).unwrap());
    let left = names(&directory);
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    place.well(&["verify", last.to_str().unwrap()]);
    assert!(complete <= 26);
}

#[test]
fn a_restore_that_is_killed_makes_no_image() {
    let place = Place::new();
    let disk = place.path("disk.img");
    fs::write(&disk, Noise::new(4).bytes(12 << 20)).unwrap();
    place.back_up(&disk, &[]);
    let out = place.path("out");
    fs::create_dir(&out).unwrap();
    let target = out.join("disk.img");
    let args = ["restore", "disk", "--to-image", target.to_str().unwrap(), "--from", &place.to(), "-q"];
    for _ in 0..12 {
        // The file has its whole length from the beginning on: at its first byte, and then somewhere.
        let ended = run_until(&args, &out, 1);
        assert!(ended || !target.exists() || fs::read(&target).unwrap() == fs::read(&disk).unwrap());
        let _ = fs::remove_file(&target);
        for name in names(&out) {
            assert!(name.starts_with(".volbak-tmp."), "{name}");
            fs::remove_file(out.join(name)).unwrap();
        }
    }
    place.well(&["restore", "disk", "--to-image", target.to_str().unwrap(), "-q"]);
    assert!(fs::read(&target).unwrap() == fs::read(&disk).unwrap());
}
