//! The volumes of an instance as a set, and its guest agent. `virsh` is a stand-in that answers as libvirt 9 does.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::choice::{config, decided};
use crate::map::{cloud, recorded};
use crate::testkit::guest::backups::{archives, manifest};
use crate::testkit::guest::program;
use crate::testkit::stand_in::Host;

/// Of web-1.
const DATA_1: &str = "volume-ec20e4b2-6eca-4ccf-9d1c-9d8275246906";
const DATA_2: &str = "volume-533bff75-77f5-4dcb-942c-5f58effc9f7b";
/// Of web-2.
const DATA_3: &str = "volume-9017dc69-3dfc-4b1c-800d-2031ac836cb6";
/// Of both.
const SHARED: &str = "volume-96e1d9b6-c27a-474c-b8b0-92fb06f64c45";
const WEB_1: &str = "58f83399-bf84-4ced-bad2-2736d9a75d2f";

fn newest_set(host: &Host, volume: &str) -> Value {
    manifest(archives(&host.at("backups").join(volume)).last().unwrap())["set"].clone()
}

/// `virsh`, for the domain of web-1 alone. A file `agent` says what the agent does.
fn with_virsh(host: &Host) {
    let script = format!(
        r#"echo "$*" | sed 's/.*qemu:\/\/\/system --quiet //' >>{at}/asked
case "$*" in
*"domstate {WEB_1}") cat {at}/domstate ;;
*"dumpxml {WEB_1}") cat {at}/domain ;;
*domstate*) echo "error: failed to get domain" >&2; exit 1 ;;
*"qemu-agent-command {WEB_1} "*freeze-freeze*)
    case $(cat {at}/agent) in
    well) echo '{{"return":2}}' ;;
    none) echo '{{"return":0}}' ;;
    nonsense) echo 'return 2' ;;
    *) echo 'error: Guest agent is not responding: QEMU guest agent is not connected' >&2; exit 1 ;;
    esac ;;
*"qemu-agent-command {WEB_1} "*freeze-thaw*)
    ls {at}/state | grep -c 'snapshot$' >>{at}/asked
    [ -e {at}/stuck ] && {{ echo 'error: internal error: unable to execute QEMU agent command' >&2; exit 1; }}
    [ -e {at}/thawed ] && {{ echo '{{"return":0}}'; exit; }}
    echo '{{"return":2}}' ;;
*) exit 9 ;;
esac
"#,
        at = host.at("").display()
    );
    let file = host.at("tools/virsh");
    program(&file, &script);
    fs::write(host.at("agent"), "well").unwrap();
    fs::write(host.at("domstate"), "running\n\n").unwrap();
    let serial = |lv: &str| format!("<disk><serial>{}</serial></disk>", lv.trim_start_matches("volume-"));
    fs::write(host.at("domain"), format!("<domain>{}{}</domain>", serial(DATA_1), serial(DATA_2))).unwrap();
}

/// What virsh was asked for since the last look.
fn asked(host: &Host) -> Vec<String> {
    let said = fs::read_to_string(host.at("asked")).unwrap_or_default();
    let _ = fs::remove_file(host.at("asked"));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn the_volumes_of_an_instance_are_a_set_that_its_name_finds() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let host = Host::new("");
    config(&host, &server.url, "group_by_instance = true");
    for name in [DATA_1, DATA_2, DATA_3, SHARED] {
        host.add_ext4(name);
    }
    let did = host.verb(&["run"]);
    let said = decided(&did);
    assert!(said.contains(&format!("volumes that several instances share are in no set: {SHARED}")), "{said}");
    assert!(did.stderr.contains("2 snapshots were taken within "), "{did:?}");
    let [one, other] = [DATA_1, DATA_2].map(|volume| newest_set(&host, volume));
    assert!(one["group"] == "web-1-58f83399" && one["id"] == other["id"] && one["quiesced"] == false, "{one}");
    // One volume alone is no set, and one of two instances belongs to neither.
    for volume in [DATA_3, SHARED] {
        assert_eq!(newest_set(&host, volume), Value::Null);
    }
    for name in ["web-1", "web-1@today", "web-1-58f83399"] {
        let to = host.at(&format!("out-{name}"));
        let did = host.verb(&["restore", name, "--to", to.to_str().unwrap()]);
        assert_eq!(did.status, 0, "{name}: {did:?}");
        assert!(to.join(DATA_1).join("file7").exists() && to.join(DATA_2).join("file7").exists());
    }
    assert!(host.verb(&["list", "web-1"]).stdout.contains("whole"));
    // The cloud is down: the saved map groups them.
    config(&host, "http://127.0.0.1:1", "group_by_instance = true");
    host.verb(&["run"]);
    assert_eq!(newest_set(&host, DATA_1)["group"], "web-1-58f83399");
}

