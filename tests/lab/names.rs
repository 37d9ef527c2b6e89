//! Filesystems that do not tell capital and small letters apart, as a restore's target and as a destination.
//!
//! Promise: what is one name there is never merged, replaced or linked to in silence; what is no such case is restored,
//! replaced and resumed as everywhere.

use std::fs;
use std::path::Path;

use crate::testkit::guest::backups::{archives, problems, run, run_expecting, snapshot};
use crate::testkit::guest::lab::{SCRATCH, dest, in_lab, set_up};
use crate::testkit::guest::{Mounted, both_outputs, quoted, sh};

/// An ext4 with names of which some are one name on the targets.
fn image(path: &Path) {
    sh(&format!(
        "mkdir -p {SCRATCH}/r/Dir {SCRATCH}/r/dir {SCRATCH}/r/plain; cd {SCRATCH}/r
         echo one >File; echo two >file; echo x >Dir/a; echo y >dir/a; echo deep >dir/only-here
         ln file plain/linked; ln -s here Link; ln -s there link; mkfifo Pipe; echo four >pipe
         echo fine >plain/fine; echo 'naïve' >plain/naïve
         touch -d @1700000001.987654321 plain/*; : A time that FAT cannot keep, it has even seconds
         truncate -s 32M {0}; mke2fs -q -t ext4 -d {SCRATCH}/r {0}",
        quoted(path)
    ));
}

#[test]
fn names_that_are_one_name_there() {
    if !in_lab("names::names_that_are_one_name_there") {
        return;
    }
    set_up();
    let disk = Path::new(SCRATCH).join("s.img");
    image(&disk);
    let archive = snapshot(&disk, &dest(), &[]);
    sh(&format!(
        "cd {SCRATCH}; truncate -s 320M xfs.img; mkfs.xfs -q -n version=ci xfs.img
         truncate -s 64M vfat.img; mkfs.vfat vfat.img >/dev/null; truncate -s 64M share.img; mkfs.vfat share.img >/dev/null"
    ));
    for (filesystem, options) in [("xfs", "loop"), ("vfat", "loop,utf8,shortname=mixed")] {
        let mounted = Mounted::with_options(
            &Path::new(SCRATCH).join(format!("{filesystem}.img")),
            &Path::new(SCRATCH).join(filesystem),
            options,
        );
        for how in [None, Some("--overwrite"), Some("--resume")] {
            let target = mounted.point.join("t");
            // Twice: the second time all that can be there is there.
            for round in 0..2 {
                let mut arguments = vec!["restore", archive.to_str().unwrap(), "--to", target.to_str().unwrap()];
                arguments.extend(how);
                let output = run(&arguments);
                let said = both_outputs(&output);
                assert_eq!(output.status.code(), Some(3), "{filesystem} {how:?} {round}: {said}");
                let told = said.lines().filter(|line| line.contains("takes its name and that of another")).count();
                // file, dir, dir/a, dir/only-here; where links and fifos are, link, and the one of Pipe and pipe.
                assert!(told >= 4, "{filesystem} {how:?} {round}: {said}");
                let read = |name: &str| fs::read_to_string(target.join(name)).unwrap_or_default();
                let pair = (read("File"), read("Dir/a"));
                assert!(matches!((pair.0.as_str(), pair.1.as_str()), ("one\n" | "two\n", "x\n" | "y\n")), "{pair:?}");
                assert_eq!(read("plain/fine"), "fine\n");
                assert_eq!(read("plain/naïve"), "naïve\n");
                // A link to a file that is not there is no link to the other one.
                let linked = read("plain/linked");
                assert!(linked.is_empty() || linked == "two\n", "{linked}");
            }
            sh(&format!("rm -r {}", quoted(&target)));
        }
        // Without names that are one, nothing is told.
        let target = mounted.point.join("u");
        for how in [None, Some("--resume"), Some("--overwrite")] {
            let mut arguments = vec![
                "restore",
                archive.to_str().unwrap(),
                "--path",
                "plain/fine",
                "--path",
                "plain/naïve",
                "--to",
                target.to_str().unwrap(),
            ];
            arguments.extend(how);
            let said = run_expecting(0, &arguments);
            assert!(!said.contains("takes its name"), "{said}");
        }
        mounted.unmount();
    }

    // As a destination.
    let share = Mounted::with_options(
        &Path::new(SCRATCH).join("share.img"),
        &Path::new(SCRATCH).join("share"),
        "loop,utf8,shortname=mixed",
    );
    let other = Path::new(SCRATCH).join("S.img");
    fs::copy(&disk, &other).unwrap();
    snapshot(&disk, &share.point, &[]);
    let said = run_expecting(1, &["snapshot", other.to_str().unwrap(), "--to", share.point.to_str().unwrap()]);
    assert!(said.contains("treats the two names as equal"), "{said}");
    snapshot(&disk, &share.point, &[]);
    assert_eq!(archives(&share.point).len(), 2);
    snapshot(&other, &share.point, &["--name", "other"]);
    share.unmount();
}

/// Two entries of one name in filesystems that the kernel reads: one is reached, and the image has the other.
#[test]
fn what_another_entry_hides_is_in_an_image() {
    if !in_lab("names::what_another_entry_hides_is_in_an_image") {
        return;
    }
    set_up();
    sh(&format!(
        "cd {SCRATCH}; mkdir m; truncate -s 16M fat.img; mkfs.vfat fat.img >/dev/null; mount -o loop fat.img m
         echo one >m/AAAA.TXT; echo two >m/BBBB.TXT; mkdir m/DDDD m/EEEE; echo x >m/DDDD/X; echo y >m/EEEE/Y; umount m
         sed -i 's/BBBB    TXT/AAAA    TXT/; s/EEEE       /DDDD       /' fat.img
         truncate -s 320M xfs.img; mkfs.xfs -q xfs.img; mount -o loop xfs.img m; echo one >m/aaaa; echo two >m/bbbb; umount m
         xfs_db -x -c 'inode 128' -c 'write u3.sfdir3.list[1].name \"aaaa\"' xfs.img >/dev/null"
    ));
    for (name, hidden, files) in [("fat", 2, "one\nx\n"), ("xfs", 1, "one\n")] {
        let disk = Path::new(SCRATCH).join(format!("{name}.img"));
        run_expecting(3, &["snapshot", disk.to_str().unwrap(), "--to", dest().to_str().unwrap()]);
        let archive = archives(&dest().join(name)).remove(0);
        let told = problems(&archive);
        let errors =
            told.iter().filter(|problem| problem.starts_with("error") && problem.contains("same name")).count();
        assert_eq!(errors, hidden, "{told:?}");
        let into = format!("{SCRATCH}/tar-{name}");
        sh(&format!("mkdir {into}; tar -xzf {} -C {into}; cmp {into}/disk.img {}", quoted(&archive), quoted(&disk)));
        assert_eq!(sh(&format!("cd {into}; find . -type f -size -2k | LC_ALL=C sort | xargs cat")), files);
        run_expecting(0, &["verify", archive.to_str().unwrap()]);
    }
}
