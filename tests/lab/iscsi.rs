//! Promise: `volbak cloud sessions` shows which volume each iSCSI session serves and who uses its disk, closes exactly the one that
//! it is asked to close and none that is in use, and says which of the three usual faults a volume has that does not answer. The
//! target is tgt, the initiator open-iscsi.

use std::fs::File;
use std::process::Command;

use serde_json::Value;

use crate::testkit::guest::backups::{run, run_expecting};
use crate::testkit::guest::lab::in_lab;
use crate::testkit::guest::sh;
use crate::testkit::schema::compare;
use crate::testkit::wait::{Killed, wait_until};

const A: &str = "11111111-aaaa-4aaa-8aaa-111111111111";
const B: &str = "22222222-bbbb-4bbb-8bbb-222222222222";
const C: &str = "33333333-cccc-4ccc-8ccc-333333333333";

fn target(volume: &str) -> String {
    format!("iqn.2010-10.org.openstack:volume-{volume}")
}

/// Starts tgtd and iscsid, exports the volumes, and logs in to each by the storage host's name.
fn set_up() {
    sh("for module in scsi_mod sd_mod scsi_transport_iscsi libiscsi libiscsi_tcp iscsi_tcp; do
            modprobe -d $VOLBAK_LAB_JOB/modules $module
        done
        mkdir -p /run/i/etc /run/i/var /run/lock
        cp /etc/iscsi/iscsid.conf /run/i/etc/
        sed -i 's/^iscsid.startup.*//; s/^node.session.timeo.replacement_timeout.*/node.session.timeo.replacement_timeout = 5/' \
            /run/i/etc/iscsid.conf
        echo 'InitiatorName=iqn.1993-08.org.debian:01:lab' >/run/i/etc/initiatorname.iscsi
        mount --bind /run/i/etc /etc/iscsi
        mkdir -p /var/lib/iscsi; mount --bind /run/i/var /var/lib/iscsi
        cp /etc/hosts /run/i/hosts; echo 127.0.0.1 storage-1.example >>/run/i/hosts; mount --bind /run/i/hosts /etc/hosts
        setsid tgtd -f --iscsi portal=127.0.0.1:3260 </dev/null >/run/i/tgtd.log 2>&1 &
        setsid iscsid -f </dev/null >/run/i/iscsid.log 2>&1 &");
    let answers = |command: &str| Command::new("sh").args(["-c", command]).output().unwrap().status.success();
    wait_until("tgtd answers", || answers("tgtadm --lld iscsi --op show --mode sys"));
    for (number, volume) in [A, B, C].iter().enumerate() {
        let (number, target) = (number + 1, target(volume));
        sh(&format!(
            "truncate -s 64M /run/i/{volume}
             tgtadm --lld iscsi --op new --mode target --tid {number} -T {target}
             tgtadm --lld iscsi --op new --mode logicalunit --tid {number} --lun 1 -b /run/i/{volume}
             tgtadm --lld iscsi --op bind --mode target --tid {number} -I ALL"
        ));
        let node = format!("iscsiadm -m node -T {target} -p storage-1.example:3260");
        sh(&format!("{node} --op new >/dev/null"));
        wait_until("iscsid logs in", || answers(&format!("{node} --login")));
    }
    wait_until("each session has its disk", || {
        sessions().iter().filter(|session| session["disks"].as_array().unwrap().len() == 1).count() == 3
    });
}

fn sessions() -> Vec<Value> {
    let output = run(&["cloud", "sessions", "--json"]);
    assert!(output.status.success());
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    compare(&listed, "cloud-sessions");
    listed["sessions"].as_array().unwrap().clone()
}

fn of(volume: &str) -> Value {
    sessions().into_iter().find(|session| session["volume"] == volume).unwrap()
}

fn disk(volume: &str) -> String {
    of(volume)["disks"][0]["name"].as_str().unwrap().to_owned()
}

/// What is said when the session of a volume is not closed; all sessions are as they were.
fn refused(volume: &str) -> String {
    let before = sessions();
    let output = run(&["cloud", "sessions", "--close", volume]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let now = sessions();
    let numbers = |sessions: &[Value]| sessions.iter().map(|session| session["number"].clone()).collect::<Vec<_>>();
    assert_eq!(numbers(&now), numbers(&before));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn sessions_are_shown_checked_and_closed_one_at_a_time() {
    if !in_lab("iscsi::sessions_are_shown_checked_and_closed_one_at_a_time") {
        return;
    }
    set_up();
    let shown = run_expecting(0, &["cloud", "sessions"]);
    for (volume, disk) in [A, B, C].map(|volume| (volume, disk(volume))) {
        let line = shown.lines().find(|line| line.contains(volume)).unwrap();
        assert!(line.contains("LOGGED_IN") && line.contains(":3260") && line.contains(&disk), "{shown}");
        assert!(line.contains("64 MiB") && line.trim_end().ends_with('-'), "{shown}");
    }
    assert!(run_expecting(0, &["cloud", "sessions", "--check"]).contains("answers"));
    let checked = run(&["cloud", "sessions", "--check", "--json"]);
    compare(&serde_json::from_slice(&checked.stdout).unwrap(), "cloud-sessions-check");
    // The instances, by the map that a run saved in the destination.
    let attached = serde_json::json!([{ "instance": "i-1", "instance_name": "web-1", "nova": {} }]);
    let map = serde_json::json!({
        "format": 1, "taken_at": "2026-11-20T12:00:00Z", "cloud": "admin", "instances": [],
        "volumes": [{ "id": A, "lv": format!("volume-{A}"), "name": "data-1", "status": "in-use", "size_gib": 1, "attachments": attached }],
    });
    sh("mkdir -p /run/i/backups/.volbak/cloud");
    std::fs::write("/run/i/backups/.volbak/cloud/2026-11-20.json", map.to_string()).unwrap();
    let named = run_expecting(0, &["cloud", "sessions", "--from", "/run/i/backups"]);
    for volume in [A, B, C] {
        let line = named.lines().find(|line| line.contains(volume)).unwrap();
        assert_eq!(line.contains("data-1 (web-1)"), volume == A, "{named}");
    }
    assert_eq!(of(A)["cloud"], Value::Null);

    // A disk in use, in each way that there is.
    let name = disk(A);
    // It is open, and the process has its name, when it is there.
    let holder = Killed::holding(File::open(format!("/dev/{name}")).unwrap());
    assert_eq!(of(A)["uses"].as_array().unwrap().len(), 1);
    let said = refused(A);
    assert!(said.contains(&format!("{name} is open in process")) && said.contains("(sleep)"), "{said}");
    drop(holder);
    sh(&format!("mkfs.ext4 -q /dev/{name}; mkdir -p /run/i/m; mount /dev/{name} /run/i/m"));
    assert!(refused(A).contains("mounted on /run/i/m"));
    sh("umount /run/i/m");
    sh(&format!("mkswap /dev/{name} >/dev/null 2>&1; swapon /dev/{name}"));
    assert!(refused(&format!("volume-{A}")).contains("used as swap space"));
    sh(&format!("swapoff /dev/{name}; echo 0 131072 linear /dev/{name} 0 | dmsetup create held"));
    assert!(refused(A).contains("(held)"));
    sh(&format!("dmsetup remove --retry held; dd if=/dev/zero of=/dev/{name} bs=64k count=1 status=none"));
    // A partition of it.
    sh(&format!("echo 'size=16M' | sfdisk -q /dev/{name}; mkfs.ext4 -q /dev/{name}1; mount /dev/{name}1 /run/i/m"));
    assert!(refused(A).contains(&format!("its partition {name}1 is mounted on /run/i/m")));
    sh("umount /run/i/m");
    // A mount in a namespace of its own.
    let script = format!("mount /dev/{name}1 /run/i/m && echo mounted && exec sleep 600");
    let mut elsewhere = Command::new("unshare").args(["-m", "sh", "-c", &script]).spawn().unwrap();
    wait_until("it is mounted there", || of(A)["uses"].as_array().unwrap().len() == 1);
    assert!(refused(A).contains("in the mount namespace of process"));
    elsewhere.kill().unwrap();
    elsewhere.wait().unwrap();

    // What is not there, and what is there twice.
    assert!(refused("44444444-dddd-4ddd-8ddd-444444444444").contains("no iSCSI session of this host has the volume"));
    assert!(refused("volume-").contains("no iSCSI session"));
    sh(&format!("iscsiadm -m session -r {} --op new >/dev/null", of(C)["number"]));
    wait_until("there are two sessions", || sessions().len() == 4);
    assert!(refused(C).contains("several iSCSI sessions"));

    // One is closed, the others stay.
    let others = |sessions: Vec<Value>| -> Vec<Value> {
        sessions.into_iter().filter(|session| session["volume"] != A).map(|session| session["number"].clone()).collect()
    };
    let before = others(sessions());
    assert!(run_expecting(0, &["cloud", "sessions", "--close", A, "--dry-run"]).contains("could be closed"));
    assert_eq!(sessions().len(), 4);
    assert!(run_expecting(0, &["cloud", "sessions", "--close", A]).contains("closed"));
    assert_eq!(others(sessions()), before);
    assert_eq!(sessions().len(), 3);
    assert!(refused(A).contains("no iSCSI session"));

    // The target of B is gone, while the storage host answers.
    sh("tgtadm --lld iscsi --op delete --force --mode target --tid 2");
    let checked = |status: i32| run_expecting(status, &["cloud", "sessions", "--check"]);
    let about = |said: &str, volume: &str| -> String {
        let at = said.find(&target(volume)).unwrap();
        said[at..].lines().take(3).collect::<Vec<_>>().join("\n")
    };
    let said = checked(3);
    assert!(about(&said, B).contains("has no such target"), "{said}");
    assert!(about(&said, C).contains("answers") && !about(&said, C).contains("no such target"), "{said}");
    // The service ends: the port is closed. A session whose target is dead can still be closed.
    sh("pkill -9 -x tgtd");
    wait_until("the session is lost", || of(B)["state"] != "LOGGED_IN");
    let said = checked(3);
    assert!(about(&said, B).contains("port 3260 is closed") && about(&said, B).contains("next: "), "{said}");
    run_expecting(0, &["cloud", "sessions", "--close", B]);
    // The name of the storage host is gone; the targets are still recorded.
    // The file that is mounted over /etc/hosts is written again, not replaced.
    let hosts = "hosts=$(grep -v storage-1 /run/i/hosts); echo \"$hosts\" >/run/i/hosts";
    sh(hosts);
    let said = checked(3);
    assert!(said.contains("storage-1.example, does not resolve") && said.contains("/etc/hosts"), "{said}");
    // No way to it: an address that nothing has.
    sh("echo 192.0.2.1 storage-1.example >>/run/i/hosts; ip route add unreachable 192.0.2.0/24 2>/dev/null || true");
    let said = checked(3);
    assert!(said.contains("storage-1.example:3260 does not answer"), "{said}");
}
