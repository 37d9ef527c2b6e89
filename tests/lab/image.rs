//! Image backups of a volume that a guest writes to, on real LVM, and back into other volumes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::testkit::guest::backups::run_expecting;
use crate::testkit::guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, state, thick_volume, volumes_of_volbak};
use crate::testkit::guest::{Mounted, make_filesystem, partition, sh};
use crate::testkit::tree::{Filesystem, assert_equal_trees, fingerprint, noise};

/// The archives of images in the destination, in the order of their names.
fn images() -> Vec<PathBuf> {
    let found = sh(&format!("find {} -name '*.img.gz' -not -name '.*' | sort", dest().display()));
    found.lines().map(PathBuf::from).collect()
}

/// Writes until it is stopped.
fn writer(directory: PathBuf) -> (Arc<AtomicBool>, thread::JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            fs::write(directory.join(format!("busy-{}", round % 30)), noise(round, 20_000)).unwrap();
            if round % 10 == 0 {
                sh(&format!("sync -f {}", directory.display()));
            }
            round += 1;
        }
    });
    (stop, thread)
}

/// The tree in partition 1, after its journal was replayed and nothing else was to be mended.
fn tree_of(volume: &Path) -> crate::testkit::tree::Tree {
    let point = Path::new(SCRATCH).join("looked-at");
    let mounted = Mounted::partition(volume, &point);
    let tree = fingerprint(&mounted.point);
    mounted.unmount();
    sh(&format!(
        "loop=$(losetup -f --show -o {} {}); trap 'losetup -d $loop' EXIT; e2fsck -fn $loop >&2",
        crate::testkit::guest::PARTITION_START,
        volume.display()
    ));
    tree
}

#[test]
fn an_image_of_a_volume_in_use_goes_into_another_volume() {
    if !in_lab("image::an_image_of_a_volume_in_use_goes_into_another_volume") {
        return;
    }
    set_up();
    let volume = thick_volume("volume-1", "300M");
    partition(&volume);
    make_filesystem(&volume, Filesystem::Ext4);
    let guest = Mounted::partition(&volume, &Path::new(SCRATCH).join("guest"));
    let hard = guest.point.join("hard");
    fs::create_dir(&hard).unwrap();
    for number in 0..200 {
        fs::write(hard.join(format!("file-{number}")), noise(number, 700)).unwrap();
    }
    std::os::unix::fs::symlink("file-1", hard.join("link")).unwrap();
    fs::hard_link(hard.join("file-2"), hard.join("second name")).unwrap();
    fs::write(guest.point.join("still"), noise(1, 40 << 20)).unwrap();
    sh(&format!("sync -f {}", guest.point.display()));
    let (stop, thread) = writer(guest.point.clone());
    let to = dest();
    let to = to.to_str().unwrap();
    run_expecting(0, &["snapshot", "volume-1", "--image", "--to", to, "--keep-snapshot", "-q"]);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let first = images().remove(0);
    assert!(fs::metadata(&first).unwrap().len() < 150 << 20, "free blocks cost nothing");

    // By volbak, into a volume that had something else on it; and by gunzip.
    let second = thick_volume("volume-2", "304M");
    sh(&format!("dd if=/dev/urandom of={} bs=1M count=304 status=none", second.display()));
    let device = format!("{GROUP}/volume-2");
    let refused = run_expecting(1, &["restore", "volume-1", "--from", to, "--to-device", &device, "-q"]);
    assert!(refused.contains("--yes-erase=volume-2"), "{refused}");
    let in_use = run_expecting(
        1,
        &[
            "restore",
            "volume-1",
            "--from",
            to,
            "--to-device",
            &format!("{GROUP}/volume-1"),
            "--yes-erase=volume-1",
            "-q",
        ],
    );
    assert!(!in_use.contains("written"), "{in_use}");
    run_expecting(0, &["restore", "volume-1", "--from", to, "--to-device", &device, "--yes-erase=volume-2", "-q"]);
    let third = thick_volume("volume-3", "300M");
    sh(&format!("gunzip -c {} | dd of={} bs=1M conv=fsync status=none", first.display(), third.display()));
    let bytes = 300 << 20;
    sh(&format!("cmp -n {bytes} {} {}", second.display(), third.display()));
    let kept = sh(&format!("lvs --noheadings -o lv_path {GROUP} | grep volbak")).trim().to_owned();
    let expected = tree_of(Path::new(&kept));
    assert_equal_trees(&expected, &tree_of(&second));
    assert_equal_trees(&expected, &tree_of(&third));
    sh(&format!("lvremove -q -y {kept}"));

    // The nights: most is carried forward, retention and verification count images as any backup.
    let config = format!("{SCRATCH}/volbak.toml");
    let text = format!(
        "backup_destination = '{to}'\nbackups_retention_days = 30\ninclude = ['volume-1']\n[volume.'volume-1']\nmode = 'image'\n[verify]\nenabled = true\nshare_percent = 100\nlevel = 'full'\n"
    );
    fs::write(&config, text).unwrap();
    fs::write(guest.point.join("changed"), noise(5, 1 << 20)).unwrap();
    sh(&format!("sync -f {}", guest.point.display()));
    let before = state();
    let report = run_expecting(0, &["--quiet", "run", "--config", &config]);
    assert_eq!(state(), before, "nothing stays behind");
    assert!(report.contains("volume-1"), "{report}");
    let night = images().into_iter().find(|archive| *archive != first).unwrap();
    let manifest = night.to_str().unwrap().replace(".img.gz", ".manifest.json");
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let (carried, all) = (&manifest["carried"]["members"], &manifest["sizes"]["members"]);
    assert!(carried.as_u64().unwrap() * 10 > all.as_u64().unwrap() * 5, "{carried} of {all}");
    run_expecting(0, &["verify", "volume-1", "--from", to, "--restore-test", "-q"]);
    let status = run_expecting(0, &["status", "--config", &config]);
    assert!(status.contains("volume-1") && status.contains("whole"), "{status}");
    let listed = run_expecting(0, &["list", "volume-1", "--destination", to]);
    assert_eq!(listed.matches(" image ").count(), 2, "{listed}");
    let printed = sh(&format!("{} cat volume-1:still --from {to} | sha256sum", env!("CARGO_BIN_EXE_volbak")));
    assert_eq!(printed, sh(&format!("sha256sum <{}/still", guest.point.display())));
    assert_eq!(volumes_of_volbak(), "");
    guest.unmount();
}
