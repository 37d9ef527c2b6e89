//! qcow2 images as sources of `inspect` and `snapshot`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::disks::{Noise, run};
use crate::testkit::wait::wait_until;

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");

fn volbak(args: &[&str]) -> Output {
    Command::new(VOLBAK).args(args).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A raw disk with a file, and the same as qcow2.
fn disks(directory: &Path, make: &[&str]) -> (PathBuf, PathBuf) {
    let (raw, image, tree) = (directory.join("disk.raw"), directory.join("disk.qcow2"), directory.join("tree"));
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("kept"), Noise::new(3).bytes(900_000)).unwrap();
    let name = fs::File::create(&raw).unwrap();
    name.set_len(320 << 20).unwrap();
    let made: Vec<String> = make.iter().map(|word| word.replace("TREE", text(&tree))).collect();
    let words: Vec<&str> = made.iter().map(String::as_str).collect();
    run(words[0], &[&words[1..], &[text(&raw)]].concat());
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-c", text(&raw), text(&image)]);
    (raw, image)
}

const EXT: [&str; 6] = ["/sbin/mke2fs", "-q", "-t", "ext4", "-d", "TREE"];

fn archive_in(directory: &Path, suffix: &str) -> PathBuf {
    let mut found = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| text(path).ends_with(suffix)).unwrap()
}

#[test]
fn a_qcow2_image_is_backed_up_as_the_disk_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = disks(directory.path(), &EXT);
    let shown = volbak(&["inspect", text(&image)]);
    assert!(
        shown.status.success() && said(&shown).contains("ext4") && said(&shown).contains("320 MiB"),
        "{}",
        said(&shown)
    );

    let backups = directory.path().join("backups");
    fs::create_dir(&backups).unwrap();
    run(VOLBAK, &["-q", "snapshot", text(&image), "--to", text(&backups)]);
    let archive = archive_in(&backups.join("disk"), ".tar.gz");
    run(VOLBAK, &["-q", "verify", text(&archive)]);
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    run("tar", &["-xzf", text(&archive), "-C", text(&out)]);
    assert!(fs::read(out.join("kept")).unwrap() == fs::read(directory.path().join("tree/kept")).unwrap());

    // A second night, as an image of the whole disk.
    run(VOLBAK, &["-q", "snapshot", "--image", text(&image), "--to", text(&backups), "--name", "whole"]);
    let archive = archive_in(&backups.join("whole"), ".img.gz");
    run(VOLBAK, &["-q", "verify", text(&archive)]);
    let back = directory.path().join("back");
    run("sh", &["-c", &format!("gunzip -c {} >{}", text(&archive), text(&back))]);
    run("/sbin/e2fsck", &["-fn", text(&back)]);
    assert!(fs::metadata(&back).unwrap().len() == fs::metadata(&raw).unwrap().len());
    let files = said(&volbak(&["browse", text(&archive)]));
    assert!(files.contains("kept"), "{files}");
}

/// The kernel reads XFS, from a file that the disk is unpacked to.
#[test]
fn files_that_the_kernel_reads_come_out_of_a_qcow2_image_and_of_a_backup_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let prototype = directory.path().join("prototype");
    let kept = directory.path().join("tree/kept");
    fs::write(&prototype, format!("/\n0 0\nd--755 0 0\nkept ---644 0 0 {}\n$\n$\n", text(&kept))).unwrap();
    let (_, image) = disks(directory.path(), &["/sbin/mkfs.xfs", "-q", "-f", "-p", text(&prototype)]);
    let backups = directory.path().join("backups");
    fs::create_dir(&backups).unwrap();
    run(VOLBAK, &["-q", "snapshot", text(&image), "--to", text(&backups)]);
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    run("tar", &["-xzf", text(&archive_in(&backups.join("disk"), ".tar.gz")), "-C", text(&out)]);
    assert!(fs::read(out.join("kept")).unwrap() == fs::read(&kept).unwrap());

    run(VOLBAK, &["-q", "snapshot", "--image", text(&image), "--to", text(&backups), "--name", "whole"]);
    let archive = archive_in(&backups.join("whole"), ".img.gz");
    let files = said(&volbak(&["browse", text(&archive)]));
    assert!(files.contains("kept"), "{files}");
    let read = volbak(&["cat", &format!("{}:kept", text(&archive))]);
    assert!(
        read.status.success() && read.stdout == fs::read(&kept).unwrap(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
}

#[test]
fn images_that_are_no_disk_of_their_own_are_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = disks(directory.path(), &EXT);
    let backups = directory.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let refused = |image: &Path, wanted: &[&str]| {
        for verb in [&["inspect", text(image)][..], &["snapshot", text(image), "--to", text(&backups)]] {
            let output = volbak(verb);
            let said = said(&output);
            assert!(!output.status.success() && wanted.iter().all(|wanted| said.contains(wanted)), "{verb:?}: {said}");
        }
    };
    // As Nova makes them.
    let instance = directory.path().join("instances");
    fs::create_dir(&instance).unwrap();
    let overlay = instance.join("disk");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", text(&image), "-F", "qcow2", text(&overlay)]);
    refused(&overlay, &["backing file", text(&image), "qemu-img convert -O qcow2"]);
    for format in ["vmdk", "vhdx", "vdi"] {
        let other = directory.path().join(format);
        run("qemu-img", &["convert", "-f", "raw", "-O", format, text(&raw), text(&other)]);
        refused(&other, &[&format.to_uppercase(), "qemu-img convert -O qcow2"]);
    }
    let cut = directory.path().join("cut");
    fs::write(&cut, &fs::read(&image).unwrap()[..70_000]).unwrap();
    refused(&cut, &["it was cut off", "copy it again"]);

    // A process of QEMU's that writes to it.
    let mut writer = Command::new("qemu-io")
        .args(["-f", "qcow2", text(&image)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it holds its lock", || !volbak(&["inspect", text(&image)]).status.success());
    refused(&image, &["QEMU writes to it"]);
    drop(writer.stdin.take());
    writer.wait().unwrap();
    assert!(volbak(&["inspect", text(&image)]).status.success());
}
