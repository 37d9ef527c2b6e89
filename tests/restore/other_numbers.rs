//! Promise: files go to a host whose users and groups have other numbers (nova is 108 on one and 112 on the other) with those
//! mapped everywhere, ACLs and names' tables included; what would mix up two owners is refused or named; a dry run counts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::testkit::guest::backups::{run_expecting, snapshot_expecting};
use crate::testkit::guest::{Mounted, quoted, sh};
use crate::testkit::proof::back_up;
use crate::testkit::tree::{Tree, assert_equal_trees, fingerprint};

/// A tree of nova's (108:108) and libvirt's (112:112), with both in ACLs; gives its archive.
fn nova(at: &Path) -> PathBuf {
    sh(&format!(
        "mkdir {0}/tree; cd {0}/tree; mkdir -p instances/i-1 etc; echo x >instances/i-1/disk; echo y >instances/own
         ln instances/own instances/again; ln -s own instances/link; mkfifo instances/pipe; echo z >libvirt
         chown -Rh 108:108 instances; chown 112:112 libvirt; chmod 4750 instances/own
         setfacl -m u:108:rw,u:5000:r,g:108:r,g:1500:rx libvirt; setfacl -d -m u:108:rwx,g:5000:r instances
         printf 'root:x:0:0::/:/bin/sh\\nnova:x:108:108::/:/bin/sh\\nlibvirt:x:112:112::/:/bin/sh\\n' >etc/passwd
         printf 'root:x:0:\\nnova:x:108:\\nlibvirt:x:112:\\nstaff:x:1500:\\n' >etc/group
         printf 'root:x:0:0::/:\\nlibvirt:x:64055:0::/:\\nnova:x:112:0::/:\\n' >../passwd
         printf 'root:x:0:\\nlibvirt:x:108:\\nnova:x:112:\\nstaff:x:50:\\n' >../group",
        quoted(at)
    ));
    back_up(&at.join("tree"), &at.join("backup")).archive_path()
}

/// What the tree is with other numbers, by the tools of the system.
fn expected(at: &Path, script: &str) -> Tree {
    let copy = at.join("expected");
    let _ = fs::remove_dir_all(&copy);
    sh(&format!("cp -a {0}/tree {0}/expected; cd {0}/expected; {script}", quoted(at)));
    fingerprint(&copy)
}

/// Restores with these options to a directory of that name.
fn restored(at: &Path, archive: &Path, status: i32, name: &str, more: &[&str]) -> (Option<Tree>, String) {
    let to = at.join(name);
    let base = ["restore", archive.to_str().unwrap(), "--top", "--keep-setid", "--to", to.to_str().unwrap()];
    let said = run_expecting(status, &[&base[..], more].concat());
    (to.exists().then(|| fingerprint(&to)), said)
}

/// `chown` and `setfacl` for nova's 108 that become 112, and libvirt's 112 that become `LIBVIRT`, with `g:1500` as `STAFF`.
fn by_hand(libvirt: (u32, u32), staff: u32) -> String {
    format!(
        "setfacl -b libvirt; setfacl -b -k instances
         chown -Rh 112:112 instances; chown {}:{} libvirt; chmod 4750 instances/own
         setfacl -m u::rw,u:112:rw,u:5000:r,g::r,g:112:r,g:{staff}:rx,o::r libvirt
         setfacl -d -m u:112:rwx,g:5000:r instances
         for f in instances/own instances/link instances/pipe libvirt instances; do touch -h -r ../tree/$f $f; done",
        libvirt.0, libvirt.1
    )
}

#[test]
fn numbers_are_mapped_in_owners_and_acls() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let archive = nova(at);
    // A range, a swap, and numbers that nothing has.
    let maps = ["--map-uid", "108:112", "--map-uid", "112:108", "--map-gid", "108:112", "--map-gid", "112:108"];
    let more = ["--map-gid", "1000-1999:101000-101999", "--map-uid", "60000-60010:7"];
    let (found, _) = restored(at, &archive, 0, "swapped", &[&maps[..], &more].concat());
    assert_equal_trees(&expected(at, &by_hand((108, 108), 101_500)), &found.unwrap());

    // A part of it, and on with an interrupted one that had other numbers.
    let (found, _) = restored(at, &archive, 0, "part", &[&maps[..], &["--path", "libvirt"]].concat());
    assert_eq!(found.unwrap()[b"libvirt".as_slice()].uid, 108);
    restored(at, &archive, 0, "resumed", &["--path", "instances"]);
    fs::remove_file(at.join("resumed/instances/i-1/disk")).unwrap();
    let (found, _) = restored(at, &archive, 0, "resumed", &[&maps[..], &more, &["--resume"]].concat());
    assert_equal_trees(&expected(at, &by_hand((108, 108), 101_500)), &found.unwrap());
}