#[test]
fn an_instance_on_this_host_is_frozen_once_around_its_snapshots() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let host = Host::new("");
    config(&host, &server.url, "freeze = 'guest-agent'");
    with_virsh(&host);
    for name in [DATA_1, DATA_2, DATA_3] {
        host.add_ext4(name);
    }
    let agent =
        |what: &str| format!("qemu-agent-command {WEB_1} --timeout 10 {{\"execute\":\"guest-fsfreeze-{what}\"}}");
    let did = host.verb(&["run"]);
    let mut said = asked(&host);
    said.retain(|line| !line.starts_with("domstate") && !line.starts_with("dumpxml"));
    assert_eq!(said, [agent("freeze"), agent("thaw"), "2".to_owned()], "both snapshots were there: {did:?}");
    assert_eq!(newest_set(&host, DATA_1)["quiesced"], true);
    // That of another host is skipped with a notice, and backed up.
    assert_eq!(newest_set(&host, DATA_3)["quiesced"], false);
    let skipped = "the instance is not quiesced: libvirt has no running domain of it on this host";
    assert!(did.stderr.contains(skipped) && did.stderr.contains("its compute host in Nova is compute-2"), "{did:?}");
    assert!(!did.stdout.contains("not quiesced"), "a notice: {did:?}");

    // An agent that does not freeze is a warning, and is told to thaw.
    for (mode, what) in [("gone", "is not connected"), ("none", "it froze none"), ("nonsense", "cannot be understood")]
    {
        fs::write(host.at("agent"), mode).unwrap();
        let did = host.verb(&["run", "--only", DATA_1, "--only", DATA_2]);
        assert!(did.status == 3 && did.stdout.contains("is not quiesced, and its volumes are backed up"), "{did:?}");
        assert!(did.stdout.contains(what), "{did:?}");
        assert!(asked(&host).contains(&agent("thaw")));
        assert_eq!(newest_set(&host, DATA_1)["quiesced"], false);
    }
    // One that does not thaw is asked again, and named with the command.
    fs::write(host.at("agent"), "well").unwrap();
    fs::write(host.at("stuck"), "").unwrap();
    let did = host.verb(&["run", "--only", DATA_1, "--only", DATA_2]);
    assert_eq!(asked(&host).iter().filter(|line| **line == agent("thaw")).count(), 3);
    assert!(did.stdout.contains("thaw them: virsh -c qemu:///system qemu-agent-command"), "{did:?}");
    // One that something else thawed in between.
    fs::remove_file(host.at("stuck")).unwrap();
    fs::write(host.at("thawed"), "").unwrap();
    let did = host.verb(&["run", "--only", DATA_1, "--only", DATA_2]);
    assert_eq!(asked(&host).iter().filter(|line| **line == agent("thaw")).count(), 1);
    assert!(did.status == 3 && did.stdout.contains("were thawed before, by something else"), "{did:?}");
    assert_eq!(newest_set(&host, DATA_1)["quiesced"], false);
    // One that has a volume no more: another instance may have it, which is not the one that is frozen.
    let domain = fs::read_to_string(host.at("domain")).unwrap();
    fs::write(host.at("domain"), domain.replace(DATA_2.trim_start_matches("volume-"), "other")).unwrap();
    let did = host.verb(&["run", "--only", DATA_1, "--only", DATA_2]);
    let what = format!("its domain on this host has no volume {}", DATA_2.trim_start_matches("volume-"));
    assert!(did.status == 3 && did.stdout.contains(&what), "{did:?}");
    assert!(asked(&host).iter().all(|line| !line.contains("freeze")), "{did:?}");
    assert_eq!(newest_set(&host, DATA_1)["quiesced"], false);
    // Not running, or no virsh.
    fs::write(host.at("domstate"), "shut off\n").unwrap();
    let did = host.verb(&["run", "--only", DATA_1, "--only", DATA_2]);
    assert!(did.stderr.contains("on this host: it is shut off") && asked(&host).len() == 1, "{did:?}");
}

#[test]
fn disks_that_nova_made_are_of_their_instance() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let host = Host::new("include = ['volume-*', '*_disk*']\n");
    let head = fs::read_to_string(host.at("volbak.toml")).unwrap();
    config(&host, &server.url, "group_by_instance = true");
    let table = fs::read_to_string(host.at("volbak.toml")).unwrap();
    let (_, table) = table.split_once("[openstack]").unwrap();
    fs::write(host.at("volbak.toml"), format!("{head}[openstack]{table}")).unwrap();
    let [root, swap] = ["disk", "disk.swap"].map(|disk| format!("{WEB_1}_{disk}"));
    for name in [DATA_1, &root, &swap] {
        host.add_ext4(name);
    }
    let did = host.verb(&["run"]);
    assert!(did.stdout.contains(&format!("  - {root}: disk of web-1\n")), "{did:?}");
    assert!(did.stderr.contains(&format!("swap disks of instances are left out: vg0/{swap}")), "{did:?}");
    assert!(!host.at("backups").join(&swap).exists());
    let set = newest_set(&host, &root);
    assert!(set["group"] == "web-1-58f83399" && set["id"] == newest_set(&host, DATA_1)["id"], "{set}");

    // Files of Nova, as under /var/lib/nova/instances: one is whole, one has the image below it.
    let folder = host.at("instances").join(WEB_1);
    fs::create_dir_all(&folder).unwrap();
    let (whole, layered) = (folder.join("disk"), folder.join("disk.local"));
    let image = host.at(&format!("{DATA_1}.img"));
    let make = |arguments: &[&str]| {
        assert!(std::process::Command::new("qemu-img").args(arguments).output().unwrap().status.success());
    };
    make(&["convert", "-q", "-O", "qcow2", image.to_str().unwrap(), whole.to_str().unwrap()]);
    make(&["create", "-q", "-f", "qcow2", "-b", whole.to_str().unwrap(), "-F", "qcow2", layered.to_str().unwrap()]);
    let to = host.at("files");
    fs::create_dir(&to).unwrap();
    let did = host.volbak(&["snapshot", whole.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    assert!(did.status == 0 && to.join(&root).is_dir(), "{did:?}");
    let did = host.volbak(&["snapshot", layered.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    assert!(did.status != 0 && did.stderr.contains("it has a backing file"), "{did:?}");
    assert!(did.stderr.contains("qemu-img convert -O qcow2 DISK COPY.qcow2"), "{did:?}");
}
