//! Backups of logical volumes that a guest is writing to, on real LVM: each test runs in a machine that `scripts/lab`
//! starts for it.
//!
//! Promises: what is in the archive is the snapshot, in every attribute; a snapshot that overflows fails its volume; a
//! run that is stopped, interrupted or killed at any moment leaves nothing behind that the next one does not remove,
//! and no archive that looks good and is not.
//!
//! How "in use" is made: a guest's disk is a partition table with a filesystem in it, so the test mounts partition 1
//! through a loop device at its place on the volume. LVM knows nothing of that mount, so, as with a real guest,
//! no freeze reaches the filesystem, and its journal needs replay in every snapshot.
//!
//! btrfs differs: before Linux 6.7 a kernel cannot have two devices with one fsid mounted at a time. A real host never
//! has (the guest's own mount is in another kernel), but in the lab the guest and volbak share one. So there the test
//! takes the moment itself: it copies a snapshot of the volume in use to a second volume, unmounts the guest, and backs
//! up the copy, whose log tree still needs replay.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::testkit::cases;
use crate::testkit::guest::backups::{
    archives, assert_all_good, leftovers, manifest, run, run_expecting, snapshot, volbak,
};
use crate::testkit::guest::lab::{
    GROUP, SCRATCH, dest, in_lab, set_up, state, thick_volume, thin_volume, volumes_of_volbak,
};
use crate::testkit::guest::{
    Mounted, PARTITION_START, both_outputs, extract_with_gnu_tar, make_filesystem, partition, quoted, restore_target,
    sh, sh_output,
};
use crate::testkit::tree::{
    Filesystem, Kind, Tree, assert_equal_trees, fingerprint, make_hard_tree, make_many_entries, noise, text,
};

/// A guest's disk on a volume, mounted at /run/t/guest.
fn guest_on(volume: &Path, filesystem: Filesystem) -> Mounted {
    partition(volume);
    make_filesystem(volume, filesystem);
    Mounted::partition(volume, &Path::new(SCRATCH).join("guest"))
}

/// What a guest does all day: appends, makes, renames and removes, and now and then waits for the disk.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Writer {
    fn start(root: &Path) -> Self {
        let dir = root.join("busy");
        fs::create_dir(&dir).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut log = OpenOptions::new().append(true).create(true).open(dir.join("log")).unwrap();
            let mut round = 0;
            while !stopped.load(Ordering::Relaxed) {
                writeln!(log, "round {round}").unwrap();
                let name = |number: u64| dir.join(format!("file-{}", number % 20));
                fs::write(name(round), noise(round, 10_000)).unwrap();
                if round > 10 {
                    fs::rename(name(round - 5), dir.join("renamed")).unwrap();
                    let _ = fs::remove_file(name(round - 10));
                }
                if round % 10 == 0 {
                    log.sync_all().unwrap();
                }
                round += 1;
                thread::sleep(Duration::from_millis(5));
            }
            round
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.thread.join().unwrap() > 0, "the guest wrote");
    }
}

fn expected_of(root: &Path) -> Tree {
    let mut tree = fingerprint(root);
    tree.retain(|path, attributes| {
        attributes.kind != Kind::Socket && path != b"lost+found" && !path.starts_with(b"lost+found/")
    });
    tree
}

/// The subtree at `prefix`, with its paths as they are from there.
fn below(tree: &Tree, prefix: &str) -> Tree {
    let strip = |path: &[u8]| path.strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec);
    tree.iter()
        .filter_map(|(path, attributes)| {
            let mut attributes = attributes.clone();
            attributes.same_inode_as = strip(&attributes.same_inode_as)?;
            Some((strip(path)?, attributes))
        })
        .collect()
}

