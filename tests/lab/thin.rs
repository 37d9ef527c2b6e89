//! Promise: what a thin pool proves to be unchanged is not read, and the image is the volume in any case: whatever happens to the
//! volume, to the pool and to its metadata snapshot between two nights (docs/decisions/0058-unread-members.md).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::testkit::guest::backups::{files_below, manifest, run_expecting, volbak};
use crate::testkit::guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, thin_volume, volumes_of_volbak};
use crate::testkit::guest::{Mounted, both_outputs, make_filesystem, partition, program, sh};
use crate::testkit::tree::{Filesystem, noise};
use crate::testkit::wait::wait_until;

const POOL: &str = "cinder--volumes-pool-tpool";
const MIB: u64 = 1 << 20;

/// A machine whose marks of reserved metadata snapshots are its own: its other files are those of this host.
fn set_up_thin() {
    set_up();
    sh("mount -t tmpfs tmpfs /var/lib");
}

fn images(dest: &Path) -> Vec<PathBuf> {
    files_below(dest).into_iter().filter(|file| file.to_str().unwrap().ends_with(".img.gz")).collect()
}

struct Night {
    archive: PathBuf,
    said: String,
    manifest: Value,
}

impl Night {
    /// An image backup with the programs in `first` before those of the system.
    fn with(first: Option<&Path>, more: &[&str]) -> Self {
        Self::ending(0, first, more)
    }

    fn ending(status: i32, first: Option<&Path>, more: &[&str]) -> Self {
        let before = images(&dest());
        let to = dest();
        let mut command =
            volbak(&[&["snapshot", "vol-1", "--image", "--to", to.to_str().unwrap(), "--level", "1"], more].concat());
        if let Some(first) = first {
            command.env("PATH", format!("{}:{}", first.display(), std::env::var("PATH").unwrap()));
        }
        let output = command.output().unwrap();
        let said = both_outputs(&output);
        assert_eq!(output.status.code(), Some(status), "{said}");
        let archive = images(&dest()).into_iter().find(|archive| !before.contains(archive)).unwrap();
        let manifest = manifest(&archive);
        Self { archive, said, manifest }
    }

    /// One of a volume that nothing writes to, which the image has to be.
    fn new() -> Self {
        Self::with(None, &[]).compared()
    }

    fn compared(self) -> Self {
        sh(&format!("gunzip -c {} | cmp - /dev/{GROUP}/vol-1", self.archive.display()));
        self
    }

    fn unread(&self) -> u64 {
        self.manifest["image"]["unread_bytes"].as_u64().unwrap_or(0)
    }

    /// All was read, for this reason.
    fn assert_read(&self, why: &str) {
        assert!(self.unread() == 0 && self.said.contains(why), "{why}: {}", self.said);
    }
}

/// The block of the reserved metadata snapshot, or `-`.
fn held() -> String {
    sh(&format!("dmsetup status {POOL} | cut -d' ' -f7")).trim().to_owned()
}

fn write(at_bytes: u64, len: u64) {
    sh(&format!(
        "head -c {len} /dev/urandom | dd of=/dev/{GROUP}/vol-1 bs={len} seek={at_bytes} oflag=seek_bytes,direct iflag=fullblock status=none"
    ));
}

