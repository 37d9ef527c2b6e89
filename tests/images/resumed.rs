//! `volbak export --resume`: whatever an interrupted export left, the image is what a fresh export makes, or the export says why
//! it does not go on.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::backup::Place;
use crate::disks::{Noise, judge, run};
use crate::testkit::cases;
use crate::verbs::{ext4, names};

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn volbak(args: &[&str]) -> Output {
    Command::new(VOLBAK).args(args).stdin(Stdio::null()).output().unwrap()
}

/// What a run that must fail said.
fn refused(args: &[&str]) -> String {
    let output = volbak(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    said
}

/// Exports well; gives how much was there already.
fn kept_by(args: &[&str]) -> u64 {
    let said: serde_json::Value =
        serde_json::from_str(&run(VOLBAK, &[&["-q", "export", "--json"], args].concat())).unwrap();
    said["kept_bytes"].as_u64().unwrap()
}

/// The temporary files of exports in a directory, with the room that they take.
fn begun(out: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let temporary = entries.filter(|path| text(path).contains("/.volbak-tmp.") && path.is_file());
    // It may get its name meanwhile.
    temporary.filter_map(|path| fs::metadata(&path).ok().map(|facts| (path, facts.blocks() * 512))).collect()
}

/// Starts an export, and sends it a signal when so much of the image is there; gives how much it was, or nothing if the export ended
/// before.
fn interrupted(args: &[&str], out: &Path, bytes: u64, signal: &str) -> Option<(u64, Output)> {
    let child = Command::new(VOLBAK).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = Some(child);
    let limit = Instant::now() + Duration::from_secs(120);
    let ended = |child: &mut Option<Child>| child.as_mut().unwrap().try_wait().unwrap().is_some();
    let mut length = 0;
    while length < bytes {
        assert!(Instant::now() < limit, "{args:?}");
        if ended(&mut child) {
            break;
        }
        length = begun(out).iter().map(|(_, length)| *length).max().unwrap_or(0);
        std::thread::yield_now();
    }
    let child = child.take().unwrap();
    let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
    let output = child.wait_with_output().unwrap();
    // What was written between the last look and the signal is there, too.
    let (_, length) = begun(out).into_iter().next()?;
    Some((length, output))
}

#[test]
fn an_export_that_was_cut_off_at_any_moment_is_resumed_and_is_equal_to_a_fresh_one() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, out) = (ext4(directory.path()), directory.path().join("out"));
    fs::create_dir(&out).unwrap();
    let raw = directory.path().join("fresh.raw");
    run(VOLBAK, &["-q", "export", text(&disk), "--to", text(&raw)]);
    let kinds: [(&str, &[&str]); 4] = [
        ("a.qcow2", &[]),
        ("a.qcow2", &["--compress", "--verify"]),
        ("a.raw", &["--verify"]),
        ("a.qcow2", &["--cluster-size", "4K"]),
    ];
    let fresh: Vec<Vec<u8>> = (kinds.iter())
        .map(|(name, options)| {
            let fresh = directory.path().join(format!("fresh-{name}"));
            run(VOLBAK, &[&["-q", "export", text(&disk), "--overwrite", "--to", text(&fresh)], *options].concat());
            fs::read(fresh).unwrap()
        })
        .collect();
    let mut noise = Noise::new(53);
    let mut resumed = 0;
    let moments = cases::count(50);
    for moment in 0..moments {
        let (kind, fresh) = (kinds[moment % kinds.len()], &fresh[moment % kinds.len()]);
        let image = out.join(kind.0);
        let args = [&["export", text(&disk), "--to", text(&image)], kind.1].concat();
        let at = noise.below(5 << 20) + 1;
        let with_signal = if moment % 5 == 4 { "-INT" } else { "-KILL" };
        // So slow that most moments are before its end.
        let slow = ["--read-rate", "8M"];
        let mut left = interrupted(&[&args[..], &slow].concat(), &out, at, with_signal);
        if let Some((_, output)) = left.as_ref().filter(|_| with_signal == "-INT") {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("the same command with --resume continues it"), "{said}");
        }
        let again = [&args[..], &["--resume"]].concat();
        if moment % 3 == 2 && left.is_some() {
            // Cut off once more while it goes on.
            left = interrupted(&[&again[..], &slow].concat(), &out, at + noise.below(2 << 20), "-KILL");
        }
        let Some((length, _)) = left else {
            // It was complete before.
            assert!(fs::read(&image).unwrap() == *fresh, "moment {moment}");
            fs::remove_file(&image).unwrap();
            continue;
        };
        assert!(!image.exists(), "moment {moment}");
        let kept = kept_by(&again[1..]);
        assert!(fs::read(&image).unwrap() == *fresh, "moment {moment}, {length} bytes were there");
        assert!(kept + (1 << 20) >= length, "moment {moment}: {kept} of {length} bytes were kept");
        judge(&image, if kind.0 == "a.raw" { "raw" } else { "qcow2" }, &raw);
        assert_eq!(names(&out), [kind.0], "moment {moment}");
        fs::remove_file(&image).unwrap();
        resumed += 1;
    }
    assert!(resumed > moments / 2, "{resumed} of {moments} were resumed");
}