/// Mounts partition 1 of the snapshot that a backup kept.
fn mount_kept(archive: &Path, filesystem: Filesystem) -> (String, Mounted) {
    let manifest = manifest(archive);
    let name = manifest["snapshot"]["name"].as_str().unwrap().to_owned();
    assert_eq!(manifest["snapshot"]["kept"], true);
    let device = Path::new("/dev").join(&name);
    let more = if filesystem == Filesystem::Xfs { ",nouuid" } else { "" };
    // For writing: volbak has read an ext4 without replaying its journal into the snapshot.
    let options = format!("loop,offset={PARTITION_START}{more}");
    (name, Mounted::with_options(&device, &Path::new(SCRATCH).join("kept"), &options))
}

/// Backs a volume up, its snapshot kept, and compares what GNU tar makes of the archive with the snapshot.
fn backup_equals_its_snapshot(volume: &Path, filesystem: Filesystem, writer: Option<Writer>) -> (PathBuf, Tree) {
    let started = Instant::now();
    let archive = snapshot(volume, &dest(), &["--keep-snapshot"]);
    eprintln!("the backup took {:?}", started.elapsed());
    if let Some(writer) = writer {
        writer.stop();
    }
    let (kept, mounted) = mount_kept(&archive, filesystem);
    let expected = expected_of(&mounted.point);
    mounted.unmount();
    let target = restore_target(Path::new(SCRATCH), filesystem);
    let restored = extract_with_gnu_tar(&archive, &target.point.join("tree"));
    assert_equal_trees(&expected, &restored);
    eprintln!("{} entries compared after {:?}", restored.len(), started.elapsed());
    sh(&format!("lvremove -q -y {kept}"));
    assert_eq!(volumes_of_volbak(), "", "the kept snapshot was the only one");
    (archive, restored)
}

fn a_volume_in_use_comes_back(volume: &Path, filesystem: Filesystem, many_entries: usize) {
    let guest = guest_on(volume, filesystem);
    let hard = guest.point.join("hard");
    fs::create_dir(&hard).unwrap();
    make_hard_tree(&hard, filesystem);
    if many_entries > 0 {
        make_many_entries(&guest.point.join("many"), many_entries);
    }
    sh(&format!("sync -f {}", quoted(&guest.point)));
    let origin = expected_of(&hard);

    let writer = Writer::start(&guest.point);
    let (_, restored) = backup_equals_its_snapshot(volume, filesystem, Some(writer));
    let mut hard_part = below(&restored, "hard/");
    hard_part.insert(b".".to_vec(), origin[b".".as_slice()].clone());
    assert_equal_trees(&origin, &hard_part);
    assert!(restored.contains_key(b"busy".as_slice()));
    let entries = restored.keys().filter(|path| path.starts_with(b"many/")).count();
    assert_eq!(entries, many_entries);
    assert_all_good(&dest());
}

#[test]
fn a_thick_volume_in_use_comes_back() {
    if in_lab("backup::a_thick_volume_in_use_comes_back") {
        set_up();
        a_volume_in_use_comes_back(&thick_volume("volume-1", "800M"), Filesystem::Ext4, 20_000);
    }
}

#[test]
fn a_thin_volume_in_use_comes_back() {
    if in_lab("backup::a_thin_volume_in_use_comes_back") {
        set_up();
        a_volume_in_use_comes_back(&thin_volume("volume-1", "800M"), Filesystem::Ext4, 0);
    }
}

#[test]
fn an_xfs_in_use_comes_back() {
    if in_lab("backup::an_xfs_in_use_comes_back") {
        set_up();
        a_volume_in_use_comes_back(&thick_volume("volume-1", "800M"), Filesystem::Xfs, 0);
    }
}