#[test]
fn numbers_are_mapped_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let archive = nova(at);
    let theirs = format!("{0}/passwd:{0}/group", at.display());
    let (found, said) = restored(at, &archive, 0, "inside", &["--map-from", &theirs]);
    assert_equal_trees(&expected(at, &by_hand((64_055, 108), 50)), &found.unwrap());
    assert!(said.contains("etc/passwd and etc/group of the backup") && said.contains("2 users and 3 groups"), "{said}");
    // What is said of a number counts for it, whatever its name.
    let (found, _) = restored(at, &archive, 0, "both", &["--map-to", &theirs, "--map-uid", "112:70000"]);
    assert_equal_trees(&expected(at, &by_hand((70_000, 108), 50)), &found.unwrap());

    // Without names of its own, and with both sides given.
    sh(&format!("cd {}/tree; mv etc ../etc", quoted(at)));
    let bare = back_up(&at.join("tree"), &at.join("bare")).archive_path();
    let ours = format!("{0}/etc/passwd:{0}/etc/group", at.display());
    let (found, _) = restored(at, &bare, 0, "given", &["--map-from", &ours, "--map-to", &theirs]);
    assert_equal_trees(&expected(at, &by_hand((64_055, 108), 50)), &found.unwrap());
    let (_, said) = restored(at, &bare, 1, "none", &["--map-to", &theirs]);
    assert!(said.contains("--map-from") && !at.join("none").exists(), "{said}");
    // This host's are the new ones then; root is 0 everywhere, which the directories' owner is, too.
    fs::write(at.join("etc/passwd"), "root:x:108:0::/:\n").unwrap();
    let (found, said) = restored(at, &bare, 3, "host", &["--map-from", &ours]);
    assert!(said.contains("/etc/passwd and /etc/group, 1 users"), "{said}");
    assert_eq!(found.unwrap()[b"instances/own".as_slice()].uid, 0);
}

#[test]
fn what_would_mix_up_owners_is_refused_or_named() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let archive = nova(at);
    for wrong in [
        &["--map-uid", "108:112", "--map-uid", "108:113"][..],
        &["--map-uid", "100-110:200-210", "--map-uid", "110:5"],
        &["--map-gid", "108:112", "--map-gid", "109:112"],
        &["--map-uid", "1-5:1-4"],
        &["--map-uid", "x:1"],
        &["--map-gid", "108"],
        &["--map-uid", "4294967295:0"],
        &["--map-from", "/etc/passwd"],
    ] {
        let (found, said) = restored(at, &archive, 2, "wrong", wrong);
        assert!(found.is_none() && said.contains("map-"), "{wrong:?}: {said}");
        restored(at, &archive, 2, "wrong", &[wrong, &["--dry-run"]].concat());
    }
    let image = at.join("disk.img");
    let image = image.to_str().unwrap();
    // What is for files alone, with each target that is a disk.
    for disk in [&["--to-image", image][..], &["--to-device", image], &["--to-volume", "new"]] {
        for files in [&["--overwrite"][..], &["--path", "etc"], &["--to", image]] {
            let said = run_expecting(2, &[&["restore", archive.to_str().unwrap()], disk, files].concat());
            assert!(said.contains(files[0]) && !Path::new(image).exists(), "{said}");
        }
    }

    // libvirt's files are 112 as well, and stay so.
    let (found, said) = restored(at, &archive, 3, "mixed", &["--map-uid", "108:112"]);
    assert!(said.contains("uid 108 and 112 of the backup are both 112 here"), "{said}");
    assert_eq!(found.unwrap()[b"instances/own".as_slice()].uid, 112);
}

