//! Promise: a restore into a directory that has something already gives the backup's content, or says what it did not; what was not
//! asked for stays as it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::testkit::guest::backups::run_expecting;
use crate::testkit::guest::{quoted, sh};
use crate::testkit::proof::back_up;

fn archive_of(at: &Path, script: &str) -> PathBuf {
    sh(&format!("mkdir {0}/tree; cd {0}/tree; {script}", quoted(at)));
    back_up(&at.join("tree"), &at.join("backup")).archive_path()
}

fn restore(status: i32, archive: &Path, to: &Path, more: &[&str]) -> String {
    let base = ["restore", archive.to_str().unwrap(), "--to", to.to_str().unwrap()];
    run_expecting(status, &[&base[..], more].concat())
}

#[test]
fn a_link_is_made_only_to_the_content_of_the_backup() {
    let scratch = tempfile::tempdir().unwrap();
    let (at, live) = (scratch.path(), scratch.path().join("live"));
    let archive =
        archive_of(at, "mkdir daily.0 daily.1; echo OLD >daily.0/x; ln daily.0/x daily.1/x; ln daily.0/x daily.1/y");
    let read = |name: &str| fs::read_to_string(live.join(name)).unwrap();
    for (before, more) in [
        ("", &["--path", "daily.1"][..]),
        ("", &["--path", "daily.1", "--resume"]),
        ("mkdir daily.1; echo bad >daily.1/x", &["--path", "daily.1", "--overwrite"]),
    ] {
        sh(&format!("rm -rf {0}; mkdir -p {0}/daily.0; cd {0}; echo NEW >daily.0/x; {before}", quoted(&live)));
        restore(0, &archive, &live, more);
        assert_eq!(
            (read("daily.0/x"), read("daily.1/x"), read("daily.1/y")),
            ("NEW\n".into(), "OLD\n".into(), "OLD\n".into())
        );
        let inode = |name: &str| fs::metadata(live.join(name)).unwrap().ino();
        assert_eq!(inode("daily.1/x"), inode("daily.1/y"));
    }
    // All of it, where the first name is taken.
    sh(&format!("rm -rf {0}; mkdir -p {0}/daily.0; echo NEW >{0}/daily.0/x", quoted(&live)));
    restore(3, &archive, &live, &[]);
    assert_eq!((read("daily.0/x"), read("daily.1/x")), ("NEW\n".into(), "OLD\n".into()));
    // What an earlier restore put there is linked to.
    sh(&format!("rm -rf {}", quoted(&live)));
    restore(0, &archive, &live, &[]);
    fs::remove_file(live.join("daily.1/y")).unwrap();
    restore(0, &archive, &live, &["--resume"]);
    assert_eq!(fs::metadata(live.join("daily.0/x")).unwrap().nlink(), 3);
}