/// Leaves what an export to `out/a.qcow2` has written when it is killed in its second half.
fn leave(disk: &Path, out: &Path) -> PathBuf {
    for _ in 0..20 {
        let image = out.join("a.qcow2");
        let args = ["export", text(disk), "--to", text(&image), "--read-rate", "4M"];
        if interrupted(&args, out, 3 << 20, "-KILL").is_some() {
            return begun(out).remove(0).0;
        }
        fs::remove_file(&image).unwrap();
    }
    panic!("it was killed too late each time");
}

#[test]
fn what_is_there_is_compared_and_never_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, out) = (ext4(directory.path()), directory.path().join("out"));
    fs::create_dir(&out).unwrap();
    let (image, fresh) = (out.join("a.qcow2"), directory.path().join("fresh.qcow2"));
    run(VOLBAK, &["-q", "export", text(&disk), "--to", text(&fresh)]);
    let fresh = fs::read(fresh).unwrap();
    let mut noise = Noise::new(9);
    for damage in 0..8 {
        let left = leave(&disk, &out);
        let file = File::options().write(true).open(&left).unwrap();
        let length = file.metadata().unwrap().len();
        match damage {
            0 => file.set_len(1).unwrap(),
            1 => file.set_len(64 << 20).unwrap(),
            2 => file.write_all_at(&noise.bytes(40 << 20), 0).unwrap(),
            // The tables at the end, and what lies behind them.
            3 => file.write_all_at(&noise.bytes(3 << 20), fresh.len() as u64 - (1 << 20)).unwrap(),
            // Pages that did not reach the disk before the power went.
            4 => (0..5).for_each(|_| file.write_all_at(&[0; 4096], noise.below(length) / 4096 * 4096).unwrap()),
            _ => (0..5).for_each(|_| file.write_all_at(&[noise.next() as u8], noise.below(length)).unwrap()),
        }
        let kept = kept_by(&[text(&disk), "--to", text(&image), "--resume", "--verify"]);
        assert!(fs::read(&image).unwrap() == fresh, "damage {damage}");
        assert!(kept < length && (damage == 2 || damage == 0 || kept > 1 << 20), "damage {damage}: {kept} of {length}");
        fs::remove_file(&image).unwrap();
    }
    // Nothing to go on with: from the start.
    assert_eq!(kept_by(&[text(&disk), "--to", text(&image), "--resume"]), 0);
    assert!(fs::read(&image).unwrap() == fresh);
}

