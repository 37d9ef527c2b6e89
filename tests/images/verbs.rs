//! `volbak export` and `volbak import` as an operator runs them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::disks::{Noise, judge, run};
use crate::killed::Loop;

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");

fn volbak(args: &[&str]) -> Output {
    Command::new(VOLBAK).args(args).output().unwrap()
}

fn well(args: &[&str]) -> String {
    run(VOLBAK, args)
}

/// An ext4 of 48 MiB with files and the data of deleted ones, none of it a hole.
pub(crate) fn ext4(directory: &Path) -> PathBuf {
    let (path, file) = (directory.join("disk.img"), directory.join("content"));
    fs::write(&path, Noise::new(7).bytes(48 << 20)).unwrap();
    fs::write(&file, Noise::new(8).bytes(5 << 20)).unwrap();
    let (image, content) = (path.to_str().unwrap(), file.to_str().unwrap());
    run("/sbin/mke2fs", &["-q", "-F", "-t", "ext4", "-E", "nodiscard", image]);
    for command in [format!("write {content} kept"), format!("write {content} gone"), "rm gone".to_owned()] {
        run("/sbin/debugfs", &["-w", "-R", &command, image]);
    }
    // Written anew: what mke2fs only reserved would be a hole at one time and data at another.
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    path
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_export_holds_the_used_blocks_and_gets_its_name_when_it_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    let disk = ext4(directory.path());
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    let (disk, image) = (disk.to_str().unwrap(), out.join("a.qcow2"));
    let said = well(&["export", disk, "--to", image.to_str().unwrap(), "--verify"]);
    assert!(said.contains("read back and equal"), "{said}");
    assert!(fs::metadata(&image).unwrap().len() < 16 << 20, "{said}");
    let raw = out.join("a.raw");
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", image.to_str().unwrap(), raw.to_str().unwrap()]);
    judge(&image, "qcow2", &raw);
    run("/sbin/e2fsck", &["-fn", raw.to_str().unwrap()]);
    let again = out.join("b.raw");
    well(&["-q", "export", image.to_str().unwrap(), "--to", again.to_str().unwrap(), "--verify"]);
    assert!(fs::read(&raw).unwrap() == fs::read(&again).unwrap(), "a qcow2 image is a source, too");
    let before = fs::read(&image).unwrap();
    let refused = volbak(&["export", disk, "--to", image.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--overwrite"));
    assert!(before == fs::read(&image).unwrap());
    well(&["-q", "export", disk, "--to", image.to_str().unwrap(), "--overwrite", "--compress", "--json", "--verify"]);
    judge(&image, "qcow2", &raw);
    assert_eq!(names(&out), ["a.qcow2", "a.raw", "b.raw"]);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let disk = ext4(directory.path());
    let disk = disk.to_str().unwrap();
    for args in [
        &["--to", "/nowhere/a.vdi"][..],
        &["--to", "a.raw", "--compress"],
        &["--to", "a.qcow2", "--cluster-size", "3K"],
        &["--to", "a.qcow2", "--compat", "0.10", "--compress=zstd"],
        &["--to", "-", "--format", "qcow2", "--compress"],
        &["--to", "-", "--format", "qcow2", "--verify"],
    ] {
        assert_eq!(volbak(&[&["export", disk][..], args].concat()).status.code(), Some(2), "{args:?}");
    }
    let vmdk = directory.path().join("a.vmdk");
    run("qemu-img", &["create", "-q", "-f", "vmdk", vmdk.to_str().unwrap(), "1M"]);
    let refused = volbak(&["export", vmdk.to_str().unwrap(), "--to", "a.qcow2"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("qemu-img convert"));
}

/// A loop device that is detached when it goes out of scope.
struct Attached(String);

impl Attached {
    fn new(file: &Path) -> Self {
        Self(run("losetup", &["-f", "--show", "-r", file.to_str().unwrap()]).trim_end().to_owned())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// A guest may write a header of an image format into its raw disk (as in CVE-2008-2004): a device is raw in any case, a file is
/// if it is called so.
#[test]
fn a_raw_disk_that_begins_as_an_image_of_another_format_is_read_as_raw() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let inner = at("inner.img");
    fs::write(&inner, Noise::new(21).bytes(200 << 10)).unwrap();
    for format in ["qcow2", "vmdk"] {
        let disk = at(&format!("{format}.img"));
        run("qemu-img", &["convert", "-f", "raw", "-O", format, &inner, &disk]);
        File::options().write(true).open(&disk).unwrap().set_len(1 << 20).unwrap();
        let content = fs::read(&disk).unwrap();
        assert_eq!(content.len(), 1 << 20);
        let device = Attached::new(Path::new(&disk));
        for source in [&[&disk, "--source-format", "raw"][..], &[&device.0], &[&device.0, "--source-format", "raw"]] {
            let (exported, restored, to) = (at("exported.raw"), at("restored.img"), at("backups"));
            well(&[&["-q", "export", "--to", &exported, "--verify"][..], source].concat());
            assert!(fs::read(&exported).unwrap() == content, "{format} {source:?}: the export");
            let layout: serde_json::Value =
                serde_json::from_str(&well(&[&["inspect", "--json"][..], source].concat())).unwrap();
            assert_eq!(layout["source"]["size_bytes"], 1 << 20, "{format} {source:?}: {layout}");
            fs::create_dir(&to).unwrap();
            well(&[&["-q", "snapshot", "--image", "--name", "disk", "--to", &to][..], source].concat());
            well(&["-q", "restore", "disk@last", "--destination", &to, "--to-image", &restored]);
            assert!(fs::read(&restored).unwrap() == content, "{format} {source:?}: the backup");
            fs::remove_dir_all(&to).unwrap();
            fs::remove_file(&exported).unwrap();
            fs::remove_file(&restored).unwrap();
        }
        for verb in [&["inspect"][..], &["export", "--to", &at("wrong.raw")]] {
            let refused = volbak(&[verb, &[&device.0, "--source-format", "qcow2"]].concat());
            let said = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(1), "{verb:?}: {said}");
            assert!(said.contains("volumes and devices are raw"), "{verb:?}: {said}");
        }
        drop(device);
        // A file that is no qcow2 image is not read as one.
        let is_one = volbak(&["inspect", &disk, "--source-format", "qcow2"]).status.success();
        assert_eq!(is_one, format == "qcow2");
    }
    let of_backup = volbak(&["export", "disk@last", "--to", &at("a.raw"), "--source-format", "raw"]);
    assert_eq!(of_backup.status.code(), Some(2), "{of_backup:?}");
}

/// The offsets of all writes into the image ascend: no byte is written twice, and none before another.
#[test]
fn writes_ascend() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk.img");
    let file = File::create(&disk).unwrap();
    file.set_len(64 << 20).unwrap();
    for number in 0..20 {
        file.write_all_at(&Noise::new(number).bytes(300_000), number * 3_000_000).unwrap();
    }
    for args in [&["--cluster-size", "64K"][..], &["--cluster-size", "4K", "--compat", "0.10"], &["--format", "raw"]] {
        let (log, image) = (directory.path().join("log"), directory.path().join("image.qcow2"));
        let strace = ["-f", "-y", "-e", "trace=write,pwrite64,writev,pwritev", "-o", log.to_str().unwrap(), VOLBAK];
        let export = ["-q", "export", disk.to_str().unwrap(), "--overwrite", "--to", image.to_str().unwrap()];
        run("strace", &[&strace[..], &export, args].concat());
        let log = fs::read_to_string(&log).unwrap();
        let mut end = 0;
        let mut writes = 0;
        for line in log.lines().filter(|line| line.contains(".volbak-tmp.")) {
            assert!(line.contains("pwrite64("), "{line}");
            // Another thread's call may come in between: `…, LEN, OFFSET <unfinished ...>`.
            let call = line.rsplit_once(" <unfinished").or_else(|| line.rsplit_once(") = ")).unwrap().0;
            let mut numbers =
                call.rsplit(", ").map(|number| number.trim().trim_end_matches(')').parse::<u64>().unwrap());
            let (offset, len) = (numbers.next().unwrap(), numbers.next().unwrap());
            assert!(offset >= end, "{line} comes after a write up to {end}");
            end = offset + len;
            writes += 1;
        }
        assert!(writes > 3, "{log}");
    }
}

#[test]
fn a_pipe_gets_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let disk = ext4(directory.path());
    let (image, piped) = (directory.path().join("a.qcow2"), directory.path().join("piped"));
    well(&["-q", "export", disk.to_str().unwrap(), "--to", image.to_str().unwrap()]);
    let mut export = Command::new(VOLBAK)
        .args(["-q", "export", disk.to_str().unwrap(), "--to", "-", "--format", "qcow2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::copy(export.stdout.as_mut().unwrap(), &mut File::create(&piped).unwrap()).unwrap();
    assert!(export.wait().unwrap().success());
    run("qemu-img", &["check", "-f", "qcow2", piped.to_str().unwrap()]);
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "qcow2", image.to_str().unwrap(), piped.to_str().unwrap()]);
    // A reader that goes away is an error.
    let mut export = Command::new(VOLBAK)
        .args(["-q", "export", disk.to_str().unwrap(), "--to", "-", "--format", "qcow2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(export.stdout.take());
    assert_eq!(export.wait().unwrap().code(), Some(1));
}

/// Whenever it is killed, a file with the final name is complete, and the next run removes what was left.
#[test]
fn a_run_that_is_killed_leaves_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let disk = ext4(directory.path());
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    let image = out.join("a.qcow2");
    let (disk, name) = (disk.to_str().unwrap(), image.to_str().unwrap());
    let began = std::time::Instant::now();
    well(&["-q", "export", disk, "--to", name]);
    let (whole, took) = (fs::read(&image).unwrap(), began.elapsed());
    for moment in 0..50 {
        let _ = fs::remove_file(&image);
        let mut export = Command::new(VOLBAK).args(["-q", "export", disk, "--to", name]).spawn().unwrap();
        // The moment itself is what is tried: nothing is waited for.
        std::thread::sleep(took.mul_f64(f64::from(moment) / 45.0).min(Duration::from_secs(5)));
        export.kill().unwrap();
        export.wait().unwrap();
        assert!(!image.exists() || fs::read(&image).unwrap() == whole, "moment {moment}");
    }
    well(&["-q", "export", disk, "--to", name, "--overwrite"]);
    assert_eq!(names(&out), ["a.qcow2"]);
    assert!(fs::read(&image).unwrap() == whole);
}

#[test]
fn an_import_makes_the_target_equal() {
    let directory = tempfile::tempdir().unwrap();
    let disk = ext4(directory.path());
    let of = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    well(&["-q", "export", disk.to_str().unwrap(), "--to", &of("a.qcow2"), "--compress"]);
    let planned = well(&["import", &of("a.qcow2"), "--to-image", &of("back.img"), "--dry-run"]);
    assert!(planned.contains("of data") && !Path::new(&of("back.img")).exists(), "{planned}");
    well(&["import", &of("a.qcow2"), "--to-image", &of("back.img")]);
    judge(Path::new(&of("a.qcow2")), "qcow2", Path::new(&of("back.img")));
    let refused = volbak(&["import", &of("a.qcow2"), "--to-image", &of("back.img")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes-erase=back.img"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &of("a.qcow2"), "-F", "qcow2", &of("overlay.qcow2")]);
    let refused = volbak(&["import", &of("overlay.qcow2"), "--to-image", &of("b.img")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("backing file"));
    assert!(!Path::new(&of("b.img")).exists());
}

/// Neither an option nor its own name makes a backup the target of what is read from it.
#[test]
fn no_image_is_written_over_a_file_of_a_backup() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, to) = (ext4(directory.path()), directory.path().join("backups"));
    fs::create_dir(&to).unwrap();
    let (disk, to) = (disk.to_str().unwrap(), to.to_str().unwrap());
    well(&["-q", "snapshot", disk, "--destination", to, "--name", "a", "--image"]);
    let files: Vec<PathBuf> = fs::read_dir(format!("{to}/a")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in &files {
        let (path, was) = (file.to_str().unwrap(), fs::read(file).unwrap());
        let erase = format!("--yes-erase={}", file.file_name().unwrap().to_str().unwrap());
        let restore = ["restore", "a", "--destination", to, "--to-image", path, &erase];
        let import = ["import", disk, "--to-image", path, &erase];
        let export = ["export", "a", "--destination", to, "--to", path, "--format", "raw", "--overwrite"];
        for args in [&restore[..], &import, &export] {
            let refused = volbak(args);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains("it is a file of the backup a_"), "{args:?}: {said}");
            assert!(fs::read(file).unwrap() == was, "{args:?}");
        }
    }
    // By a device that shows the archive.
    let archive = files.iter().find(|file| file.to_str().unwrap().ends_with(".img.gz")).unwrap();
    let (device, was) = (Loop::new(archive), fs::read(archive).unwrap());
    let erase = format!("--yes-erase={}", device.0.trim_start_matches("/dev/"));
    let restore = ["restore", "a", "--destination", to, "--to-device", &device.0, &erase];
    for args in [&restore[..], &["import", disk, "--to-device", &device.0, &erase]] {
        let refused = volbak(args);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("its data lie in a file of the backup a_"),
            "{args:?}: {said}"
        );
        assert!(fs::read(archive).unwrap() == was, "{args:?}");
    }
}

/// A guest may call a file as a backup of it is called.
#[test]
fn files_are_not_restored_over_the_backups() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, to) = (ext4(directory.path()), directory.path().join("backups"));
    fs::create_dir(&to).unwrap();
    let (disk, to) = (disk.to_str().unwrap(), to.to_str().unwrap());
    well(&["-q", "snapshot", disk, "--destination", to, "--name", "a"]);
    let own = format!("{to}/a");
    for place in [to, &own] {
        let before = fs::read_dir(&own).unwrap().count();
        for how in [&["--dry-run"][..], &[]] {
            let args = [&["restore", "a", "--destination", to, "--to", place, "--overwrite"], how].concat();
            let refused = volbak(&args);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(1), "{said}");
            assert!(said.contains("has the backups"), "{said}");
            assert_eq!(fs::read_dir(&own).unwrap().count(), before);
        }
    }
}

