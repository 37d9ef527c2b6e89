//! Whole disks restored onto logical volumes, in a machine that `scripts/lab` starts: what needs filesystems that few
//! hosts' kernels have, and real LVM.
//!
//! Promise: each partition, filesystem, swap space and volume group is there again under its UUID and label, on a target of
//! the same size, a larger or a smaller one (and `tests/restore_device.rs` for more of those); the trees are equal, the filesystems' own checkers find nothing, the tools
//! of the system see what they saw; nothing stays mounted, mapped or attached.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::testkit::guest::backups::{manifest, run_expecting, snapshot, volbak};
use crate::testkit::guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, state, thick_volume};
use crate::testkit::guest::{Mounted, quoted, sh, sh_output};
use crate::testkit::tree::{Filesystem, Kind, Tree, assert_equal_trees, fingerprint};

const GUEST_LVM: &str = "export LVM_SYSTEM_DIR=/run/guest-lvm;";
const MIB: u64 = 1 << 20;

/// A part of a disk: where it is, in MiB, what makes it, and what it holds.
struct Part {
    start: u64,
    len: u64,
    make: &'static str,
    tree: Option<Filesystem>,
}

fn part(start: u64, len: u64, make: &'static str, tree: Option<Filesystem>) -> Part {
    Part { start, len, make, tree }
}

/// Something of most kinds.
fn small_tree(root: &Path) {
    sh(&format!(
        "cd {}; mkdir -p etc/x var; cp -a /etc/passwd /etc/hostname etc/; ln etc/passwd etc/x/passwd; ln -s ../etc var/etc
         chown 1000:1001 etc/x/passwd; chmod 4751 etc/hostname; setfattr -n user.a -v b etc/hostname; mkfifo var/fifo
         truncate -s 64M var/sparse; head -c 65536 /dev/urandom | dd of=var/sparse bs=64k seek=99 conv=notrunc status=none
         mknod var/null c 1 3; touch -d '2001-02-03 04:05:06.789' etc/x; touch -d '2002-01-01' .",
        quoted(root)
    ));
}

fn options(part: &Part, more: &str) -> String {
    format!("loop,offset={},sizelimit={}{more}", part.start * MIB, part.len * MIB)
}

/// Makes what the parts hold, and gives their trees.
fn fill(disk: &Path, parts: &[Part]) -> Vec<Tree> {
    for part in parts {
        sh(&format!(
            "loop=$(losetup -f --show -o {} --sizelimit {} {}); trap 'losetup -d $loop' EXIT; {} $loop >/dev/null",
            part.start * MIB,
            part.len * MIB,
            quoted(disk),
            part.make
        ));
        let Some(filesystem) = part.tree else { continue };
        let mounted = Mounted::with_options(disk, &Path::new(SCRATCH).join("m"), &options(part, ""));
        match filesystem {
            Filesystem::Vfat => drop(sh(&format!("cp /bin/ls {}/BOOTX64.EFI", quoted(&mounted.point)))),
            _ => small_tree(&mounted.point),
        }
        mounted.unmount();
    }
    parts.iter().filter(|part| part.tree.is_some()).map(|part| tree_of(disk, part)).collect()
}

/// Sockets are not archived, and a lost+found that is empty is the filesystem's own.
fn keep_archived(tree: &mut Tree) {
    tree.retain(|path, attributes| attributes.kind != Kind::Socket && path != b"lost+found");
}

/// The tree in a part of a disk. `nouuid` since its twin may be mounted.
fn tree_of(disk: &Path, part: &Part) -> Tree {
    let more = if part.tree == Some(Filesystem::Xfs) { ",ro,nouuid" } else { ",ro" };
    let mounted = Mounted::with_options(disk, &Path::new(SCRATCH).join("m"), &options(part, more));
    let mut tree = fingerprint(&mounted.point);
    keep_archived(&mut tree);
    mounted.unmount();
    tree
}

/// What the system's tools say of a disk: its table, and what blkid finds on each part.
fn seen(disk: &Path, parts: &[Part]) -> String {
    let mut said = sh(&format!("sfdisk -d {0} | sed 's#{0}##; /^last-lba/d'", disk.display()));
    for part in parts {
        let (start, len) = (part.start * MIB, part.len * MIB);
        let disk = quoted(disk);
        said += &sh(&format!("blkid -p -o export -O {start} -S {len} {disk} | grep -E '^(LABEL|UUID|TYPE|VERSION)='"));
    }
    said
}