#[test]
fn a_btrfs_in_use_comes_back() {
    if !in_lab("backup::a_btrfs_in_use_comes_back") {
        return;
    }
    set_up();
    let volume = thick_volume("volume-1", "400M");
    let copy = thick_volume("volume-2", "400M");
    let guest = guest_on(&volume, Filesystem::Btrfs);
    let hard = guest.point.join("hard");
    fs::create_dir(&hard).unwrap();
    make_hard_tree(&hard, Filesystem::Btrfs);
    sh(&format!("sync -f {}", quoted(&guest.point)));
    let origin = expected_of(&hard);
    let writer = Writer::start(&guest.point);
    thread::sleep(Duration::from_millis(500));
    sh(&format!("lvcreate -q -y -s -n moment -l 100%ORIGIN {GROUP}/volume-1"));
    writer.stop();
    sh(&format!("dd if=/dev/{GROUP}/moment of={} bs=1M status=none", quoted(&copy)));
    guest.unmount();
    sh(&format!("lvremove -q -y {GROUP}/moment {GROUP}/volume-1; btrfs device scan --forget"));

    let (_, restored) = backup_equals_its_snapshot(&copy, Filesystem::Btrfs, None);
    let mut hard_part = below(&restored, "hard/");
    hard_part.insert(b".".to_vec(), origin[b".".as_slice()].clone());
    assert_equal_trees(&origin, &hard_part);
    assert_all_good(&dest());
}

#[test]
fn a_vfat_comes_back() {
    if !in_lab("backup::a_vfat_comes_back") {
        return;
    }
    set_up();
    let volume = thick_volume("efi", "64M");
    partition(&volume);
    make_filesystem(&volume, Filesystem::Vfat);
    // Names are UTF-16 on a vfat. As bytes they are what a mount says; today's systems say UTF-8.
    let options = format!("loop,utf8,offset={PARTITION_START}");
    let guest = Mounted::with_options(&volume, &Path::new(SCRATCH).join("guest"), &options);
    make_hard_tree(&guest.point, Filesystem::Vfat);
    let expected = fingerprint(&guest.point);
    guest.unmount();
    let archive = snapshot(&volume, &dest(), &[]);
    let target = restore_target(Path::new(SCRATCH), Filesystem::Ext4);
    let mut restored = extract_with_gnu_tar(&archive, &target.point.join("tree"));
    // A vfat's root has no times of its own.
    restored.insert(b".".to_vec(), expected[b".".as_slice()].clone());
    assert_equal_trees(&expected, &restored);
}

#[test]
fn a_snapshot_that_overflows_fails_its_volume() {
    if !in_lab("backup::a_snapshot_that_overflows_fails_its_volume") {
        return;
    }
    set_up();
    let volume = thick_volume("volume-1", "600M");
    let other = thick_volume("volume-2", "64M");
    guest_on(&other, Filesystem::Ext4).unmount();
    let guest = guest_on(&volume, Filesystem::Ext4);
    fs::write(guest.point.join("file"), noise(1, 60_000_000)).unwrap();
    sh(&format!("sync -f {}", quoted(&guest.point)));
    // Room for two small snapshots one after the other, and for nothing that they could be extended by.
    sh(&format!("lvcreate -q -y -n filler -l 100%FREE {GROUP}; lvreduce -q -y -f -L -8M {GROUP}/filler"));
    let before = state();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let (stop, path) = (Arc::clone(&stop), guest.point.join("flood"));
        thread::spawn(move || {
            for seed in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let _ = fs::write(&path, noise(seed, 20_000_000));
                sh(&format!("sync -f {}", quoted(&path)));
            }
        })
    };
    let arguments = [
        "snapshot",
        "cinder-volumes/volume-1",
        "cinder-volumes/volume-2",
        "--snapshot-size",
        "8M",
        "--to",
        dest().to_str().unwrap(),
    ]
    .map(str::to_owned);
    // So slow that the flood comes first, whoever has the processor.
    let output = volbak(&arguments).env("VOLBAK_READ_RATE_LIMIT", "4M").output().unwrap();
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    let said = both_outputs(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("overflow"), "{said}");
    let published = archives(&dest());
    assert_eq!(published.len(), 1, "volume-2 alone\n{published:?}\n{said}");
    assert!(published[0].starts_with(dest().join("volume-2")));
    assert_all_good(&dest());
    assert_eq!(state(), before, "no snapshot, loop device or mount is left\n{said}");
}