#[test]
fn what_is_of_something_else_is_not_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, out) = (ext4(directory.path()), directory.path().join("out"));
    fs::create_dir(&out).unwrap();
    let image = out.join("a.qcow2");
    let left = leave(&disk, &out);
    let before = fs::read(&left).unwrap();
    let resume = |source: &Path, more: &[&str]| {
        let said = refused(&[&["export", text(source), "--to", text(&image), "--resume"], more].concat());
        assert!(fs::read(&left).unwrap() == before && !image.exists(), "{said}");
        said
    };
    for options in [&["--cluster-size", "4K"][..], &["--compress"], &["--all-blocks"], &["--compat", "0.10"]] {
        assert!(resume(&disk, options).contains("cluster size"), "{options:?}");
    }
    let other = directory.path().join("other.img");
    fs::copy(&disk, &other).unwrap();
    assert!(resume(&other, &[]).contains("another source"));
    fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(resume(&disk, &[]).contains("others can write to it"));
    fs::set_permissions(&left, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&left, Some(4711), None).unwrap();
    assert!(resume(&disk, &[]).contains("another user"));
    std::os::unix::fs::chown(&left, Some(0), None).unwrap();
    fs::hard_link(&left, out.join("second")).unwrap();
    assert!(resume(&disk, &[]).contains("second name"));
    fs::remove_file(out.join("second")).unwrap();
    let held = File::options().read(true).write(true).open(&left).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(resume(&disk, &[]).contains("being written by another export"));
    drop(held);
    // A link in its place leads nowhere.
    let target = directory.path().join("target");
    fs::rename(&left, &target).unwrap();
    std::os::unix::fs::symlink(&target, &left).unwrap();
    refused(&["export", text(&disk), "--to", text(&image), "--resume"]);
    assert!(fs::read(&target).unwrap() == before);
    fs::rename(&target, &left).unwrap();
    let file = File::options().write(true).open(&disk).unwrap();
    file.write_all_at(b"changed", 40 << 20).unwrap();
    drop(file);
    assert!(resume(&disk, &[]).contains("before it changed"));
    // As each message says: without the option it is removed.
    assert_eq!(kept_by(&[text(&disk), "--to", text(&image)]), 0);
    assert_eq!(names(&out), ["a.qcow2"]);
    let stream = volbak(&["export", text(&disk), "--to", "-", "--format", "qcow2", "--resume"]);
    assert_eq!(stream.status.code(), Some(2));
}

/// A small filesystem in memory, until it is dropped.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_export_whose_target_was_full_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, out) = (ext4(directory.path()), directory.path().join("out"));
    fs::create_dir(&out).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=5M", "none", text(&out)]);
    let _small = Small(out.clone());
    let image = out.join("a.qcow2");
    let args = ["export", text(&disk), "--to", text(&image), "--resume"];
    let said = refused(&args);
    assert!(said.contains("No space left") && said.contains("--resume continues it"), "{said}");
    run("mount", &["-o", "remount,size=64M", text(&out)]);
    assert!(kept_by(&args[1..]) > 4 << 20);
    let fresh = directory.path().join("fresh.qcow2");
    run(VOLBAK, &["-q", "export", text(&disk), "--to", text(&fresh)]);
    assert!(fs::read(&image).unwrap() == fs::read(&fresh).unwrap());
}

#[test]
fn exports_of_backups_are_resumed() {
    let place = Place::new();
    let disk = ext4(place.path("to").parent().unwrap());
    let archive = place.back_up(&disk, &[]);
    place.well(&["snapshot", text(&disk), "-q"]);
    let files = names(&place.path("to/disk")).into_iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    let files = place.path("to/disk").join(files);
    let out = place.path("out");
    fs::create_dir(&out).unwrap();
    let image = out.join("a.qcow2");
    for backup in [&archive, &files] {
        let args = ["export", text(backup), "--to", text(&image)];
        let mut kept = None;
        while kept.is_none() {
            let left = interrupted(&[&args[..], &["--read-rate", "8M"]].concat(), &out, 3 << 20, "-KILL");
            kept = left.map(|_| kept_by(&[&args[1..], &["--resume", "--verify"]].concat()));
            assert!(kept.is_none_or(|kept| kept > 1 << 20), "{}: {kept:?}", backup.display());
            // A run that was killed between its last two steps leaves what it rebuilt for the next one.
            assert!(kept.is_none() || names(&out) == ["a.qcow2"], "{:?}", names(&out));
            let raw = place.path("raw.img");
            run("qemu-img", &["check", "-q", text(&image)]);
            run("qemu-img", &["convert", "-O", "raw", text(&image), text(&raw)]);
            run("/sbin/e2fsck", &["-fn", text(&raw)]);
            fs::remove_file(&image).unwrap();
        }
    }
}