fn restore(archive: &Path, device: &Path, more: &[&str]) -> String {
    let name = device.file_name().unwrap().to_str().unwrap();
    let erase = format!("--yes-erase={name}");
    let mut arguments =
        vec!["restore", archive.to_str().unwrap(), "--to-device", device.to_str().unwrap(), erase.as_str()];
    arguments.extend(more);
    let started = std::time::Instant::now();
    let said = run_expecting(0, &arguments);
    eprintln!("restored to {name} in {:?}", started.elapsed());
    said
}

/// A table's script for sfdisk, put on a disk.
fn table(disk: &Path, script: &str) {
    sh(&format!("sfdisk -q --no-reread --no-tell-kernel {} <<'TABLE'\n{script}\nTABLE", quoted(disk)));
}

#[test]
fn disks_come_back_with_all_their_partitions() {
    if !in_lab("restore_device::disks_come_back_with_all_their_partitions") {
        return;
    }
    set_up();
    let disk = thick_volume("gpt", "460M");
    table(
        &disk,
        "label: gpt\nstart=2048, size=40M, type=uefi, name=\"EFI System\"\nsize=320M, type=linux, name=root, \
         attrs=\"LegacyBIOSBootable GUID:59\"\nsize=60M, type=swap",
    );
    sh(&format!("head -c 440 /dev/urandom | dd of={} conv=notrunc status=none", quoted(&disk)));
    let efi = || part(1, 40, "mkfs.vfat -F 32 -i cafe1234 -n ESP", Some(Filesystem::Vfat));
    let parts = [
        efi(),
        part(41, 320, "mkfs.ext4 -q -b 4096 -i 4096 -L root -O ^metadata_csum,^64bit", Some(Filesystem::Ext4)),
        part(361, 60, "mkswap -L sw", None),
    ];
    let trees = fill(&disk, &parts);
    let archive = snapshot(&disk, &dest(), &[]);
    let before = seen(&disk, &parts);

    let same = thick_volume("same", "460M");
    // What is on it is told, and is not touched without the option.
    table(&same, "label: dos\nsize=20M");
    let said = run_expecting(1, &["restore", archive.to_str().unwrap(), "--to-device", same.to_str().unwrap()]);
    assert!(said.contains("an MBR with") && said.contains("--yes-erase=same"), "{said}");
    let quiet = state();
    // A snapshot of it would have to keep all that is overwritten.
    sh(&format!("lvcreate -q -y -s -n of-same -L 8M {GROUP}/same"));
    let said = run_expecting(
        1,
        &["restore", archive.to_str().unwrap(), "--to-device", same.to_str().unwrap(), "--yes-erase=same"],
    );
    assert!(said.contains("it has snapshots (of-same)"), "{said}");
    sh(&format!("lvremove -q -y {GROUP}/of-same"));
    restore(&archive, &same, &[]);
    assert_eq!(seen(&same, &parts), before);
    for (part, tree) in [&parts[0], &parts[1]].into_iter().zip(&trees) {
        assert_equal_trees(tree, &tree_of(&same, part));
    }
    let code = |disk: &Path| sh(&format!("head -c 440 {} | sha1sum", quoted(disk)));
    assert_eq!(code(&disk), code(&same));
    assert_eq!(state(), quiet);
    sh(&format!("lvremove -q -y {GROUP}/same"));

    sh(&format!("lvremove -q -y {GROUP}/gpt"));

    let ids = |said: String| {
        let is_place = |word: &&str| !word.starts_with("start=") && !word.starts_with("size=");
        let without = |line: &str| {
            line.split(", ").map(|word| word.split(" :").last().unwrap().trim()).collect::<Vec<_>>().join(",")
        };
        said.lines()
            .map(|line| without(line).split(',').filter(is_place).collect::<Vec<_>>().join(","))
            .collect::<Vec<_>>()
    };
    // An MBR with logical partitions.
    let disk = thick_volume("mbr", "520M");
    table(
        &disk,
        "label: dos\nlabel-id: 0xdeadbeef\np1 : start=2048, size=60M, type=83, bootable\np2 : type=f\n\
         p5 : size=128M, type=83\np6 : size=280M, type=83\np7 : type=82",
    );
    let places = sh(&format!("sfdisk -J {} | jq -r '.partitiontable.partitions[].start / 2048'", quoted(&disk)));
    let at: Vec<u64> = places.lines().map(|line| line.parse().unwrap()).collect();
    let parts = [
        part(1, 60, "mkfs.ext3 -q -b 4096 -i 4096 -L boot", Some(Filesystem::Ext4)),
        part(at[2], 128, "mkfs.xfs -q --unsupported -L data -n size=8192 -m reflink=0", Some(Filesystem::Xfs)),
        part(at[3], 280, "mkfs.ext4 -q -b 4096 -L home -i 4096", Some(Filesystem::Ext4)),
        part(at[4], 520 - at[4], "mkswap", None),
    ];
    let trees = fill(&disk, &parts);
    let archive = snapshot(&disk, &dest(), &[]);
    let before = seen(&disk, &parts);
    let same = thick_volume("same", "520M");
    restore(&archive, &same, &[]);
    assert_eq!(seen(&same, &parts), before);
    for (part, tree) in parts.iter().zip(&trees) {
        assert_equal_trees(tree, &tree_of(&same, part));
    }
    let geometry = |disk: &Path, at: u64| {
        let said = sh(&format!(
            "loop=$(losetup -f --show -o {} {}); xfs_db -r -c 'sb 0' -c 'p dirblklog inodesize features_ro_compat features_incompat' $loop; losetup -d $loop",
            at * MIB,
            quoted(disk)
        ));
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(geometry(&disk, at[2]), geometry(&same, at[2]));
    // A smaller one: what comes last becomes smaller, and the chain of extended boot records leads there.
    sh(&format!("lvremove -q -y {GROUP}/same"));
    let smaller = thick_volume("smaller", "400M");
    let said = restore(&archive, &smaller, &[]);
    assert!(said.contains("p6: is made smaller"), "{said}");
    let found = sh(&format!(
        "sfdisk -J {} | jq -r '.partitiontable.partitions[] | \"\\(.start / 2048) \\(.size / 2048)\"'",
        quoted(&smaller)
    ));
    let numbers: Vec<(u64, u64)> = found
        .lines()
        .map(|line| line.split_once(' ').map(|(start, size)| (start.parse().unwrap(), size.parse().unwrap())).unwrap())
        .collect();
    let moved: Vec<Part> = [0, 2, 3, 4]
        .iter()
        .zip(&parts)
        .map(|(index, was)| part(numbers[*index].0, numbers[*index].1, "", was.tree))
        .collect();
    assert_eq!(ids(seen(&smaller, &moved)), ids(before));
    for (part, tree) in moved.iter().zip(&trees) {
        assert_equal_trees(tree, &tree_of(&smaller, part));
    }
}

#[test]
fn nested_volume_groups_come_back() {
    if !in_lab("restore_device::nested_volume_groups_come_back") {
        return;
    }
    set_up();
    let disk = thick_volume("vdb", "480M");
    table(&disk, "label: gpt\nstart=2048, size=60M, type=linux, name=boot\nsize=400M, type=lvm, name=pv");
    let boot = [part(1, 60, "mkfs.ext4 -q -b 4096 -i 4096 -L boot", Some(Filesystem::Ext4))];
    let boot_tree = fill(&disk, &boot).remove(0);
    let pv_at = |disk: &Path, at: u64| format!("losetup -f --show -o {at} --sizelimit {} {}", 400 * MIB, quoted(disk));
    let loop_on = |disk: &Path| pv_at(disk, 61 * MIB);
    // The first one is extended when the second is there already, so that it is in two pieces.
    sh(&format!(
        r#"mkdir -p /run/guest-lvm
        sed 's/devices {{/devices {{ global_filter=["a|^\/dev\/loop|","r|.*|"] /' $LVM_SYSTEM_DIR/lvm.conf >/run/guest-lvm/lvm.conf
        sed -i 's/devices {{/devices {{ global_filter=["r|^\/dev\/loop|"] /' $LVM_SYSTEM_DIR/lvm.conf
        loop=$({})
        {GUEST_LVM}
        pvcreate -q $loop; vgcreate -q vg_guest $loop
        lvcreate -q -y -n root -L 80M vg_guest; lvcreate -q -y -n db -L 128M vg_guest; lvextend -q -L +60M vg_guest/root
        mkfs.ext4 -q -b 4096 -i 4096 -L lvroot /dev/vg_guest/root; mkfs.xfs -q --unsupported -L lvdb /dev/vg_guest/db
        vgchange -q -an vg_guest; losetup -d $loop"#,
        loop_on(&disk)
    ));
    // What the guest's own LVM and its kernel see, with the group active on that disk.
    let seen_at = |disk: &Path, at: u64, group: &str, fill: bool| -> (String, Vec<Tree>) {
        sh(&format!("{} >/run/loop; {GUEST_LVM} vgchange -q -ay {group} >/dev/null", pv_at(disk, at)));
        let mut trees = Vec::new();
        for lv in ["root", "db"] {
            let device = Path::new("/dev").join(group).join(lv);
            let mounted = Mounted::with_options(&device, &Path::new(SCRATCH).join("m"), "rw");
            if fill {
                small_tree(&mounted.point);
            }
            let mut tree = fingerprint(&mounted.point);
            keep_archived(&mut tree);
            trees.push(tree);
            mounted.unmount();
        }
        let said = sh(&format!(
            "{GUEST_LVM} pvs --noheadings -o pv_uuid,pv_size,pe_start; vgs --noheadings -o vg_name,vg_uuid,vg_extent_count
             lvs --noheadings -o lv_name,lv_uuid,lv_size,seg_pe_ranges | sed 's#/dev/loop[0-9]*##g'
             blkid -p -o export /dev/{group}/root /dev/{group}/db | grep -E '^(UUID|LABEL|TYPE)='
             pvck $(cat /run/loop) >/dev/null; vgck {group}
             vgchange -q -an {group} >/dev/null; losetup -d $(cat /run/loop)"
        ));
        (said, trees)
    };
    let seen_by_guest = |disk: &Path, group: &str, fill: bool| seen_at(disk, 61 * MIB, group, fill);
    let (before, trees) = seen_by_guest(&disk, "vg_guest", true);
    let archive = snapshot(&disk, &dest(), &[]);
    let layout = &manifest(&archive)["layout"];
    let root = layout["regions"].as_array().unwrap().iter().find(|region| region["lv"]["lv"] == "root").unwrap();
    assert_eq!(root["extents"].as_array().unwrap().len(), 2, "{root}");

    let quiet = state();
    let back = thick_volume("back", "480M");
    // While a group of that name is active here, it is asked for another one.
    sh(&format!("{} >/run/loop; {GUEST_LVM} vgchange -q -ay vg_guest >/dev/null", loop_on(&disk)));
    let device = back.to_str().unwrap();
    let said = run_expecting(1, &["restore", archive.to_str().unwrap(), "--to-device", device]);
    assert!(said.contains("--vg-name vg_guest=NEW"), "{said}");
    // Killed while a volume in two pieces is put together: the next one removes what is left of that. A kill may come too late.
    let is_put_together = "grep -qs ^volbak- /sys/block/dm-*/dm/name";
    let is_left_by_a_killed_one = || {
        let target = ["--to-device", device, "--yes-erase=back", "--vg-name", "vg_guest=x"];
        let mut child = volbak(&[&["restore", archive.to_str().unwrap()], &target[..]].concat());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let limit = Instant::now() + Duration::from_secs(180);
        while child.try_wait().unwrap().is_none() && !sh_output(is_put_together).status.success() {
            assert!(Instant::now() < limit, "no volume was put together");
        }
        let _ = child.kill();
        child.wait().unwrap();
        sh("for i in $(seq 300); do pgrep -x mkfs.ext4 >/dev/null || break; sleep 0.1; done");
        sh_output(is_put_together).status.success()
    };
    assert!((0..20).any(|_| is_left_by_a_killed_one()), "each was killed too late");
    restore(&archive, &back, &["--vg-name", "vg_guest=vg_other"]);
    sh(&format!("{GUEST_LVM} vgchange -q -an vg_guest; losetup -d $(cat /run/loop)"));
    assert_equal_trees(&boot_tree, &tree_of(&back, &boot[0]));
    let (after, restored) = seen_by_guest(&back, "vg_other", false);
    assert_eq!(after, before.replace("vg_guest", "vg_other"));
    trees.iter().zip(&restored).for_each(|(tree, restored)| assert_equal_trees(tree, restored));

    // Onto a larger one that held the other, under its own name.
    sh(&format!("lvextend -q -L 520M {GROUP}/back"));
    restore(&archive, &back, &[]);
    let (after, restored) = seen_by_guest(&back, "vg_guest", false);
    assert_eq!(after, before);
    trees.iter().zip(&restored).for_each(|(tree, restored)| assert_equal_trees(tree, restored));

    // The physical volume alone, and one of its volumes alone.
    restore(&archive, &back, &["--region", "p2"]);
    let (after, restored) = seen_at(&back, 0, "vg_guest", false);
    assert_eq!(after, before);
    trees.iter().zip(&restored).for_each(|(tree, restored)| assert_equal_trees(tree, restored));
    restore(&archive, &back, &["--region", "p2.vg_guest-root"]);
    let mounted = Mounted::with_options(&back, &Path::new(SCRATCH).join("m"), "ro");
    let mut root = fingerprint(&mounted.point);
    keep_archived(&mut root);
    mounted.unmount();
    assert_equal_trees(&trees[0], &root);
    sh(&format!("lvremove -q -y {GROUP}/back"));
    assert_eq!(state(), quiet);
}
