//! The promise: what is backed up stands still while it is read, its origin is never written to, and nothing stays
//! behind, whatever happens. On real LVM, in the machine that `scripts/lab` starts.
//!
//! Each test starts itself again in that machine, where `VOLBAK_LAB` is set.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};
use volbak::events::{Event, Observer, Severity};
use volbak::outside::{RunCommand, SystemClock, SystemCommands};
use volbak::reader::kernel::device_map::{DeviceMap, DeviceMapError, remove_stale_maps};
use volbak::source::{
    Context, FreezeOptions, KEPT_TAG, OWNER_TAG_PREFIX, Refusal, SNAPSHOT_TAG, SnapshotGuard, SnapshotKind,
    SnapshotSize, SourceError, freeze, list_volumes, remove_stale, resolve,
};
use volbak::units::Extent;
use volbak::{BackupOptions, Repository};

const MIB: u64 = 1 << 20;

/// Keeps every event.
#[derive(Default)]
struct Notes(Mutex<Vec<Event>>);

impl Observer for Notes {
    fn on_event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Notes {
    fn problems(&self, severity: Severity) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let shown = |event: &Event| match event {
            Event::Problem(problem) if problem.severity == severity => Some(problem.to_string()),
            _ => None,
        };
        events.iter().filter_map(shown).collect()
    }

    fn fills(&self) -> Vec<f64> {
        let events = self.0.lock().unwrap();
        let percent = |event: &Event| match event {
            Event::SnapshotFill { percent, .. } => Some(*percent),
            _ => None,
        };
        events.iter().filter_map(percent).collect()
    }
}

/// Runs the test of this name in the lab, unless this is the lab.
fn in_lab(test: &str, body: fn()) {
    if crate::testkit::guest::lab::in_lab(test) {
        body();
    }
}

/// Runs a tool, and gives its standard output.
fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {} {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn context() -> (Context, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn Observer> = notes.clone();
    (Context { commands: Arc::new(SystemCommands), observer, clock: Arc::new(SystemClock) }, notes)
}

fn freeze_with(spec: &str, options: &FreezeOptions, context: &Context) -> Result<SnapshotGuard, SourceError> {
    freeze(&resolve(OsStr::new(spec), &SystemCommands)?, options, context)
}

fn sized(bytes: u64, extend: bool) -> FreezeOptions {
    let mut options = FreezeOptions::default();
    (options.snapshot_size, options.extend) = (SnapshotSize::Bytes(bytes), extend);
    options
}

fn refusal(spec: &str) -> Refusal {
    match resolve(OsStr::new(spec), &SystemCommands) {
        Err(SourceError::Refused { reason, .. }) => reason,
        other => panic!("{spec}: {other:?}"),
    }
}

fn sha1_of(path: &str) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    let mut hash = Sha1::new();
    let mut buf = vec![0; 1 << 20];
    loop {
        match file.read(&mut buf).unwrap() {
            0 => return hash.finalize().to_vec(),
            n => hash.update(&buf[..n]),
        }
    }
}

fn sha1_of_guard(guard: &SnapshotGuard) -> Vec<u8> {
    let blocks = guard.open_blocks().unwrap();
    let mut hash = Sha1::new();
    let mut buf = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < blocks.len_bytes() {
        let n = usize::try_from((blocks.len_bytes() - offset).min(1 << 20)).unwrap();
        blocks.read_at(offset, &mut buf[..n]).unwrap();
        hash.update(&buf[..n]);
        offset += n as u64;
    }
    hash.finalize().to_vec()
}

/// Writes these MiB of a device, and makes sure that they reach it.
fn write_mib(path: &str, from: u64, count: u64, byte: u8) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for mib in from..from + count {
        file.write_all_at(&vec![byte; 1 << 20], mib * MIB).unwrap();
    }
    file.sync_all().unwrap();
}

fn volumes_of(vg: &str) -> Vec<String> {
    run(&format!("lvs --noheadings -o lv_name {vg}")).split_whitespace().map(str::to_owned).collect()
}

fn tags_of(volume: &str) -> Vec<String> {
    run(&format!("lvs --noheadings -o lv_tags {volume}")).trim().split(',').map(str::to_owned).collect()
}

/// What is free in a thick snapshot, in MiB.
fn room_of(snapshot: &str) -> f64 {
    let facts = run(&format!("lvs --noheadings --nosuffix --units m -o lv_size,data_percent {snapshot}"));
    let facts: Vec<f64> = facts.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    facts[0] * (1.0 - facts[1] / 100.0)
}

