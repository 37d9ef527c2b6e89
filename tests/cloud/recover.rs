//! `cloud recover` and `cloud evacuate` against a real control plane: damage of each kind that the documented table has, and
//! `kill -9` after each line of the journal.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use volbak::cloud::CloudMap;
use volbak::openstack::{CloudSettings, Limits, Session, Sources};

use crate::real::{CLOUD, create_server, openstack, wait};

const COMPUTE: &str = "compute-1";

struct Lab {
    folder: tempfile::TempDir,
    session: Session,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for cloud in ["admin", "demo"] {
            let table = format!(
                "backup_destination = '{}'\nrequire_mount = false\n[openstack]\ncloud = '{cloud}'\nclouds_file = '{}'\n",
                folder.path().display(),
                dir().join("clouds.yaml").display()
            );
            fs::write(folder.path().join(format!("{cloud}.toml")), table).unwrap();
        }
        let settings = CloudSettings::find(&Sources::from_environment()).unwrap();
        let limits = Limits { deadline: Duration::from_secs(3600), ..Limits::default() };
        Self { folder, session: Session::open(settings, limits).unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, cloud: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
        command.arg("cloud").args(arguments).arg("--config").arg(self.at(&format!("{cloud}.toml")));
        command
    }

    fn verb(&self, cloud: &str, arguments: &[&str]) -> Output {
        let output = self.command(cloud, arguments).output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("gAAAA") && !text.contains("password"), "{text}");
        }
        output
    }

    fn map(&self) -> CloudMap {
        CloudMap::from_bytes(&self.verb("admin", &["map", "--json"]).stdout).unwrap()
    }

    fn status(&self, volume: &str) -> String {
        self.session.volume(volume).unwrap().status
    }

    fn reboots(&self, instance: &str) -> usize {
        self.session.instance_actions(instance).unwrap().iter().filter(|one| one.action == "reboot").count()
    }

    /// Runs the verb, and ends it with SIGKILL some milliseconds after its journal has that many lines.
    fn killed(&self, arguments: &[&str], journal: &Path, lines: usize, later: Duration) -> bool {
        let mut child = self.command("admin", arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!([Some(0), Some(3)].contains(&status.code()), "{status:?}");
                return false;
            }
            if fs::read_to_string(journal).is_ok_and(|text| text.lines().count() >= lines) {
                std::thread::sleep(later);
                child.kill().unwrap();
                return child.wait().unwrap().code().is_none();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn dir() -> PathBuf {
    PathBuf::from(std::env::var("CLOUD_DIR").expect("scripts/test-cloud sets it"))
}

fn service(verb: &str, name: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cloud");
    let status = Command::new(script).arg(verb).arg(dir()).arg(name).status().unwrap();
    assert!(status.success());
}

/// Each volume with the instance that has it, where both sides agree and Cinder says in-use.
fn pairs(map: &CloudMap) -> BTreeSet<(String, String)> {
    let whole = map.volumes.iter().filter(|volume| volume.status == "in-use" && volume.differences.is_empty());
    whole
        .flat_map(|volume| volume.attachments.iter().map(|one| (volume.id.clone(), one.instance.clone().unwrap())))
        .collect()
}

#[test]
#[ignore = "needs scripts/test-cloud"]
fn after_a_loss_of_power_everything_is_as_in_the_map_and_each_instance_was_restarted_once() {
    let _cloud = CLOUD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lab = Lab::new();
    let volumes = ["rec-right", "rec-detaching", "rec-wedge", "rec-lost", "rec-free", "rec-dying", "rec-root"];
    for name in volumes {
        openstack(&["volume", "create", "--size", "1", name]);
    }
    let place = |host: &str| format!("nova:{host}");
    for n in [1, 2] {
        let name = format!("rec-{n}");
        let zone = place(COMPUTE);
        create_server(&name, &["--image", "cirros", "--availability-zone", &zone]);
    }
    let is_there = |list: &str, name: &str, state: &str| {
        if list == "volume" {
            lab.session.volumes().unwrap().iter().any(|one| one.name == name && one.status == state)
        } else {
            lab.session.servers().unwrap().iter().any(|one| one.name == name && one.status == state)
        }
    };
    wait("volumes are there", || volumes.iter().all(|name| is_there("volume", name, "available")));
    openstack(&["volume", "set", "--bootable", "rec-root"]);
    let zone = place("compute-2");
    create_server("rec-boot", &["--volume", "rec-root", "--availability-zone", &zone]);
    wait("instances run", || ["rec-1", "rec-2", "rec-boot"].iter().all(|name| is_there("server", name, "ACTIVE")));
    let known = lab.map();
    let id = |name: &str| {
        let volume = known.volumes.iter().find(|one| one.name == name).map(|one| one.id.clone());
        volume.unwrap_or_else(|| known.instances.iter().find(|one| one.name == name).unwrap().id.clone())
    };
    for (server, volume) in [
        ("rec-1", "rec-right"),
        ("rec-1", "rec-detaching"),
        ("rec-1", "rec-wedge"),
        ("rec-2", "rec-lost"),
        ("rec-2", "rec-dying"),
    ] {
        lab.session.attach(&id(server), &id(volume)).unwrap();
    }
    wait("volumes are attached", || {
        volumes.iter().all(|name| *name == "rec-free" || lab.status(&id(name)) == "in-use")
    });
    let before = lab.map();
    fs::create_dir_all(lab.at(".volbak/cloud")).unwrap();
    fs::write(lab.at(".volbak/cloud/2026-01-01.json"), before.to_bytes().unwrap()).unwrap();
    let (first, second) = (id("rec-1"), id("rec-2"));

    // The power goes: in the middle of an attachment and of a detachment, and with what the old SQL left.
    lab.session.attach(&first, &id("rec-free")).unwrap();
    service("kill", "nova-compute-1");
    let _ = lab.session.detach(&second, &id("rec-dying"));
    openstack(&["volume", "set", "--state", "available", "--detached", "rec-wedge"]);
    openstack(&["volume", "set", "--state", "available", "rec-detaching"]);
    service("run", "nova-compute-1");
    wait("the dying detachment ends", || lab.status(&id("rec-dying")) != "detaching");
    wait("the dying attachment ends", || {
        ["available", "in-use", "reserved", "attaching"].contains(&lab.status(&id("rec-free")).as_str())
    });

    // A member is refused before anything changes, and the right is named.
    let seen = pairs(&lab.map());
    let journal = lab.at("journal");
    let named = journal.display().to_string();
    let refused = lab.verb("demo", &["recover", "--apply", "--journal", &named]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && said.contains("lacks the right volume_extension:services:index"),
        "{said}"
    );
    assert!(pairs(&lab.map()) == seen && !journal.exists());

    // The plan names each, and changes nothing.
    let common =
        ["--journal", &named, "--from-map", "2026-01-01", "--pause", "0.05", "--settle", "3", "--patience", "120"];
    let recover = |more: &[&str]| -> Vec<String> {
        ["recover"].iter().chain(&common).chain(more).map(|one| (*one).to_owned()).collect()
    };
    let arguments = |more: &[&str]| recover(more);
    let run = |more: &[&str]| {
        let all = arguments(more);
        lab.verb("admin", &all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let plan: Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    let has = |action: &str, volume: &str| {
        plan["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["action"] == action && step["volume"]["name"] == volume)
    };
    assert!(
        has("free_wedge", "rec-wedge") && has("attach", "rec-wedge") && has("keep_attached", "rec-detaching"),
        "{plan:#}"
    );
    assert!(has("attach", "rec-dying"), "{plan:#}");
    assert!(!has("keep_attached", "rec-right") && pairs(&lab.map()) == seen);
    let reboots: Vec<(String, usize)> =
        before.instances.iter().map(|one| (one.id.clone(), lab.reboots(&one.id))).collect();

    // Killed after each line of the journal, a little later each time.
    let apply = arguments(&["--apply"]);
    let apply: Vec<&str> = apply.iter().map(String::as_str).collect();
    let mut kills = 0;
    for n in 0..20_u64 {
        let lines = fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        if !lab.killed(&apply, &journal, lines + 1, Duration::from_millis(n * 370 % 1900)) {
            break;
        }
        kills += 1;
    }
    let last = lab.verb("admin", &apply);
    let said = String::from_utf8_lossy(&last.stdout).into_owned();
    let written = fs::read_to_string(&journal).unwrap();
    assert_eq!(last.status.code(), Some(0), "{said}\n{written}");
    println!("killed {kills} times; the journal has {} lines", written.lines().count());
    assert!(kills >= 5, "{kills}");
    let after = lab.map();
    let missing: Vec<_> = pairs(&before).difference(&pairs(&after)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}\n{}", after.text());
    assert!(after.volumes.iter().all(|volume| volume.differences.is_empty()), "{}", after.text());
    for (instance, count) in &reboots {
        assert_eq!(lab.reboots(instance), count + 1, "{instance}\n{written}");
    }
    // Again: nothing.
    let again = lab.verb("admin", &apply);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.code() == Some(0) && said.contains("Total steps - 0"), "{said}");
    for (instance, count) in &reboots {
        assert_eq!(lab.reboots(instance), count + 1, "{instance}");
    }
    evacuated(&lab, &before);
    for name in ["rec-1", "rec-2", "rec-boot"] {
        openstack(&["server", "delete", "--wait", name]);
    }
    wait("volumes are free", || volumes.iter().all(|name| is_there("volume", name, "available")));
    for name in volumes {
        openstack(&["volume", "delete", name]);
    }
    wait("volumes are gone", || lab.map().volumes.iter().all(|volume| !volume.name.starts_with("rec-")));
}

/// The host of `rec-boot` is lost: it is evacuated once, killed in between, and the others are not touched.
fn evacuated(lab: &Lab, before: &CloudMap) {
    let journal = lab.at("evacuation");
    let named = journal.display().to_string();
    let arguments = ["evacuate", "compute-2", "--journal", &named, "--pause", "0.1", "--apply"];
    let refused = lab.verb("admin", &arguments);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("nova-compute on compute-2 is up"), "{said}");
    service("kill", "nova-compute-2");
    wait("Nova says that it is down", || {
        let services = lab.session.compute_services().unwrap();
        services.iter().any(|one| one.host == "compute-2" && one.state.as_deref() == Some("down"))
    });
    let hosts = |map: &CloudMap| -> BTreeSet<(String, Option<String>)> {
        let others =
            map.instances.iter().filter(|one| one.host.as_deref() != Some("compute-2") && one.name != "rec-boot");
        others.map(|one| (one.id.clone(), one.host.clone())).collect()
    };
    let others = hosts(&lab.map());
    for lines in 1..=3 {
        lab.killed(&arguments, &journal, lines, Duration::from_millis(20));
    }
    let done = lab.verb("admin", &arguments);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!([Some(0), Some(3)].contains(&done.status.code()), "{said}");
    let after = lab.map();
    let boot = after.instances.iter().find(|one| one.name == "rec-boot").unwrap();
    assert_eq!(boot.host.as_deref(), Some(COMPUTE), "{said}");
    let actions = lab.session.instance_actions(&boot.id).unwrap();
    assert_eq!(actions.iter().filter(|one| one.action == "evacuate").count(), 1);
    assert!(hosts(&after).is_superset(&others));
    // Those with disks of their own on the host are named, and stay.
    for one in
        before.instances.iter().filter(|one| one.host.as_deref() == Some("compute-2") && !one.local_disks.is_empty())
    {
        assert!(said.contains(&one.id), "{said}");
    }
    // Nova takes the host back when its service has removed what was evacuated.
    service("run", "nova-compute-2");
    let up = ["--os-compute-api-version", "2.79", "compute", "service", "set", "--up", "compute-2", "nova-compute"];
    wait("Nova takes the host back", || Command::new("openstack").args(up).output().unwrap().status.success());
    wait("the host is back", || {
        let services = lab.session.compute_services().unwrap();
        services.iter().any(|one| one.host == "compute-2" && one.state.as_deref() == Some("up"))
    });
}