#[test]
fn unchanged_members_are_not_read_and_unproven_ones_are() {
    if !in_lab("thin::unchanged_members_are_not_read_and_unproven_ones_are") {
        return;
    }
    set_up_thin();
    let volume = thin_volume("vol-1", "16M");
    write(0, 12 * MIB);
    let first = Night::new();
    assert_eq!((first.unread(), first.manifest["format"].as_u64()), (0, Some(6)), "{}", first.said);
    sh(&format!("lvcreate -q -s -k n -n old {GROUP}/vol-1"));

    // A part of a chunk, a chunk, chunks that are discarded, and one that was not there.
    write(2 * MIB + 4096, 4096);
    write(4 * MIB + 65_536, 65_536);
    sh(&format!("blkdiscard -o {} -l {MIB} {}", 6 * MIB, volume.display()));
    write(14 * MIB, 65_536);
    let second = Night::new();
    assert_eq!(second.unread(), 9 * MIB, "{}", second.said);
    assert!(second.said.contains("9 MiB of 16 MiB used are unchanged"), "{}", second.said);
    assert_eq!(second.manifest["carried"]["members"], 9);
    run_expecting(0, &["verify", second.archive.to_str().unwrap()]);
    assert_eq!((held().as_str(), volumes_of_volbak().as_str()), ("-", ""));

    // Another program's metadata snapshot stays, and thin_dump is not asked.
    sh(&format!("dmsetup message {POOL} 0 reserve_metadata_snap"));
    let root = held();
    let third = Night::new();
    third.assert_read("another program has reserved the metadata snapshot");
    assert_eq!((held(), third.manifest["format"].as_u64()), (root, Some(2)));
    sh(&format!("dmsetup message {POOL} 0 release_metadata_snap"));
    Night::new().assert_read("the previous backup does not have the mapping");

    // The volume becomes what it was before the second night: its old blocks come back with their old times.
    write(5 * MIB, 4096);
    sh(&format!("lvconvert -q -y --merge {GROUP}/old"));
    Night::new().assert_read("merged or made anew");

    // A run is killed while the metadata snapshot is reserved. The next one releases it, and goes by what it says.
    let slow = Path::new(SCRATCH).join("slow");
    fs::create_dir(&slow).unwrap();
    program(&slow.join("thin_dump"), &format!("echo $$ >{SCRATCH}/dumping; exec sleep 1000"));
    let to = dest();
    let mut killed = volbak(&["snapshot", "vol-1", "--image", "--to", to.to_str().unwrap()]);
    killed.env("PATH", format!("{}:{}", slow.display(), std::env::var("PATH").unwrap()));
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = || fs::read_to_string(format!("{SCRATCH}/dumping")).ok().filter(|pid| pid.ends_with('\n'));
    wait_until("thin_dump runs", || pid().is_some());
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_ne!(held(), "-");
    write(8 * MIB, 4096);
    let after = Night::new();
    assert!(after.said.contains("released the metadata snapshot"), "{}", after.said);
    assert_eq!((held().as_str(), volumes_of_volbak().as_str(), after.unread()), ("-", "", 11 * MIB), "{}", after.said);
    sh(&format!("kill {}", pid().unwrap()));

    // Output that was cut off.
    let odd = Path::new(SCRATCH).join("odd");
    fs::create_dir(&odd).unwrap();
    program(&odd.join("thin_dump"), "/usr/sbin/thin_dump \"$@\" | head -n 3");
    Night::with(Some(&odd), &[]).compared().assert_read("line 4 of thin_dump's output");
    assert_eq!(held(), "-");

    // The snapshot is written to after its mapping was read: the archive has what the mapping does not say.
    let writing = Path::new(SCRATCH).join("writing");
    fs::create_dir(&writing).unwrap();
    let script = format!(
        "/usr/sbin/thin_dump \"$@\"
         head -c 4096 /dev/urandom | dd of=$(echo /dev/{GROUP}/vol-1-volbak-*) bs=4096 seek=256 oflag=direct status=none"
    );
    program(&writing.join("thin_dump"), &script);
    let written = Night::with(Some(&writing), &[]);
    assert!(written.said.contains("the snapshot was written to"), "{}", written.said);
    Night::new().assert_read("the snapshot of the previous backup was written to");

    // The pool was away for a while: whatever happened to its metadata then.
    sh(&format!("vgchange -q -an {GROUP}; vgchange -q -ay {GROUP}"));
    let last = Night::new();
    last.assert_read("the thin pool was deactivated");

    // Another volume of that name, with the number of the old one in the pool.
    sh(&format!("lvremove -q -y {GROUP}/vol-1"));
    thin_volume("vol-1", "16M");
    write(0, 12 * MIB);
    let parent = last.archive.to_str().unwrap();
    Night::ending(3, None, &["--parent", parent]).compared().assert_read("merged or made anew");

    encrypted_nights_carry_what_the_pool_proves();
}

