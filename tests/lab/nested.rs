//! Volume groups that a tenant made inside a volume, as documented: `vg_web_logs/lv01_web_logs` on the guest's /dev/vdb.
//!
//! Promise: each logical volume that lies wholly on the volume comes back as a tree of its own, one that was extended
//! and lies in two pieces too, while the guest uses it; nothing of the tenant's LVM is ever activated on the host, and
//! the volume's bytes are not changed.
//!
//! The guest is played by the lab itself: a config of LVM that sees loop devices alone, where the host's sees everything
//! but those.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use crate::testkit::guest::backups::{archives, assert_all_good, manifest, run_expecting, snapshot};
use crate::testkit::guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, state, thick_volume, volumes_of_volbak};
use crate::testkit::guest::{Mounted, quoted, restore_target, sh};
use crate::testkit::tree::{Filesystem, Kind, Tree, assert_equal_trees, fingerprint, make_hard_tree};

const GUEST_LVM: &str = "export LVM_SYSTEM_DIR=/run/guest-lvm;";

/// A shell that appends to files below a directory until it is dropped.
struct Writer(Child);

impl Writer {
    fn start(root: &Path) -> Self {
        let script = format!(
            "cd {}; mkdir busy; i=0; while :; do i=$((i+1)); echo round $i >>busy/log; \
             head -c 20000 /dev/urandom >busy/file-$((i % 20)); [ $((i % 10)) -gt 0 ] || sync busy/log; sleep 0.02; done",
            quoted(root)
        );
        Self(Command::new("bash").args(["-c", &script]).spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The guest's own LVM on a volume: two logical volumes, the first extended when the second was there already.
fn guest_with_lvm(volume: &Path) {
    sh(&format!(
        r#"mkdir -p /run/guest-lvm
        sed 's/devices {{/devices {{ global_filter=["a|^\/dev\/loop|","r|.*|"] /' $LVM_SYSTEM_DIR/lvm.conf >/run/guest-lvm/lvm.conf
        sed -i 's/devices {{/devices {{ global_filter=["r|^\/dev\/loop|"] /' $LVM_SYSTEM_DIR/lvm.conf
        vdb=$(losetup -f --show {})
        {GUEST_LVM}
        pvcreate -q $vdb; vgcreate -q vg_web_logs $vdb
        lvcreate -q -y -n lv01_web_logs -L 250M vg_web_logs
        lvcreate -q -y -n lv02_db -L 304M vg_web_logs
        lvextend -q -L +120M vg_web_logs/lv01_web_logs
        mkfs.ext4 -q -b 4096 -i 4096 -L weblogs /dev/vg_web_logs/lv01_web_logs
        mkfs.xfs -q -L db /dev/vg_web_logs/lv02_db"#,
        quoted(volume)
    ));
}

/// The tree of the guest's logical volume as it is in the snapshot that a backup kept.
fn tree_in_snapshot(kept: &str, lv: &str, options: &str) -> Tree {
    let map = format!("expected-{lv}");
    // The guest's own table, on the snapshot in place of the guest's disk.
    sh(&format!(
        "number=$(lsblk -dno MAJ:MIN /dev/{kept} | tr -d ' ')
         dmsetup table vg_web_logs-{lv} | sed \"s/ linear [0-9]*:[0-9]* / linear $number /\" | dmsetup create {map}
         dmsetup mknodes {map}"
    ));
    let mounted = Mounted::with_options(&Path::new("/dev/mapper").join(&map), &Path::new(SCRATCH).join(lv), options);
    let mut tree = fingerprint(&mounted.point);
    tree.retain(|path, attributes| attributes.kind != Kind::Socket && !path.starts_with(b"lost+found"));
    mounted.unmount();
    sh(&format!("dmsetup remove {map}"));
    tree
}

#[test]
fn the_guests_logical_volumes_come_back_while_it_uses_them() {
    if !in_lab("nested::the_guests_logical_volumes_come_back_while_it_uses_them") {
        return;
    }
    set_up();
    let volume = thick_volume("vdb", "720M");
    guest_with_lvm(&volume);
    let logs = Mounted::with_options(Path::new("/dev/vg_web_logs/lv01_web_logs"), Path::new("/run/t/logs"), "rw");
    let db = Mounted::with_options(Path::new("/dev/vg_web_logs/lv02_db"), Path::new("/run/t/db"), "rw");
    fs::create_dir(logs.point.join("hard")).unwrap();
    make_hard_tree(&logs.point.join("hard"), Filesystem::Ext4);
    fs::create_dir(db.point.join("hard")).unwrap();
    make_hard_tree(&db.point.join("hard"), Filesystem::Xfs);
    // Together with the region's own directory these paths are longer than tar can make.
    sh("rm -r /run/t/logs/hard/deep /run/t/db/hard/deep; sync");
    let before = state();

    let writers = (Writer::start(&logs.point), Writer::start(&db.point));
    sh("until [ -e /run/t/logs/busy/file-3 ] && [ -e /run/t/db/busy/file-3 ]; do sleep 0.1; done; sync");
    let archive = snapshot(&volume, &dest(), &["--keep-snapshot"]);
    drop(writers);

    let manifest = manifest(&archive);
    let regions = manifest["layout"]["regions"].as_array().unwrap();
    let first = regions.iter().find(|region| region["lv"]["lv"] == "lv01_web_logs").unwrap();
    assert_eq!(first["extents"].as_array().unwrap().len(), 2, "{first}");
    let kept = manifest["snapshot"]["name"].as_str().unwrap().to_owned();

    let lvs = [("lv01_web_logs", Filesystem::Ext4, "ro"), ("lv02_db", Filesystem::Xfs, "ro,nouuid")];
    for (lv, filesystem, options) in lvs {
        let expected = tree_in_snapshot(&kept, lv, options);
        assert!(expected.keys().any(|path| path.starts_with(b"busy/")), "the guest wrote to {lv}");
        let target = restore_target(Path::new(SCRATCH), filesystem);
        let root = target.point.join("tree");
        sh(&format!(
            "tar --xattrs --xattrs-include='*' --acls --numeric-owner -xpzf {} -C {} ./disk.vg_web_logs-{lv} 2>&1",
            quoted(&archive),
            quoted(&root)
        ));
        assert_equal_trees(&expected, &fingerprint(&root.join(format!("disk.vg_web_logs-{lv}"))));
        target.unmount();
        sh(&format!("rm {SCRATCH}/restored.img"));
    }
    sh(&format!("lvremove -q -y {kept}"));
    assert_eq!(volumes_of_volbak(), "");
    assert_eq!(state(), before, "nothing is left of what was mapped and mounted");
    assert_all_good(&dest());

    // Two volumes with the same groups in them: a copy of the first, as a tenant's clone of a volume is.
    logs.unmount();
    db.unmount();
    let clone = thick_volume("vdb-clone", "720M");
    sh(&format!("dd if={} of={} bs=4M status=none", quoted(&volume), quoted(&clone)));
    let digest = sh(&format!("sha1sum {}", quoted(&volume)));
    let names = [format!("{GROUP}/vdb"), format!("{GROUP}/vdb-clone")];
    run_expecting(0, &["snapshot", &names[0], &names[1], "--to", dest().to_str().unwrap()]);
    assert_eq!(sh(&format!("sha1sum {}", quoted(&volume))), digest, "the volume is as it was");
    assert_all_good(&dest());

    // A disk image of it needs a map over a loop device, and is not written to.
    sh(&format!(
        "cp --sparse=always {} {SCRATCH}/image.img; sha1sum {SCRATCH}/image.img >{SCRATCH}/sum",
        quoted(&clone)
    ));
    let archive = snapshot(&Path::new(SCRATCH).join("image.img"), &dest(), &[]);
    sh(&format!(
        "sha1sum -c --quiet {SCRATCH}/sum; tar tzf {} | grep -c ^./disk.vg_web_logs-lv01_web_logs/hard/",
        quoted(&archive)
    ));
    let maps = sh("dmsetup ls | grep volbak || true; losetup -ln -O BACK-FILE | grep image.img || true");
    assert_eq!(maps, "", "no map and no loop device is left");
}

#[test]
fn a_striped_volume_over_two_partitions_comes_back() {
    if !in_lab("nested::a_striped_volume_over_two_partitions_comes_back") {
        return;
    }
    set_up();
    let volume = thick_volume("vdc", "720M");
    let half = 340 << 20;
    sh(&format!(
        r#"sfdisk -q --no-reread --no-tell-kernel {0} <<< $'label: gpt\nstart=2048, size=696320, type=lvm\nstart=698368, size=696320, type=lvm'
        mkdir -p /run/guest-lvm
        sed 's/devices {{/devices {{ global_filter=["a|^\/dev\/loop|","r|.*|"] /' $LVM_SYSTEM_DIR/lvm.conf >/run/guest-lvm/lvm.conf
        sed -i 's/devices {{/devices {{ global_filter=["r|^\/dev\/loop|"] /' $LVM_SYSTEM_DIR/lvm.conf
        one=$(losetup -f --show -o $((2048*512)) --sizelimit {half} {0})
        two=$(losetup -f --show -o $((698368*512)) --sizelimit {half} {0})
        {GUEST_LVM}
        pvcreate -q $one $two; vgcreate -q fast $one $two
        lvcreate -q -y -n striped -i 2 -I 64k -L 600M fast
        mkfs.ext4 -q -b 4096 -i 4096 /dev/fast/striped"#,
        quoted(&volume)
    ));
    let mounted = Mounted::with_options(Path::new("/dev/fast/striped"), Path::new("/run/t/striped"), "rw");
    fs::create_dir(mounted.point.join("hard")).unwrap();
    make_hard_tree(&mounted.point.join("hard"), Filesystem::Ext4);
    let mut expected = fingerprint(&mounted.point);
    expected.retain(|path, attributes| attributes.kind != Kind::Socket && !path.starts_with(b"lost+found"));
    mounted.unmount();

    let archive = snapshot(&volume, &dest(), &[]);
    let manifest = manifest(&archive);
    let regions = manifest["layout"]["regions"].as_array().unwrap();
    let striped = regions.iter().find(|region| region["lv"]["lv"] == "striped").unwrap();
    assert_eq!(striped["extents"].as_array().unwrap().len(), 9600);
    let target = restore_target(Path::new(SCRATCH), Filesystem::Ext4);
    let root = target.point.join("tree");
    let options = "--xattrs --xattrs-include='*' --acls --numeric-owner";
    sh(&format!("tar {options} -xpzf {} -C {} 2>&1", quoted(&archive), quoted(&root)));
    assert_equal_trees(&expected, &fingerprint(&root));
}

/// A tenant's names for his volumes: `a` is nothing that a reader reads, `a.img` and `a.img.1` are filesystems, and `A.IMG`
/// differs in case only. Each comes back as itself, by tar and by volbak.
#[test]
fn no_name_of_a_volume_is_taken_for_another() {
    if !in_lab("nested::no_name_of_a_volume_is_taken_for_another") {
        return;
    }
    set_up();
    let image = Path::new(SCRATCH).join("names.img");
    let secret = Path::new(SCRATCH).join("secret");
    sh(&format!(
        r#"truncate -s 96M {0}
        mkdir -p /run/guest-lvm
        sed 's/devices {{/devices {{ global_filter=["a|^\/dev\/loop|","r|.*|"] /' $LVM_SYSTEM_DIR/lvm.conf >/run/guest-lvm/lvm.conf
        disk=$(losetup -f --show {0})
        {GUEST_LVM}
        pvcreate -q $disk; vgcreate -q vg0 $disk
        for name in a a.img a.img.1 A.IMG; do lvcreate -q -y -L 16M -n $name vg0; done
        head -c 3000000 /dev/urandom >{1}; cat {1} >/dev/vg0/a
        for name in a.img a.img.1 A.IMG; do
            rm -rf {SCRATCH}/r; mkdir {SCRATCH}/r; echo in $name >{SCRATCH}/r/who
            mke2fs -q -F -t ext4 -d {SCRATCH}/r /dev/vg0/$name
        done
        vgchange -q -an vg0; sync; losetup -d $disk"#,
        quoted(&image),
        quoted(&secret)
    ));
    run_expecting(3, &["snapshot", image.to_str().unwrap(), "--to", dest().to_str().unwrap()]);
    assert_all_good(&dest());
    let archive = archives(&dest().join("names")).remove(0);
    let regions = manifest(&archive)["layout"]["regions"].as_array().unwrap().clone();
    let names: Vec<&str> = regions.iter().map(|region| region["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["disk", "disk.vg0-a", "disk.vg0-a.img", "disk.vg0-a.img.1", "disk.vg0-A.IMG~2"]);

    let check = |root: &str| {
        let found = sh(&format!("cd {root}; cat */who | sort; cmp -n 3000000 disk.vg0-a.img.2 {}", quoted(&secret)));
        assert_eq!(found, "in A.IMG\nin a.img\nin a.img.1\n");
    };
    sh(&format!("mkdir {SCRATCH}/tar; tar -xpzf {} -C {SCRATCH}/tar", quoted(&archive)));
    check(&format!("{SCRATCH}/tar"));
    run_expecting(0, &["restore", archive.to_str().unwrap(), "--to", &format!("{SCRATCH}/volbak")]);
    check(&format!("{SCRATCH}/volbak"));

    // And as the disk that it was.
    let made = format!("{SCRATCH}/made.img");
    run_expecting(0, &["restore", archive.to_str().unwrap(), "--to-image", &made]);
    run_expecting(3, &["snapshot", &made, "--to", dest().to_str().unwrap()]);
    let again = archives(&dest().join("made")).remove(0);
    sh(&format!("mkdir {SCRATCH}/again; tar -xpzf {} -C {SCRATCH}/again", quoted(&again)));
    check(&format!("{SCRATCH}/again"));
}