/// By volbak's own writer, and through the kernel.
#[test]
fn numbers_are_mapped_on_a_disk_that_is_made_anew() {
    for (mkfs, put_by) in [("mkfs.ext4 -q", "volbak"), ("mkfs.xfs -q", "kernel")] {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        let at = scratch.path();
        nova(at);
        let (disk, image) = (at.join("fs.img"), at.join("new.img"));
        sh(&format!("truncate -s 320M {0}; {mkfs} {0}", quoted(&disk)));
        let mounted = Mounted::with_options(&disk, &at.join("m"), "loop");
        sh(&format!("rm -rf {0}/m/lost+found; cp -a {0}/tree/. {0}/m/", quoted(at)));
        mounted.unmount();
        let archive = snapshot_expecting(0, &disk, &at.join("backup"), &[]);
        let to = ["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap()];
        let theirs = format!("{0}/passwd:{0}/group", at.display());
        let ours = format!("{0}/tree/etc/passwd:{0}/tree/etc/group", at.display());

        let counted =
            run_expecting(0, &[&to[..], &["--map-uid", "108:112", "--map-uid", "112:7", "--dry-run"]].concat());
        assert!(counted.contains("uid 108 becomes 112: 6 entries, 2 in ACLs") && !image.exists(), "{counted}");
        let refused = run_expecting(1, &[&to[..], &["--map-from", &theirs]].concat());
        assert!(refused.contains("--map-to") && !image.exists(), "{refused}");

        let done = run_expecting(0, &[&to[..], &["--map-from", &ours, "--map-to", &theirs, "--json"]].concat());
        assert!(done.contains(&format!("\"by\": \"{put_by}\"")), "{done}");
        let mounted = Mounted::with_options(&image, &at.join("m"), "loop,ro");
        let mut found = fingerprint(&mounted.point);
        found.remove(b"lost+found".as_slice());
        // XFS shows where it has the ACLs.
        for entry in found.values_mut() {
            entry.xattrs.retain(|name, _| !name.starts_with(b"trusted.SGI_ACL_"));
        }
        assert_equal_trees(&expected(at, &by_hand((64_055, 108), 50)), &found);
        mounted.unmount();

        let mixed = run_expecting(3, &[&to[..], &["--map-uid", "108:112", "--yes-erase=new.img"]].concat());
        assert!(mixed.contains("uid 108 and 112 of the backup are both 112 here"), "{mixed}");
    }
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let archive = nova(at);
    let maps = ["--dry-run", "--map-uid", "108:112", "--map-uid", "112:64055", "--map-gid", "100-200:1100"];
    let (found, said) = restored(at, &archive, 0, "to", &maps);
    assert!(found.is_none(), "nothing was written");
    for line in [
        "uid 108 becomes 112: 6 entries, 2 in ACLs",
        "uid 112 becomes 64055: 1 entry",
        "uid 5000 stays: 0 entries, 1 in ACLs",
        "gid 108 becomes 1108: 6 entries, 1 in ACLs",
        "gid 1500 stays: 0 entries, 1 in ACLs",
        "1 file has set-id bits",
        "nothing was written",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (_, said) = restored(at, &archive, 0, "to", &[&maps[..], &["--path", "libvirt", "--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((json["entries"].as_u64(), json["uids"][1]["new"].as_u64()), (Some(2), Some(112)), "{said}");
    let (_, said) = restored(at, &archive, 3, "to", &["--dry-run", "--map-uid", "108:112"]);
    assert!(said.contains("cannot be told apart"), "{said}");

    // Into one that is there, too, and without an index.
    fs::create_dir(at.join("there")).unwrap();
    let before = fs::metadata(at.join("there")).unwrap().mtime_nsec();
    fs::remove_file(at.join("backup").join("vol-1_20_11_2026.index")).unwrap();
    let (found, said) = restored(at, &archive, 3, "there", &maps);
    assert!(said.contains("uid 108 becomes 112: 6 entries, 2 in ACLs"), "{said}");
    assert_eq!((found.unwrap().len(), fs::metadata(at.join("there")).unwrap().mtime_nsec()), (1, before));
}

#[test]
fn the_names_of_acls_get_the_numbers_of_the_given_files() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let archive = at.join("of-gnu-tar.tar.gz");
    // GNU tar writes the names of a host that knows them, without numbers.
    sh(&format!(
        "cd {} && mkdir new && printf 'root:x:0:0::/:\\nonlythere:x:4711:4711::/:\\n' >new/passwd
         printf 'root:x:0:\\nonlythem:x:4712:\\n' >new/group
         python3 - <<'PYTHON'
import io, tarfile
with tarfile.open('of-gnu-tar.tar.gz', 'w:gz', format=tarfile.PAX_FORMAT) as tar:
    entry = tarfile.TarInfo('file')
    entry.size, entry.mode = 4, 0o640
    acl = 'user::rw-,user:onlythere:rw-,group::r--,group:onlythem:r-x,mask::rwx,other::---'
    entry.pax_headers = {{'SCHILY.acl.access': acl}}
    tar.addfile(entry, io.BytesIO(b'text'))
PYTHON",
        quoted(at)
    ));
    let acl = |directory: &str| sh(&format!("getfacl -n -c -p {}/file", quoted(&at.join(directory))));
    let new = format!("{0}/new/passwd:{0}/new/group", at.display());
    // On this host nothing has these names.
    let (_, said) = restored(at, &archive, 3, "here", &[]);
    assert!(said.contains("onlythere") && said.contains("onlythem"), "{said}");
    assert!(!acl("here").contains("4711"));
    let (_, said) = restored(at, &archive, 0, "mapped", &["--map-from", "/etc/passwd:/etc/group", "--map-to", &new]);
    let set = acl("mapped");
    assert!(set.contains("user:4711:rw-") && set.contains("group:4712:r-x"), "{set}{said}");
}