/// The host has no private key, and copies what is proven to be unchanged as it is encrypted.
fn encrypted_nights_carry_what_the_pool_proves() {
    let of = |name: &str| format!("{SCRATCH}/{name}");
    let (config, key) = (of("config"), of("key"));
    // Programs in Go do not start with the library that the lab loads first.
    sh(&format!(
        "unset LD_PRELOAD; umask 077; age-keygen -o {key} 2>/dev/null; ssh-keygen -q -t ed25519 -N '' -C volbak -f {signing}
         printf 'backup_destination = \"{to}\"\nrequire_mount = false\n[encryption]\nrecipients = [\"%s\"]\n\
         signing_key = \"{signing}\"\nindex_cache = \"{cache}\"\nallow_one_recipient = true\n' $(age-keygen -y {key}) >{config}",
        signing = of("signing"),
        cache = of("cache"),
        to = dest().display()
    ));
    let disk = of("decrypted");
    let night = || {
        let before = encrypted_images();
        let verb = ["snapshot", "vol-1", "--image", "--config", &config, "--level", "1"];
        let said = run_expecting(0, &verb);
        let archive = encrypted_images().into_iter().find(|archive| !before.contains(archive)).unwrap();
        let signer = format!("{}.pub", of("signing"));
        let keys = ["--identity", &key, "--signer", &signer];
        let image = ["-q", "restore", archive.to_str().unwrap(), "--to-image", &disk, "--yes-erase=decrypted"];
        run_expecting(0, &[&image[..], &keys].concat());
        sh(&format!("cmp {disk} /dev/{GROUP}/vol-1"));
        run_expecting(0, &["verify", archive.to_str().unwrap(), "--signer", &signer]);
        (manifest(&archive)["carried"]["members"].as_u64(), said)
    };
    let (carried, said) = night();
    assert!(carried.is_none() && !said.contains("were not read"), "{said}");
    write(2 * MIB + 4096, 4096);
    write(7 * MIB, 65_536);
    let (carried, said) = night();
    assert!(carried == Some(10) && said.contains("10 MiB of 16 MiB used are unchanged"), "{said}");
    assert_eq!((held().as_str(), volumes_of_volbak().as_str()), ("-", ""));
}

fn encrypted_images() -> Vec<PathBuf> {
    files_below(&dest()).into_iter().filter(|file| file.to_str().unwrap().ends_with(".img.gz.age")).collect()
}

/// An ext4 in use: which blocks are used changes apart from what is in them.
#[test]
fn nights_of_a_guest_are_those_that_read_everything() {
    if !in_lab("thin::nights_of_a_guest_are_those_that_read_everything") {
        return;
    }
    set_up_thin();
    let volume = thin_volume("vol-1", "64M");
    partition(&volume);
    make_filesystem(&volume, Filesystem::Ext4);
    let guest = Mounted::partition(&volume, &Path::new(SCRATCH).join("guest"));
    for number in 0..24 {
        fs::write(guest.point.join(format!("file-{number}")), noise(number, 1 << 20)).unwrap();
    }
    sh(&format!("sync -f {}", guest.point.display()));
    let full = Path::new(SCRATCH).join("full");
    fs::create_dir(&full).unwrap();
    for night in 0..3_u64 {
        let at = |number: u64| guest.point.join(format!("file-{number}"));
        fs::remove_file(at(night)).unwrap();
        fs::write(at(10 + night), noise(night, 2 << 20)).unwrap();
        fs::File::options().write(true).open(at(20)).unwrap().set_len((9 - night) * 100_000).unwrap();
        if night == 1 {
            sh(&format!("sync -f {}", guest.point.display()));
        }
        let image = Night::with(None, &["--keep-snapshot"]);
        if night > 0 {
            assert!(image.unread() > 10 * MIB, "night {night}: {}", image.said);
        }
        // The same snapshot, of which nothing is known.
        let kept = sh(&format!("lvs --noheadings -o lv_name {GROUP} | grep volbak")).trim().to_owned();
        sh(&format!("losetup -r /dev/loop6 /dev/{GROUP}/{kept}"));
        let name = format!("night-{night}");
        let to = full.to_str().unwrap();
        run_expecting(
            0,
            &["snapshot", "/dev/loop6", "--image", "--name", &name, "--to", to, "--level", "1", "--full", "-q"],
        );
        let other = images(&full.join(&name)).remove(0);
        sh(&format!(
            "losetup -d /dev/loop6; lvremove -q -y {GROUP}/{kept}
             cmp <(gunzip -c {}) <(gunzip -c {})",
            image.archive.display(),
            other.display()
        ));
    }
    guest.unmount();
}

/// How many chunks of the pool are in use, of how many.
fn chunks_of_the_pool() -> (u64, u64) {
    let status = sh(&format!("dmsetup status {POOL}"));
    let (used, all) = status.split_whitespace().nth(5).unwrap().split_once('/').unwrap();
    (used.parse().unwrap(), all.parse().unwrap())
}

