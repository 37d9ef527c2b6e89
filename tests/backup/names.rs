//! Names that are one, and are not one thing.
//!
//! Promises: two sources of one name are never mixed; of two directory entries with one name, neither gets the other's
//! data; what is encrypted and what this host cannot read is kept as an image; names that are one name on a restore's
//! target are told and never merged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::testkit::guest;
use crate::testkit::guest::backups::{archives, manifest, problems, run_expecting, snapshot, snapshot_expecting};
use crate::testkit::guest::{Mounted, quoted, sh, sh_output};
use tempfile::TempDir;

/// A directory for a test.
fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// An ext4 on the whole of an image, with these files in it.
fn image(path: &Path, options: &str, files: &[(&str, &str)]) {
    let root = path.with_extension("files");
    for (name, content) in files {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    sh(&format!("truncate -s 16M {0}; mke2fs -q -t ext4 {options} -d {1} {0}; rm -r {1}", quoted(path), quoted(&root)));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What GNU tar makes of an archive: `PATH: CONTENT` for each small file.
fn extracted(archive: &Path, into: &Path) -> String {
    sh(&format!(
        "mkdir {0}; tar -xpzf {1} -C {0}; cd {0}; find . -type f -size -2000k | LC_ALL=C sort | while read -r f; do echo \"$f: $(head -n 1 \"$f\")\"; done",
        quoted(into),
        quoted(archive)
    ))
}

#[test]
fn two_images_of_one_name_are_not_mixed() {
    let scratch = scratch();
    let [first, second, dest] = ["a/disk.img", "b/disk.img", "dest"].map(|name| scratch.path().join(name));
    for path in [&first, &second] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image(path, "", &[("who", text(path))]);
    }
    fs::create_dir(&dest).unwrap();
    let said = run_expecting(1, &["snapshot", text(&first), text(&second), "--to", text(&dest)]);
    assert!(said.contains("--name") && said.contains(text(&first)) && said.contains(text(&second)), "{said}");
    assert_eq!(archives(&dest).len(), 1);
    // Neither later, nor under another spelling, nor as an image of another ending.
    run_expecting(1, &["snapshot", text(&second), "--to", text(&dest)]);
    let raw = scratch.path().join("b/disk.raw");
    fs::copy(&second, &raw).unwrap();
    run_expecting(1, &["snapshot", text(&raw), "--to", text(&dest)]);
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink(scratch.path().join("a"), &link).unwrap();
    snapshot(&link.join("disk.img"), &dest, &[]);
    let cat = |backup: &str| run_expecting(0, &["cat", "--from", text(&dest), &format!("{backup}:who")]);
    assert_eq!(cat("disk"), text(&first));
    // With a name of its own it has a directory of its own.
    let archive = snapshot(&second, &dest, &["--name", "disk-b"]);
    assert_eq!(archive.parent().unwrap(), dest.join("disk-b"));
    assert_eq!((cat("disk").as_str(), cat("disk-b").as_str()), (text(&first), text(&second)));
    for bad in ["", ".", "..", "a/b", ".volbak", "a\nb"] {
        run_expecting(1, &["snapshot", text(&first), "--to", text(&dest), "--name", bad]);
    }
    run_expecting(2, &["snapshot", text(&first), text(&second), "--to", text(&dest), "--name", "x"]);
    // An image that moved goes on where its user says so.
    let moved = scratch.path().join("moved.img");
    fs::rename(&first, &moved).unwrap();
    run_expecting(0, &["snapshot", text(&moved), "--to", text(&dest)]);
    let archive = snapshot_expecting(3, &moved, &dest, &["--name", "disk"]);
    assert!(problems(&archive).iter().any(|problem| problem.contains("of another source")), "{:?}", problems(&archive));
    snapshot(&moved, &dest, &["--name", "disk"]);
    let listed = run_expecting(0, &["list", text(&dest)]);
    assert!(listed.contains("disk has backups of 3 sources: ") && !listed.contains("disk-b has backups"), "{listed}");
}

/// An image whose directory has the name `aaaa` four times: two files, and two directories; and `twin` twice for one inode.
fn with_twins(path: &Path) {
    // Long enough to be carried forward each by itself.
    let long = |line: &str| format!("{line}\n{}", "x".repeat(600_000));
    let (one, two) = (long("one"), long("two"));
    let files = [
        ("aaaa", one.as_str()),
        ("bbbb", two.as_str()),
        ("dddd/x", "three"),
        ("eeee/x", "four"),
        ("twin", "five"),
        ("fine", "six"),
    ];
    image(path, "-O ^metadata_csum,^dir_index", &files);
    sh(&format!(
        "debugfs -w -R 'ln twin twig' {0} 2>/dev/null
         for name in aaaa bbbb; do debugfs -w -R \"sif $name ctime @1700000000\" {0} 2>/dev/null; done",
        quoted(path)
    ));
    let mut bytes = fs::read(path).unwrap();
    for (from, to) in [(b"bbbb", b"aaaa"), (b"eeee", b"dddd"), (b"twig", b"twin")] {
        let at: Vec<usize> = bytes.windows(4).enumerate().filter(|(_, four)| *four == from).map(|(at, _)| at).collect();
        assert!(!at.is_empty());
        for at in &at {
            bytes[*at..*at + 4].copy_from_slice(to);
        }
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn of_two_entries_with_one_name_each_keeps_its_data() {
    let scratch = scratch();
    let [disk, dest] = ["twins.img", "dest"].map(|name| scratch.path().join(name));
    fs::create_dir(&dest).unwrap();
    with_twins(&disk);
    let archive = snapshot_expecting(3, &disk, &dest, &[]);
    let found = extracted(&archive, &scratch.path().join("t1"));
    let lines: Vec<&str> = found.lines().collect();
    let contents = |prefix: &str| lines.iter().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((lines.len(), contents("./aaaa"), contents("./dddd"), contents("./twin")), (6, 2, 2, 1), "{found}");
    for content in ["one", "two", "three", "four", "five", "six"] {
        assert_eq!(
            lines.iter().filter(|line| line.ends_with(&format!(": {content}"))).count(),
            1,
            "{content}: {found}"
        );
    }
    let told = problems(&archive);
    let errors = told.iter().filter(|problem| problem.starts_with("error") && problem.contains("same name")).count();
    assert_eq!(errors, 3, "{told:?}");
    // The next night carries forward, and takes neither for the other.
    let again = snapshot_expecting(3, &disk, &dest, &["--full-read-every-days", "0"]);
    assert_eq!(extracted(&again, &scratch.path().join("t2")), found);
    assert_eq!(manifest(&again)["carried"]["entries"], 2);
    run_expecting(0, &["verify", text(&again)]);
    // It says again that the backup lacks something.
    run_expecting(3, &["restore", text(&again), "--to", text(&scratch.path().join("r"))]);

    // The kernel reaches one of each pair alone.
    let by_kernel = snapshot_expecting(3, &disk, &dest, &["--reader", "kernel", "--full"]);
    let kernels = extracted(&by_kernel, &scratch.path().join("t3"));
    assert!(kernels.lines().all(|line| lines.contains(&line)), "{kernels}\n{found}");
    assert_eq!(kernels.lines().count(), 4, "{kernels}");
    let errors = problems(&by_kernel).iter().filter(|problem| problem.starts_with("error")).count();
    assert_eq!(errors, 3, "{:?}", problems(&by_kernel));
}

/// An ext4 with a directory that is encrypted, and whose key is not here any more. `None` where the kernel cannot.
fn with_encrypted(scratch: &Path) -> Option<PathBuf> {
    let disk = scratch.join("sealed.img");
    sh(&format!("truncate -s 32M {0}; mke2fs -q -t ext4 -O encrypt -b 4096 {0}", quoted(&disk)));
    let mounted = Mounted::with_options(&disk, &scratch.join("mounted"), "loop");
    // include/uapi/linux/fscrypt.h: FS_IOC_ADD_ENCRYPTION_KEY with a raw key, FS_IOC_SET_ENCRYPTION_POLICY, version 2.
    let script = r"
import fcntl, os, struct, sys
top = os.open(sys.argv[1], os.O_RDONLY)
key = bytearray(struct.pack('II32s', 2, 0, b'') + struct.pack('II', 64, 0) + b'\0' * 32 + bytes(range(64)))
fcntl.ioctl(top, 0xc0506617, key)
os.mkdir(sys.argv[1] + '/secret')
directory = os.open(sys.argv[1] + '/secret', os.O_RDONLY)
fcntl.ioctl(directory, 0x800c6613, struct.pack('BBBBBBBB16s', 2, 1, 4, 2, 0, 0, 0, 0, bytes(key[8:24])))
";
    fs::write(scratch.join("key.py"), script).unwrap();
    let made = sh_output(&format!("/usr/bin/python3 {}/key.py {}", scratch.display(), quoted(&mounted.point)));
    if !made.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&made.stderr));
        return None;
    }
    fs::write(mounted.point.join("plain"), "read me").unwrap();
    fs::write(mounted.point.join("long"), "x".repeat(600_000)).unwrap();
    sh(&format!(
        "cd {}; head -c 100000 /dev/urandom >secret/document; ln -s document secret/link; mkdir secret/deep; echo x >secret/deep/x
         ln secret/document outside; mkdir plain-directory; echo y >plain-directory/disk.img; echo z >disk.img",
        quoted(&mounted.point)
    ));
    mounted.unmount();
    sh(&format!("debugfs -w -R 'sif long ctime @1700000000' {} 2>/dev/null", quoted(&disk)));
    Some(disk)
}