#[test]
fn a_directory_that_only_leads_to_what_is_wanted_is_not_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let (at, live) = (scratch.path(), scratch.path().join("live"));
    let archive = archive_of(at, "mkdir -p var/log/app; echo x >var/log/app/x; chmod 755 var");
    sh(&format!(
        "mkdir -p {0}/var {0}/data/app; chmod 700 {0}/var; ln -s ../data {0}/var/log; echo y >{0}/data/app/x",
        quoted(&live)
    ));
    let said = restore(3, &archive, &live, &["--path", "var/log/app/x", "--overwrite"]);
    assert!(said.contains("var/log"), "{said}");
    assert!(live.join("var/log").is_symlink());
    assert_eq!(fs::metadata(live.join("var")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(live.join("data/app/x")).unwrap(), "y\n");
    // Where nothing is in the way, it is made.
    fs::remove_file(live.join("var/log")).unwrap();
    restore(0, &archive, &live, &["--path", "var/log/app/x", "--overwrite"]);
    assert_eq!(fs::read_to_string(live.join("var/log/app/x")).unwrap(), "x\n");
    assert_eq!(fs::metadata(live.join("var")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_resumed_restore_sets_attributes_that_are_missing() {
    let scratch = tempfile::tempdir().unwrap();
    let (at, live) = (scratch.path(), scratch.path().join("live"));
    let archive = archive_of(
        at,
        "echo x >f; setfacl -m u:5000:rw f; setfattr -n user.note -v hello f; touch -d 2001-02-03 f; echo i >i; chattr +i i",
    );
    restore(0, &archive, &live, &[]);
    let attributes = || {
        let said = std::process::Command::new("getfattr").args(["-d", "-m-", "f"]).current_dir(&live).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    let before = attributes();
    assert!(before.contains("user.note") && before.contains("posix_acl_access"), "{before}");
    sh(&format!("cd {}; setfattr -x user.note f; setfacl -b f; chmod 664 f; touch -d 2001-02-03 f", quoted(&live)));
    restore(0, &archive, &live, &["--resume"]);
    assert_eq!(attributes(), before);
    sh(&format!("chattr -i {0}/tree/i {0}/live/i", quoted(at)));
}

#[test]
fn names_that_cannot_be_read_are_not_taken_for_missing() {
    let scratch = tempfile::tempdir().unwrap();
    let (at, to) = (scratch.path(), scratch.path().join("to"));
    let archive = archive_of(
        at,
        "mkdir etc; printf 'nova:x:108:108::/:/bin/sh\\n' >etc/passwd; head -c 3000000 /dev/urandom >etc/passwd-; printf 'nova:x:108:\\n' >etc/group
         head -c 3000000 /dev/urandom >other; echo z >zdata; chown 108:108 zdata
         printf 'nova:x:112:112::/:/bin/sh\\n' >../passwd; printf 'nova:x:112:\\n' >../group",
    );
    let theirs = format!("{0}/passwd:{0}/group", at.display());
    let wanted = ["--path", "zdata", "--map-from", &theirs];
    restore(0, &archive, &to, &wanted);
    assert_eq!(fs::metadata(to.join("zdata")).unwrap().uid(), 112);
    // Each byte in which the member of passwd may lie: some place makes it unreadable, and none turns the mapping around.
    let good = fs::read(&archive).unwrap();
    let mut refused = 0;
    for place in (100..good.len().min(60_000)).step_by(977) {
        let mut bytes = good.clone();
        bytes[place] ^= 0xff;
        fs::write(&archive, bytes).unwrap();
        let _ = fs::remove_dir_all(&to);
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_volbak"))
            .args(["restore", archive.to_str().unwrap(), "--to", to.to_str().unwrap()])
            .args(wanted)
            .output()
            .unwrap();
        refused += u32::from(String::from_utf8_lossy(&out.stderr).contains("etc/"));
        if let Ok(found) = fs::metadata(to.join("zdata")) {
            assert_eq!(found.uid(), 112, "byte {place}: {out:?}");
        }
    }
    assert!(refused > 0);
}

#[test]
fn filesystems_that_are_mounted_in_the_target_are_synced_too() {
    let scratch = tempfile::tempdir().unwrap();
    let (at, live) = (scratch.path(), scratch.path().join("live"));
    let archive = archive_of(at, "mkdir -p a/b boot/grub; echo x >a/b/x; echo y >boot/grub/y; echo z >z");
    let script = format!(
        "mkdir -p {live}/boot; mount -t tmpfs boot {live}/boot
         strace -f -y -e trace=syncfs -o {trace} {volbak} restore {archive} --to {live}; status=$?
         test -e {live}/boot/grub/y || status=99; umount {live}/boot; exit $status",
        live = quoted(&live),
        trace = quoted(&at.join("trace")),
        volbak = quoted(std::path::Path::new(env!("CARGO_BIN_EXE_volbak"))),
        archive = quoted(&archive),
    );
    sh(&script);
    let trace = fs::read_to_string(at.join("trace")).unwrap();
    let is_synced = |path: &Path| {
        let call = format!("<{}>)", path.display());
        trace.lines().any(|line| line.contains(&call) && line.ends_with(" = 0"))
    };
    assert!(is_synced(&live) && is_synced(&live.join("boot")), "{trace}");
}