/// A full pool fails the writes of every volume in it. What no partition has takes no room in it.
#[test]
fn no_restore_fills_a_thin_pool() {
    if !in_lab("thin::no_restore_fills_a_thin_pool") {
        return;
    }
    set_up_thin();
    let disk = Path::new(SCRATCH).join("disk.img");
    sh(&format!(
        "mkdir {SCRATCH}/tree; head -c 150M /dev/urandom >{SCRATCH}/tree/file
         truncate -s 400M {0}; echo '2048,240M' | sfdisk -q {0}
         mke2fs -q -t ext4 -d {SCRATCH}/tree -E offset=1048576 {0} 240M 2>&1
         lvcreate -qy -L 100M --thinpool pool --errorwhenfull y {GROUP} 2>&1",
        disk.display()
    ));
    let to = dest();
    let target = format!("{GROUP}/target");
    let mapped = || sh(&format!("lvs --noheadings -o data_percent {target}")).trim().to_owned();
    for more in [&[][..], &["--image"]] {
        sh(&format!("lvcreate -qy -V 400M --thin -n target {GROUP}/pool 2>&1"));
        let snapshot =
            ["snapshot", disk.to_str().unwrap(), "--name", "disk", "--to", to.to_str().unwrap(), "--level", "1"];
        run_expecting(0, &[&snapshot[..], more].concat());
        let restore = ["restore", "disk", "--from", to.to_str().unwrap(), "--to-device", &target];
        let room = "its thin pool has room for 100 MiB, and about ";
        let planned = run_expecting(0, &[&restore[..], &["--dry-run"]].concat());
        assert!(planned.contains(room), "{planned}");
        let refused = run_expecting(1, &restore);
        assert!(refused.contains(room) && mapped() == "0.00", "{}: {refused}", mapped());
        let extend = refused.split('`').find(|words| words.starts_with("lvextend ")).unwrap();
        sh(&format!("{extend} 2>&1"));
        let said = run_expecting(0, &restore);
        assert!(!said.contains(room), "{said}");
        let mounted = Mounted::with_options(
            &Path::new("/dev").join(&target),
            &Path::new(SCRATCH).join("m"),
            "ro,loop,offset=1048576",
        );
        sh(&format!("cmp {}/file {SCRATCH}/tree/file", mounted.point.display()));
        mounted.unmount();
        // What the volume has already is room for it.
        let again = run_expecting(0, &[&restore[..], &["--yes-erase=target"]].concat());
        assert!(!again.contains(room), "{again}");
        sh(&format!("lvremove -qy {target} 2>&1"));
        sh(&format!(
            "lvremove -qy {GROUP}/pool 2>&1; lvcreate -qy -L 100M --thinpool pool --errorwhenfull y {GROUP} 2>&1"
        ));
    }
}

/// A pool uses discarded chunks again only after it committed its metadata.
#[test]
fn what_a_restore_discards_is_room_for_it() {
    if !in_lab("thin::what_a_restore_discards_is_room_for_it") {
        return;
    }
    set_up_thin();
    let disk = Path::new(SCRATCH).join("disk.raw");
    fs::write(&disk, noise(1, 24 << 20)).unwrap();
    sh(&format!(
        "lvcreate -qy -L 60M --thinpool pool --errorwhenfull y {GROUP} 2>&1
         lvcreate -qy -V 24M --thin -n target {GROUP}/pool 2>&1; lvcreate -qy -V 60M --thin -n other {GROUP}/pool 2>&1"
    ));
    let target = format!("{GROUP}/target");
    let import = ["import", disk.to_str().unwrap(), "--to-device", &target, "--yes-erase=target"];
    run_expecting(0, &import);
    let (used, all) = chunks_of_the_pool();
    let chunk_bytes = sh(&format!("lvs --noheadings --units b --nosuffix -o chunk_size {GROUP}/pool"));
    let rest = (all - used) * chunk_bytes.trim().parse::<u64>().unwrap();
    sh(&format!(
        "head -c {rest} /dev/urandom | dd of=/dev/{GROUP}/other bs=1M iflag=fullblock oflag=direct 2>&1; sync"
    ));
    assert_eq!(chunks_of_the_pool(), (all, all));
    for _ in 0..4 {
        run_expecting(0, &import);
        sh(&format!("cmp {} /dev/{target}", disk.display()));
    }
}