#[test]
fn what_is_encrypted_is_kept_as_an_image_besides() {
    let scratch = scratch();
    let Some(disk) = with_encrypted(scratch.path()) else { return };
    let dest = scratch.path().join("dest");
    fs::create_dir(&dest).unwrap();
    for (number, reader) in ["auto", "kernel"].into_iter().enumerate() {
        let archive = snapshot_expecting(3, &disk, &dest, &["--reader", reader, "--full"]);
        let listed = sh(&format!("tar tzf {} | LC_ALL=C sort", quoted(&archive)));
        let expected = [
            "./",
            "./disk.img",
            "./disk.img.1",
            "./long",
            "./plain",
            "./plain-directory/",
            "./plain-directory/disk.img",
            "./secret/",
        ];
        assert_eq!(listed.lines().collect::<Vec<_>>(), expected, "{reader}");
        let region = &manifest(&archive)["regions"][0];
        assert_eq!((&region["handling"], &region["files_path"]), (&"raw_image".into(), &".".into()));
        let into = scratch.path().join(format!("t{number}"));
        extracted(&archive, &into);
        sh(&format!("cmp {} {}", quoted(&into.join("disk.img.1")), quoted(&disk)));
        run_expecting(0, &["verify", text(&archive)]);
        let made = scratch.path().join(format!("made{number}.img"));
        run_expecting(0, &["restore", text(&archive), "--to-image", text(&made)]);
        sh(&format!("cmp {} {}", quoted(&made), quoted(&disk)));
    }
    // What can be read as files is carried forward the next night.
    let archive = snapshot_expecting(3, &disk, &dest, &["--full-read-every-days", "0"]);
    assert_eq!(manifest(&archive)["carried"]["entries"], 1);
    // Who does not want it leaves it out.
    let fresh = scratch.path().join("fresh");
    fs::create_dir(&fresh).unwrap();
    let without = snapshot(&disk, &fresh, &["--exclude", "/secret", "--exclude", "/outside"]);
    assert!(!sh(&format!("tar tzf {}", quoted(&without))).contains("disk.img.1"));
}