#[test]
fn sources_that_must_not_be_read_are_refused() {
    if !in_lab("backup::sources_that_must_not_be_read_are_refused") {
        return;
    }
    set_up();
    let volume = thick_volume("volume-1", "100M");
    guest_on(&volume, Filesystem::Ext4).unmount();
    thin_volume("thin-1", "100M");
    sh(&format!(
        "lvcreate -q -y -s -n _snapshot-of-cinder -l 100%ORIGIN {GROUP}/volume-1
         truncate -s 300M {SCRATCH}/second.pv; loop=$(losetup -f --show {SCRATCH}/second.pv)
         vgcreate -q nova-volumes $loop; lvcreate -q -y -n volume-1 -L 100M nova-volumes
         lvcreate -q -y -n filler -l 100%FREE {GROUP}"
    ));
    let before = state();
    let refused = |source: &str| run_expecting(1, &["snapshot", source, "--to", dest().to_str().unwrap()]);

    let said = refused("volume-1");
    assert!(said.contains("cinder-volumes/volume-1") && said.contains("nova-volumes/volume-1"), "{said}");
    let said = refused("cinder-volumes/_snapshot-of-cinder");
    assert!(said.contains("snapshot"), "{said}");
    let said = refused("cinder-volumes/pool");
    assert!(said.contains("pool"), "{said}");
    let said = refused("cinder-volumes/volume-1");
    assert!(said.contains("free") && said.contains("MiB"), "no room, with figures: {said}");
    let said = refused("cinder-volumes/volume-2");
    assert!(said.contains("volume-2"), "{said}");
    assert!(archives(&dest()).is_empty());
    assert_eq!(state(), before);
    assert_eq!(leftovers(&dest()), "");
}

/// SIGINT and SIGTERM end a run in order, and the volume that was read is as it was.
#[test]
fn an_interrupted_run_removes_its_snapshot() {
    if !in_lab("backup::an_interrupted_run_removes_its_snapshot") {
        return;
    }
    set_up();
    let volume = thick_volume("volume-1", "200M");
    let guest = guest_on(&volume, Filesystem::Ext4);
    fs::write(guest.point.join("file"), text(1, 60_000_000)).unwrap();
    guest.unmount();
    let before = state();
    let sha1 = sh(&format!("sha1sum <{}", quoted(&volume)));
    for (signal, reader) in [("INT", "auto"), ("TERM", "kernel")] {
        let to = dest();
        let arguments = ["snapshot", "volume-1", "--to", to.to_str().unwrap(), "--level", "12", "--reader", reader];
        let mut child = volbak(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while sh(&format!("find {} -name '.volbak-tmp.*' -size +0", quoted(&dest()))).is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it began to write");
        }
        assert!(volumes_of_volbak().contains("volume-1-volbak-"), "{}", volumes_of_volbak());
        sh(&format!("kill -{signal} {}", child.id()));
        let status = child.wait().unwrap();
        assert!(!status.success(), "{status}");
        assert!(archives(&dest()).is_empty());
        assert_eq!(leftovers(&dest()), "");
        assert_eq!(state(), before);
    }
    snapshot(&volume, &dest(), &[]);
    assert_eq!(sh(&format!("sha1sum <{}", quoted(&volume))), sha1, "the origin was changed");
    assert_eq!(state(), before);
    assert_all_good(&dest());
}

