//! Volumes become images and images volumes, with real LVM: a thick volume that is being written, an idle thin one, and the
//! commands of docs/migration.md over a real NFS, with a real ssh for the jump host.

use std::fs;
use std::path::Path;

use crate::testkit::examples::{run, tested_examples};
use crate::testkit::guest::backups::{archives, run_expecting, volbak};
use crate::testkit::guest::lab::{GROUP, SCRATCH, in_lab, set_up, state, thick_volume, thin_volume};
use crate::testkit::guest::{quoted, sh};
use crate::testkit::wait::Killed;

/// Writes files into the mounted `filesystem` of a volume until it is dropped.
fn under_writes(volume: &Path, point: &str) -> Killed {
    // Through a loop device, as a guest has it: no freeze reaches the filesystem.
    sh(&format!("mkdir -p {point}; mount $(losetup -f --show {}) {point}", quoted(volume)));
    let script = format!(
        "n=0; while :; do n=$((n + 1)); head -c 100000 /dev/urandom >{point}/file$((n % 12)); ln -f {point}/file$((n % 12)) \
         {point}/link$((n % 7)); mv {point}/link$((n % 7)) {point}/moved$((n % 9)); [ $((n % 5)) != 0 ] || sync; echo $n >{point}.n; done"
    );
    let writing = Killed(std::process::Command::new("bash").args(["-c", &script]).spawn().unwrap());
    crate::testkit::wait::wait_until("files are written", || {
        fs::read_to_string(format!("{point}.n")).is_ok_and(|number| number.trim().parse::<u32>().unwrap_or(0) > 8)
    });
    writing
}

/// Ends the writing, and releases the volume.
fn stop(writing: Killed, point: &str) {
    drop(writing);
    sh(&format!(
        "device=$(findmnt -no SOURCE {point}); for i in $(seq 200); do umount {point} && break; sleep 0.1; done; losetup -d $device; sync"
    ));
}

/// Fails unless QEMU finds no error in the image, and gives its disk as a raw file.
fn raw_of(image: &str) -> String {
    let raw = format!("{image}.raw");
    sh(&format!("qemu-img check -q {image} && qemu-img convert -f qcow2 -O raw {image} {raw}"));
    raw
}

