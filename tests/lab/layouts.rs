//! Volume groups and mirrors, made by LVM's tools and mdadm on a real device-mapper: all in one boot of the lab. The
//! extents of each logical volume are compared byte for byte with what device-mapper shows as that volume.

// Scripts may hold quotes tomorrow that they do not hold today.
#![allow(clippy::needless_raw_string_hashes)]

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use volbak::layout::{Layout, RegionBlocks};
use volbak::outside::{BlockRead, FileBlocks};

use crate::testkit::guest::lab::in_lab;
use crate::testkit::layouts::{blocks_of, compare, detected};

/// Disks are sparse files on the machine's tmpfs, seen through loop devices; `part IMAGE OFFSET SIZE` (in MiB) gives a
/// device for a piece of one.
const PRELUDE: &str = r#"
set -euo pipefail
cd /run/mnt
quiet() { "$@" >/run/out 2>&1 </dev/null || { echo "$*"; cat /run/out; exit 1; } >&2; }
# Several commands of LVM's in one process: each process takes long to start here.
lvms() { printf '%s\n' "$@" | lvm >/run/out 2>&1 || { echo "$*"; cat /run/out; exit 1; } >&2; }
disk() { rm -f "$1"; truncate -s "$2" "$1"; losetup -f --show "$1"; }
part() { losetup -f --show -o "$2M" --sizelimit "$3M" "$1"; }
table() { sfdisk -q --no-reread --no-tell-kernel "$@" >/dev/null; }
gpt() { local image=$1; shift; rm -f "$image"; truncate -s 256M "$image"; printf 'label: gpt\n'"$1" | table "$image"; }
"#;

struct Lab {
    wrong: String,
}