/// A loop device over the image is the image: erasing the one destroys the other before it is read.
#[test]
fn an_image_is_not_imported_to_a_device_that_lies_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (image, other) = (ext4(directory.path()), directory.path().join("linked.img"));
    fs::hard_link(&image, &other).unwrap();
    let before = fs::read(&image).unwrap();
    let is_refused = |file: &Path, device: &Loop| {
        let erase = format!("--yes-erase={}", device.0.trim_start_matches("/dev/"));
        let refused = volbak(&["import", file.to_str().unwrap(), "--to-device", &device.0, &erase]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("its data lie in") && said.contains("overwritten"), "{said}");
        assert!(fs::read(&image).unwrap() == before, "the image was written to");
    };
    let over_it = Loop::new(&image);
    is_refused(&image, &over_it);
    is_refused(&other, &over_it);
    let over_that = Loop::new(Path::new(&over_it.0));
    is_refused(&image, &over_that);
}

/// What is worth a warning is worth an exit status of 3, from an import as from an export.
#[test]
fn an_image_with_a_warning_ends_with_problems() {
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    run("qemu-img", &["create", "-q", "-f", "qcow2", &of("a.qcow2"), "4M"]);
    run("qemu-img", &["snapshot", "-c", "before", &of("a.qcow2")]);
    // "Incompatible features", bit 0: it was not closed.
    File::options().write(true).open(of("a.qcow2")).unwrap().write_all_at(&[1], 79).unwrap();
    for args in [["import", "--to-image", "b.img"], ["export", "--to", "b.qcow2"]] {
        let done = volbak(&[args[0], &of("a.qcow2"), args[1], &of(args[2]), "--json"]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{said}");
        assert!(said.contains("not closed properly") && said.contains("1 internal snapshot,"), "{said}");
    }
    let again = volbak(&["import", &of("a.qcow2"), "--to-image", &of("b.img"), "--yes-erase=b.img", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(json["remarks"].as_array().unwrap().len(), 2, "{json}");
}