/// Two filesystems, of which one needs root's mount: the other's files are in the backup all the same.
#[test]
fn without_root_what_needs_a_mount_is_an_image_and_the_rest_is_files() {
    let scratch = scratch();
    let (home, binary) = (scratch.path().join("home"), env!("CARGO_BIN_EXE_volbak"));
    let ext4 = scratch.path().join("p1.img");
    image(&ext4, "", &[("hello", "world")]);
    sh(&format!(
        "chmod 755 {scratch}; install -d -o nobody {home}; install -m 755 {binary} {home}/volbak
         truncate -s 340M {home}/disk.img
         printf 'label: gpt\\nstart=2048, size=32768, type=linux\\nsize=614400, type=linux\\n' | sfdisk -q {home}/disk.img
         dd if={ext4} of={home}/disk.img bs=1M seek=1 conv=notrunc status=none
         truncate -s 300M {scratch}/x; mkfs.xfs -q {scratch}/x
         dd if={scratch}/x of={home}/disk.img bs=1M seek=17 conv=notrunc,sparse status=none
         chown nobody {home}/disk.img",
        scratch = quoted(scratch.path()),
        home = quoted(&home),
        ext4 = quoted(&ext4),
    ));
    let as_nobody = |arguments: &str| {
        let output = sh_output(&format!(
            "cd {0}; setpriv --reuid nobody --clear-groups -- {0}/volbak {arguments}",
            quoted(&home)
        ));
        (output.status.code(), guest::both_outputs(&output))
    };
    let (status, said) = as_nobody("snapshot disk.img --to .");
    assert_eq!(status, Some(3), "{said}");
    let archive = archives(&home).pop().unwrap();
    assert_eq!(sh(&format!("tar tzf {} | LC_ALL=C sort", quoted(&archive))), "./p1/\n./p1/hello\n./p2.img\n");
    // What is said beforehand is what was done.
    let (status, said) = as_nobody("inspect disk.img");
    assert_eq!(status, Some(0), "{said}");
    let line = said.lines().find(|line| line.contains("xfs") && line.contains("p2")).unwrap();
    assert!(line.ends_with("raw image"), "{said}");
    let by_root = run_expecting(0, &["inspect", text(&home.join("disk.img"))]);
    let line = by_root.lines().find(|line| line.contains("xfs") && line.contains("p2")).unwrap();
    assert!(line.ends_with(" files"), "{by_root}");
}