impl Lab {
    fn script(script: &str) -> String {
        let output = Command::new("bash").args(["-c", &format!("{PRELUDE}\n{script}")]).output().expect("bash runs");
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs the script, and compares what is found on the disk it leaves with what is expected. `volumes` are pairs of
    /// a region and the device that must have the same bytes.
    fn case(
        &mut self,
        name: &str,
        script: &str,
        disk: &str,
        regions: &[&str],
        problems: &[&str],
        volumes: &[(&str, &str)],
    ) {
        let started = std::time::Instant::now();
        Self::script(&format!("{script}\nsync; echo 3 >/proc/sys/vm/drop_caches"));
        let made = started.elapsed();
        let blocks = open(Path::new(disk));
        let layout = detected(name, &blocks);
        let mut wrong = compare(&layout, regions, problems).err().unwrap_or_default();
        for (region, device) in volumes {
            wrong += &difference(&layout, &blocks, region, device);
        }
        if !wrong.is_empty() {
            let _ = writeln!(self.wrong, "--- {name}\n{wrong}");
        }
        println!("{name}: made in {made:?}, compared in {:?}", started.elapsed().saturating_sub(made));
        // Groups, arrays and loop devices go, so that names are free for the next case.
        Self::script(
            "[ ! -e /dev/md0 ] || mdadm --stop --scan >/dev/null 2>&1 || true
            dmsetup remove_all --force >/dev/null 2>&1 || true
            [ ! -e /dev/md0 ] || mdadm --stop --scan >/dev/null 2>&1 || true
            losetup -D; rm -f /run/mnt/*; rm -rf /dev/vg /dev/vg-a /dev/outer /dev/inner",
        );
    }
}

fn open(path: &Path) -> FileBlocks {
    if path.starts_with("/dev") {
        let len = Lab::script(&format!("blockdev --getsize64 {}", path.display())).parse().expect("a number");
        return FileBlocks::new(File::open(path).expect("a device"), len);
    }
    blocks_of(path)
}

/// Where a region's bytes and a device's are not the same, or what blkid says of the device and not of the region.
fn difference(layout: &Layout, blocks: &dyn BlockRead, region: &str, device: &str) -> String {
    let Some(region) = layout.regions.iter().find(|found| found.name == region) else {
        return format!("no region {region}\n");
    };
    let bytes = RegionBlocks::new(blocks, &region.extents);
    let theirs = open(Path::new(device));
    if theirs.len_bytes() != bytes.len_bytes() {
        return format!("{} has {} bytes, {device} {}\n", region.name, bytes.len_bytes(), theirs.len_bytes());
    }
    let mut ours = vec![0; 1 << 20];
    let mut other = vec![0; 1 << 20];
    // All of a small volume; of a large one the first and last 8 MiB of each extent, and each sixteenth MiB.
    let mut borders = vec![0];
    for extent in &region.extents {
        borders.push(borders[borders.len() - 1] + extent.length);
    }
    let is_small = bytes.len_bytes() <= 128 << 20;
    let wanted = |at: u64| {
        is_small || (at >> 20).is_multiple_of(16) || borders.iter().any(|border| at.abs_diff(*border) < 8 << 20)
    };
    for at in (0..bytes.len_bytes()).step_by(1 << 20).filter(|at| wanted(*at)) {
        let len = usize::try_from(bytes.len_bytes() - at).unwrap_or(1 << 20).min(1 << 20);
        bytes.read_at(at, &mut ours[..len]).expect("inside");
        theirs.read_at(at, &mut other[..len]).expect("inside");
        if ours[..len] != other[..len] {
            return format!("{} and {device} differ in the MiB from {at}\n", region.name);
        }
    }
    let blkid = Lab::script(&format!("blkid -p -o value -s TYPE {device} || true"));
    let held = region.holds.fs.clone().unwrap_or_default();
    if blkid == held { String::new() } else { format!("{}: blkid says {blkid}, we say {held}\n", region.name) }
}

/// The extents of a linear volume as `dmsetup table` has them: offset and length in bytes.
fn device_mapper_extents(volume: &str) -> Vec<(u64, u64)> {
    Lab::script(&format!("dmsetup table {volume}"))
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[2], "linear", "{line}");
            let number = |at: usize| words[at].parse::<u64>().expect("a number") * 512;
            (number(4), number(1))
        })
        .collect()
}

/// The seed case: a physical volume on a whole disk, two volumes, one of them extended behind the other.
fn seed_case(lab: &mut Lab) {
    let script = r#"
lvms "pvcreate /dev/ubdb" "vgcreate vg_web_logs /dev/ubdb" "lvcreate -n lv01_web_logs -L 320M vg_web_logs" "lvcreate -n lv02_web_logs -L 64M vg_web_logs" "lvextend -L +80M vg_web_logs/lv01_web_logs"
quiet mkfs.xfs -q -L logs1 /dev/vg_web_logs/lv01_web_logs; quiet mkfs.ext4 -q -L logs2 /dev/vg_web_logs/lv02_web_logs"#;
    Lab::script(script);
    let tables: Vec<_> = ["lv01_web_logs", "lv02_web_logs"]
        .iter()
        .map(|name| device_mapper_extents(&format!("vg_web_logs-{name}")))
        .collect();
    assert_eq!((tables[0].len(), tables[1].len()), (2, 1), "one volume has two segments");
    let report = Lab::script("lvs --reportformat json --units b --nosuffix -o lv_name,lv_size vg_web_logs");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let layout = detected("seed", &open(Path::new("/dev/ubdb")));
    for (index, name) in ["lv01_web_logs", "lv02_web_logs"].iter().enumerate() {
        let region =
            layout.regions.iter().find(|region| region.name == format!("disk.vg_web_logs-{name}")).expect(name);
        let extents: Vec<_> = region.extents.iter().map(|extent| (extent.source_offset, extent.length)).collect();
        assert_eq!(extents, tables[index], "{name}");
        assert_eq!(
            region.size_bytes.to_string(),
            report["report"][0]["lv"][index]["lv_size"].as_str().expect("a size")
        );
        assert_eq!(region.parent.as_deref(), Some("disk"));
        assert_eq!(region.lv.as_ref().map(|lv| (lv.vg.as_str(), lv.lv.as_str())), Some(("vg_web_logs", *name)));
    }
    assert!(layout.outside.iter().any(|kept| kept.what == "LVM2 metadata of disk"), "the metadata are kept");
    lab.case(
        "seed",
        "true",
        "/dev/ubdb",
        &[
            "disk container LVM2_member",
            "disk.vg_web_logs-lv01_web_logs files xfs",
            "disk.vg_web_logs-lv02_web_logs files ext4",
        ],
        &[],
        &[
            ("disk.vg_web_logs-lv01_web_logs", "/dev/vg_web_logs/lv01_web_logs"),
            ("disk.vg_web_logs-lv02_web_logs", "/dev/vg_web_logs/lv02_web_logs"),
        ],
    );
}

fn groups(lab: &mut Lab) {
    lab.case(
        "lvm-in-a-partition",
        r#"gpt d 'size=16M,type=L\ntype=E6D6D379-F507-44C2-A23C-238F2A3DF928\n'
        a=$(part d 1 16); quiet mkfs.ext4 -q $a; b=$(part d 17 230)
        lvms "pvcreate $b" "vgcreate vg-a $b" "lvcreate -n lv-b -L 64M vg-a" "lvcreate -n swap -L 32M vg-a"
        quiet mkfs.ext4 -q /dev/vg-a/lv-b; quiet mkswap /dev/vg-a/swap"#,
        "/run/mnt/d",
        &["p1 files ext4", "p2 container LVM2_member", "p2.vg-a-lv-b files ext4", "p2.vg-a-swap facts swap"],
        &[],
        &[("p2.vg-a-lv-b", "/dev/vg-a/lv-b"), ("p2.vg-a-swap", "/dev/vg-a/swap")],
    );
    lab.case(
        "lvm-over-two-partitions-striped-and-spanning",
        r#"gpt d 'size=100M\nsize=100M\n'
        a=$(part d 1 100); b=$(part d 101 100); lvms "pvcreate $a" "pvcreate --metadatacopies 0 $b" "vgcreate vg $a $b" "lvcreate -n st -i 2 -I 64k -L 64M vg" "lvcreate -n span -l 100%FREE vg"
        quiet mkfs.ext4 -q /dev/vg/st; quiet mkfs.ext4 -q /dev/vg/span"#,
        "/run/mnt/d",
        &["p1 container LVM2_member", "p1.vg-st files ext4", "p1.vg-span files ext4", "p2 container LVM2_member"],
        &[],
        &[("p1.vg-st", "/dev/vg/st"), ("p1.vg-span", "/dev/vg/span")],
    );
    lab.case(
        "lvm-label-in-the-last-place-and-small-ring",
        r#"a=$(disk d 64M); lvms "pvcreate --labelsector 3 --metadatasize 16k --dataalignment 64k $a" "vgcreate vg $a" "lvcreate -n lv -L 32M vg"; quiet mkfs.ext4 -q /dev/vg/lv
        for i in $(seq 9); do
            quiet vgchange $(printf -- '--addtag tag_of_some_length_%s ' $(seq $((i * 9)) $((i * 9 + 8)))) vg
        done"#,
        "/run/mnt/d",
        &["disk container LVM2_member", "disk.vg-lv files ext4"],
        &[],
        &[("disk.vg-lv", "/dev/vg/lv")],
    );
    lab.case(
        "lvm-nested-in-a-volume",
        r#"a=$(disk d 128M); lvms "pvcreate $a" "vgcreate outer $a" "lvcreate -n pv -L 96M outer"
        c='devices { scan_lvs=1 }'; quiet pvcreate --config "$c" /dev/outer/pv
        quiet vgcreate --config "$c" inner /dev/outer/pv; quiet lvcreate --config "$c" -n fs -L 64M inner
        quiet mkfs.ext4 -q /dev/inner/fs"#,
        "/run/mnt/d",
        &["disk container LVM2_member", "disk.outer-pv container LVM2_member", "disk.outer-pv.inner-fs files ext4"],
        &[],
        &[("disk.outer-pv.inner-fs", "/dev/inner/fs")],
    );
    lab.case(
        "lvm-volume-with-a-partition-table",
        r#"a=$(disk d 128M); lvms "pvcreate $a" "vgcreate vg $a" "lvcreate -n guest -L 96M vg"
        printf 'label: gpt\nsize=16M\n' | table /dev/vg/guest"#,
        "/run/mnt/d",
        &["disk container LVM2_member", "disk.vg-guest raw gpt"],
        &["W disk.vg-guest a partition table (gpt) lies in it"],
        &[],
    );
}

fn groups_that_are_kept_raw(lab: &mut Lab) {
    let kept = "its physical volume is kept as a raw image";
    lab.case(
        "lvm-thin",
        r#"a=$(disk d 192M); lvms "pvcreate $a" "vgcreate vg $a" "lvcreate -n plain -L 32M vg" "lvcreate --type thin-pool -n pool -L 64M vg" "lvcreate -n thin -V 64M --thinpool pool vg"
        quiet mkfs.ext4 -q /dev/vg/plain; quiet mkfs.ext4 -q /dev/vg/thin"#,
        "/run/mnt/d",
        &["disk raw LVM2_member", "disk.vg-plain files ext4"],
        &["W disk.vg-pool of type thin-pool", &format!("W disk.vg-thin of type thin, which is not read; {kept}")],
        &[("disk.vg-plain", "/dev/vg/plain")],
    );
    lab.case(
        "lvm-snapshot",
        r#"a=$(disk d 128M); lvms "pvcreate $a" "vgcreate vg $a" "lvcreate -n orig -L 32M vg"
        quiet mkfs.ext4 -q /dev/vg/orig; quiet lvcreate -s -n snap -L 16M vg/orig"#,
        "/run/mnt/d",
        &["disk raw LVM2_member", "disk.vg-orig files ext4"],
        &["W disk.vg-orig it is the origin of a snapshot", "W disk.vg-snap it is of type snapshot"],
        &[("disk.vg-orig", "/dev/vg/orig")],
    );
    // What the origin has freed since is read through the snapshot, wherever its exceptions lie.
    lab.case(
        "lvm-snapshot-on-another-volume",
        r#"gpt d 'size=64M\nsize=64M\n'; a=$(part d 1 64); b=$(part d 65 64); lvms "pvcreate $a $b" "vgcreate vg $a $b" "lvcreate -n orig -L 32M vg $a"
        quiet mkfs.ext4 -q /dev/vg/orig; quiet lvcreate -s -n snap -L 16M vg/orig $b"#,
        "/run/mnt/d",
        &["p1 raw LVM2_member", "p1.vg-orig files ext4", "p2 raw LVM2_member"],
        &["W p1.vg-orig it is the origin of a snapshot", "W p2.vg-snap it is of type snapshot"],
        &[("p1.vg-orig", "/dev/vg/orig")],
    );
    lab.case(
        "lvm-raid1-and-another-disk",
        r#"modprobe -d "$VOLBAK_LAB_JOB/modules" -a raid1 dm-raid || true
        a=$(disk d 128M); b=$(disk e 128M); lvms "pvcreate $a $b" "vgcreate vg $a $b" "lvcreate -n here -L 32M vg $a" "lvcreate -n far -L 32M vg $b" "lvcreate --type raid1 -m 1 --nosync -n mirror -L 32M vg" "lvcreate -n both -l 100%FREE vg"
        quiet mkfs.ext4 -q /dev/vg/here"#,
        "/run/mnt/d",
        &["disk raw LVM2_member", "disk.vg-here files ext4"],
        &[
            "W disk.vg-far it needs the physical volume",
            "W disk.vg-mirror of type raid1",
            "W disk.vg-both it needs the physical volume",
        ],
        &[("disk.vg-here", "/dev/vg/here")],
    );
    lab.case(
        "lvm-copy-beside-its-original",
        r#"gpt d 'size=64M\nsize=64M\n'; a=$(part d 1 64); lvms "pvcreate $a" "vgcreate vg $a" "lvcreate -n lv -L 32M vg"; quiet mkfs.ext4 -q /dev/vg/lv; sync
        quiet vgchange -an vg; quiet dd if=d of=d bs=1M skip=1 seek=65 count=64 conv=notrunc"#,
        "/run/mnt/d",
        &["p1 container LVM2_member", "p1.vg-lv files ext4", "p2 container LVM2_member", "p2.vg-lv files ext4"],
        &["W p1 has the same UUID", "W p2 has the same UUID"],
        &[],
    );
    lab.case(
        "lvm-never-used",
        "a=$(disk d 64M); quiet pvcreate $a",
        "/run/mnt/d",
        &["disk raw LVM2_member"],
        &["W disk it belongs to no volume group"],
        &[],
    );
    lab.case(
        "lvm-truncated",
        r#"a=$(disk d 128M); lvms "pvcreate $a" "vgcreate vg $a" "lvcreate -n one -L 32M vg" "lvcreate -n two -L 64M vg"; quiet mkfs.ext4 -q /dev/vg/one; sync; quiet vgchange -an vg; losetup -D
        truncate -s 64M d"#,
        "/run/mnt/d",
        &["disk raw LVM2_member", "disk.vg-one files ext4"],
        &["E disk it was cut off", "W disk.vg-two past the end of its physical volume"],
        &[],
    );
    lab.case(
        "lvm-metadata-damaged",
        r#"a=$(disk d 64M); lvms "pvcreate $a" "vgcreate vg $a" "lvcreate -n one -L 32M vg"
        sync; quiet vgchange -an vg; losetup -D; printf YYYYYYYYYY | dd of=d bs=1 seek=4100 conv=notrunc status=none"#,
        "/run/mnt/d",
        &["disk raw LVM2_member"],
        &["W disk its header's magic is missing"],
        &[],
    );
}

fn mirrors(lab: &mut Lab) {
    Lab::script(r#"modprobe -d "$VOLBAK_LAB_JOB/modules" -a md-mod raid0 raid1"#);
    for version in ["1.2", "1.1", "1.0", "0.90"] {
        lab.case(
            &format!("md-mirror-{version}"),
            &format!(
                r#"a=$(disk d 64M); b=$(disk e 64M)
                quiet mdadm --create /dev/md0 --run --force --assume-clean -l 1 -n 2 -e {version} $a $b
                quiet mkfs.ext4 -q -L mirror /dev/md0; quiet mdadm --examine $a"#
            ),
            "/run/mnt/d",
            &["disk container linux_raid_member", "disk.md files ext4"],
            &[],
            &[("disk.md", "/dev/md0")],
        );
    }
    lab.case(
        "md-mirror-with-lvm-inside",
        r#"gpt d 'size=16M\nsize=100M\n'; a=$(part d 1 16); quiet mkfs.ext4 -q $a; b=$(part d 17 100)
        quiet mdadm --create /dev/md0 --run --force -l 1 -n 2 -e 1.2 $b missing
        lvms "pvcreate /dev/md0" "vgcreate vg /dev/md0" "lvcreate -n lv -L 32M vg"; quiet mkfs.ext4 -q /dev/vg/lv"#,
        "/run/mnt/d",
        &["p1 files ext4", "p2 container linux_raid_member", "p2.md container LVM2_member", "p2.md.vg-lv files ext4"],
        &[],
        &[("p2.md.vg-lv", "/dev/vg/lv")],
    );
    lab.case(
        "md-stripes",
        r#"a=$(disk d 64M); b=$(disk e 64M)
        quiet mdadm --create /dev/md0 --run -l 0 -n 2 -e 1.2 $a $b; quiet mkfs.ext4 -q /dev/md0"#,
        "/run/mnt/d",
        &["disk raw linux_raid_member"],
        &[],
        &[],
    );
    lab.case(
        "md-spare",
        r#"a=$(disk d 64M); b=$(disk e 64M); c=$(disk f 64M)
        quiet mdadm --create /dev/md0 --run --force --assume-clean -l 1 -n 2 -x 1 -e 1.2 $b $c $a
        quiet mkfs.ext4 -q /dev/md0"#,
        "/run/mnt/d",
        &["disk raw linux_raid_member"],
        &[],
        &[],
    );
}

#[test]
fn groups_and_mirrors_are_found_as_the_kernel_maps_them() {
    if !in_lab("layouts::groups_and_mirrors_are_found_as_the_kernel_maps_them") {
        return;
    }
    let mut lab = Lab { wrong: String::new() };
    seed_case(&mut lab);
    groups(&mut lab);
    groups_that_are_kept_raw(&mut lab);
    mirrors(&mut lab);
    assert!(lab.wrong.is_empty(), "{}", lab.wrong);
}
