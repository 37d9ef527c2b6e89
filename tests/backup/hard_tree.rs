//! The end-to-end tests are as good as what they compare: the hard tree can be made on each filesystem, GNU tar itself
//! brings all of it back (so whatever a backup loses is the backup's fault), and the fingerprint notices each change.

use crate::testkit::guest::{Mounted, make_image, quoted, restore_target, sh};
use crate::testkit::tree::{Filesystem, Kind, assert_equal_trees, fingerprint, make_hard_tree};

fn gnu_tar_brings_back_the_hard_tree_on(filesystem: Filesystem) {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("guest.img");
    make_image(&image, "1G", filesystem);
    let guest = Mounted::partition(&image, &scratch.path().join("guest"));
    let hard = guest.point.join("tree");
    std::fs::create_dir(&hard).unwrap();
    make_hard_tree(&hard, filesystem);
    // GNU tar looks at the blocks that a file occupies to tell whether it is sparse, and writes this one out.
    std::fs::remove_file(hard.join("sparse/allocated-and-not-written")).unwrap();

    let restored = restore_target(scratch.path(), filesystem);
    sh(&format!(
        "tar --format=posix --sort=name --xattrs --xattrs-include='*' --acls --sparse --numeric-owner -C {0} -cf - . \
            2> >(grep -v 'socket ignored' >&2) |
         tar --xattrs --xattrs-include='*' --acls --numeric-owner -C {1} -xpf -",
        quoted(&hard),
        quoted(&restored.point.join("tree"))
    ));
    let mut expected = fingerprint(&hard);
    let mut found = fingerprint(&restored.point.join("tree"));
    expected.retain(|_, attributes| attributes.kind != Kind::Socket);
    // What GNU tar does not do when it makes an archive: link two names of one device or fifo.
    for (path, attributes) in expected.iter_mut().chain(&mut found) {
        if matches!(attributes.kind, Kind::CharDevice { .. } | Kind::Fifo) {
            attributes.same_inode_as.clone_from(path);
        }
    }
    assert!(expected.len() > 500, "{} entries", expected.len());
    assert_equal_trees(&expected, &found);
}

#[test]
fn gnu_tar_brings_back_the_hard_tree_on_ext4() {
    gnu_tar_brings_back_the_hard_tree_on(Filesystem::Ext4);
}

#[test]
fn gnu_tar_brings_back_the_hard_tree_on_xfs() {
    gnu_tar_brings_back_the_hard_tree_on(Filesystem::Xfs);
}

#[test]
fn gnu_tar_brings_back_the_hard_tree_on_btrfs() {
    gnu_tar_brings_back_the_hard_tree_on(Filesystem::Btrfs);
}

#[test]
fn the_fingerprint_notices_each_change() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("guest.img");
    make_image(&image, "64M", Filesystem::Ext4);
    let guest = Mounted::partition(&image, &scratch.path().join("guest"));
    let at = |script: &str| sh(&format!("cd {}\n{script}", quoted(&guest.point)));
    at("mkdir t; cd t; seq 100000 >file; ln file link; ln -s to symlink; mknod null c 1 3; mkfifo fifo; mkdir dir
        truncate -s 1M hole; echo x >>hole; setfattr -n user.a -v b file; setfacl -m u:5:r file; setfacl -d -m u:5:r dir
        cp --preserve=all file other");
    let unchanged = fingerprint(&guest.point.join("t"));
    at("cp -a --sparse=always t again");
    assert_equal_trees(&unchanged, &fingerprint(&guest.point.join("again")));

    let changes = [
        "touch -d '1999-01-01 00:00:00.000000001' file",
        "touch -h -d '1999-01-01' symlink",
        "chmod u+s file",
        "chown 7 null",
        "chgrp -h 7 symlink",
        "setfattr -n user.a -v c file",
        "setfattr -x user.a file",
        "setfattr -n trusted.new -v '' dir",
        "setfacl -m u:5:rw file",
        "setfacl -k dir",
        "printf y | dd of=file bs=1 seek=90000 conv=notrunc status=none; touch -r other file",
        "truncate -s -1 file; touch -r other file",
        "printf '\\0' >>file; touch -r other file",
        "ln -sfn elsewhere symlink",
        "rm null; mknod null c 1 5",
        "rm null; mknod null b 1 3",
        "rm link; cp -a file link",
        "rm other; ln file other",
        "touch new",
        "rm fifo",
        "cp --sparse=never hole filled; touch -r hole filled; mv filled hole; dd if=/dev/zero of=hole bs=1M count=1 \
         conv=notrunc status=none",
    ];
    for change in changes {
        at(&format!("rm -rf again; cp -a --sparse=always t again; cd again; {change}; touch -r ../t ."));
        let after = fingerprint(&guest.point.join("again"));
        let noticed = std::panic::catch_unwind(|| assert_equal_trees(&unchanged, &after)).is_err();
        assert!(noticed, "not noticed: {change}");
    }
}