#[test]
fn a_run_killed_at_any_moment_leaves_nothing_that_the_next_one_does_not_remove() {
    if !in_lab("backup::a_run_killed_at_any_moment_leaves_nothing_that_the_next_one_does_not_remove") {
        return;
    }
    let kills = u32::try_from(cases::count(20)).unwrap();
    set_up();
    let volume = thick_volume("volume-1", "48M");
    let guest = guest_on(&volume, Filesystem::Ext4);
    fs::write(guest.point.join("noise"), noise(1, 4_000_000)).unwrap();
    fs::write(guest.point.join("text"), text(1, 4_000_000)).unwrap();
    sh(&format!("sync -f {}", quoted(&guest.point)));
    let before = state();
    let dest = dest();
    let arguments = ["snapshot", "cinder-volumes/volume-1", "--to", dest.to_str().unwrap()];

    let started = Instant::now();
    snapshot(Path::new("cinder-volumes/volume-1"), &dest, &[]);
    let duration = started.elapsed();
    eprintln!("a run takes {duration:?}");
    // Spread over the run's duration, each at a random place in its own slice of it.
    let random = noise(2026, kills as usize);
    let mut left_something = 0;
    for number in 0..kills {
        let slice = duration / kills;
        let mut moment = slice * number + slice * u32::from(random[number as usize]) / 256;
        // The kernel's reader, with its loop device and mount, leaves other things behind than volbak's own.
        let reader = if number % 2 == 0 { "auto" } else { "kernel" };
        let arguments = [arguments.as_slice(), &["--reader", reader]].concat();
        let mut child = loop {
            let mut child = volbak(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(moment);
            if child.try_wait().unwrap().is_none() {
                break child;
            }
            // This run was faster than the one that was timed.
            moment = moment * 2 / 3;
        };
        child.kill().unwrap();
        child.wait().unwrap();
        // LVM's own tools, cut off from nothing, end what they were at. One that has not begun yet would make a snapshot
        // after the next run has looked for such.
        let killed_at = Instant::now();
        while sh_output("pgrep -x 'lvcreate|lvremove'").status.success() && killed_at.elapsed().as_secs() < 60 {
            thread::sleep(Duration::from_millis(20));
        }
        left_something += u32::from(!leftovers(&dest).is_empty() || sh("dmsetup ls").contains("-volbak-"));

        let output = run(&arguments);
        let said = both_outputs(&output);
        assert_eq!(output.status.code(), Some(0), "after a kill at {moment:?} of {duration:?}:\n{said}");
        assert_eq!(state(), before, "after a kill at {moment:?}:\n{said}");
        assert_eq!(leftovers(&dest), "", "after a kill at {moment:?}:\n{said}");
    }
    eprintln!("{kills} runs were killed before their end; {left_something} left something to remove");
    assert!(archives(&dest).len() > kills as usize);
    assert_all_good(&dest);
}

/// udev left the link to an earlier snapshot of that name, and its device is another volume by now.
#[test]
fn a_snapshots_node_that_shows_another_volume_is_not_read() {
    if !in_lab("backup::a_snapshots_node_that_shows_another_volume_is_not_read") {
        return;
    }
    set_up();
    thick_volume("vol-1", "12M");
    thick_volume("vol-2", "12M");
    let programs = Path::new(SCRATCH).join("programs");
    let lvcreate = sh("command -v lvcreate");
    sh(&format!(
        "mkdir {0}; cat >{0}/lvcreate <<'SCRIPT'
#!/bin/sh
{1} \"$@\" || exit
for link in /dev/{GROUP}/vol-1-volbak-*; do ln -sfn /dev/mapper/cinder--volumes-vol--2 \"$link\"; done
SCRIPT
         chmod +x {0}/lvcreate",
        programs.display(),
        lvcreate.trim()
    ));
    let to = dest();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = volbak(&["snapshot", "vol-1", "--to", to.to_str().unwrap()]).env("PATH", path).output().unwrap();
    let said = both_outputs(&output);
    assert!(output.status.code() == Some(1) && said.contains("it is the node of another volume"), "{said}");
    assert_eq!(volumes_of_volbak(), "");
    assert!(archives(&to).is_empty());
}