fn wait_until(what: &str, limit: Duration, is_so: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < limit, "{what} did not happen within {limit:?}");
        thread::sleep(Duration::from_millis(20));
    }
    started.elapsed()
}

#[test]
fn thick_and_thin_snapshots() {
    in_lab("source::thick_and_thin_snapshots", || {
        run("pvcreate -q /dev/ubda");
        run("vgcreate -q vg0 /dev/ubda");
        run("lvcreate -q -L 24M -n vol-1 vg0");
        run("lvcreate -q -L 64M -T vg0/pool");
        run("lvcreate -q -V 24M -T vg0/pool -n thin-1");
        thick_stands_still();
        thin_stands_still();
        full_size_is_lvms();
        sources_are_named_as_documented();
    });
}

fn thick_stands_still() {
    write_mib("/dev/vg0/vol-1", 0, 24, 1);
    let before = sha1_of("/dev/vg0/vol-1");
    let (context, notes) = context();
    let guard = freeze_with("vol-1", &FreezeOptions::default(), &context).unwrap();
    let facts = guard.facts();
    assert_eq!(facts.kind, SnapshotKind::Thick);
    assert!(guard.is_writable() && guard.path().exists());
    assert_eq!((guard.size_bytes(), guard.sector_size_bytes()), (24 * MIB, 512));
    let name = facts.name.clone().unwrap();
    let short = name.strip_prefix("vg0/").unwrap();
    let time = short.strip_prefix("vol-1-volbak-").expect(short);
    assert!(time.len() == 6 && time.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    assert_eq!(guard.name(), name);
    let tags = tags_of(&name);
    assert_eq!(tags.len(), 2, "{tags:?}");
    assert!(tags.iter().any(|tag| tag == SNAPSHOT_TAG));
    let owner = tags.iter().find_map(|tag| tag.strip_prefix(OWNER_TAG_PREFIX)).unwrap();
    assert!(owner.contains(&format!(":{}:", std::process::id())), "{owner}");

    // The origin goes on changing, and the snapshot may be written to: neither sees the other's.
    write_mib("/dev/vg0/vol-1", 0, 8, 2);
    let changed = sha1_of("/dev/vg0/vol-1");
    assert_eq!(sha1_of_guard(&guard), before);
    write_mib(guard.path().to_str().unwrap(), 12, 2, 3);
    assert_eq!(sha1_of("/dev/vg0/vol-1"), changed, "the origin was written to");
    guard.check_health().unwrap();
    assert!(!guard.health_flag().is_failed());
    let facts = guard.finish().unwrap();
    assert!(facts.peak_fill_percent.unwrap() > 30.0, "{facts:?}");
    assert_eq!(facts.cow_size_bytes, Some(28 * MIB));
    assert_eq!(facts.extended_by_bytes, 0);
    assert_eq!(volumes_of("vg0"), ["pool", "thin-1", "vol-1"]);
    assert_eq!(sha1_of("/dev/vg0/vol-1"), changed);
    assert!(notes.problems(Severity::Warning).is_empty() && notes.problems(Severity::Error).is_empty());

    // Two at once have different names; dropping is enough to remove them.
    let one = freeze_with("vg0/vol-1", &FreezeOptions::default(), &context).unwrap();
    let two = freeze_with("/dev/vg0/vol-1", &FreezeOptions::default(), &context).unwrap();
    assert_ne!(one.name(), two.name());
    assert_eq!(volumes_of("vg0").len(), 5);
    let panicked = thread::spawn(move || {
        let _guards = (one, two);
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(volumes_of("vg0"), ["pool", "thin-1", "vol-1"], "dropping did not remove them");
}

fn thin_stands_still() {
    write_mib("/dev/vg0/thin-1", 0, 8, 1);
    let before = sha1_of("/dev/vg0/thin-1");
    let (context, _) = context();
    let guard = freeze_with("thin-1", &FreezeOptions::default(), &context).unwrap();
    let facts = guard.facts();
    assert_eq!((facts.kind, facts.cow_size_bytes, facts.peak_fill_percent), (SnapshotKind::Thin, None, None));
    write_mib("/dev/vg0/thin-1", 0, 8, 2);
    assert_eq!(sha1_of_guard(&guard), before);
    guard.check_health().unwrap();
    assert!(tags_of(guard.name()).iter().any(|tag| tag == SNAPSHOT_TAG));

    // Kept: it stays, and no later run takes it for its own.
    let name = guard.name().to_owned();
    guard.keep().unwrap();
    assert_eq!(tags_of(&name), [KEPT_TAG]);
    let stale = remove_stale(&[], &SystemCommands, &Notes::default()).unwrap();
    assert!(stale.removed.is_empty() && stale.left.is_empty(), "{stale:?}");
    assert!(volumes_of("vg0").contains(&name["vg0/".len()..].to_owned()));
    let listed = list_volumes(&["vg0".to_owned()], &SystemCommands).unwrap();
    let kept = listed.volumes.iter().find(|volume| volume.facts.full_name() == name).unwrap();
    assert!(kept.is_ours() && kept.refusal.is_some());
    run(&format!("lvremove -q -y {name}"));

    // An inactive thin volume is read through its snapshot, and stays inactive.
    run("lvchange -q -an vg0/thin-1");
    let guard = freeze_with("vg0/thin-1", &FreezeOptions::default(), &context).unwrap();
    assert_eq!(guard.size_bytes(), 24 * MIB);
    guard.finish().unwrap();
    assert!(run("lvs --noheadings -o lv_active vg0/thin-1").trim().is_empty());
    run("lvchange -q -ay vg0/thin-1");
}

/// What `lvcreate -l 100%ORIGIN` takes is what we ask the group for.
fn full_size_is_lvms() {
    for extents in [1, 255, 256] {
        run(&format!("lvcreate -q -y -Wn -l {extents} -n size vg0"));
        let (context, _) = context();
        let guard = freeze_with("vg0/size", &FreezeOptions::default(), &context).unwrap();
        let lvms = guard.facts().cow_size_bytes.unwrap();
        guard.finish().unwrap();
        // A size in bytes goes through our own figure, which is capped where no more is ever used.
        let guard = freeze_with("vg0/size", &sized(1 << 40, true), &context).unwrap();
        assert_eq!(guard.facts().cow_size_bytes.unwrap(), lvms, "origin of {extents} extents");
        guard.finish().unwrap();
        run("lvremove -q -y vg0/size");
    }
}

fn sources_are_named_as_documented() {
    let named = |spec: &str| resolve(OsStr::new(spec), &SystemCommands).map(|source| source.display_name().to_owned());
    for spec in ["vol-1", "vg0/vol-1", "/dev/vg0/vol-1", "/dev/mapper/vg0-vol--1"] {
        assert_eq!(named(spec).unwrap(), "vg0/vol-1", "{spec}");
    }
    let minor = run("lvs --noheadings -o lv_kernel_minor vg0/vol-1");
    assert_eq!(named(&format!("/dev/dm-{}", minor.trim())).unwrap(), "vg0/vol-1");

    // The same name in another group, and a file of that name.
    run("pvcreate -q /dev/ubdb");
    run("vgcreate -q vg1 /dev/ubdb");
    run("lvcreate -q -L 4M -n vol-1 vg1");
    match named("vol-1") {
        Err(SourceError::Ambiguous { candidates, .. }) => assert_eq!(candidates, ["vg0/vol-1", "vg1/vol-1"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(named("vg1/vol-1").unwrap(), "vg1/vol-1");
    std::env::set_current_dir("/run/mnt").unwrap();
    std::fs::write("thin-1", [0; 4096]).unwrap();
    match named("thin-1") {
        Err(SourceError::Ambiguous { candidates, .. }) => assert_eq!(candidates, ["/dev/vg0/thin-1", "./thin-1"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(named("./thin-1").unwrap(), "./thin-1");
    assert!(matches!(named("vg0/none"), Err(SourceError::NotFound { .. })));
    assert!(matches!(named("none"), Err(SourceError::NotFound { .. })));
}

#[test]
fn refusals_say_why() {
    in_lab("source::refusals_say_why", || {
        run("pvcreate -q /dev/ubda");
        run("vgcreate -q vg0 /dev/ubda");
        volumes_that_are_refused();
        devices_that_are_refused();
        devices_that_are_written_in_other_ways();
        images_that_change();
    });
}

fn volumes_that_are_refused() {
    run("lvcreate -q -L 1G -n vol-1 vg0");
    run("lvcreate -q -L 100M -T vg0/pool");
    run("lvcreate -q -V 100M -T vg0/pool -n thin-1");
    run("lvcreate -q -s -L 8M -n thick-s vg0/vol-1");
    run("lvcreate -q -s -kn -n thin-s vg0/thin-1");
    let cinder = "volume-0f8fad5b-d9cb-469f-a165-70867728950e";
    run(&format!("lvcreate -q -s -kn -n {cinder} vg0/thin-s"));
    run("lvcreate -q -s -kn -n _snapshot-0f8fad5b-d9cb-469f-a165-70867728950e vg0/thin-1");
    run("lvcreate -q -L 4M -n idle vg0");
    run("lvchange -q -an vg0/idle");
    assert!(matches!(refusal("thick-s"), Refusal::Snapshot { origin } if origin == "vg0/vol-1"));
    assert!(matches!(refusal("vg0/thin-s"), Refusal::Snapshot { origin } if origin == "vg0/thin-1"));
    assert!(matches!(refusal("/dev/vg0/_snapshot-0f8fad5b-d9cb-469f-a165-70867728950e"), Refusal::Snapshot { .. }));
    assert_eq!(refusal("pool"), Refusal::Pool("thin pool"));
    assert!(matches!(refusal("pool_tdata"), Refusal::Internal(_)));
    assert!(matches!(refusal("pool_tmeta"), Refusal::Internal(_)));
    assert!(matches!(refusal("lvol0_pmspare"), Refusal::Internal(_)));
    assert!(matches!(refusal("/dev/mapper/vg0-pool_tdata"), Refusal::Internal(_)));
    assert_eq!(refusal("/dev/mapper/vg0-vol--1-real"), Refusal::InternalDevice);
    assert_eq!(refusal("/dev/mapper/vg0-thick--s-cow"), Refusal::InternalDevice);
    assert_eq!(refusal("idle"), Refusal::Inactive);
    assert_eq!(refusal("/dev/vg0/idle"), Refusal::Inactive);

    // Cinder makes volumes of snapshots in a thin pool this way, and instances use them as disks.
    let (context, notes) = context();
    let guard = freeze_with(cinder, &FreezeOptions::default(), &context).unwrap();
    guard.check_health().unwrap();
    guard.finish().unwrap();

    let listed = list_volumes(&["vg0".to_owned(), "vg9".to_owned()], &SystemCommands).unwrap();
    let good: Vec<&str> = listed
        .volumes
        .iter()
        .filter(|volume| volume.refusal.is_none())
        .map(|volume| volume.facts.lv.as_str())
        .collect();
    assert_eq!(good, ["thin-1", "vol-1", cinder]);
    assert_eq!(listed.empty_groups, ["vg9"]);

    // Not enough room: figures, and no snapshot.
    run("lvcreate -q -l 95%FREE -n filler vg0");
    let before = volumes_of("vg0");
    match freeze_with("vol-1", &FreezeOptions::default(), &context) {
        Err(error @ SourceError::NoRoom { needed_bytes, free_bytes, .. }) => {
            assert_eq!(needed_bytes, 1032 * MIB);
            assert!(free_bytes < 200 * MIB && error.to_string().contains("needs 1 GiB, and vg0 has 1"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(volumes_of("vg0"), before);
    freeze_with("vol-1", &sized(40 * MIB, true), &context).unwrap().finish().unwrap();
    run("lvremove -q -y vg0/filler");
    assert!(notes.0.lock().unwrap().iter().all(|event| matches!(event, Event::SnapshotFill { .. })));

    // A pool that fills up while its snapshot is read.
    run("lvcreate -q -L 12M -T --errorwhenfull y vg0/small");
    run("lvcreate -q -V 24M -T vg0/small -n thin-2");
    let guard = freeze_with("thin-2", &FreezeOptions::default(), &context).unwrap();
    let file = OpenOptions::new().write(true).open("/dev/vg0/thin-2").unwrap();
    for mib in 0..16 {
        let _ = file.write_all_at(&vec![1; 1 << 20], mib * MIB);
    }
    assert!(file.sync_all().is_err(), "the pool has room for 12 of 16 MiB");
    drop(file);
    wait_until("the flag", Duration::from_secs(60), || guard.health_flag().is_failed());
    let reason = guard.health_flag().reason().unwrap();
    assert!(reason.contains("vg0/small"), "{reason}");
    assert!(matches!(guard.check_health(), Err(SourceError::Unhealthy { .. })));
    guard.finish().unwrap();

    // A pool that is nearly full.
    write_mib("/dev/vg0/thin-1", 0, 96, 1);
    assert!(matches!(
        freeze_with("thin-1", &FreezeOptions::default(), &context),
        Err(SourceError::PoolFull { data_percent, .. }) if data_percent > 95.0
    ));
}

fn devices_that_are_refused() {
    let script = "label: dos\n,64M,L\n,64M,S\n";
    let mut sfdisk = Command::new("sfdisk").args(["-q", "/dev/ubdb"]).stdin(Stdio::piped()).spawn().unwrap();
    sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());
    let (context, _) = context();
    let source = resolve(OsStr::new("/dev/ubdb"), &SystemCommands).unwrap();
    assert_eq!((source.backup_name(), source.size_bytes(), source.sector_size_bytes()), ("ubdb", 4096 * MIB, 512));

    // A physical volume is held by its active volumes.
    assert!(matches!(refusal("/dev/ubda"), Refusal::InUse(who) if who.contains("vg0-vol--1")));

    // Read as it is, by nobody else, and noticed when somebody writes to it all the same.
    let before = sha1_of("/dev/ubdb1");
    let guard = freeze(&source, &FreezeOptions::default(), &context).unwrap();
    assert!(!guard.is_writable());
    assert!(OpenOptions::new().read(true).open("/dev/ubdb").is_ok(), "others may still look at it");
    assert!(matches!(refusal("/dev/ubdb"), Refusal::InUse(_)), "it is claimed");
    guard.check_health().unwrap();
    assert_eq!(sha1_of("/dev/ubdb1"), before);
    write_mib("/dev/ubdb", 100, 1, 7);
    assert!(matches!(guard.check_health(), Err(SourceError::Unhealthy { .. })));
    assert!(guard.health_flag().is_failed());
    guard.finish().unwrap();

    // What a reader does with a claimed device: a read-only loop device over it, and maps on that.
    let guard = freeze(&source, &FreezeOptions::default(), &context).unwrap();
    let device = run("losetup -r -f --show /dev/ubdb");
    let piece = Extent { source_offset: 100 * MIB, length: MIB };
    let map = DeviceMap::create(Path::new(device.trim()), &[piece], true, "x", Arc::new(SystemCommands)).unwrap();
    assert!(std::fs::read(map.path()).unwrap().iter().all(|byte| *byte == 7));
    map.finish().unwrap();
    run(&format!("losetup -d {}", device.trim()));
    guard.check_health().unwrap();
    guard.finish().unwrap();

    run("mkfs.ext4 -q /dev/ubdb1");
    run("mkswap -q /dev/ubdb2");
    std::fs::create_dir("/run/mnt/a b").unwrap();
    assert!(Command::new("mount").args(["/dev/ubdb1", "/run/mnt/a b"]).status().unwrap().success());
    assert_eq!(refusal("/dev/ubdb1"), Refusal::InUse("mounted on /run/mnt/a b".to_owned()));
    assert_eq!(refusal("/dev/ubdb"), Refusal::InUse("its partition ubdb1 is mounted on /run/mnt/a b".to_owned()));
    crate::testkit::guest::sh("umount /dev/ubdb1");
    run("swapon /dev/ubdb2");
    assert_eq!(refusal("/dev/ubdb2"), Refusal::InUse("used as swap space".to_owned()));
    run("swapoff /dev/ubdb2");
    assert!(resolve(OsStr::new("/dev/ubdb1"), &SystemCommands).is_ok());
}

/// What a device's own counters do not see: its bytes are written through the disk, the file or the device that they lie on.
fn devices_that_are_written_in_other_ways() {
    let (context, _) = context();
    let frozen = |device: &str| freeze_with(device, &FreezeOptions::default(), &context).unwrap();
    let assert_noticed = |guard: SnapshotGuard, what: &str| {
        match guard.check_health() {
            Err(SourceError::Unhealthy { reason, .. }) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{what}: {other:?}"),
        }
        guard.finish().unwrap();
    };
    let partition = frozen("/dev/ubdb1");
    write_mib("/dev/ubdb2", 1, 1, 5);
    partition.check_health().expect("another partition was written, of which nothing is read");
    write_mib("/dev/ubdb", 100, 1, 5);
    assert_noticed(partition, "through its disk");

    let path = "/run/mnt/below.img";
    std::fs::write(path, vec![0; 8 << 20]).unwrap();
    for (below, what) in [(path, "the file below it, /run/mnt/below.img"), ("/dev/ubdb", "the device below it")] {
        let device = run(&format!("losetup -f --show {below}"));
        write_mib(device.trim(), 2, 1, 6);
        let attached = frozen(device.trim());
        attached.check_health().unwrap();
        write_mib(below, 1, 1, 7);
        assert_noticed(attached, what);
        run(&format!("losetup -d {}", device.trim()));
    }
}

fn images_that_change() {
    let path = "/run/mnt/disk.img";
    std::fs::write(path, vec![5; 4 << 20]).unwrap();
    let (context, _) = context();
    let guard = freeze_with(path, &FreezeOptions::default(), &context).unwrap();
    assert!(!guard.is_writable());
    assert_eq!(guard.facts().kind, SnapshotKind::None);
    guard.check_health().unwrap();
    write_mib(path, 1, 1, 6);
    wait_until("the flag", Duration::from_secs(60), || guard.health_flag().is_failed());
    assert!(matches!(guard.check_health(), Err(SourceError::Unhealthy { reason, .. }) if reason.contains("written")));
    guard.finish().unwrap();

    // Mounted through a loop device, so that the file alone is not all of the filesystem.
    run(&format!("mkfs.ext4 -q -F {path}"));
    let device = run(&format!("losetup -f --show {path}"));
    assert!(resolve(OsStr::new(path), &SystemCommands).is_ok(), "a loop device alone changes nothing");
    run(&format!("mount {} /mnt", device.trim()));
    assert!(matches!(refusal(path), Refusal::InUse(who) if who.contains("mounted on /mnt")));
    crate::testkit::guest::sh("umount /mnt");
    run(&format!("losetup -d {}", device.trim()));
}

#[test]
fn snapshots_that_fill_up() {
    in_lab("source::snapshots_that_fill_up", || {
        run("pvcreate -q /dev/ubda");
        run("vgcreate -q vg0 /dev/ubda");
        run("lvcreate -q -L 200M -n vol-1 vg0");
        overflow_is_noticed();
        it_is_extended();
        a_busy_snapshot_is_waited_for();
        stale_ones_are_removed();
        the_front_door_removes_them_too();
    });
}

fn overflow_is_noticed() {
    let (context, notes) = context();
    let guard = freeze_with("vol-1", &sized(8 * MIB, false), &context).unwrap();
    let flag = guard.health_flag();
    guard.check_health().unwrap();
    write_mib("/dev/vg0/vol-1", 0, 16, 9);
    let took = wait_until("the flag", Duration::from_secs(60), || flag.is_failed());
    println!("the overflow was noticed after {took:?}");
    assert_eq!(flag.reason().unwrap(), "snapshot overflowed: 100% of 8 MiB used");
    let error = guard.check_health().unwrap_err();
    assert!(matches!(&error, SourceError::Unhealthy { .. }), "{error}");
    let facts = guard.finish().unwrap();
    assert_eq!(facts.peak_fill_percent, Some(100.0));
    assert_eq!(volumes_of("vg0"), ["vol-1"]);
    assert!(notes.fills().contains(&100.0));

    // The check alone notices it too, however soon it comes after the overflow.
    let guard = freeze_with("vol-1", &sized(8 * MIB, false), &context).unwrap();
    write_mib("/dev/vg0/vol-1", 0, 16, 8);
    assert!(matches!(guard.check_health(), Err(SourceError::Unhealthy { .. })));
    drop(guard);
    assert_eq!(volumes_of("vg0"), ["vol-1"]);

    // Without extension, the warning comes at 80 %. The snapshots above may have been seen at 80 %, too, on their way.
    let (context, notes) = self::context();
    let guard = freeze_with("vol-1", &sized(40 * MIB, false), &context).unwrap();
    write_mib("/dev/vg0/vol-1", 0, 34, 7);
    wait_until("the warning", Duration::from_secs(60), || !notes.problems(Severity::Warning).is_empty());
    let warnings = notes.problems(Severity::Warning);
    assert!(warnings.len() == 1 && warnings[0].contains("% full (of 40 MiB)"), "{warnings:?}");
    guard.check_health().unwrap();
    guard.finish().unwrap();
}

fn it_is_extended() {
    let (context, notes) = context();
    let before = sha1_of("/dev/vg0/vol-1");
    let guard = freeze_with("vol-1", &sized(40 * MIB, true), &context).unwrap();
    for step in 0..7 {
        wait_until("room for the next write", Duration::from_secs(60), || room_of(guard.name()) > 12.0);
        write_mib("/dev/vg0/vol-1", step * 8, 8, 4);
    }
    println!("{:?} {:?} {:?}", notes.problems(Severity::Notice), notes.problems(Severity::Warning), notes.fills());
    guard.check_health().unwrap();
    assert_eq!(sha1_of_guard(&guard), before);
    let facts = guard.finish().unwrap();
    println!("{facts:?} {:?} {:?}", notes.problems(Severity::Notice), notes.fills());
    assert_eq!(facts.cow_size_bytes, Some(40 * MIB));
    assert!(facts.extended_by_bytes >= 20 * MIB, "{facts:?}");
    assert!(facts.peak_fill_percent.unwrap() >= 15.0);
    assert!(!notes.problems(Severity::Notice).is_empty());
}

fn a_busy_snapshot_is_waited_for() {
    let (context, _) = context();
    let guard = freeze_with("vol-1", &sized(40 * MIB, true), &context).unwrap();
    let held = File::open(guard.path()).unwrap();
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1500));
        drop(held);
    });
    guard.finish().unwrap();
    release.join().unwrap();
    assert_eq!(volumes_of("vg0"), ["vol-1"]);

    // Not for ever, and the error says which snapshot is left.
    let mut options = sized(40 * MIB, true);
    options.removal_patience = Duration::from_secs(1);
    let guard = freeze_with("vol-1", &options, &context).unwrap();
    let name = guard.name().to_owned();
    let held = File::open(guard.path()).unwrap();
    match guard.finish() {
        Err(SourceError::NotReleased { snapshot, .. }) => assert_eq!(snapshot, name),
        other => panic!("{other:?}"),
    }
    drop(held);
    run(&format!("lvremove -q -y {name}"));
}

/// Another process of this test, which takes a snapshot, prints its name and waits.
struct Holder(Child, String, Box<dyn BufRead>);

fn start_holder() -> Holder {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::hold_a_snapshot", "--nocapture"])
        .env("VOLBAK_LAB_HOLD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let lines = stdout.by_ref().lines();
    let name = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("holding ").map(str::to_owned));
    Holder(child, name.expect("the holder took a snapshot"), Box::new(stdout))
}

/// Not a test of its own: see [`start_holder`].
#[test]
fn hold_a_snapshot() {
    if std::env::var_os("VOLBAK_LAB_HOLD").is_none() {
        return;
    }
    let (context, _) = context();
    let guard = freeze_with("vol-1", &sized(8 * MIB, false), &context).unwrap();
    println!("\nholding {}", guard.name());
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    guard.finish().unwrap();
}

fn stale_ones_are_removed() {
    let none: Vec<String> = Vec::new();
    let Holder(mut dead, stale, _) = start_holder();
    let Holder(mut overflowed, invalid, _) = start_holder();
    write_mib("/dev/vg0/vol-1", 0, 16, 3);
    dead.kill().unwrap();
    overflowed.kill().unwrap();
    let Holder(mut alive, used, _stdout) = start_holder();
    // Killed, and not yet waited for: as dead as it gets.
    let Holder(mut zombie, open, _) = start_holder();
    zombie.kill().unwrap();
    let held = File::open(format!("/dev/{open}")).unwrap();
    // Somebody's own snapshots, one named as if it were ours, one tagged by mistake.
    run("lvcreate -q -s -L 8M -n vol-1-volbak-111111 vg0/vol-1");
    run("lvcreate -q -s -L 8M -n _snapshot-0f8fad5b --addtag volbak vg0/vol-1");

    // What a power cut leaves of a snapshot that is being made.
    let (host, half_made) = (run("uname -n").replace(['(', ')'], "_"), "vg0/vol-1-volbak-121212");
    let owner = format!("{OWNER_TAG_PREFIX}{}:0f8fad5b-d9cb-469f-a165-70867728950e:1:1:1", host.trim());
    run(&format!("lvcreate -q -L 4M -n vol-1-volbak-121212 --addtag volbak --addtag {owner} vg0"));

    let notes = Notes::default();
    let outcome = remove_stale(&none, &SystemCommands, &notes).unwrap();
    let mut removed = outcome.removed.clone();
    removed.sort();
    let mut expected = vec![stale, invalid, half_made.to_owned()];
    expected.sort();
    assert_eq!(removed, expected);
    assert_eq!(notes.problems(Severity::Notice).len(), 3);
    let why = |name: &str| outcome.left.iter().find(|(left, _)| left == name).map(|(_, why)| why.clone());
    assert!(why(&used).unwrap().contains("right now"), "{outcome:?}");
    assert!(why(&open).unwrap().contains("open"), "{outcome:?}");
    assert!(why("vg0/_snapshot-0f8fad5b").is_some() && why("vg0/vol-1-volbak-111111").is_none(), "{outcome:?}");
    assert_eq!(notes.problems(Severity::Warning).len(), 2, "the open one and the one tagged by mistake");

    // Once it is closed it goes; the live one ends by itself.
    drop(held);
    assert_eq!(remove_stale(&none, &SystemCommands, &notes).unwrap().removed, [open]);
    alive.stdin.take();
    assert!(alive.wait().unwrap().success());
    for child in [&mut dead, &mut overflowed, &mut zombie] {
        child.wait().unwrap();
    }
    let mut left = volumes_of("vg0");
    left.sort();
    assert_eq!(left, ["_snapshot-0f8fad5b", "vol-1", "vol-1-volbak-111111"]);
}

fn the_front_door_removes_them_too() {
    let Holder(mut dead, stale, _) = start_holder();
    dead.kill().unwrap();
    dead.wait().unwrap();
    let before = volumes_of("vg0");
    let destination = tempfile::tempdir().unwrap();
    let notes = Arc::new(Notes::default());
    let repository = Repository::open(destination.path()).unwrap();
    let backup = repository.back_up("vg0/vol-1", &BackupOptions::default(), notes.clone()).unwrap();
    assert!(backup.is_whole() && before.contains(&stale.replace("vg0/", "")));
    let removed = notes.problems(Severity::Notice);
    assert!(removed.iter().any(|what| what.contains(&stale)), "{removed:?}");
    let left = before.into_iter().filter(|volume| stale != format!("vg0/{volume}"));
    assert_eq!(volumes_of("vg0"), left.collect::<Vec<_>>());
}

/// LVM is not there at all, as on a host that only has images.
#[test]
fn an_image_needs_no_lvm_at_all() {
    struct None_;
    impl RunCommand for None_ {
        fn run(&self, _: &str, _: &[OsString]) -> std::io::Result<volbak::outside::CommandOutput> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }
    let file = tempfile::Builder::new().prefix("disk").suffix(".raw").tempfile().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let source = resolve(file.path().as_os_str(), &None_).unwrap();
    assert_eq!(source.size_bytes(), 1 << 20);
    let notes: Arc<dyn Observer> = Arc::new(Notes::default());
    let context = Context { commands: Arc::new(None_), observer: notes, clock: Arc::new(SystemClock) };
    let guard = freeze(&source, &FreezeOptions::default(), &context).unwrap();
    guard.check_health().unwrap();
    assert_eq!(guard.finish().unwrap().name, None);
}

#[test]
fn pieces_of_a_disk_become_one() {
    in_lab("source::pieces_of_a_disk_become_one", || {
        for mib in 0..8 {
            write_mib("/dev/ubdb", mib, 1, u8::try_from(mib).unwrap());
        }
        let commands: Arc<dyn RunCommand> = Arc::new(SystemCommands);
        let piece = |mib: u64| Extent { source_offset: mib * MIB, length: MIB };
        let pieces = [piece(5), piece(2), piece(3)];
        let make = |read_only| {
            DeviceMap::create(Path::new("/dev/ubdb"), &pieces, read_only, "p2.vg/lv", Arc::clone(&commands)).unwrap()
        };
        let map = make(true);
        let bytes = std::fs::read(map.path()).unwrap();
        assert_eq!(bytes.len() as u64, 3 * MIB);
        assert!(bytes.chunks(1 << 20).map(|chunk| chunk[7]).eq([5, 2, 3]));
        let written = OpenOptions::new().write(true).open(map.path()).and_then(|file| file.write_at(&[0; 512], 0));
        assert!(written.is_err(), "it is read-only");
        let held = File::open(map.path()).unwrap();
        let release = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            drop(held);
        });
        map.finish().unwrap();
        release.join().unwrap();
        let map = make(false);
        write_mib(map.path().to_str().unwrap(), 1, 1, 77);
        let path = map.path().to_owned();
        drop(map);
        assert!(!path.exists());
        let mut byte = [0];
        File::open("/dev/ubdb").unwrap().read_exact_at(&mut byte, 2 * MIB).unwrap();
        assert_eq!(byte, [77]);

        // Another boot's, somebody else's, and one of a process that runs: this one.
        let mine = make(true);
        let dead = "volbak-map-0f8fad5b-d9cb-469f-a165-70867728950e:1:1:1:0";
        run(&format!("dmsetup create volbak-1-0-x --uuid {dead} --notable"));
        run("dmsetup create volbak-other --uuid other-1 --notable");
        let notes = Notes::default();
        assert_eq!(remove_stale_maps(&SystemCommands, &notes).unwrap(), ["volbak-1-0-x"]);
        assert_eq!(notes.problems(Severity::Notice).len(), 1);
        assert!(mine.path().exists());
        mine.finish().unwrap();
        assert!(run("dmsetup ls").starts_with("volbak-other"));

        let nothing = DeviceMap::create(Path::new("/dev/null"), &pieces, true, "x", Arc::clone(&commands));
        assert!(matches!(nothing, Err(DeviceMapError::Base { .. })));
        let too_long = [Extent { source_offset: 0, length: 1 << 50 }];
        let too_long = DeviceMap::create(Path::new("/dev/ubdb"), &too_long, true, "x", commands);
        assert!(matches!(too_long, Err(DeviceMapError::Command { .. })), "{too_long:?}");
        assert!(!run("dmsetup ls").contains("volbak-x"));
    });
}