#[test]
fn volumes_under_writes_and_idle_ones_become_images_and_come_back() {
    if !in_lab("migration::volumes_under_writes_and_idle_ones_become_images_and_come_back") {
        return;
    }
    set_up();
    let (ext, xfs) = (thick_volume("volume-ext", "64M"), thick_volume("volume-xfs", "320M"));
    // What was deleted before.
    sh(&format!("head -c 60M /dev/urandom >{}", quoted(&ext)));
    sh(&format!("mke2fs -q -F -t ext4 {}; mkfs.xfs -q -f {}", quoted(&ext), quoted(&xfs)));
    for (volume, name, point) in [(&ext, "volume-ext", "/run/m-ext"), (&xfs, "volume-xfs", "/run/m-xfs")] {
        let image = format!("{SCRATCH}/{name}.qcow2");
        let writing = under_writes(volume, point);
        let before = state();
        let said = run_expecting(0, &["export", &format!("{GROUP}/{name}"), "--to", &image, "--verify"]);
        assert!(said.contains("read back and equal"), "{said}");
        assert_eq!(state(), before, "{said}");
        stop(writing, point);
        let raw = raw_of(&image);
        if name == "volume-ext" {
            // A journal to be replayed, as after a loss of power, and nothing else.
            sh(&format!("e2fsck -y -E journal_only {raw} >/dev/null || [ $? = 1 ]; e2fsck -fn {raw}"));
        } else {
            sh(&format!("mount -o loop,nouuid {raw} {point}; ls {point}/file1; umount {point}; xfs_repair -n {raw}"));
        }
        sh(&format!("rm -f {image} {raw}"));
    }

    // An idle thin volume: what comes out is what is there, and what goes in takes no more of the pool.
    let (thin, back) = (thin_volume("volume-thin", "1G"), thin_volume("volume-back", "1G"));
    let image = format!("{SCRATCH}/thin.qcow2");
    sh(&format!(
        "mke2fs -q -F -t ext4 {0}; mkdir -p /run/m; mount {0} /run/m; head -c 8M /dev/urandom >/run/m/a; cp -r /etc/ssh /run/m/; umount /run/m",
        quoted(&thin)
    ));
    let before = state();
    run_expecting(0, &["export", &format!("{GROUP}/volume-thin"), "--to", &image, "--verify"]);
    assert_eq!(state(), before);
    assert!(fs::metadata(&image).unwrap().len() < 80 << 20);
    sh(&format!("e2fsck -fn {}", raw_of(&image)));
    run_expecting(0, &["import", &image, "--to-device", &format!("{GROUP}/volume-back")]);
    sh(&format!(
        "qemu-img compare -q -f qcow2 -F raw {image} {0}; e2fsck -fn {0}; cmp {0} {image}.raw
         used=$(lvs --noheadings -o data_percent {GROUP}/volume-back); echo $used; awk \"BEGIN {{ exit !($used < 10) }}\"",
        quoted(&back)
    ));
    assert_eq!(state(), before);
    // What is on it now is not erased by mistake.
    let refused = volbak(&["import", &image, "--to-device", &format!("{GROUP}/volume-back")]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes-erase"), "{refused:?}");
}

/// An NFS server and its client in one machine, and an ssh that reaches `jump`.
fn nfs_and_jump_host() {
    sh(&format!(
        "for module in nfsd nfs nfsv3 nfsv4; do modprobe -d $VOLBAK_LAB_JOB/modules $module; done
         mkdir -p {SCRATCH}/share /run/nfs /run/rpc_pipefs
         mount -t nfsd nfsd /proc/fs/nfsd; mount -t tmpfs nfs /var/lib/nfs; mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/sm
         touch /var/lib/nfs/etab /var/lib/nfs/rmtab
         rpc.mountd -N 2 -N 3 --no-udp
         exportfs -i -o rw,no_root_squash,insecure,fsid=0,no_subtree_check 127.0.0.1:{SCRATCH}/share
         rpc.nfsd -N 3 --no-udp 4
         mount.nfs4 -o vers=4.2 127.0.0.1:/ /run/nfs"
    ));
    sh(&format!(
        "mkdir -p {SCRATCH}/ssh {SCRATCH}/bin /run/sshd; cd {SCRATCH}/ssh
         ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key; cp key.pub keys; chmod 600 keys
         /usr/sbin/sshd -f /dev/null -h $PWD/host -p 2222 -o ListenAddress=127.0.0.1 -o PidFile=none -o UsePAM=no \
             -o AuthorizedKeysFile=$PWD/keys -o StrictModes=no -o PermitRootLogin=yes
         printf 'Host jump\\nHostName 127.0.0.1\\nPort 2222\\nUser root\\nIdentityFile %s\\nUserKnownHostsFile /dev/null\\nStrictHostKeyChecking no\\nLogLevel ERROR\\n' $PWD/key >config
         printf '#!/bin/sh\\nexec /usr/bin/ssh -F {SCRATCH}/ssh/config \"$@\"\\n' >{SCRATCH}/bin/ssh; chmod 755 {SCRATCH}/bin/ssh"
    ));
}

#[test]
fn a_volume_moves_to_nfs_and_back_as_the_document_says() {
    if !in_lab("migration::a_volume_moves_to_nfs_and_back_as_the_document_says") {
        return;
    }
    set_up();
    nfs_and_jump_host();
    let volume = thick_volume("volume-0000001a", "64M");
    sh(&format!(
        "head -c 60M /dev/urandom >{0}; mke2fs -q -F -t ext4 {0}; mkdir -p /run/m; mount {0} /run/m; cp -r /etc/ssh /run/m/; \
         head -c 5M /dev/urandom >/run/m/data; umount /run/m",
        quoted(&volume)
    ));
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migration.md");
    let mut examples = tested_examples(&fs::read_to_string(document).unwrap(), "<!-- tested in the lab -->");
    assert!(examples.len() > 4);
    for example in &mut examples {
        let command = example.command.replace("/nfs/", "/run/nfs/").replace("-L 20G", "-y -L 64M");
        // Over the jump host, a file that is there is replaced by the last command.
        example.command = format!("PATH={SCRATCH}/bin:$PATH; {command}");
    }
    let last_export = examples.iter().rposition(|example| example.command.contains("export")).unwrap();
    let imports = examples.split_off(last_export + 1);
    run(&examples[..1], Path::new(SCRATCH));
    let image = "/run/nfs/volume-0000001a.qcow2";
    let equal = |image: &str| {
        sh(&format!(
            "qemu-img check -q {image}; rm -f /run/raw; qemu-img convert -f qcow2 -O raw {image} /run/raw; e2fsck -fn /run/raw"
        ));
    };
    equal(image);
    assert!(fs::metadata(image).unwrap().len() < 16 << 20);
    sh(&format!("cp {image} {SCRATCH}/direct.qcow2; rm {image}"));
    run(&examples[1..], Path::new(SCRATCH));
    equal(image);
    sh(&format!("qemu-img compare -q {image} {SCRATCH}/direct.qcow2; [ ! -e {image}.part ]"));
    run(&imports, Path::new(SCRATCH));
    sh(&format!(
        "qemu-img compare -q -f qcow2 -F raw {image} /dev/{GROUP}/volume-0000001b; cmp /run/raw /dev/{GROUP}/volume-0000001b"
    ));
    nights_on_nfs_share_segments(&volume);
    sh("umount /run/nfs; rpc.nfsd 0");
}

/// An NFS that cannot share blocks: later nights take little room there, and removing the first one frees what no other needs.
fn nights_on_nfs_share_segments(volume: &Path) {
    let share = "/run/nfs/backups";
    fs::create_dir(share).unwrap();
    let name = format!("{GROUP}/volume-0000001a");
    let room = || -> u64 {
        let blocks = sh(&format!("sync; du -s --block-size=1 {SCRATCH}/share/backups"));
        blocks.split_whitespace().next().unwrap().parse().unwrap()
    };
    let mut rooms = Vec::new();
    for night in 0..3 {
        let write = format!("head -c 2M /dev/urandom >/run/m/night; echo {night} >/run/m/number");
        sh(&format!("mount {0} /run/m; {write}; umount /run/m; sleep 2.1", quoted(volume)));
        run_expecting(0, &["snapshot", &name, "--layout", "shared", "--full-read-every-days", "0", "--to", share]);
        rooms.push(room());
    }
    assert!(rooms[2] < rooms[0] + (6 << 20), "7 MiB, and 2 MiB more each night: {rooms:?}");
    let archives = archives(Path::new(share));
    let oldest = archives.iter().min_by_key(|archive| fs::metadata(archive).unwrap().modified().unwrap()).unwrap();
    let stem = oldest.file_name().unwrap().to_str().unwrap().split_once('.').unwrap().0;
    let first = stem.replacen('_', "@", 1);
    run_expecting(0, &["remove", "--destination", share, &first]);
    assert!(room() + (1 << 20) < rooms[2], "{} is left of {rooms:?}", room());
    run_expecting(0, &["verify", "--destination", share, "--all"]);
    let last = run_expecting(0, &["cat", "--destination", share, "volume-0000001a@last:number"]);
    assert_eq!(last.trim_end(), "2");
}
